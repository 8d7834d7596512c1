"""Figures of notebook 04: the three orders, where the error comes from, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..lessons.pipeline import CAST_FIRST, JOINT, PRUNE_FIRST
from ..lessons.points import CLAIMS
from ..style import COLORS, HATCHES, bars, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {  # marker and colour of each method
    "EWMA": ("o", "exact"),
    "compensated EWMA": ("h", "light"),
    "Wanda": ("^", "accent"),
    "SparseGPT": ("D", "yellow"),
    "magnitude": ("s", "muted"),
    "FP8 alone": ("P", "cast"),
    "dense": ("X", "ink"),
}
ASIDE = {
    "Wanda": -1.4,
    "compensated EWMA": 1.4,
    "SparseGPT": 2.8,
    "magnitude": -1.4,
}  # moved sideways, so that they do not hide each other


PALE = "#fbe6d9"  # under the hatch of what is pruned


def halves(rows: Sequence[tuple[str, float | None, str]], title: str) -> Figure:
    """What models with half of their weights keep, one bar each; a question mark where it is not known yet.

    Args:
        rows: name, retention in percent or None, and where it is from: "measured here", "stored" or "as reported".
        title: what to say above.
    """
    figure, axis = subplots(size=(8.0, 0.9 + 0.4 * len(rows)))
    looks = {"measured here": ("keep", ""), "stored": ("light", ""), "as reported": ("muted", "xx")}
    for place, (_, value, source) in enumerate(rows):
        color, hatch = looks[source]
        if value is None:
            axis.text(2, place, "?", va="center", weight="bold", size=13)
            continue
        axis.barh(place, value, height=0.65, color=COLORS[color], hatch=hatch, edgecolor="white", lw=0)
        axis.text(value + 1, place, f"{value:.0f} %, {source}", va="center")
    axis.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axis.set(xlim=(0, 135), xticks=range(0, 101, 20), ylim=(len(rows) - 0.4, -0.6), title=title)
    axis.set_xlabel("retention: right guesses, % of the dense model's")
    return figure


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
                face, hatch, ink = PALE, HATCHES["prune"], COLORS["ink"]
            edge = "white" if keep[i, j] else COLORS["prune"]
            axis.add_patch(_square(j, i, facecolor=face, hatch=hatch, edgecolor=edge))
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
        rows: for each layer its ``name``, its error in each of the three orders, and ``cast_share``.
    """
    figure, (left, right) = subplots(1, 2, size=(9.0, 3.4))
    places = range(len(rows))
    total = [100 * row[JOINT] for row in rows]
    cast = [100 * row[JOINT] * row["cast_share"] for row in rows]
    left.plot(places, total, "o", ms=4, color=COLORS["ink"], label="all of it, joint order")
    left.plot(places, cast, "x", ms=5, color=COLORS["cast"], label="the part due to casting")
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
        axis.set_xlabel("decoder block, its seven layers in turn")
    return figure


def stages(seconds: Mapping[str, float], title: str) -> Figure:
    """Bars of seconds by step, the fused pass marked.

    Args:
        seconds: by step.
        title: what was timed, and where.
    """
    figure, axis = subplots(size=(7.0, 0.9 + 0.38 * len(seconds)))
    for place, (name, value) in enumerate(seconds.items()):
        color, hatch = (COLORS["exact"], "xx") if name == "fused pass" else (COLORS["muted"], "")
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
        points: as `prunekit.course.lessons.points.measure` gives them.
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
    left.plot(*zip(*claims), "*", label="as reported, larger models", **star)
    for p in points:
        if p["pattern"] == "2:4":
            for axis, value in ((left, 100 * p["retention"]), (right, p["perplexity"])):
                axis.plot(50, value, "v", ms=8, color=COLORS["exact"], mec=COLORS["ink"], label="2:4, EWMA", ls="none")
            left.errorbar(50, 100 * p["retention"], 100 * p["margin"], color=COLORS["ink"], elinewidth=1, capsize=2)
    left.set(xlabel="weights pruned, %", ylabel="retention, %", title="Hits over the dense model's hits", ylim=(0, 109))
    right.set(xlabel="weights pruned, %", ylabel="perplexity (log scale)", title="Perplexity (lower is better)")
    right.set_yscale("log")
    plain_ticks(right)
    left.legend(fontsize=8, loc="lower left")
    right.legend(fontsize=8, loc="upper left")
    return figure


def speeds(times: Mapping[str, float], note: str) -> Figure:
    """How many times as fast as the first configuration each is, with its seconds.

    Args:
        times: seconds by configuration.
        note: what to say below the axis.
    """
    figure, axis = subplots(size=(8.4, 0.9 + 0.42 * len(times)))
    base = next(iter(times.values()))
    fast = [base / seconds for seconds in times.values()]
    took = [f"{s:.2g}" if s < 10 else f"{s:.0f}" for s in times.values()]
    texts = [f"{x:.1f}  ({s} s)" for x, s in zip(fast, took)]
    bars(axis, list(times), fast, texts, [""] * len(times))
    axis.set(title="From text to weights, 50 % pruned", xlabel=f"times as fast as Wanda, in this run\n({note})")
    return figure


def plain_ticks(axis: Axes) -> None:
    """Powers of ten, twice and five times them, written out."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
