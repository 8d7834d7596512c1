"""How exercises copy, compare and print values: small aligned matrices."""

import copy
import textwrap
from typing import Any

import numpy as np
import torch

MOST = 8  # rows and columns that are printed


def clone(value: Any) -> Any:
    """A copy that shares no memory with `value`; tensors keep their dtype."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if type(value) in (tuple, list):
        return type(value)(clone(item) for item in value)
    if type(value) is dict:
        return {key: clone(item) for key, item in value.items()}
    try:
        return copy.deepcopy(value)
    except Exception:  # a generator, for one, has no copy
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
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        if isinstance(value, torch.Tensor):
            return None if value.is_meta else value.detach().to(torch.float64)
        if isinstance(value, (list, tuple)) and any(isinstance(item, (torch.Tensor, list, tuple)) for item in value):
            parts = [numbers(item) for item in value]
            return torch.stack(parts)
        return torch.from_numpy(np.array(value, dtype=np.float64))
    except (TypeError, ValueError, RuntimeError):
        return None


def named(name: str, value: Any) -> str:
    """``name = value``, with the rows of a matrix aligned under each other."""
    return _indented(f"  {name} = ", text(value))


def text(value: Any) -> str:
    """A value as short text: numbers with four digits, a matrix row by row, booleans in tensors as 1 and 0."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        values = numbers(value)
        if values is None or values.dim() > 3:
            return textwrap.shorten(repr(value), 200)
        kind = " (bool)" if value.dtype in (torch.bool, np.bool_) else ""
        return _array(values) + kind
    if isinstance(value, bool | int | str | None):
        return repr(value)
    if isinstance(value, (float, np.number)):
        return f"{float(value):.6g}"
    if isinstance(value, (tuple, list)) and not all(isinstance(item, (bool, int, float)) for item in value):
        items = [text(item) for item in value[:MOST]]
        return "\n".join(_indented("", item) for item in items) if len(items) > 1 else f"({items[0]},)"
    if isinstance(value, (tuple, list)):
        plain = tuple(value) if isinstance(value, tuple) else list(value)  # a named tuple's names say nothing here
        return repr(plain) if len(plain) <= 2 * MOST else f"{plain[: 2 * MOST]!r} ..."
    return textwrap.shorten(" ".join(repr(value).split()), 200)


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
