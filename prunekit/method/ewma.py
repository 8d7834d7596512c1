"""Exponentially weighted moving averages in place of sorting: along a row, and over calibration batches.

Scores are clamped to ``[LOW, HIGH]`` first, so that zeros count as ties and the logarithm of the threshold
stays finite.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, exp

import torch
from torch import Tensor

from ..errors import PrunekitError, check_count
from .targets import check_sparsity

# These and BLOCK are compiled into kernels/numba_loops.py: remove prunekit/kernels/__pycache__ after a change.
LOW, HIGH = 1e-30, 1e30
RATE = 0.01  # step of log q per weight in the scan that decides, at sparsity 0.5
BLOCK = 64  # weights that are compared with one threshold before it moves
WARMUP_SWEEPS, WARMUP_SCORES = 3, 1024  # at least that many scans of a row, and that many scores
WARMUP_RATE, WARMUP_GAIN = 0.2, 16.0  # in the warm-up the rate falls from the first as gain / scores seen


def gaussian_share(sparsity: float) -> float:
    """The `c` for which a share `sparsity` of squared Gaussian weights lies below ``c`` times their mean.

    ``P(w^2 < c) = erf(sqrt(c / 2))``, hence ``c = 2 erfinv(sparsity)^2``.
    """
    return 2 * torch.erfinv(torch.tensor(sparsity, dtype=torch.float64)).item() ** 2


def step_size(sparsity: float, rate: float = RATE) -> float:
    """Step of ``log q`` per weight: `rate` at sparsity 0.5, longer at outer quantiles, at most 0.2.

    Far from the median fewer scores lie near the threshold, so that it needs longer steps to settle as fast:
    ``rate / (4 s (1 - s))``, which is right for scores whose logarithm follows a logistic distribution.
    """
    return min(WARMUP_RATE, rate / (4 * sparsity * (1 - sparsity)))


@lru_cache(maxsize=256)
def step_tables(columns: int, sparsity: float, rate: float = RATE, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """What the threshold is multiplied by after each block, for every number of hits in it.

    A block of `b` weights of which `c` lie below the threshold moves ``log q`` by ``step * (b * s - c)``: what
    `b` single steps would add up to. In the warm-up the step begins long and falls with the number `t` of
    scores seen, as ``gain / t`` (stochastic approximation, Robbins and Monro 1951), until it reaches the step
    of the scan that decides. The warm-up always ends at the end of a row, where the decision ends, too.

    Returns:
        (warm-up, decision): float32 ``[sweeps * blocks, block + 1]`` and ``[blocks, block + 1]``.
    """
    lengths = [min(block, columns - j) for j in range(0, columns, block)]
    sweeps = max(WARMUP_SWEEPS, ceil(WARMUP_SCORES / columns))
    step = step_size(sparsity, rate)
    gain = WARMUP_GAIN / (4 * sparsity * (1 - sparsity))

    def table(length: int, step: float) -> list[float]:
        return [exp(step * (length * sparsity - hits)) for hits in range(block + 1)]

    warmup, seen = [], 0
    for length in lengths * sweeps:
        seen += length
        warmup.append(table(length, max(step, min(WARMUP_RATE, gain / seen))))
    decision = [table(length, step) for length in lengths]
    return torch.tensor(warmup, dtype=torch.float32), torch.tensor(decision, dtype=torch.float32)


def quantile_mask(L: Tensor, sparsity: float, rate: float = RATE, block: int = BLOCK) -> Tensor:
    """Prune a share of each row without sorting, by tracking a quantile: the reference, written plainly.

    Each row carries a threshold `q`. A weight below it is pruned and lowers `q`; one above it stays and
    raises `q`: ``log q <- log q + step * (sparsity - [L < q])``. A few scans warm `q` up, one decides. The
    updates of that last scan telescope, so the share that it prunes is
    ``sparsity - (log q_end - log q_start) / (step * in)``: right as soon as `q` has settled. `q` moves once
    per `block` weights, by the sum of their steps; ``block=1`` is the rule as written. Equal scores around a threshold
    share its fate until it moves: in a row of one block all of them stay or go.

    The rule is prunekit's own: what we read of the paper (arXiv 2501.16376) has only `mean_mask`'s, which has no
    target.

    Args:
        L: scores ``[out, in]``, any float dtype, without NaN, 0 or more (lower ones count as 0).
        sparsity: share of each row to prune, in ``[0, 1)``.
        rate: step of ``log q`` per weight, see `step_size`.
        block: weights compared with one threshold.

    Returns:
        bool ``[out, in]``, True where a weight is kept.

    Raises:
        PrunekitError: sparsity or block out of range.
    """
    sparsity = check_sparsity(sparsity)
    block = check_count(block, "block")
    keep = torch.ones(L.shape, dtype=torch.bool, device=L.device)
    columns = L.shape[1]
    if sparsity == 0 or columns == 0:
        return keep
    L = L.float().clamp(LOW, HIGH)
    warmup, decision = (t.to(L.device) for t in step_tables(columns, sparsity, rate, block))

    q = start_threshold(L, sparsity, block)
    starts = range(0, columns, block)
    for step, j in enumerate(list(starts) * (len(warmup) // len(starts))):
        hits = (L[:, j : j + block] < q[:, None]).sum(1)
        q = q * warmup[step, hits]
    for step, j in enumerate(starts):
        hit = L[:, j : j + block] < q[:, None]
        keep[:, j : j + block] = ~hit
        q = q * decision[step, hit.sum(1)]
    return keep


def start_threshold(L: Tensor, sparsity: float, block: int = BLOCK) -> Tensor:
    """Where each row's threshold begins: the mean of its first scores, times the Gaussian share.

    The first `block` of them; where these are all zero, the next, since from there no warm-up would reach the others.
    The sum adds halves to each other until one number is left, so that every implementation rounds alike.

    Args:
        L: clamped scores, float32 ``[out, in]``.
        sparsity: share to prune, in ``(0, 1)``.
        block: how many scores to average, fewer in a shorter row.

    Returns:
        float32 ``[out]``.
    """
    count = min(block, L.shape[1])
    total = _sum_by_halves(L[:, :count], block)
    for j in range(count, L.shape[1] - count + 1, count):
        dead = total <= torch.tensor(LOW, dtype=torch.float32) * count
        if not dead.any():
            break
        total = torch.where(dead, _sum_by_halves(L[:, j : j + count], block), total)
    return total * torch.tensor(gaussian_share(sparsity) / count, dtype=torch.float32)


def _sum_by_halves(x: Tensor, block: int) -> Tensor:
    """Sum of each row of at most `block` numbers, as if zeros filled it up to a power of two."""
    width = 1 << (block - 1).bit_length()
    x = torch.nn.functional.pad(x, (0, width - x.shape[1]))
    while width > 1:
        width //= 2
        x = x[:, :width] + x[:, width:]
    return x[:, 0]


MEAN_DEVIATION = 0.9678828980938  # mean of |x^2 - 1| for a standard Gaussian x: 4 * density(1)


def mean_mask(L: Tensor, sparsity: float, rate: float = 0.05, deviation_rate: float = 0.05) -> Tensor:
    """Prune where a score lies far below its row's moving average: the rule that summaries of the paper give.

    ``L < m - k d`` prunes, then ``d <- d + b (|L - m| - d)`` and ``m <- m + a (L - m)``. The rule has no
    target; `k` is set so that squared Gaussian weights would lose the share `sparsity`. Real scores are not
    that, and nothing corrects the error: the share that it prunes misses the target. See `quantile_mask`.

    Args:
        L: scores ``[out, in]``, any float dtype, without NaN, 0 or more (lower ones count as 0).
        sparsity: share that a Gaussian row would lose, in ``[0, 1)``.
        rate: `a`, the step of the mean.
        deviation_rate: `b`, the step of the mean deviation.

    Returns:
        bool ``[out, in]``, True where a weight is kept.

    Raises:
        PrunekitError: sparsity out of range.
    """
    sparsity = check_sparsity(sparsity)
    keep = torch.ones(L.shape, dtype=torch.bool, device=L.device)
    if sparsity == 0:
        return keep
    L = L.float().clamp(LOW, HIGH)
    k = (1 - gaussian_share(sparsity)) / MEAN_DEVIATION
    m = L[:, :BLOCK].mean(1)
    d = (L[:, :BLOCK] - m[:, None]).abs().mean(1)
    for j in range(L.shape[1]):
        x = L[:, j]
        keep[:, j] = x >= m - k * d
        d = d + deviation_rate * ((x - m).abs() - d)
        m = m + rate * (x - m)
    return keep


class BatchEWMA:
    """Moving average of a vector over calibration batches, corrected for its start at zero.

    After `t` batches the raw average has weight ``1 - decay^t``; dividing by it makes the average of
    equal batches equal to them (the correction of Adam, Kingma and Ba 2014, arXiv 1412.6980, section 3).

    Args:
        decay: weight of the past, in ``[0, 1)``.

    Raises:
        PrunekitError: decay out of range.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise PrunekitError(f"decay is {decay}: expected a number from 0 up to but not including 1.")
        self.decay = decay
        self.batches = 0
        self._raw: Tensor | None = None

    def update_(self, x: Tensor) -> None:
        """Take in one batch's vector, any shape, float32."""
        self.batches += 1
        self._raw = (1 - self.decay) * x + (0 if self._raw is None else self.decay * self._raw)

    @property
    def value(self) -> Tensor:
        """The corrected average, of the shape of the batches' vectors."""
        if self._raw is None:
            raise ValueError("no batch yet: call update_ first.")
        return self._raw / (1 - self.decay**self.batches)
