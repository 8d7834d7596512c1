"""Trade-off explorer: measured points of the joint pipeline, the front, and the cheapest that is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import ipywidgets

from ...errors import PrunekitError
from ..figures.front import AXES, front
from .live import LiveFigure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSTS = tuple(AXES)[:4]
QUALITIES = tuple(AXES)[4:]
PACKED = COSTS[1]


def cheapest(points: Sequence[dict], cost: str, least: float, most: float) -> int | None:
    """Number of the cheapest point that keeps at least `least` % and has at most `most` MB with zeros packed.

    Among equally cheap ones, the one that keeps most. None if no point satisfies both.
    """
    good = [i for i, p in enumerate(points) if allowed(p, least, most)]
    rank = AXES[cost]
    return min(good, key=lambda i: (round(rank(points[i]), 6), -points[i]["retention"]), default=None)


def allowed(point: dict, least: float, most: float) -> bool:
    """Whether a point satisfies both limits."""
    return 100 * point["retention"] >= least and AXES[PACKED](point) <= most


def in_words(points: Sequence[dict], cost: str, least: float, most: float) -> str:
    """Which point is the cheapest that satisfies the limits, in three short lines."""
    limits = f"Keep at least {least:.0f} %, at most {most:.0f} MB with zeros packed"
    chosen = cheapest(points, cost, least, most)
    if chosen is None:
        return f"{limits}:\nno point does both.\nAccept a lower retention, or more MB."
    p = points[chosen]
    name = p["method"] if p["pattern"] == "dense" else f"{p['method']} {p['pattern']}"
    form = "FP8" if p["fp8"] else "bfloat16"
    return (
        f"{limits}:\ncheapest by {cost.split(' (')[0]} is {name}, {form}.\n"
        f"It keeps {p['retention']:.1%} +-{p['margin']:.1%}, perplexity {p['perplexity']:.1f}; "
        f"{p['bytes'] / 1e6:.0f} MB on disk, {p['packed'] / 1e6:.0f} MB packed; made in {p['seconds']:.1f} s."
    )


def trade_off(
    points: Sequence[dict],
    cost: str = PACKED,
    quality: str = QUALITIES[0],
    least: float = 70,
    most: float | None = None,
) -> LiveFigure:
    """Explore measured points: choose the axes, set limits, see the front and the cheapest point that is good enough.

    Args:
        points: as `prunekit.course.lessons.points.measure` gives them; nothing is computed from a model here.
        cost: what is cheap, one of `COSTS`.
        quality: the vertical axis, one of `QUALITIES`.
        least: least retention accepted, in percent.
        most: most MB accepted, with zeros packed; None for no limit.

    Raises:
        PrunekitError: no points, or unknown axes.
    """
    if not points:
        raise PrunekitError("the trade-off needs at least one point: see prunekit.course.lessons.points.measure.")
    if cost not in COSTS or quality not in QUALITIES:
        raise PrunekitError(f"unknown axis: expected a cost ({', '.join(COSTS)}) and {' or '.join(QUALITIES)}.")
    sizes = [AXES[PACKED](p) for p in points]
    least_mb, most_mb = int(min(sizes)), ceil(max(sizes))
    wide = {"style": {"description_width": "11em"}, "layout": {"width": "34em"}}

    def draw(cost: str, quality: str, least: float, most: float) -> tuple[Figure, str]:
        words = in_words(points, cost, least, most)
        chosen = cheapest(points, cost, least, most)
        fine = [allowed(p, least, most) for p in points]
        figure = front(points, cost, quality, fine, chosen, words)
        alt = (
            f"{quality} against {cost} of {len(points)} configurations, {sum(fine)} of them within the limits. {words}"
        )
        return figure, " ".join(alt.split())

    return LiveFigure(
        draw,
        cost=ipywidgets.Dropdown(options=COSTS, value=cost, description="cheap means", **wide),
        quality=ipywidgets.Dropdown(options=QUALITIES, value=quality, description="good means", **wide),
        least=ipywidgets.IntSlider(value=int(least), min=0, max=100, description="keep at least, %", **wide),
        most=ipywidgets.IntSlider(
            value=most_mb if most is None else max(least_mb, min(int(most), most_mb)),
            min=least_mb,
            max=most_mb,
            description="MB at most, packed",
            **wide,
        ),
    )
