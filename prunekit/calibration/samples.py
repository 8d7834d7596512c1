"""Inputs of a few tokens, kept while a model is observed."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_GOLDEN = 0.618034  # multiples of the golden ratio spread evenly over a circle


class Samples:
    """Inputs of a few tokens, from all batches alike."""

    def __init__(self, count: int) -> None:
        self.count, self.batches = count, 0
        self._rows: dict[str, Tensor] = {}  # by the first layer that reads an input
        self._first: dict[str, str] = {}  # which layer that is, by layer
        self._last: tuple[Tensor | None, str] = (None, "")

    def pick(self, x: Tensor) -> Tensor:
        """The rows of ``[tokens, in]`` that this batch adds: float32."""
        count = _owed(self.count, self.batches + 1) - _owed(self.count, self.batches)
        return _evenly(x, count).float()

    def take(self, name: str, rows: Tensor) -> None:
        """Mix a batch's rows in. Layers with the same input are given the same tensor, one after the other."""
        if self._last[0] is not rows:
            self._last = rows, name
            before = self._rows.get(name, rows[:0])
            if self.batches > 1:  # from another place each time: else the same ones would always go
                before = before.roll(int(_GOLDEN * len(before) * (self.batches - 1)), 0)
            self._rows[name] = torch.cat([_evenly(before, self.count - len(rows)), rows])
        self._first[name] = self._last[1]

    def by_layer(self) -> dict[str, Tensor]:
        """What was kept, ``[samples, in]``: one tensor for all layers that read the same input."""
        return {name: self._rows[first] for name, first in self._first.items()}


@cache
def _owed(count: int, batches: int) -> int:
    """How many rows so many batches have added together, if the n-th adds ``count / n``: as many as it may keep."""
    return int(sum(count / n for n in range(1, batches + 1)))


def _evenly(x: Tensor, count: int) -> Tensor:
    """So many rows of ``[tokens, in]``, or all if there are fewer, evenly spaced."""
    return x[torch.linspace(0, len(x) - 1, min(count, len(x))).long()]
