"""Hidden states of all batches in one file, which is written and read batch by batch; its pages are never mapped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...system.files import temporary_file


@contextmanager
def writing_hidden(path: Path) -> Iterator[Callable[[Tensor], None]]:
    """A function that appends a batch to a file, which has its name only when all are in it.

    Raises:
        PrunekitError: the place cannot be written.
    """
    with temporary_file(path) as temporary, open(temporary, "wb") as file:

        def give(x: Tensor) -> None:
            about = {"dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape)}
            file.write(json.dumps(about).encode() + b"\n")
            file.write(_bytes_of(x.detach().cpu().contiguous()))

        yield give


def reading_hidden(path: Path, device: torch.device) -> Iterator[Tensor]:
    """The batches of a file that `writing_hidden` wrote, one after another."""
    with open(path, "rb") as file:
        while line := file.readline():
            about = json.loads(line)
            x = torch.empty(about["shape"], dtype=getattr(torch, about["dtype"]))
            file.readinto(_bytes_of(x))  # type: ignore[attr-defined]
            yield x.to(device)


def _bytes_of(x: Tensor) -> Any:
    """The bytes of a contiguous tensor, in its own memory."""
    return x.flatten().view(torch.uint8).numpy()
