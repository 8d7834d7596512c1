"""Figures of notebook 07: how far from the dense model on which text, a budget by layer, and what minutes buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..style import COLORS, ON_WHITE, subplots
from .own_model import LOOKS, field

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bars(rows: Mapping[str, Mapping[str, float]], unit: str, title: str) -> Figure:
    """A group of bars for each text, or kind of token, and in it a bar for each model.

    Args:
        rows: what was measured, by model and group.
        unit: of it.
        title: what it is.
    """
    figure, axes = subplots(size=(8.0, 3.2))
    models = list(rows)
    groups = list(next(iter(rows.values())))
    width = 0.8 / len(models)
    for k, (model, (color, hatch)) in enumerate(zip(models, LOOKS)):
        places = [i + (k - (len(models) - 1) / 2) * width for i in range(len(groups))]
        heights = [rows[model][group] for group in groups]
        axes.bar(places, heights, 0.92 * width, color=color, hatch=hatch, ec=COLORS["ink"], lw=0.6, label=model)
        for place, height in zip(places, heights):
            axes.text(place, height, f"{height:.2f}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(f"{unit}, measured")
    axes.set_title(title)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.1), ncols=len(models))
    return figure


def budget(sparsity: Mapping[str, float]) -> Figure:
    """Each layer's sparsity as a field, kinds of layer by blocks; darker is pruned more."""
    figure, _ = field(sparsity, "share of each layer that is pruned")
    return figure


def minutes(
    here: Sequence[tuple[str, float, float]], before: Sequence[tuple[str, float, float]] = (), margin: str = ""
) -> Figure:
    """Retention over the time that it took, on a logarithmic scale.

    Args:
        here: name, seconds and retention of each model, measured in this run.
        before: the same, measured earlier; drawn hollow, with a line.
        margin: how uncertain those of this run are, for the legend.
    """
    figure, axes = subplots(size=(8.0, 3.6))
    filled = {"color": COLORS["keep"], "marker": "o", "ls": ""}
    hollow = {"color": COLORS["prune"], "marker": "s", "ls": "--", "mfc": "white"}
    below = {"xytext": (7, -12), "ha": "left"}  # of a line that rises nothing lies there
    above = {"xytext": (-7, 5), "ha": "right"}
    for rows, label, place, look in (
        (here, f"measured in this run{margin}", above, filled),
        (before, "measured beforehand, on other tokens", below, hollow),
    ):
        rows = sorted(rows, key=lambda row: row[1])
        if rows:
            axes.plot([row[1] for row in rows], [100 * row[2] for row in rows], label=label, **look)
        place = place | {"color": look["color"], "fontsize": 8, "bbox": ON_WHITE}
        for name, seconds, kept in rows:
            axes.annotate(name, (seconds, 100 * kept), textcoords="offset points", **place)
    axes.set_xscale("log")
    axes.margins(0.14)
    axes.set_xlabel("seconds, log scale")
    axes.set_ylabel("retention on Wikipedia, %")
    axes.legend(loc="lower right")
    return figure
