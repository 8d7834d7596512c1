"""Arguments and answers as data: a tree in JSON, its tensors in safetensors. No pickle: reading runs nothing."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from ...printing import ANY, plain

SIZE = 8  # bytes that say how long the JSON is
ROOM = 4096  # bytes that are left for the last word


def pack(value: Any) -> bytes:
    """Numbers, strings, tensors, arrays, and lists, tuples, sets and dicts of them; of anything else its type's name.

    Args:
        value: whatever a function takes or returns.

    Raises:
        ValueError: a number that JSON cannot hold, or more levels than it takes.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_tree(value, tensors)).encode()
    return len(tree).to_bytes(SIZE, "big") + tree + save(tensors)


def unpack(data: bytes) -> Any:
    """What `pack` packed; whatever was none of its kinds becomes an object that only has its type's name.

    Raises:
        ValueError: the bytes are none of `pack`.
    """
    end = SIZE + int.from_bytes(data[:SIZE], "big")
    try:
        return _value(json.loads(data[SIZE:end]), load(data[end:]))
    except Exception as error:
        raise ValueError("what came back cannot be read") from error


class Frames:
    """Writes values to a file, one behind the other.

    Args:
        file: its descriptor.
        most: bytes of them all.
    """

    def __init__(self, file: int, most: int) -> None:
        self.file, self.left = file, most - ROOM

    def write(self, value: Any) -> None:
        """Write a value; one that is too large, or would make all too large, raises ValueError."""
        data = pack(value)
        if len(data) > self.left:
            self.left = ROOM
            raise ValueError("it takes too many bytes")
        self.left -= len(data)
        os.write(self.file, len(data).to_bytes(SIZE, "big") + data)


def frames(data: bytes) -> list[Any]:
    """The values that `Frames` wrote; the last one is left out if it is not complete.

    Raises:
        ValueError: one of them is none of `pack`.
    """
    found = []
    while len(data) > SIZE and len(data) >= (end := SIZE + int.from_bytes(data[:SIZE], "big")):
        found.append(unpack(data[SIZE:end]))
        data = data[end:]
    return found


def error_of(name: str, said: str) -> Exception:
    """An exception with the name and the words of one that was raised elsewhere."""
    if name == "NotImplementedError" and not said:
        return NotImplementedError()
    return type(_word(name), (Exception,), {})(said)


def _word(name: str) -> str:
    return re.sub(r"\W", "", name)[:60] or "object"


def _tree(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON for a value: plain ones as they are, others as a list of their kind and what they hold."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic):
        return _tree(value.item(), tensors) if value.dtype.kind in "biufU" else ["other", type(value).__name__]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, dict):
        return ["dict", [[_tree(key, tensors), _tree(item, tensors)] for key, item in value.items()]]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [_tree(item, tensors) for item in value]]
    if value is ...:
        return ["dots", None]
    return _numbers(value, tensors)


def _numbers(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """A tensor, an array, or another number such as a fraction."""
    name = str(len(tensors))
    try:
        if isinstance(value, np.ndarray):
            if value.dtype.kind == "O":
                return _tree(value.tolist(), tensors)
            tensors[name] = torch.from_numpy(value.copy())
            return ["array", name]
        if isinstance(value, torch.Tensor):
            tensors[name] = _whole(value)
            return ["tensor", name]
        return float(value)
    except ANY:
        return ["other", type(value).__name__]


def _whole(value: torch.Tensor) -> torch.Tensor:
    """A dense copy on the CPU that shares no memory."""
    value = plain(value)
    if value.is_meta or value.is_complex() or value.layout != torch.strided or value.is_quantized:
        raise TypeError(value.dtype)
    return value.to("cpu").contiguous().clone()


def _value(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(tree, list):
        return tree
    kind, held = tree
    if kind == "dict":
        return {_value(key, tensors): _value(item, tensors) for key, item in held}
    for made in (list, tuple, set, frozenset):
        if kind == made.__name__:
            return made(_value(item, tensors) for item in held)
    if kind == "tensor":
        return tensors.pop(held)  # each once, lest little data stand for much
    if kind == "array":
        return tensors.pop(held).numpy()
    return ... if kind == "dots" else type(_word(held), (), {})()
