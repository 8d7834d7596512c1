"""Let the weights that stay make up for those that go: one small solve for each input, no Hessian, no training."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .masks import check_shape, check_sparsity

SAMPLES = 64
RIDGE = 4.0
_GOLDEN = 0.618034  # multiples of the golden ratio spread evenly over a circle


def response(X: Tensor, E: Tensor, pruned: float, ridge: float = RIDGE) -> Tensor:
    """How the weights that stay answer an error on sampled inputs: ``Z`` of `compensate`.

    What is pruned from a row leaves an error ``r = p X^T`` on the samples. The change ``d`` of the row's other
    weights that lowers ``|r - d X^T|^2 + t sum(E d^2)`` most is ``r (X_s E_s^-1 X_s^T + t)^-1 X_s E_s^-1``,
    where ``_s`` means the columns that stay. (It is the update of Optimal Brain Surgeon, Hassibi & Stork 1992,
    with a Hessian that is diagonal but for the samples.) The columns differ from row to row. So that one solve serves
    all rows of all layers that read this input, the product over the columns that stay is taken as their share of the
    whole product. This combination is prunekit's own.

    Args:
        X: inputs of the layer for some tokens, ``[samples, in]``.
        E: mean square of the inputs over more tokens, ``[in]``.
        pruned: share of the weights that goes, in ``[0, 1)``.
        ridge: ``t`` over the mean eigenvalue of the product. Few samples know little of the inputs: 0 fits them as
            closely as can be, and new text badly; 4 was chosen on validation text.

    Returns:
        float32 ``[samples, in]``.

    Raises:
        PrunekitError: bad share, or `X` and `E` do not fit.
    """
    check_shape(E, "E", (X.shape[1],))
    X = X.float()
    scaled = X / E.float().clamp_min(torch.finfo(torch.float32).tiny)
    product = (1 - check_sparsity(pruned, "pruned")) * (X @ scaled.T)
    product.diagonal().add_(ridge * product.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny))
    return torch.cholesky_inverse(torch.linalg.cholesky(product)) @ scaled


def compensate(W: Tensor, keep: Tensor, X: Tensor, Z: Tensor) -> Tensor:
    """The weight after the weights that stay have made up for the others: ``W + (P X^T) Z``, `P` what is pruned.

    Args:
        W: weight ``[out, in]``, any float dtype.
        keep: bool ``[out, in]``, the survivors.
        X: sampled inputs ``[samples, in]``.
        Z: `response` to them, ``[samples, in]``.

    Returns:
        float32 ``[out, in]``; where `keep` is False it means nothing and is to be masked.
    """
    W = W.float()
    return torch.addmm(W, torch.where(keep, 0, W) @ X.float().T, Z)


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
