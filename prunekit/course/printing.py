"""How exercises copy, compare and print values: small aligned matrices."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

MOST = 8  # rows and columns that are printed
WIDTH = 200  # characters of anything else
ANY = (Exception, SystemExit, KeyboardInterrupt)  # what reading a strange object may raise


def plain(value: torch.Tensor) -> torch.Tensor:
    """The same numbers as a `torch.Tensor` itself, without what a class made from it would do otherwise."""
    with torch._C.DisableTorchFunctionSubclass():
        return torch.Tensor.as_subclass(torch.Tensor.detach(value), torch.Tensor)


def clone(value: Any) -> Any:
    """A copy that shares no memory with `value`; tensors keep their dtype."""
    if isinstance(value, torch.Tensor):
        return plain(value).clone()
    if type(value) in (tuple, list):
        return type(value)(clone(item) for item in value)
    if type(value) is dict:
        return {key: clone(item) for key, item in value.items()}
    try:
        return copy.deepcopy(value)
    except ANY:  # a generator, for one, has no copy
        return value


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal: type by type, NaN equal to NaN, models by their weights."""
    if isinstance(one, torch.nn.Module) and isinstance(other, torch.nn.Module):
        return same(dict(one.state_dict()), dict(other.state_dict()))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype.is_floating_point and one.element_size() == 1:  # FP8 has few operations
            return bool((one.view(torch.uint8) == other.view(torch.uint8)).all())
        return bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (bool, int, float, str, bytes, type(None))):
        return one == other or (one != one and other != other)
    return True  # other objects, such as tokenizers, are not compared


def numbers(value: Any) -> torch.Tensor | None:
    """A learner's answer as a float64 tensor, from a tensor of any dtype, an array, nested lists or a number.

    Returns None for anything else, so that graders need not care how an answer is written.
    """
    try:
        if isinstance(value, torch.Tensor):
            value = plain(value)
            return None if value.is_meta or value.is_complex() else value.to("cpu", torch.float64)
        if isinstance(value, (list, tuple)) and any(isinstance(item, (torch.Tensor, list, tuple)) for item in value):
            return torch.stack([numbers(item) for item in value])
        array = np.array(value)
        if array.dtype.kind == "O":  # fractions, for one
            array = np.array([float(item) for item in array.flat]).reshape(array.shape)
        return torch.from_numpy(array.astype(np.float64)) if array.dtype.kind in "biuf" else None
    except ANY:
        return None


def shorten(text: str, width: int = WIDTH) -> str:
    """One line, its middle left out if it is longer than `width`."""
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 40]} ... {text[-30:]}"


def described(value: Any, how: Callable[[Any], str] = repr) -> str:
    """A short ``repr`` or ``str`` of anything, also of what has none."""
    try:
        return shorten(how(value))
    except ANY as error:
        return f"(a {type(value).__name__} that cannot be shown: {how.__name__} raises {type(error).__name__})"


def named(name: str, value: Any) -> str:
    """``name = value``, with the rows of a matrix aligned under each other."""
    return _indented(f"  {name} = ", text(value))


def text(value: Any) -> str:
    """A value as short text: numbers with four digits, a matrix row by row, booleans in tensors as 1 and 0."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        values = numbers(value)
        if values is None or values.dim() > 3:
            return described(value)
        kind = " (bool)" if value.dtype in (torch.bool, np.bool_) else ""
        return _array(values) + kind
    if isinstance(value, (float, np.number)):
        return f"{float(value):.6g}" if np.isreal(value) else described(value)
    if type(value) in (tuple, list) and all(type(item) in (bool, int, float) for item in value):
        return repr(value) if len(value) <= 2 * MOST else f"{value[: 2 * MOST]!r} ..."
    if isinstance(value, (tuple, list)):
        items = [_shallow(item) for item in tuple(value)[:MOST]]  # a named tuple's names say nothing here
        return "\n".join(_indented("", item) for item in items) if len(items) > 1 else f"({', '.join(items)},)"
    return described(value)


def _shallow(item: Any) -> str:
    """An item of a list as text; lists within it in one line."""
    return described(item) if isinstance(item, (tuple, list)) else text(item)


def _array(values: torch.Tensor) -> str:
    if values.dim() == 0:
        return f"{values.item():.4g}"
    if values.numel() == 0:
        return f"empty, shape {tuple(values.shape)}"
    if values.dim() == 3:
        return "\n".join(f"[{index}]\n{_array(part)}" for index, part in enumerate(values[:MOST]))
    rows = values.reshape(1, -1) if values.dim() == 1 else values
    cells = [[f"{item:.4g}" for item in row[:MOST].tolist()] for row in rows[:MOST]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    more = " ..." if rows.shape[1] > MOST else ""
    lines = ["[" + "  ".join(cell.rjust(width) for cell, width in zip(row, widths)) + more + "]" for row in cells]
    return "\n".join(lines + ["..."] * (rows.shape[0] > MOST))


def _indented(lead: str, body: str) -> str:
    return lead + body.replace("\n", "\n" + " " * len(lead))
