"""Figures of notebook 02: where zeros may be, how 2:4 is stored, what each pattern makes smaller and faster.

Latencies say on the picture whether they are measured or published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...bench.timing import Timing, speedup
from ...speed.published import CITATION, published_rows
from ..style import COLORS, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORSE = 1.1  # a bar beyond this is called slower or larger: less may be chance


def patterns(W: Tensor, masks: Mapping[str, Tensor], lost: Mapping[str, float]) -> Figure:
    """A small weight under several masks: kept numbers on blue, pruned ones crossed out.

    Args:
        W: small weight ``[out, in]`` of whole numbers.
        masks: by name, bool ``[out, in]``, True where a weight stays.
        lost: by name, the share of the contribution that goes, from 0 to 1.
    """
    figure, axes = subplots(2, 2, size=(8.2, 4.3))
    for axis, (name, keep) in zip(axes.flat, masks.items()):
        _digits(axis, W, keep)
        axis.set_title(f"{name}: {lost[name]:.0%} of the contribution lost")
        for edge in range(4, W.shape[1], 4) if ":" in name else ():
            axis.axvline(edge, color=COLORS["ink"], linewidth=2.5)
    return figure


def _digits(axis: Axes, W: Tensor, keep: Tensor) -> None:
    from matplotlib.patches import Rectangle

    rows, columns = W.shape
    for i in range(rows):
        for j in range(columns):
            kept = bool(keep[i, j])
            face = COLORS["light"] if kept else "#f3f3f3"
            hatch = None if kept else "////"
            axis.add_patch(Rectangle((j, i), 1, 1, facecolor=face, edgecolor="#bbbbbb", hatch=hatch, linewidth=0.8))
            weight = "bold" if kept else "normal"
            back = None if kept else {"facecolor": "#f3f3f3", "edgecolor": "none", "pad": 1.0}
            color = COLORS["ink"] if kept else "#666666"
            axis.text(j + 0.5, i + 0.5, f"{W[i, j]:g}", ha="center", va="center", color=color, weight=weight, bbox=back)
    axis.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[], aspect="equal")
    for side in axis.spines.values():
        side.set_visible(False)


def layout24(row: Tensor, keep: Tensor) -> Figure:
    """One row in groups of four, the values that a 2:4 format stores, and the bits of their places.

    Args:
        row: ``[in]``, 4 divides ``in``.
        keep: bool ``[in]`` with two True in each group of four.
    """
    figure, axis = subplots(size=(8.2, 2.4))
    count = len(row)
    kept = keep.nonzero().flatten()
    for j in range(count):
        _cell(axis, j, 0, f"{row[j]:g}", bool(keep[j]))
        axis.text(j + 0.5, -0.08, str(j % 4), ha="center", va="bottom", fontsize=8, color="#555555")
    for place, j in enumerate(kept.tolist()):
        x = place + (count - len(kept)) / 2
        _cell(axis, x, 1.7, f"{row[j]:g}", True)
        _cell(axis, x, 2.7, f"{j % 4:02b}", True, COLORS["yellow"])
        axis.annotate("", (x + 0.5, 1.68), (j + 0.5, 1.02), arrowprops={"arrowstyle": "->", "color": "#777777"})
    for edge in range(0, count + 1, 4):
        axis.plot([edge, edge], [-0.1, 1.1], color=COLORS["ink"], linewidth=2.5)
    labels = (
        (0.5, "the row in groups of 4\n(above: place in its group)"),
        (2.2, "values kept"),
        (3.2, "places, 2 bits each"),
    )
    for y, label in labels:
        axis.text(-0.3, y, label, ha="right", va="center")
    axis.set(xlim=(-3.6, count + 0.2), ylim=(3.8, -0.6))
    axis.axis("off")
    return figure


def _cell(axis: Axes, x: float, y: float, text: str, kept: bool, face: str | None = None) -> None:
    from matplotlib.patches import Rectangle

    color = face or (COLORS["light"] if kept else "#f3f3f3")
    hatch = None if kept else "////"
    axis.add_patch(Rectangle((x, y), 1, 1, facecolor=color, edgecolor="#999999", hatch=hatch, linewidth=0.8))
    back = None if kept else {"facecolor": "#f3f3f3", "edgecolor": "none", "pad": 1.0}
    axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", weight="bold" if kept else "normal", bbox=back)


def measured_times(timings: Mapping[str, Timing], title: str) -> Figure:
    """Time of each form over the dense one's, measured on this CPU in turn; the first is the dense one."""
    names = list(timings)
    dense = timings[names[0]]
    figure, axis = subplots(size=(7.6, 0.9 + 0.42 * len(names)))
    relative, low, high = [], [], []
    for name in names:
        middle, *quartiles = (1 / value for value in speedup(dense, timings[name]))
        relative.append(middle)
        low.append(middle - min(quartiles))
        high.append(max(quartiles) - middle)
    texts = [f"{value:.2f}  ({timings[name].median * 1e3:.2f} ms)" for name, value in zip(names, relative)]
    relative_bars(axis, names, relative, texts, errors=[low, high])
    axis.set(title=title, xlabel="time / dense time (measured on this CPU; whiskers: quartiles of the rounds)")
    return figure


