"""Figures of notebook 04: the three orders, where the error comes from, what is kept, and the trade-off front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..pipeline import CAST_FIRST, JOINT, PRUNE_FIRST
from ..points import CLAIMS, pareto
from ..style import COLORS, ON_WHITE, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {  # marker and colour of each method
    "EWMA": ("o", "keep"),
    "Wanda": ("^", "exact"),
    "SparseGPT": ("D", "other"),
    "magnitude": ("s", "prune"),
    "FP8 alone": ("P", "accent"),
    "dense": ("X", "ink"),
}
AXES = {  # sizes are rounded, so that a few zeros more do not decide what is on the front
    "MB on disk (measured)": lambda p: round(p["bytes"] / 1e6),
    "MB if zeros were packed (predicted)": lambda p: round(p["packed"] / 1e6),
    "weights left, % of dense": lambda p: round(100 * (1 - p["sparsity"])),
    "seconds to compress (measured)": lambda p: p["seconds"],
    "retention, %": lambda p: 100 * p["retention"],
    "perplexity": lambda p: p["perplexity"],
}
LOWER_IS_BETTER = "perplexity"
ASIDE = {"Wanda": -1.3, "SparseGPT": 1.3, "magnitude": -1.3}  # moved sideways, so that they do not hide each other


def orders(W: Tensor, results: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> Figure:
    """What becomes of a small matrix in each order: the values that stay, and the error of each row.

    Args:
        W: weight ``[out, in]``.
        results: by order ``(keep, new, error)``: bool and float ``[out, in]``, and the error of each row ``[out]``.
    """
    figure, axes = subplots(1, len(results), size=(9.0, 0.5 + 0.42 * len(W)))
    for axis, (order, (keep, new, error)) in zip(axes, results.items()):
        for i, j in ((i, j) for i in range(W.shape[0]) for j in range(W.shape[1])):
            if keep[i, j]:
                face, hatch, ink = COLORS["keep"], "", "white"
            else:
                face, hatch, ink = "white", "////", COLORS["ink"]
            axis.add_patch(_square(j, i, facecolor=face, hatch=hatch, edgecolor=COLORS["muted"]))
            label = f"{new[i, j]:.2f}".rstrip("0").rstrip(".") if keep[i, j] else "0"
            box = None if keep[i, j] else {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axis.text(j, i, label, ha="center", va="center", color=ink, bbox=box, size=9)
        for i, value in enumerate(error.tolist()):
            axis.text(W.shape[1] - 0.35, i, f"loses\n{value:.2f}", va="center", size=8)
        axis.set(xlim=(-0.6, W.shape[1] + 0.7), ylim=(len(W) - 0.4, -0.6), title=order)
        axis.axis("off")
    return figure


def _square(x: float, y: float, **options: object):
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, linewidth=1, **options)


def layers(rows: Sequence[dict]) -> Figure:
    """Left: the error of each layer and casting's share of it. Right: the other orders' error over the joint one's.

    Args:
        rows: as `prunekit.course.pipeline.layer_errors` gives them.
    """
    figure, (left, right) = subplots(1, 2, size=(9.0, 3.4))
    places = range(len(rows))
    total = [100 * row[JOINT] for row in rows]
    cast = [100 * row[JOINT] * row["cast_share"] for row in rows]
    left.plot(places, total, "o", ms=4, color=COLORS["keep"], label="both together, jointly")
    left.plot(places, cast, "x", ms=5, color=COLORS["prune"], label="the part due to casting")
    left.set(yscale="log", ylabel="error of the output, % of its energy (log scale)", title="Where the error is from")
    left.set_ylim(top=max(total) * 8)
    left.legend(loc="upper right", ncols=2, fontsize=8, handletextpad=0.2, columnspacing=1)
    right.axhline(0, color=COLORS["ink"], lw=1)
    for order, marker, color in ((PRUNE_FIRST, "^", "accent"), (CAST_FIRST, "s", "exact")):
        extra = [100 * (row[order] / row[JOINT] - 1) for row in rows]
        right.plot(places, extra, marker, ms=5, color=COLORS[color], mfc="none", mew=1.3, label=order)
    right.set(ylabel="error beyond the joint order's, %", title="What the order changes")
    low, high = right.get_ylim()
    right.set_ylim(low, high + 0.25 * (high - low))
    right.legend(loc="upper right", ncols=2, fontsize=8, handletextpad=0.2, columnspacing=1)
    block = [row["name"].split(".")[2] for row in rows]
    starts = [i for i in places if i == 0 or block[i] != block[i - 1]]
    for axis in (left, right):
        for start in starts[1:]:
            axis.axvline(start - 0.5, color=COLORS["muted"], lw=0.6)
        axis.set_xticks([i + 3 for i in starts], [block[i] for i in starts])
        axis.tick_params(axis="x", length=0)
        axis.set_xlabel("block; in it: queries, keys, values, output, gate, up, down", size=9)
    return figure


def stages(seconds: Mapping[str, float], title: str) -> Figure:
    """Bars of seconds by step, the fused pass marked.

    Args:
        seconds: by step.
        title: what was timed, and where.
    """
    figure, axis = subplots(size=(7.0, 0.9 + 0.38 * len(seconds)))
    for place, (name, value) in enumerate(seconds.items()):
        color, hatch = (COLORS["keep"], "///") if name == "fused pass" else (COLORS["muted"], "")
        axis.barh(place, value, color=color, hatch=hatch, edgecolor="white", lw=0)
        axis.text(value, place, f"  {value:.3f} s", va="center")
    axis.set_yticks(range(len(seconds)), list(seconds))
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.set(xlabel="seconds (shorter is faster)", title=title)
    return figure


def kept(points: Sequence[dict]) -> Figure:
    """Retention and perplexity against sparsity, side by side, with the paper's claims.

    Args:
        points: as `prunekit.course.points.measure` gives them.
    """
    figure, (left, right) = subplots(1, 2, size=(9.0, 3.8))
    start = [p for p in points if p["method"] == "FP8 alone"]
    for method, (marker, color) in LOOKS.items():
        mine = [p for p in points if p["method"] == method and p["pattern"] not in ("dense", "2:4") and p["fp8"]]
        if not mine:
            continue
        line = start + mine if method in ("EWMA", "magnitude") else mine
        options = {"marker": marker, "color": COLORS[color], "ms": 6, "label": method, "mec": "white", "mew": 0.5}
        options["ls"] = {"EWMA": "-", "magnitude": "--"}.get(method, "none")
        share = [100 * p["sparsity"] + ASIDE.get(method, 0) for p in line]
        bars = [100 * p["margin"] for p in line]
        left.errorbar(share, [100 * p["retention"] for p in line], bars, elinewidth=1, capsize=2, **options)
        right.plot(share, [p["perplexity"] for p in line], **options)
    claims = [(100 * sparsity, 100 * value) for sparsity, value in CLAIMS.items()]
    star = {"ms": 14, "mfc": "none", "mec": COLORS["ink"], "ls": "none", "zorder": 5}
    left.plot(*zip(*claims), "*", label="published: paper, larger models", **star)
    for p in points:
        if p["pattern"] == "2:4":
            for axis, value in ((left, 100 * p["retention"]), (right, p["perplexity"])):
                axis.plot(50, value, "v", ms=8, color=COLORS["light"], mec=COLORS["ink"], label="2:4, EWMA", ls="none")
            left.errorbar(50, 100 * p["retention"], 100 * p["margin"], color=COLORS["ink"], elinewidth=1, capsize=2)
    left.set(xlabel="weights pruned, %", ylabel="retention, %", title="Hits over the dense model's hits", ylim=(0, 109))
    right.set(xlabel="weights pruned, %", ylabel="perplexity (log scale)", title="Perplexity (lower is better)")
    right.set_yscale("log")
    _plain_ticks(right)
    left.legend(fontsize=8, loc="lower left")
    right.legend(fontsize=8, loc="upper left")
    return figure


def _plain_ticks(axis: Axes) -> None:
    """Powers of ten, twice and five times them, written out."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_locator(NullLocator())


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
        points: as `prunekit.course.points.measure` gives them.
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
        _plain_ticks(axis)
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
