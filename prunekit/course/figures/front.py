"""The figure of the trade-off explorer: points of which some are beaten by none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..lessons.points import pareto
from ..style import COLORS, ON_WHITE, subplots
from .pipeline import LOOKS, plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {  # sizes are rounded, so that a few zeros more do not decide what is on the front
    "MB on disk (measured)": lambda p: round(p["bytes"] / 1e6),
    "MB if zeros were packed (predicted)": lambda p: round(p["packed"] / 1e6),
    "weights left, % of dense": lambda p: round(100 * (1 - p["sparsity"])),
    "seconds to compress (measured)": lambda p: p["seconds"],
    "retention, %": lambda p: 100 * p["retention"],
    "perplexity": lambda p: p["perplexity"],
}
LOWER_IS_BETTER = "perplexity"


def front(
    points: Sequence[dict],
    cost: str = "MB if zeros were packed (predicted)",
    quality: str = "retention, %",
    allowed: Sequence[bool] | None = None,
    chosen: int | None = None,
    title: str = "",
) -> Figure:
    """Points of the trade-off, those that no other beats joined by a line.

    Args:
        points: as `prunekit.course.lessons.points.measure` gives them.
        cost: name in `AXES` for the horizontal axis.
        quality: name in `AXES` for the vertical axis.
        allowed: which points satisfy the limits; the others are drawn pale. None: all.
        chosen: number of the point to mark with an arrow.
        title: what to say above.
    """
    figure, axis = subplots(size=(8.0, 4.8))
    x, y = [AXES[cost](p) for p in points], [AXES[quality](p) for p in points]
    down = quality == LOWER_IS_BETTER
    on = pareto(x, [-v for v in y] if down else y)
    steps = sorted((a, b) for a, b, best in zip(x, y, on) if best)
    axis.plot(*zip(*steps), color=COLORS["ink"], lw=1, ls="--", drawstyle="steps-post", label="front", zorder=1)
    fine = [True] * len(points) if allowed is None else allowed
    for i, p in enumerate(points):
        _point(axis, p, x[i], y[i], on[i], fine[i])
    if chosen is not None:
        arrow = {"arrowstyle": "->", "lw": 2, "color": COLORS["ink"], "shrinkB": 8}
        axis.annotate("", (x[chosen], y[chosen]), (-45, 0), textcoords="offset points", arrowprops=arrow)
    if down:
        axis.set_yscale("log")
        plain_ticks(axis)
    axis.margins(x=0.1, y=0.12)
    axis.set(xlabel=f"{cost}: left is better", ylabel=f"{quality}: {'lower' if down else 'higher'} is better")
    axis.set_title(title or "Points on the dashed front are beaten by none", loc="left", size=10)
    _legend(axis, points)
    _labels(axis, points, x, y, on)
    return figure


def _point(axis: Axes, p: dict, x: float, y: float, on: bool, allowed: bool) -> None:
    marker, color = LOOKS.get(p["method"].split(",")[0], ("o", "muted"))
    ink, shade = COLORS[color], 1.0 if allowed else 0.25
    face = ink if p["fp8"] else "white"
    axis.plot(x, y, marker, ms=8, mfc=face, mec=ink, mew=1.5, alpha=shade, zorder=3)
    if on:
        axis.plot(x, y, "o", ms=15, mfc="none", mec=COLORS["ink"], mew=1, alpha=shade, zorder=2)


def _labels(axis: Axes, points: Sequence[dict], x: Sequence[float], y: Sequence[float], on: Sequence[bool]) -> None:
    """Each point's pattern beside it, where there is room; points on the front come first."""
    axis.figure.draw_without_rendering()  # settles the layout, on which places depend
    places = axis.transData.transform(list(zip(x, y))) * 72 / axis.figure.dpi  # in typographic points
    taken = [(a - 5, b - 5, a + 5, b + 5) for a, b in places]
    named: list[tuple[str, float, float]] = []
    for i in sorted(range(len(points)), key=lambda i: not on[i]):
        (a, b), (_, comma, rest) = places[i], points[i]["method"].partition(",")
        text = points[i]["pattern"] + comma + rest
        if any(text == other and abs(a - c) < 40 and abs(b - d) < 40 for other, c, d in named):
            continue  # neighbours share a label
        width = 5 * len(text)
        for dx, dy in ((8, -11), (8, 3), (-8 - width, -11), (-8 - width, 3)):
            box = (a + dx, b + dy, a + dx + width, b + dy + 8)
            free = all(box[2] < c or box[0] > e or box[3] < d or box[1] > f for c, d, e, f in taken)
            if free and text != "dense":
                taken.append(box)
                named.append((text, a, b))
                axis.annotate(text, (x[i], y[i]), (dx, dy), textcoords="offset points", size=8, bbox=ON_WHITE)
                break


def _legend(axis: Axes, points: Sequence[dict]) -> None:
    from matplotlib.lines import Line2D

    present = {p["method"].split(",")[0] for p in points}
    made = [
        Line2D([], [], marker=m, color=COLORS[c], ls="none", mfc="white" if name == "dense" else None, label=name)
        for name, (m, c) in LOOKS.items()
        if name in present
    ]
    made.append(Line2D([], [], marker="o", color=COLORS["keep"], mfc="white", ls="none", label="hollow: not FP8"))
    made.append(Line2D([], [], marker="o", color=COLORS["keep"], alpha=0.25, ls="none", label="pale: beyond a limit"))
    made.append(Line2D([], [], marker="o", ms=12, color=COLORS["ink"], mfc="none", ls="--", lw=1, label="front"))
    axis.legend(handles=made, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
