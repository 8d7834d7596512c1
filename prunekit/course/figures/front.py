"""The figure of the trade-off explorer: where each point stands, and no marker on another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from math import hypot
from typing import TYPE_CHECKING

from ..lessons.points import pareto, standing
from ..style import COLORS, ON_WHITE, subplots
from .pipeline import LOOKS, plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

AXES = {  # sizes are rounded, so that a few zeros more do not decide what is on the front
    "MB on disk (measured)": lambda p: round(p["bytes"] / 1e6),
    "MB if zeros were packed (predicted)": lambda p: round(p["packed"] / 1e6),
    "weights left, % of dense": lambda p: round(100 * (1 - p["sparsity"])),
    "seconds to compress (measured)": lambda p: p["seconds"],
    "retention, %": lambda p: 100 * p["retention"],
    "perplexity": lambda p: p["perplexity"],
}
LOWER_IS_BETTER = "perplexity"
APART = 17.0  # typographic points from marker to marker, so that not even their rings touch
LEADER = {"arrowstyle": "-", "lw": 0.8, "color": COLORS["muted"]}
ARROW = {"arrowstyle": "->", "lw": 2, "color": COLORS["ink"], "shrinkB": 9}
RINGS = {"front": "-", "cannot tell": ":"}  # line style of the ring by standing


def front(
    points: Sequence[dict],
    cost: str = "MB on disk (measured)",
    quality: str = "retention, %",
    allowed: Sequence[bool] | None = None,
    chosen: Sequence[int] = (),
    title: str = "",
) -> Figure:
    """Points of the trade-off: ringed where none beats them for sure, a dotted ring where the text cannot tell.

    Args:
        points: as `prunekit.course.lessons.points.measure` gives them.
        cost: name in `AXES` for the horizontal axis.
        quality: name in `AXES` for the vertical axis.
        allowed: which points satisfy the limits; the others are drawn pale. None: all.
        chosen: numbers of the points to mark with an arrow.
        title: what to say above.
    """
    from matplotlib.transforms import ScaledTranslation

    figure, axis = subplots(size=(8.6, 5.4))
    x, y = [AXES[cost](p) for p in points], [AXES[quality](p) for p in points]
    down = quality == LOWER_IS_BETTER
    best = pareto(x, [-v for v in y] if down else y)
    steps = sorted((a, b) for a, b, on in zip(x, y, best) if on)
    axis.plot(*zip(*steps), color=COLORS["muted"], lw=1, ls="--", drawstyle="steps-post", zorder=1)
    axis.plot(x, y, ls="none")  # for the limits: markers may move aside
    if down:
        axis.set_yscale("log")
        plain_ticks(axis)
    axis.margins(x=0.15, y=0.15)
    axis.set(xlabel=f"{cost}: left is better", ylabel=f"{quality}: {'lower' if down else 'higher'} is better")
    axis.set_title(title, loc="left", size=10)
    _legend(axis, points)
    figure.draw_without_rendering()  # settles the layout, on which places depend
    places = (axis.transData.transform(list(zip(x, y))) * 72 / figure.dpi).tolist()  # in typographic points
    found = standing(points, x, "perplexity" if down else "retention")
    aside = spread([(a, b) for a, b in places])
    for i, p in enumerate(points):
        at = axis.transData + ScaledTranslation(aside[i] / 72, 0, figure.dpi_scale_trans)
        if aside[i]:
            axis.annotate("", (x[i], y[i]), (x[i], y[i]), textcoords=at, arrowprops=LEADER)
        _point(axis, p, (x[i], y[i]), at, found[i], allowed is None or allowed[i])
        if i in chosen:
            axis.annotate("", (x[i], y[i]), (0, 30), xycoords=at, textcoords="offset points", arrowprops=ARROW)
    _labels(axis, points, [(a + dx, b) for (a, b), dx in zip(places, aside)])
    return figure


def spread(places: Sequence[tuple[float, float]], gap: float = APART) -> list[float]:
    """How far to move each of some markers to the side so that all are at least `gap` apart.

    Args:
        places: of their middles, in any unit.
        gap: in the same unit.
    """
    taken: list[tuple[float, float]] = []
    for a, b in places:
        tries = (sign * step * gap for step in count() for sign in (1, -1))
        free = next(dx for dx in tries if all(hypot(a + dx - c, b - d) >= 0.999 * gap for c, d in taken))
        taken.append((a + free, b))
    return [a - c for (a, _), (c, _) in zip(taken, places)]


def _point(axis: Axes, p: dict, xy: tuple[float, float], at: Transform, standing: str, allowed: bool) -> None:
    marker, color = LOOKS.get(p["method"].split(",")[0], ("o", "muted"))
    ink, shade = COLORS[color], 1.0 if allowed else 0.25
    face = ink if p["fp8"] else "white"
    axis.plot(*xy, marker, ms=8, mfc=face, mec=ink, mew=1.5, alpha=shade, zorder=3, transform=at)
    if standing in RINGS:
        style = {"facecolors": "none", "edgecolors": COLORS["ink"], "linestyles": RINGS[standing]}
        axis.scatter(*xy, s=APART**2 * 0.85, alpha=shade, zorder=2, transform=at, **style)


def _labels(axis: Axes, points: Sequence[dict], places: Sequence[tuple[float, float]]) -> None:
    """Each point's pattern beside it, where there is room."""
    figure = axis.figure
    taken = [(a - 8, b - 8, a + 8, b + 8) for a, b in places]
    back = (axis.transData + figure.dpi_scale_trans.inverted()).inverted()
    for (a, b), p in zip(places, points):
        _, comma, rest = p["method"].partition(",")
        text = "" if p["pattern"] == "dense" else p["pattern"] + comma + rest
        width = 5 * len(text)
        for dx, dy in ((10, -4), (-10 - width, -4), (8, -15), (8, 7), (-8 - width, -15), (-8 - width, 7)):
            box = (a + dx, b + dy, a + dx + width, b + dy + 8)
            if text and all(box[2] < c or box[0] > e or box[3] < d or box[1] > f for c, d, e, f in taken):
                taken.append(box)
                axis.text(*back.transform((box[0] / 72, box[1] / 72)), text, size=8, bbox=ON_WHITE, zorder=2.5)
                break


def _legend(axis: Axes, points: Sequence[dict]) -> None:
    from matplotlib.lines import Line2D

    present = {p["method"].split(",")[0] for p in points}
    made = [
        Line2D([], [], marker=m, color=COLORS[c], ls="none", mfc="white" if name == "dense" else None, label=name)
        for name, (m, c) in LOOKS.items()
        if name in present
    ]
    ink = COLORS["ink"]
    made.append(Line2D([], [], marker="o", color=ink, mfc="white", ls="none", label="hollow: not FP8"))
    made.append(Line2D([], [], marker="o", color=ink, alpha=0.25, ls="none", label="pale: beyond a limit"))
    made.append(axis.scatter([], [], s=200, facecolors="none", edgecolors=ink, label="on the front"))
    dotted = {"facecolors": "none", "edgecolors": ink, "linestyles": ":"}
    made.append(axis.scatter([], [], s=200, label="cannot tell", **dotted))
    made.append(Line2D([], [], color=COLORS["muted"], lw=1, ls="--", label="front as measured"))
    axis.legend(handles=made, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=0.9)
