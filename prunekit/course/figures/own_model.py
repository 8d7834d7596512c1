"""Figures of notebook 06: will it fit, which layers suffer, what is on disk, and where the limits are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from ...errors import PrunekitError
from ..lessons.memo import Criterion
from ..style import COLORS, HATCHES, ON_WHITE, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {
    "embedding": (COLORS["muted"], ""),
    "FP8 codes": (COLORS["cast"], HATCHES["cast"]),
    "FP8 scales": (COLORS["accent"], "xx"),
    "other weights": (COLORS["keep"], HATCHES["keep"]),
}
STATES = {"passed": (COLORS["exact"], "o"), "open": (COLORS["ink"], "D"), "failed": (COLORS["accent"], "X")}


def forecast(parameters: Mapping[str, float], memory: float | None = None) -> Figure:
    """Memory for the weights of a dense model and one FP8 candidate, predicted from the number of parameters.

    Args:
        parameters: number of parameters by model; all of them count as if they were compressed.
        memory: the device's memory in bytes, drawn as a line if the axis reaches it.
    """
    figure, axes = subplots(size=(8.0, 0.75 * len(parameters) + 1.3))
    place, ticks = 0, {}
    for name, count in parameters.items():
        for dtype, width in (("float32", 4), ("bfloat16", 2)):
            dense, fp8 = count * width / 1e9, count / 1e9
            axes.barh(place, dense, 0.7, color=COLORS["keep"], edgecolor=COLORS["ink"], lw=0.6)
            look = {"color": COLORS["cast"], "hatch": HATCHES["cast"]}
            axes.barh(place, fp8, 0.7, left=dense, edgecolor=COLORS["ink"], lw=0.6, **look)
            digits = 1 if dense + fp8 >= 10 else 2
            label = f" {dense:.{digits}f} + {fp8:.{digits}f} = {dense + fp8:.{digits}f} GB"
            axes.text(dense + fp8, place, label, va="center", fontsize=9)
            ticks[place] = f"{name}, {dtype}"
            place += 1
        place += 0.4
    axes.set_xlim(0, max(parameters.values()) * 5 / 1e9 * 1.35)
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.invert_yaxis()
    if memory and memory / 1e9 < axes.get_xlim()[1]:
        axes.axvline(memory / 1e9, color=COLORS["prune"], ls="--")
        label = f"here: {memory / 1e9:.0f} GB"
        axes.text(memory / 1e9, 1.02, label, ha="center", color=COLORS["prune"], transform=axes.get_xaxis_transform())
    axes.set_xlabel("GB, predicted; plain: dense weights, dotted: one candidate in FP8")
    return figure


def layer_table(values: Mapping[str, float]) -> tuple[list[str], list[list[float]]]:
    """Values by layer name as a table: kinds of layer times decoder blocks (first number in the name).

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
    """Values by layer name as a field, kinds of layer by decoder blocks; darker is larger.

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
    axes.set_xlabel("decoder block")
    axes.set_title(title)
    figure.colorbar(image, ax=axes, pad=0.01)
    return figure, axes


def damage(lost: Mapping[str, float], spared: Sequence[str] = ()) -> Figure:
    """Each layer's damage as a field, darker is worse; a cross marks the layers that are spared.

    Args:
        lost: share of the output's mean square lost, by layer name, as `sensitivity.damage` gives it.
        spared: names of the layers that are not pruned.

    Raises:
        PrunekitError: there are no layers.
    """
    title = "share of each layer's output (mean square) that is lost; measured, inputs taken as uncorrelated"
    figure, axes = field(lost, title, low=0)
    _, marks = layer_table({name: float(name in spared) for name in lost})
    for i, row in enumerate(marks):
        for j, mark in enumerate(row):
            if mark == 1:
                axes.plot(j, i, marker="x", color="black", mew=4, ms=8)  # an outline, for pale cells
                axes.plot(j, i, marker="x", color="white", mew=2, ms=7)
    if spared:
        axes.set_xlabel("decoder block; a cross: not pruned")
    return figure


def on_disk(parts: Mapping[str, Mapping[str, float]]) -> Figure:
    """Stacked bars of what checkpoints hold.

    Args:
        parts: bytes by part, one of `PARTS`, for each checkpoint.
    """
    figure, axes = subplots(size=(8.0, 0.55 * len(parts) + 1.3))
    kinds = list(dict.fromkeys(kind for each in parts.values() for kind in each))
    lefts = [0.0] * len(parts)
    for kind in kinds:
        color, hatch = PARTS[kind]
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


def _reach(criteria: Sequence[Criterion]) -> tuple[float, float]:
    """Ends of an axis that shows the limit and all that did not fail, or, if all failed, those that did."""
    near = [c for c in criteria if c.state != "failed"] or criteria
    ends = [c.value + side * c.margin for c in near for side in (-1, 0, 1)]
    limit = criteria[0].limit
    ends = [end for end in ends if isfinite(end)] + [limit]
    room = (max(ends) - min(ends)) or 0.1 * abs(limit) or 1.0
    bad, good = 0.7 * room, 0.25 * room
    return min(ends) - (bad if criteria[0].at_least else good), max(ends) + (good if criteria[0].at_least else bad)


def _interval(axes: Axes, place: int, c: Criterion, low: float, high: float) -> None:
    """A value with its margin and its numbers; at the edge, with an arrow, if it lies beyond the axis."""
    color, marker = STATES[c.state]
    text = f"{c.value:.2f}" + (f" ± {c.margin:.2f}" if c.margin else "")
    x, margin, side = c.value, c.margin if isfinite(c.margin) else 0.0, "center"
    if x < low + 0.1 * (high - low):
        x, margin, side, text = low + 0.03 * (high - low), 0.0, "left", f"← {text}"
    elif x > high - 0.1 * (high - low):
        x, margin, side, text = high - 0.03 * (high - low), 0.0, "right", f"{text} →"
    if isfinite(x):
        axes.errorbar(x, place, xerr=margin or None, fmt=marker, color=color, ms=7, capsize=4, elinewidth=2)
        axes.text(x, place - 0.22, text, ha=side, va="bottom", fontsize=8, bbox=ON_WHITE | {"pad": 0.2})


def limits(candidates: Mapping[str, Sequence[Criterion]]) -> Figure:
    """Every criterion on an axis of its own, in its own unit: each candidate's value and margin beside the limit.

    An axis shows what lies about the limit; what failed by far stands at its edge, with an arrow.

    Args:
        candidates: criteria by candidate, at most six criteria; all candidates have the same ones, in the same order.
    """
    rows = list(zip(*candidates.values()))  # by criterion
    figure, panels = subplots(2, 3, size=(9.0, 2 * (0.4 * len(candidates) + 1.0)), sharey=True)
    for axes, criteria in zip(panels.flat, rows):
        first, (low, high) = criteria[0], _reach(criteria)
        bad = (low, first.limit) if first.at_least else (first.limit, high)
        axes.axvspan(*bad, facecolor="#F2F2F2", edgecolor="#CCCCCC", hatch="\\\\", lw=0)
        axes.axvline(first.limit, color=COLORS["ink"], ls="--", lw=1.2)
        for place, c in enumerate(criteria):
            _interval(axes, place, c, low, high)
        axes.set_xlim(low, high)
        axes.set_title(f"{first.name}, {first.on}\n{first.word} {first.limit:g}".replace(", \n", "\n"), fontsize=9)
        axes.tick_params(labelsize=8)
    for axes in panels.flat[len(rows) :]:
        axes.set_axis_off()
    handles = [panels[-1][-1].plot([], [], marker=m, color=c, ls="", ms=8)[0] for c, m in STATES.values()]
    words = [
        f"{state}: {where}" for state, where in zip(STATES, ("all of it is good", "it holds the limit", "all bad"))
    ]
    panels[-1][-1].legend(handles, words, loc="center", title="value ± margin\nhatched: the bad side", frameon=False)
    panels[0][0].set_yticks(range(len(candidates)), list(candidates))
    panels[0][0].set_ylim(len(candidates) - 0.5, -0.8)
    return figure