def relative_bars(
    axis: Axes,
    names: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    errors: object = None,
    word: str | Sequence[str] = "slower",
    room: float = 1.55,
) -> None:
    """Horizontal bars around the line at 1: up to it blue; beyond it vermilion, hatched, and called `word`.

    Args:
        axis: where to draw.
        names: of the bars, from top to bottom.
        values: their lengths.
        texts: what stands beside each.
        errors: lengths of the whiskers to the left and to the right, each by bar; None for none.
        word: for all bars, or one for each.
        room: width of the axis over the longest bar, so that texts have their place.
    """
    worse = [value > WORSE for value in values]
    words = [word] * len(values) if isinstance(word, str) else word
    places = range(len(values))
    bars = axis.barh(
        places,
        values,
        color=[COLORS["prune" if w else "keep"] for w in worse],
        xerr=errors,
        error_kw={"capsize": 3, "elinewidth": 1},
        height=0.6,
    )
    for bar, is_worse in zip(bars, worse):
        if is_worse:
            bar.set_hatch("///")
            bar.set_edgecolor("white")
    ends = [value + (errors[1][i] if errors else 0) for i, value in enumerate(values)]
    far = max([*ends, 1.0])
    for place, end in enumerate(ends):
        text = f"{texts[place]}, {words[place]}" if worse[place] else texts[place]
        back = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axis.text(end + 0.02 * far, place, text, va="center", fontsize=9, bbox=back)
    axis.axvline(1, color=COLORS["ink"], linestyle="--", linewidth=1, zorder=1.5)
    axis.set_yticks(list(places), names)
    axis.set(xlim=(0, room * far), ylim=(len(values) - 0.4, -0.6))


def published24(gpu: str = "RTX 4090", dtype: str = "fp8") -> Figure:
    """How many times faster 2:4 weights are on a GPU, over tokens, for the layers of Llama 3.2 1B: published.

    Args:
        gpu: the card; this and the next as `published_rows` takes them.
        dtype: the format.

    Raises:
        PrunekitError: unknown card.
    """
    rows = [row for row in published_rows(gpu, dtype) if row.model == "Llama3.2-1B"]
    figure, axis = subplots(size=(7.6, 3.6))
    axis.axhspan(0, 1, facecolor="#f3d9cc", hatch="///", edgecolor="white", linewidth=0)
    axis.text(15500, 0.47, "2:4 is slower than dense", va="center", ha="right", weight="bold")
    for (N, K), marker in zip(sorted({(row.N, row.K) for row in rows}), "os^D"):
        points = sorted((row.M, row.speedup) for row in rows if (row.N, row.K) == (N, K))
        axis.plot(*zip(*points), marker=marker, markersize=5, label=f"weight {N} x {K}")
    axis.axhline(1, color=COLORS["ink"], linestyle="--", linewidth=1)
    axis.set_xscale("log", base=2)
    ticks = sorted({row.M for row in rows})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set(ylim=(0.3, 2.2), xlabel="tokens in the product", ylabel="dense time / 2:4 time")
    axis.set_title(f"{gpu}, {dtype.upper()}, layers of Llama 3.2 1B ({CITATION})", fontsize=10)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 0.12), ncols=2, fontsize=9)
    return figure


def models(judged: Mapping[str, Mapping[str, float]]) -> Figure:
    """Whole models side by side: file size, time and perplexity.

    Args:
        judged: by model ``megabytes`` (real files), ``time`` (over the dense model's, measured on this CPU) and
            ``perplexity``; the first is the dense one.
    """
    figure, axes = subplots(1, 3, size=(9.0, 0.9 + 0.4 * len(judged)), sharey=True)
    names, first = list(judged), next(iter(judged.values()))
    size = [values["megabytes"] / first["megabytes"] for values in judged.values()]
    relative_bars(axes[0], names, size, [f"{v['megabytes']:.0f} MB" for v in judged.values()], word="larger")
    relative_bars(axes[1], names, [v["time"] for v in judged.values()], [f"{v['time']:.2f}" for v in judged.values()])
    perplexity = [values["perplexity"] for values in judged.values()]
    axes[2].barh(range(len(names)), perplexity, color=COLORS["muted"], height=0.6)
    for place, value in enumerate(perplexity):
        axes[2].text(value + 0.02 * max(perplexity), place, f"{value:.1f}", va="center", fontsize=9)
    axes[2].set_xlim(0, 1.25 * max(perplexity))
    for axis, title in zip(axes, ("file / dense file", "time / dense (measured, CPU)", "perplexity (lower: better)")):
        axis.set_title(title, fontsize=10)
    return figure


def shades(W: Tensor, keep: Tensor) -> Tensor:
    """RGB picture ``[out, in, 3]`` of a weight: kept ones blue, darker where larger; pruned ones
    nearly white, so that a grey print tells them apart."""
    size = W.abs().float()
    depth = (size / size.quantile(0.98).clamp_min(1e-12)).clamp(0, 1).unsqueeze(-1)
    kept = torch.tensor([0.60, 0.77, 0.90]) * (1 - depth) + torch.tensor([0.0, 0.27, 0.44]) * depth
    return torch.where(keep.unsqueeze(-1), kept, torch.tensor([1.00, 0.94, 0.88]))
