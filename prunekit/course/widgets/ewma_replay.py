"""Scrub along a row and watch quantile tracking decide, beside a sort."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np
from torch import Tensor

from ...errors import PrunekitError
from ...method.ewma import HIGH, LOW, WARMUP_GAIN, WARMUP_RATE, WARMUP_SCORES, WARMUP_SWEEPS, gaussian_share, step_size
from ..style import COLORS, subplots
from .live import LiveFigure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDEST = 4096  # a longer row is cut: its stems would be thinner than a pixel


def scan(scores: list[float], sparsity: float, rate: float, warm_up: bool) -> list[float]:
    """The threshold that each weight meets in the scan that decides, and the last one.

    The rule is that of `prunekit.quantile_mask` with ``block=1``. Without the warm-up the threshold starts at
    the first score.

    Args:
        scores: one row, ``n`` scores clamped to positive numbers.
        sparsity: share to prune; this and the next as `prunekit.quantile_mask` takes them.
        rate: step of ``log q`` per weight.
        warm_up: whether some scans with a falling step come first.

    Returns:
        ``n + 1`` thresholds.
    """
    n, step = len(scores), step_size(sparsity, rate)
    log_q, path = math.log(scores[0]), []
    if warm_up:
        log_q += math.log(gaussian_share(sparsity))
        gain = WARMUP_GAIN / (4 * sparsity * (1 - sparsity))
        logs = [math.log(x) for x in scores]
        for seen in range(max(WARMUP_SWEEPS, math.ceil(WARMUP_SCORES / n)) * n):
            eta = max(step, min(WARMUP_RATE, gain / (seen + 1)))
            log_q += eta * (sparsity - (logs[seen % n] < log_q))
    for x in scores:
        path.append(math.exp(log_q))
        log_q += step * (sparsity - (x < path[-1]))
    return [*path, math.exp(log_q)]


def ewma_replay(L_row: Tensor, sparsity: float = 0.5) -> LiveFigure:
    """A row of scores, and quantile tracking replayed along it: threshold, decisions and share pruned so far.

    Args:
        L_row: scores ``[in]``, not negative; of a longer row the first 4,096 are taken.
        sparsity: the target at the start, between 0.05 and 0.95.

    Raises:
        PrunekitError: the row is not a vector of at least two finite scores.
    """
    if L_row.ndim != 1 or len(L_row) < 2 or not bool(L_row.isfinite().all()):
        raise PrunekitError(f"L_row has shape {list(L_row.shape)}: expected one row of two or more finite scores.")
    scores = L_row[:WIDEST].detach().double().clamp(LOW, HIGH).tolist()
    n = len(scores)
    wide = {"style": {"description_width": "9em"}, "layout": {"width": "34em"}}
    return LiveFigure(
        lambda **values: draw(scores, **values),
        position=ipywidgets.IntSlider(max(1, n // 2), 1, n, description="weights met", **wide),
        rate=ipywidgets.FloatLogSlider(
            0.01, min=-4, max=-0.75, step=0.25, description="step (rate)", readout_format=".1g", **wide
        ),
        sparsity=ipywidgets.FloatSlider(sparsity, min=0.05, max=0.95, step=0.05, description="target share", **wide),
        warm_up=ipywidgets.Checkbox(True, description="warm up first", **wide),
    )


def draw(scores: list[float], position: int, rate: float, sparsity: float, warm_up: bool) -> tuple[Figure, str]:
    """The picture after `position` weights, and its alternative text."""
    x, path = np.array(scores), np.array(scan(scores, sparsity, rate, warm_up))
    n, below = len(x), int(sparsity * len(x) * (1 + 1e-12))
    pruned = x < path[:-1]
    exact = np.zeros(n, bool)
    exact[np.argsort(x, kind="stable")[:below]] = True
    cut = np.sort(x)[max(below - 1, 0)]

    figure, (top, bottom) = subplots(2, size=(8.6, 4.6), sharex=True, height_ratios=(3, 1))
    figure.set_layout_engine(None)  # placing the axes by hand halves the time
    figure.subplots_adjust(0.1, 0.11, 0.99, 0.92, hspace=0.22)
    met, place = np.arange(n) < position, np.arange(n)
    low = max(np.quantile(x, 0.01), x.max() * 1e-9) / 4
    shown = np.maximum(x, low)
    for chosen, marker, color, label in (
        (~met, "", COLORS["muted"], "not met yet"),
        (met & ~pruned, "o", COLORS["keep"], "kept"),
        (met & pruned, "x", COLORS["prune"], "pruned"),
    ):
        top.vlines(place[chosen], low, shown[chosen], color=color, lw=0.6, alpha=0.5)
        top.plot(place[chosen], shown[chosen], marker or ".", color=color, markersize=4 if marker else 2, label=label)
    differ = met & (pruned != exact)
    top.plot(
        place[differ], shown[differ], "s", mfc="none", mec=COLORS["ink"], markersize=9, label="a sort says otherwise"
    )
    top.plot(place[:position], path[:position], color=COLORS["ink"], lw=2, label="threshold so far")
    top.axhline(cut, color=COLORS["exact"], linestyle="--", label="exact quantile")
    top.set_yscale("log")
    top.set(ylim=(low, shown.max() * 2), ylabel="score")
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(shown.max() * 2)) + 1)
    powers = powers[:: -(-len(powers) // 6) or 1]
    top.set_yticks([10.0**power for power in powers], [f"{10.0**power:g}" for power in powers])
    top.set_yticks([], minor=True)  # matplotlib's own ticks would take longer than all the rest
    top.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncol=6, fontsize=8, columnspacing=1.0)

    so_far = np.arange(1, n + 1)
    share, by_sort = np.cumsum(pruned) / so_far, np.cumsum(exact) / so_far
    bottom.plot(place[:position], share[:position], color=COLORS["keep"], label="tracked")
    bottom.plot(place[:position], by_sort[:position], color=COLORS["exact"], linestyle="--", label="by a sort")
    bottom.axhline(sparsity, color=COLORS["ink"], lw=0.8, linestyle=":")
    bottom.set(ylim=(0, 1), ylabel="pruned so far", xlabel="position in the row", xlim=(-0.01 * n, 1.01 * n))
    bottom.legend(loc="lower right", ncol=2, fontsize=8)
    last = position - 1
    numbers = (
        f"{position} of {n} weights met: pruned {share[last]:.3f}, by a sort {by_sort[last]:.3f}, "
        f"asked for {sparsity:g}; step {step_size(sparsity, rate):.2g}; {int(differ.sum())} decisions differ"
    )
    bottom.set_title(numbers, fontsize=10)
    return figure, (
        f"Scores along a row on a logarithmic axis, with the threshold that quantile tracking has reached. {numbers}; "
        f"threshold {path[last]:.3g}, exact quantile {cut:.3g}."
    )
