"""Figures of notebook 07: how far from the dense model on which text, a budget by layer, and what minutes buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..style import COLORS, ON_WHITE, subplots
from .own_model import LOOKS, field

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def divergences(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bars: divergence from the dense model on several texts, a group for each text and a bar for each model.

    Args:
        rows: nats per token by text, by model.
    """
    figure, axes = subplots(size=(8.0, 3.2))
    models = list(rows)
    texts = list(next(iter(rows.values())))
    width = 0.8 / len(models)
    for k, (model, (color, hatch)) in enumerate(zip(models, LOOKS)):
        places = [i + (k - (len(models) - 1) / 2) * width for i in range(len(texts))]
        heights = [rows[model][text] for text in texts]
        axes.bar(places, heights, 0.92 * width, color=color, hatch=hatch, ec=COLORS["ink"], lw=0.6, label=model)
        for place, height in zip(places, heights):
            axes.text(place, height, f"{height:.2f}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(texts)), texts)
    axes.set_ylabel("nats per token, measured")
    axes.set_title("divergence from the dense model; lower is nearer")
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
