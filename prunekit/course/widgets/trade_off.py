"""Trade-off explorer: measured points, the front, and the cheapest that is good enough; no winner within a margin."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from textwrap import wrap
from typing import TYPE_CHECKING

import ipywidgets

from ...errors import PrunekitError
from ..figures.front import AXES, front
from ..lessons.points import lead
from .live import LiveFigure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSTS = tuple(AXES)[:4]
QUALITIES = tuple(AXES)[4:]
ON_DISK = COSTS[0]
NOISE = {COSTS[3]: 1.5}  # what was timed once counts as equal within this factor


def keeps(point: dict, least: float) -> str:
    """Whether a point keeps at least `least` %: "yes" or "no" beyond its margin, else "cannot tell"."""
    low, high = (100 * (point["retention"] + sign * point["margin"]) for sign in (-1, 1))
    return "yes" if low >= least else "no" if high < least else "cannot tell"


def cheapest(points: Sequence[dict], cost: str, quality: str, least: float, most: float) -> tuple[list[int], list[int]]:
    """The cheapest points that satisfy both limits.

    Args:
        points: as `prunekit.course.lessons.points.measure` gives them.
        cost: what is cheap, one of `COSTS`.
        quality: what decides between equally cheap ones, one of `QUALITIES`.
        least: least retention accepted, in percent.
        most: most MB accepted, on disk.

    Returns:
        Numbers of the points: the cheapest that keep enough beyond their margin, several if none of them is better
        than the others beyond the margin of the pair; and cheaper ones of which the text cannot tell whether they
        keep enough.
    """
    price = [AXES[cost](p) for p in points]
    small = [i for i, p in enumerate(points) if AXES[ON_DISK](p) <= most]
    sure = [i for i in small if keeps(points[i], least) == "yes"]
    limit = min((price[i] for i in sure), default=float("inf"))
    open_ones = [i for i in small if keeps(points[i], least) == "cannot tell" and price[i] < limit]
    equal = [i for i in sure if price[i] <= limit * NOISE.get(cost, 1)]
    kind = "retention" if quality == QUALITIES[0] else "perplexity"

    def behind(i: int, j: int) -> bool:
        gap, margin = lead(points[j], points[i], kind)
        return gap > margin

    return [i for i in equal if not any(behind(i, j) for j in equal)], open_ones


def allowed(point: dict, least: float, most: float) -> bool:
    """Whether a point may satisfy both limits."""
    return keeps(point, least) != "no" and AXES[ON_DISK](point) <= most


def name_of(point: dict) -> str:
    """A point in words, such as "EWMA 50 %"."""
    form = "" if point["fp8"] or point["method"] == "dense" else " in bfloat16"
    return (point["method"] if point["pattern"] == "dense" else f"{point['method']} {point['pattern']}") + form


def in_words(points: Sequence[dict], cost: str, quality: str, least: float, most: float) -> str:
    """Which points are the cheapest that satisfy the limits, in short lines; no winner within a margin."""
    limits = f"Keep at least {least:.0f} %, at most {most:.0f} MB on disk."
    chosen, perhaps = cheapest(points, cost, quality, least, most)
    kind = cost.split(" (")[0]
    lines = [limits]
    if len(chosen) == 1:
        p = points[chosen[0]]
        lines.append(f"Cheapest by {kind}: {name_of(p)}.")
        lines.append(
            f"It keeps {p['retention']:.1%} ± {p['margin']:.1%}, perplexity {p['perplexity']:.1f}; "
            f"{p['bytes'] / 1e6:.0f} MB on disk; made in {p['seconds']:.1f} s."
        )
    elif chosen:
        lines.append(f"Cheapest by {kind}: cannot tell. Equally cheap, and within the margin:")
        lines.append(", ".join(name_of(points[i]) for i in chosen) + ".")
    elif not perhaps:
        lines.append("No point does both. Accept a lower retention, or more MB.")
    if perhaps:
        names = ", ".join(name_of(points[i]) for i in perhaps)
        lines.append(f"Cheaper, but cannot tell whether it keeps enough: {names}.")
    return "\n".join("\n".join(wrap(line, 100)) for line in lines)


def trade_off(
    points: Sequence[dict],
    cost: str = ON_DISK,
    quality: str = QUALITIES[0],
    least: float = 70,
    most: float | None = None,
) -> LiveFigure:
    """Explore measured points: choose axes, set limits, see where each stands and which is the cheapest good one.

    Args:
        points: as `prunekit.course.lessons.points.measure` gives them; nothing is computed from a model here.
        cost: what is cheap, one of `COSTS`.
        quality: the vertical axis, one of `QUALITIES`.
        least: least retention accepted, in percent.
        most: most MB accepted, on disk; None for no limit.

    Raises:
        PrunekitError: no points, or unknown axes.
    """
    if not points:
        raise PrunekitError("the trade-off needs at least one point: see prunekit.course.lessons.points.measure.")
    if cost not in COSTS or quality not in QUALITIES:
        raise PrunekitError(f"unknown axis: expected a cost ({', '.join(COSTS)}) and {' or '.join(QUALITIES)}.")
    sizes = [AXES[ON_DISK](p) for p in points]
    least_mb, most_mb = int(min(sizes)), ceil(max(sizes))
    wide = {"style": {"description_width": "11em"}, "layout": {"width": "34em"}}

    def draw(cost: str, quality: str, least: float, most: float) -> tuple[Figure, str]:
        words = in_words(points, cost, quality, least, most)
        chosen, _ = cheapest(points, cost, quality, least, most)
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
            description="MB at most, on disk",
            **wide,
        ),
    )
