"""Figures of notebook 06: will it fit, which layers suffer, what is on disk, and where the limits are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...errors import PrunekitError
from ..lessons.memo import WIDTH, Criterion
from ..style import COLORS, ON_WHITE, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = ((COLORS["muted"], ""), (COLORS["light"], "///"), (COLORS["accent"], "..."), (COLORS["cast"], "xx"))
STATES = {"passed": (COLORS["keep"], "o"), "open": (COLORS["ink"], "D"), "failed": (COLORS["prune"], "X")}


def forecast(parameters: Mapping[str, float], copies: int, memory: float | None = None) -> Figure:
    """Memory for the weights of a dense model and some FP8 copies, predicted from the number of parameters.

    Args:
        parameters: number of parameters by model; all of them count as if they were compressed.
        copies: FP8 copies that are held beside the dense model.
        memory: the device's memory in bytes, drawn as a line if the axis reaches it.
    """
    figure, axes = subplots(size=(8.0, 0.75 * len(parameters) + 1.3))
    place, ticks = 0, {}
    for name, count in parameters.items():
        for dtype, width in (("float32", 4), ("bfloat16", 2)):
            dense, fp8 = count * width / 1e9, count * copies / 1e9
            axes.barh(place, dense, 0.7, color=LOOKS[0][0], edgecolor=COLORS["ink"], lw=0.6)
            color, hatch = LOOKS[1]
            axes.barh(place, fp8, 0.7, left=dense, color=color, hatch=hatch, edgecolor=COLORS["ink"], lw=0.6)
            digits = 1 if dense + fp8 >= 10 else 2
            label = f" {dense:.{digits}f} + {fp8:.{digits}f} = {dense + fp8:.{digits}f} GB"
            axes.text(dense + fp8, place, label, va="center", fontsize=9)
            ticks[place] = f"{name}, {dtype}"
            place += 1
        place += 0.4
    axes.set_xlim(0, max(parameters.values()) * (4 + copies) / 1e9 * 1.35)
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.invert_yaxis()
    if memory and memory / 1e9 < axes.get_xlim()[1]:
        axes.axvline(memory / 1e9, color=COLORS["prune"], ls="--")
        label = f"here: {memory / 1e9:.0f} GB"
        axes.text(memory / 1e9, 1.02, label, ha="center", color=COLORS["prune"], transform=axes.get_xaxis_transform())
    axes.set_xlabel(f"GB, predicted; plain: dense weights, hatched: {copies} FP8 copies")
    return figure


def layer_table(values: Mapping[str, float]) -> tuple[list[str], list[list[float]]]:
    """Values by layer name as a table: kinds of layer times blocks (first number in the name).

    A kind is the last part of the name, or all that follows the number where two layers of a block end alike.
    """
    blocks = {name: re.search(r"\.(\d+)\.", name) for name in values}
    ends = {name: name[block.end() :] if block else name.rpartition(".")[2] for name, block in blocks.items()}
    alike = Counter(end.rpartition(".")[2] for end in set(ends.values()))
    rows: dict[str, dict[int, float]] = {}
    for name, value in values.items():
        end, block = ends[name], blocks[name]
        short = end.rpartition(".")[2]
        row = rows.setdefault(short if alike[short] == 1 else end, {})
        row[int(block[1]) if block else len(row)] = value
    width = 1 + max(max(row) for row in rows.values())
    return list(rows), [[row.get(i, float("nan")) for i in range(width)] for row in rows.values()]


def field(values: Mapping[str, float], title: str, low: float | None = None) -> tuple[Figure, Axes]:
    """Values by layer name as a field, kinds of layer by blocks; darker is larger.

    Args:
        values: by layer name.
        title: what they are.
        low: the value of the lightest colour; default: the least of them.

    Returns:
        The figure, and its axes to draw on.

    Raises:
        PrunekitError: there are no values.
    """
    if not values:
        raise PrunekitError("there is no layer to draw.")
    kinds, table = layer_table(values)
    figure, axes = subplots(size=(9.0, 0.32 * len(kinds) + 1.2))
    image = axes.imshow(table, cmap="cividis_r", aspect="auto", vmin=low)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xlabel("block")
    axes.set_title(title)
    figure.colorbar(image, ax=axes, pad=0.01)
    return figure, axes


def damage(lost: Mapping[str, float], spared: Sequence[str] = ()) -> Figure:
    """Each layer's damage as a field, darker is worse; a cross marks the layers that are spared.

    Args:
        lost: share of the output energy lost, by layer name, as `sensitivity.damage` gives it.
        spared: names of the layers that stay dense.

    Raises:
        PrunekitError: there are no layers.
    """
    title = "share of each layer's output energy that is lost (measured, inputs taken as uncorrelated)"
    figure, axes = field(lost, title, low=0)
    _, marks = layer_table({name: float(name in spared) for name in lost})
    for i, row in enumerate(marks):
        for j, mark in enumerate(row):
            if mark == 1:
                axes.plot(j, i, marker="x", color="black", mew=4, ms=8)  # an outline, for pale cells
                axes.plot(j, i, marker="x", color="white", mew=2, ms=7)
    if spared:
        axes.set_xlabel("block; a cross: left dense")
    return figure


def on_disk(parts: Mapping[str, Mapping[str, float]]) -> Figure:
    """Stacked bars of what checkpoints hold.

    Args:
        parts: bytes by part, for each checkpoint.
    """
    figure, axes = subplots(size=(8.0, 0.55 * len(parts) + 1.3))
    kinds = list(dict.fromkeys(kind for each in parts.values() for kind in each))
    lefts = [0.0] * len(parts)
    for kind, (color, hatch) in zip(kinds, LOOKS):
        sizes = [each.get(kind, 0) / 1e6 for each in parts.values()]
        axes.barh(list(parts), sizes, 0.6, left=lefts, color=color, hatch=hatch, ec=COLORS["ink"], lw=0.6, label=kind)
        lefts = [left + size for left, size in zip(lefts, sizes)]
    for place, total in enumerate(lefts):
        axes.text(total, place, f" {total:.1f} MB", va="center")
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xlabel("MB on disk, counted")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(kinds))
    return figure


def limits(candidates: Mapping[str, Sequence[Criterion]]) -> Figure:
    """Every criterion of every candidate with its error bar and its limit, in units of the limit.

    Args:
        candidates: criteria by candidate; all candidates have the same ones.
    """
    names = [criterion.name for criterion in next(iter(candidates.values()))]
    figure, panels = subplots(1, len(candidates), size=(9.0, 0.45 * len(names) + 1.5), sharey=True, squeeze=False)
    for axes, (candidate, criteria) in zip(panels[0], candidates.items()):
        for place, c in enumerate(criteria):
            color, marker = STATES[c.state]
            far = 0.6 if c.at_least else 1.4
            axes.plot([1, far], [place + 0.3] * 2, color=COLORS["muted"], lw=5, alpha=0.5, solid_capstyle="butt")
            ratio = c.value / c.limit if c.limit else 1.0
            shown = max(0.5, min(ratio, 2.4))
            bar = WIDTH * c.error / c.limit if c.limit and shown == ratio else None
            axes.errorbar(shown, place, xerr=bar, fmt=marker, color=color, ms=8, capsize=4)
            beyond = " >>" if ratio > 2.4 else " <<" if ratio < 0.5 else ""
            axes.text(
                shown,
                place - 0.2,
                f"{c.value:.2f} {c.state}{beyond}",
                ha="center",
                va="bottom",
                fontsize=8,
                bbox=ON_WHITE,
            )
        axes.axvline(1, color=COLORS["ink"], ls="--", lw=1, zorder=0)
        axes.set_xlim(0.4, 2.7)
        axes.set_title(candidate, fontsize=10)
    panels[0][0].set_yticks(range(len(names)), [f"{c.name}\n{c.word} {c.limit:g}" for c in criteria], fontsize=8)
    panels[0][0].set_ylim(len(names) - 0.4, -0.8)
    figure.supxlabel("value over its limit, with 2 standard errors; a grey bar lies on the side that fails", fontsize=9)
    return figure
