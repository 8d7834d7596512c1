"""What notebook 01 tries its threshold rules on, and how it judges them: rows of several kinds, and a whole model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...method.ewma import quantile_mask
from ...method.masks import exact_mask, sparsity_of
from ...method.scores import contribution
from ...model.linear import linear_layers, weight_of

if TYPE_CHECKING:
    from torch import nn

    from ...calibration.calibrate import Calibration


def sorting_cost(lengths: Sequence[int], numbers: int = 2**20, rounds: int = 7) -> dict[str, dict[int, float]]:
    """Measure sorting each row, and copying, for matrices of the same count of numbers and rows of several lengths.

    Args:
        lengths: weights in a row.
        numbers: weights in the matrix.
        rounds: how often each is timed, in turn.

    Returns:
        Median nanoseconds for each weight, by operation and by length.
    """
    from ...bench.timing import time_in_turn

    ns: dict[str, dict[int, float]] = {"sort each row": {}, "copy": {}}
    for n in lengths:
        x = torch.rand(numbers // n, n)
        out = torch.empty_like(x)
        calls = {"sort each row": lambda x=x: x.sort(dim=1), "copy": lambda x=x, out=out: out.copy_(x)}
        for name, timing in time_in_turn(calls, rounds=rounds).items():
            ns[name][n] = 1e9 * timing.median / x.numel()
    return ns


def kinds_of_rows(real: Tensor, rows: int = 256, columns: int = 1536) -> dict[str, tuple[Tensor, float]]:
    """Scores to try a rule on, with the share to ask for: Gaussian, real, heavy-tailed, log-normal ones.

    Args:
        real: scores of a real layer, ``[out, in]``.
        rows: rows of random scores: squared Gaussians, squared ratios of two Gaussians, and log-normal ones.
        columns: random scores in a row.

    Returns:
        Scores and share, by name.
    """
    one, other = torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(0))
    return {
        "squared Gaussians": (one**2, 0.5),
        "real rows": (real, 0.5),
        "real rows, asked for 0.2": (real, 0.2),
        "heavy tail": ((one / other) ** 2, 0.5),
        "log-normal": ((2 * one).exp(), 0.5),
    }


def rows_pruned(tries: Mapping[str, tuple[Tensor, float]]) -> str:
    """What share single rows lose to `quantile_mask`, from the least to the most, a line for each kind of rows.

    Args:
        tries: scores ``[rows, in]`` and the share to ask for, by name.
    """
    lines = []
    for name, (scores, sparsity) in tries.items():
        share = 1 - quantile_mask(scores, sparsity).float().mean(1)
        lines.append(f"{name:24} asked for {sparsity:.0%}, single rows lose {share.min():.1%} to {share.max():.1%}")
    return "\n".join(lines)


def awkward_rows(n: int = 1000, seed: int = 0) -> dict[str, tuple[Tensor, float]]:
    """Rows of scores on which one scan of quantile tracking does well or badly: scores and step, by name.

    Args:
        n: scores in a row; one of the rows has only 20.
        seed: of the random scores.
    """
    rng = torch.Generator().manual_seed(seed)
    base = torch.randn(n, generator=rng) ** 2
    zero = torch.rand(n, generator=rng) < 0.7
    zero[0] = False
    return {
        "well-behaved": (base, 0.05),
        "only 20 weights": (base[:20], 0.01),
        "step too small": (base, 0.0005),
        "sorted": (base.sort().values, 0.05),
        "drifting": (base * torch.logspace(0, 3, n), 0.05),
        "70 % zeros": (base.masked_fill(zero, 0), 0.05),
    }


def agreement(keep: Tensor, other: Tensor) -> float:
    """Share of decisions that two masks of the same shape have in common, 0 to 1."""
    return (keep == other).double().mean().item()


def share_and_agreement(keep: Tensor, exact: Tensor) -> tuple[float, float]:
    """The share that a mask prunes, and its `agreement` with a sort's."""
    return sparsity_of(keep), agreement(keep, exact)


def try_steps(L: Tensor, rates: Sequence[float], sparsity: float = 0.5) -> tuple[dict, dict]:
    """`quantile_mask` with several steps, in blocks of 64 weights and one by one.

    Args:
        L: scores ``[out, in]``.
        rates: the steps.
        sparsity: share of each row to prune.

    Returns:
        Agreement with a sort, and the rows' mean miss of the target; each by block, one number for each step.

    Raises:
        PrunekitError: sparsity out of range.
    """
    exact, agree, miss = exact_mask(L, sparsity), {}, {}
    for block in (64, 1):
        masks = [quantile_mask(L, sparsity, rate=rate, block=block) for rate in rates]
        agree[block] = [agreement(mask, exact) for mask in masks]
        miss[block] = [((~mask).double().mean(1) - sparsity).abs().mean().item() for mask in masks]
    return agree, miss


@dataclass
class Judged:
    """How a rule did on a whole model.

    Attributes:
        layers: the sparsity of each layer.
        sparsity: that of all together.
        seconds: what the selection took.
        perplexity: on the tokens given.
        keep: all decisions, bool, one after the other.
        lost: for each layer, the sum of the contributions of the weights that were pruned.
    """

    layers: list[float]
    sparsity: float
    seconds: float
    perplexity: float
    keep: Tensor
    lost: list[float]


def judge(model: nn.Module, calibration: Calibration, ids: Tensor, **options) -> Judged:
    """Compress a model with the options of `pk.compress`, evaluate it on windows of tokens, and drop it again.

    Args:
        model: the dense model, which stays as it is.
        calibration: what `prunekit.calibration.calibrate` found for it.
        ids: int64 ``[windows, context]``.
        options: of `pk.compress`.

    Raises:
        PrunekitError: as `pk.compress` and `prunekit.evaluation.evaluate`.
    """
    from ...compression.compress import compress
    from ...evaluation.evaluate import evaluate

    result = compress(model, calibration=calibration, **options)
    keep, lost = [], []
    for (name, new), old in zip(linear_layers(result.model).items(), linear_layers(model).values()):
        keep.append((new.weight != 0).flatten())
        L = contribution(weight_of(old), calibration.energy[name]).flatten()
        lost.append(L.masked_fill(keep[-1], 0).sum().item())
    return Judged(
        [layer["sparsity"] for layer in result.layers],
        result.sparsity,
        result.seconds["select"],
        evaluate(result.model, ids)["perplexity"],
        torch.cat(keep),
        lost,
    )


def lost_more(one: Judged, other: Judged) -> float:
    """How many times the contribution that `other` prunes is pruned by `one`: the median over the layers."""
    return median(a / b for a, b in zip(one.lost, other.lost))


def table(judged: Mapping[str, Judged], reference: str) -> str:
    """Each rule's perplexity, and beside the rule called `reference`: equal decisions, and contribution pruned."""
    it = judged[reference]
    lines = [f"beside {reference}:    perplexity  equal decisions  contribution pruned"]
    for rule, one in judged.items():
        equal, lost = agreement(one.keep, it.keep), lost_more(one, it)
        lines.append(f"{rule:18} {one.perplexity:12.1f} {equal:16.3f} {lost:18.3f} x")
    return "\n".join(lines)
