"""Figures of notebook 01: small matrices with their digits, rules along a row, shares by row and layer, seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..style import COLORS, HATCHES, ON_WHITE, subplots

Numbers = Sequence[float]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def matrices(panels: Mapping[str, Tensor], keep: Mapping[str, Tensor] | None = None) -> Figure:
    """Small matrices under each other with their digits, one column for each input feature.

    Args:
        panels: matrices ``[rows, in]`` or vectors ``[in]``, by title.
        keep: by the same titles, bool of the same shape: where it is False the cell is hatched.
    """
    tables = {title: torch.atleast_2d(table) for title, table in panels.items()}
    heights = [len(table) for table in tables.values()]
    size = (6.6, 0.5 + 0.42 * len(tables) + 0.31 * sum(heights))
    figure, axes = subplots(len(tables), size=size, height_ratios=heights, squeeze=False)
    for ax, (title, table) in zip(axes[:, 0], tables.items()):
        mask = None if keep is None or title not in keep else torch.atleast_2d(keep[title])
        _digits(ax, table, mask)
        ax.set_title(title, loc="left", fontsize=10)
    columns = table.shape[1]
    ax.set_xticks([j + 0.5 for j in range(columns)], range(columns))
    ax.set_xlabel("column: the input feature")
    return figure


def _digits(ax: Axes, table: Tensor, keep: Tensor | None) -> None:
    from matplotlib.patches import Rectangle

    rows, columns = table.shape
    for i in range(rows):
        for j in range(columns):
            kept = keep is None or bool(keep[i, j])
            face, edge = ("#eef4fa", "white") if kept else ("#fbe6d9", COLORS["prune"])
            hatch = None if kept else HATCHES["prune"]
            ax.add_patch(Rectangle((j, i), 1, 1, facecolor=face, edgecolor=edge, hatch=hatch, lw=float(kept)))
            box = None if kept else {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            ax.text(j + 0.5, i + 0.52, f"{table[i, j].item():g}", ha="center", va="center", bbox=box)
    ax.set(xlim=(0, columns), ylim=(rows, 0), xticks=[])
    ax.set_yticks([i + 0.5 for i in range(rows)], range(rows) if rows > 1 else [""])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def perplexities(judged: Mapping[str, float]) -> Figure:
    """Perplexities as horizontal bars with their digits, the first one of the dense model.

    Args:
        judged: perplexity by name.
    """
    figure, ax = subplots(size=(7.4, 0.8 + 0.42 * len(judged)))
    colors = [COLORS["muted"], COLORS["accent"], *[COLORS["light"]] * len(judged)]
    for place, ((_, value), color) in enumerate(zip(judged.items(), colors)):
        ax.barh(place, value, color=color, height=0.6)
        ax.text(value, place, f" {value:.1f}", va="center")
    ax.set_yticks(range(len(judged)), list(judged))
    ax.set(ylim=(len(judged) - 0.5, -0.5), xlim=(0, 1.15 * max(judged.values())))
    ax.set(xlabel="perplexity on 2,044 tokens (measured; lower is better)")
    return figure


LINES = {  # colour, style and width of what is drawn along a row
    "m": ("light", "-.", 1.6),
    "d": ("accent", ":", 2.0),
    "m - k d": ("ink", "-", 1.6),
    "threshold q": ("ink", "-", 1.6),
}


def along_row(
    scores: Tensor, pruned: Tensor, lines: Mapping[str, Numbers], title: str, beside: Mapping[str, tuple] | None = None
) -> Figure:
    """One scan along a row: scores kept and pruned, what the rule carries along, and the row's median.

    Args:
        scores: the row, ``[n]``.
        pruned: bool ``[n]``.
        lines: by a name in `LINES`, the value that each weight meets; the last one is the threshold.
        title: what to say above.
        beside: for each mask, the share that it prunes, its agreement with a sort, and the score that it loses in
            multiples of a sort's: a small table on the right.
    """
    figure, axes = subplots(1, 2, size=(9.0, 3.3), squeeze=False, width_ratios=(3, 1 if beside else 0.001))
    ax, right = axes[0]
    floor, place = float(scores[scores > 0].quantile(0.01)) / 10, torch.arange(len(scores))
    drawn, size = scores.clamp_min(floor), 30 if len(scores) < 100 else 9
    for chosen, marker, color, name in ((~pruned, "o", "keep", "kept"), (pruned, "x", "prune", "pruned")):
        ax.scatter(place[chosen], drawn[chosen], s=size, marker=marker, lw=0.8, color=COLORS[color], label=name)
    for name, path in lines.items():
        color, style, width = LINES[name]
        values = torch.as_tensor(path, dtype=torch.float64)
        ax.plot(values.where(values > floor, torch.nan), color=COLORS[color], ls=style, lw=width, label=name)
    if bool((values <= 0).any()):
        span = ax.get_xaxis_transform()
        ax.fill_between(place, 0, 1, where=values <= 0, color="#dddddd", transform=span, zorder=0, label="m - k d < 0")
    ax.axhline(max(float(scores.median()), floor), color=COLORS["exact"], ls="--", lw=2, label="the row's median")
    ax.set_yscale("log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(ylim=(floor / 2, float(scores.max()) * 3), xlabel="position in the row", ylabel="score (log scale)")
    ax.set_title(title, loc="left", fontsize=10)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncol=7, fontsize=8, markerscale=1.5)
    right.axis("off")
    for row, (name, (share, equal, loses)) in enumerate((beside or {}).items()):
        text = f"{name}\n  prunes {share:.1%}\n  as a sort decides: {equal:.1%}\n  loses {loses:.2f} times a sort's"
        right.text(0, 0.95 - 0.5 * row, text, va="top", fontsize=10, linespacing=1.5)
    return figure


def strengths(ks: Numbers, shares: Mapping[str, Numbers], mine: float) -> Figure:
    """The share that the mean rule prunes against its `k`, one line for each kind of rows.

    Args:
        ks: the values tried.
        shares: by kind of rows, the share for each.
        mine: the learner's own, marked.
    """
    figure, ax = subplots(size=(7.4, 3.0))
    for (name, ys), look in zip(shares.items(), ({"marker": "o"}, {"marker": "s", "ls": "--"})):
        ax.plot(ks, ys, color=COLORS["light" if "ls" not in look else "accent"], label=name, **look)
    ax.axhline(0.5, color=COLORS["exact"], ls=":", lw=2, label="asked for")
    ax.axvline(
        mine,
        color=COLORS["ink"],
        lw=1,
        label=f"k = {mine:g}: " + ", ".join(f"{ys[ks.index(mine)]:.0%}" for ys in shares.values()),
    )
    ax.set(xlabel="k", ylabel="share pruned", ylim=(0, 1))
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def threshold(scores: Numbers, path: Numbers, travel: bool = False) -> Figure:
    """A short row, its scores as digits, and the threshold that each of them meets, scan after scan.

    Args:
        scores: the row, ``n`` numbers.
        path: the threshold before each weight and after the last: ``scans * n + 1`` numbers.
        travel: draw an arrow for the way from each scan's start to its end.
    """
    n, steps = len(scores), len(path) - 1
    figure, ax = subplots(size=(7.8, 3.5))
    cut = sorted(scores)[n // 2 - 1 : n // 2 + 1]
    ax.axhspan(*cut, color=COLORS["exact"], alpha=0.15, lw=0, label="here a sort would cut")
    ax.step(range(steps + 1), path, where="mid", color=COLORS["ink"], lw=1.4, label="threshold q")
    for pruned, marker, color, name in ((False, "o", "keep", "kept"), (True, "X", "prune", "pruned: below q")):
        at = [t for t in range(steps) if (scores[t % n] < path[t]) == pruned]
        ax.plot(at, [scores[t % n] for t in at], marker, color=COLORS[color], markersize=8, label=name)
    for t in range(steps):
        score = scores[t % n]
        away = (0, -16) if score < path[t] else (0, 8)  # from the line
        ax.annotate(f"{score:g}", (t, score), xytext=away, textcoords="offset points", ha="center", fontsize=9)
    for scan in range(steps // n):
        start, end, x = path[scan * n], path[scan * n + n], scan * n + n - 0.45
        ax.axvline(scan * n - 0.5, color=COLORS["muted"], lw=0.8)
        ax.text((scan + 0.5) * n - 0.5, 1.0, f"scan {scan + 1}", ha="center", transform=ax.get_xaxis_transform())
        if travel:
            ax.plot([scan * n - 0.5, x], [start, start], color=COLORS["accent"], lw=1.5, ls=":")
            look = {"arrowstyle": "-|>", "color": COLORS["accent"], "lw": 3, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", (x, end), (x, start), arrowprops=look if abs(end - start) > 0.01 else look | {"lw": 0})
            text = f"net travel of log q: {math.log(end / start):+.2f}"
            ax.text(x - 0.2, 2.3, text, ha="right", bbox=ON_WHITE)
    ax.set_yscale("log")
    ax.set(xlim=(-0.6, steps + 0.1), ylim=(2, 60), ylabel="contribution L (log scale)")
    ax.set_xticks(range(steps), [t % n for t in range(steps)])
    ax.set_xlabel("column: weights in the order in which they are met")
    ax.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    ax.set_yticks([], minor=True)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=4)
    return figure


def row_shares(lost: Mapping[str, Mapping[str, Tensor]], targets: Numbers) -> Figure:
    """The share that each row loses, one mark a row: a panel for each rule, a strip for each kind of rows.

    Args:
        lost: by rule and by kind of rows, ``[rows]``, 0 to 1.
        targets: the share asked for, for each kind.
    """
    figure, axes = subplots(1, len(lost), size=(9.0, 3.2), sharey=True)
    rng = torch.Generator().manual_seed(0)
    for ax, (rule, kinds) in zip(axes, lost.items()):
        for height, (share, target) in enumerate(zip(kinds.values(), targets)):
            jitter, name = height + 0.5 * torch.rand(len(share), generator=rng) - 0.25, height < 1
            look = {"s": 12, "marker": "x", "color": COLORS["prune"], "lw": 0.6, "label": "one row" if name else None}
            ax.scatter(share, jitter, **look)
            line = {"color": COLORS["exact"], "lw": 3, "ls": (0, (2, 1)), "label": "asked for" if name else None}
            ax.plot(2 * [target], [height - 0.4, height + 0.4], **line)
            ax.text(0.78, height, f"mean {share.mean():.2f}", va="center", fontsize=9)
        ax.set(xlim=(0, 1.05), ylim=(len(kinds) - 0.5, -0.5), xlabel="share of the row that is pruned", title=rule)
    axes[0].set_yticks(range(len(kinds)), list(kinds), fontsize=9)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncol=2, markerscale=2)
    return figure


def layers(sparsity: Mapping[str, Numbers], target: float) -> Figure:
    """The sparsity of every layer of a model, one panel for each rule.

    Args:
        sparsity: for each rule, one share for each layer, in the model's order.
        target: the share asked for.
    """
    figure, axes = subplots(1, len(sparsity), size=(9.0, 2.9), sharey=True, squeeze=False)
    for ax, (rule, shares), marker, color in zip(axes[0], sparsity.items(), "xos", ("accent", "keep", "exact")):
        face = COLORS[color] if marker == "x" else "none"
        ax.scatter(range(len(shares)), shares, s=14, marker=marker, color=COLORS[color], facecolor=face, lw=0.8)
        ax.axhline(target, color=COLORS["ink"], linestyle="--", lw=1)
        ax.set(title=f"{rule}\n{min(shares):.3f} to {max(shares):.3f}", xlabel="layer")
    axes[0, 0].set_ylabel("share pruned")
    return figure


def stopping(tokens: Sequence[int], changes: Numbers, stop: float, at: int) -> Figure:
    """The share of decisions that change from batch to batch, and where calibration stops.

    Args:
        tokens: tokens read at each comparison.
        changes: shares of decisions that changed.
        stop: the share below which calibration stops.
        at: tokens at which it did.
    """
    figure, ax = subplots(size=(7.4, 3.0))
    ax.plot(tokens, [100 * change for change in changes], marker="o", color=COLORS["keep"], label="decisions changed")
    ax.axhline(100 * stop, color=COLORS["accent"], ls="--", lw=2, label=f"stop below {stop:.0%}")
    ax.axvline(at, color=COLORS["ink"], ls=":", lw=2, label=f"stopped at {at} tokens")
    ax.set(xlabel="calibration tokens read", ylabel="% of decisions", ylim=(0, None))
    ax.legend()
    return figure


def seconds(parts: Mapping[str, Mapping[str, float]]) -> Figure:
    """Where the time of a compression goes: one stacked bar for each way to select.

    Args:
        parts: by way, the seconds of each part.
    """
    figure, ax = subplots(size=(8.4, 1.2 + 0.6 * len(parts)))
    looks = (("light", ""), ("accent", "xx"), ("cast", HATCHES["cast"]), ("muted", ""))
    for place, split in enumerate(parts.values()):
        left = 0.0
        for (part, value), (color, hatch) in zip(split.items(), looks):
            name = part if place == 0 else None
            ax.barh(place, value, left=left, color=COLORS[color], hatch=hatch, ec="white", height=0.6, label=name)
            left += value
        ax.text(left, place, f" {left:.2f} s", va="center")
    ax.set_yticks(range(len(parts)), list(parts))
    ax.set(ylim=(len(parts) - 0.5, -0.5), xlabel="seconds (measured on this machine)")
    ax.margins(x=0.12)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncol=4)
    return figure
