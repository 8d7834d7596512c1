"""Figures of notebook 01: small matrices with their digits, thresholds along a row, sparsity by row and by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..style import COLORS, subplots

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
            hatch = None if kept else "////"
            ax.add_patch(Rectangle((j, i), 1, 1, facecolor=face, edgecolor=edge, hatch=hatch, lw=float(kept)))
            box = None if kept else {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            ax.text(j + 0.5, i + 0.52, f"{table[i, j].item():g}", ha="center", va="center", bbox=box)
    ax.set(xlim=(0, columns), ylim=(rows, 0), xticks=[])
    ax.set_yticks([i + 0.5 for i in range(rows)], range(rows) if rows > 1 else [""])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def cost_of_sorting(ns: Mapping[str, Mapping[int, float]]) -> Figure:
    """Nanoseconds for each weight against the length of a row, on logarithmic axes; measured where it runs.

    Args:
        ns: for each operation, the nanoseconds per weight by row length.
    """
    figure, ax = subplots(size=(6.6, 2.8))
    for (name, by_length), marker, line in zip(ns.items(), "so", ("--", "-")):
        ax.plot(list(by_length), list(by_length.values()), marker=marker, linestyle=line, label=name)
        for length, value in by_length.items():
            ax.annotate(f"{value:.3g}", (length, value), xytext=(0, 6), textcoords="offset points", ha="center")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.margins(x=0.08, y=0.2)
    ax.set(xlabel="weights in a row", ylabel="ns for each weight", title="measured on this machine")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def row_sparsity(shares: Mapping[str, Tensor], targets: Numbers) -> Figure:
    """The share that each row loses: one mark a row, one strip for each kind of row.

    Args:
        shares: by kind of row, ``[rows]``, 0 to 1.
        targets: the share asked for, for each kind.
    """
    figure, ax = subplots(size=(7.6, 1.0 + 0.5 * len(shares)))
    rng = torch.Generator().manual_seed(0)
    for height, (share, target) in enumerate(zip(shares.values(), targets)):
        jitter = height + 0.5 * torch.rand(len(share), generator=rng) - 0.25
        ax.scatter(
            share, jitter, s=12, marker="x", color=COLORS["prune"], lw=0.6, label="one row" if height < 1 else None
        )
        look = {"color": COLORS["exact"], "lw": 3, "linestyle": (0, (2, 1))}
        ax.plot(2 * [target], [height - 0.4, height + 0.4], label="asked for" if height < 1 else None, **look)
        ax.text(0.75, height, f"mean {share.mean():.2f}, asked {target:g}", va="center", fontsize=9)
    ax.set_yticks(range(len(shares)), list(shares), fontsize=9)
    ax.set(xlim=(0, 1.0), ylim=(len(shares) - 0.5, -0.5), xlabel="share of the row that is pruned")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), fontsize=9, ncol=2, markerscale=2)
    return figure


def threshold(scores: Numbers, path: Numbers, target: float) -> Figure:
    """A short row, its scores as digits, and the threshold that each of them meets, scan after scan.

    Args:
        scores: the row, ``n`` numbers.
        path: the threshold before each weight and after the last: ``scans * n + 1`` numbers.
        target: the share asked for, for the quantile that a sort would find.
    """
    n, steps = len(scores), len(path) - 1
    figure, ax = subplots(size=(7.6, 3.4))
    cut = sorted(scores)[round(target * n) - 1 : round(target * n) + 1]
    ax.axhspan(*cut, color=COLORS["exact"], alpha=0.15, lw=0)
    ax.text(steps + 0.6, (cut[0] * cut[1]) ** 0.5, "thresholds that\nsplit as a sort\ndoes", va="center", fontsize=9)
    ax.step(range(steps + 1), path, where="mid", color=COLORS["ink"], lw=1.4, label="threshold q")
    for pruned, marker, color, label in (
        (False, "o", COLORS["keep"], "kept"),
        (True, "X", COLORS["prune"], "pruned: below q"),
    ):
        at = [t for t in range(steps) if (scores[t % n] < path[t]) == pruned]
        ax.plot(at, [scores[t % n] for t in at], marker, color=color, markersize=8, label=label)
    for t in range(steps):
        score = scores[t % n]
        away = (0, -16) if score < path[t] else (0, 8)  # from the line
        ax.annotate(f"{score:g}", (t, score), xytext=away, textcoords="offset points", ha="center", fontsize=9)
    for scan in range(steps // n):
        ax.axvline(scan * n - 0.5, color=COLORS["muted"], lw=0.8)
        ax.text((scan + 0.5) * n - 0.5, 1.0, f"scan {scan + 1}", ha="center", transform=ax.get_xaxis_transform())
    ax.set_yscale("log")
    ax.set(
        xlim=(-0.6, steps + 0.3),
        xlabel="weights in the order in which they are met",
        ylabel="contribution L (log scale)",
    )
    ax.set_xticks(range(steps), [t % n for t in range(steps)])
    ax.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    ax.set_yticks([], minor=True)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=3)
    return figure


def failures(rows: Mapping[str, tuple[Tensor, float]], paths: Mapping[str, Numbers], target: float) -> Figure:
    """One scan over each of some rows: scores as dots, the threshold, and the exact quantile.

    Args:
        rows: by name, the scores ``[n]`` and the step.
        paths: by name, the threshold before each weight and after the last, ``n + 1`` numbers.
        target: the share asked for.
    """
    figure, axes = subplots(2, -(-len(rows) // 2), size=(9.0, 5.2), squeeze=False)
    for ax, (name, (row, step)) in zip(axes.flat, rows.items()):
        n, path = len(row), torch.tensor(paths[name])
        hit, place = row < path[:n], torch.arange(n)
        floor = float(row[row > 0].quantile(0.01)) / 10
        drawn, size = row.clamp_min(floor), 3 if n > 100 else 18
        ax.scatter(place[~hit], drawn[~hit], s=size, marker="o", color=COLORS["light"], label="kept")
        ax.scatter(place[hit], drawn[hit], s=size, marker="x", lw=0.8, color=COLORS["prune"], label="pruned")
        ax.plot(path.clamp_min(floor), color=COLORS["ink"], lw=1, label="threshold", zorder=3)
        exact = row.sort().values[int(target * n)].clamp_min(floor)
        ax.axhline(exact, color=COLORS["exact"], linestyle="--", lw=2.2, label="exact quantile")
        ax.set_yscale("log")
        share = hit.float().mean()
        ax.set(ylim=(floor / 2, float(row.max()) * 3), title=f"{name}: pruned {share:.2f}\nstep {step:g}")
    for ax in axes[:, 0]:
        ax.set_ylabel("score (log scale)")
    for ax in axes[1]:
        ax.set_xlabel("position in the row")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    note = "what lies below an axis, zeros too, is drawn at its foot"
    figure.legend(handles, labels, loc="outside lower center", ncol=4, markerscale=2, title=note, title_fontsize=9)
    return figure


def steps(rates: Numbers, agreement: Mapping[int, Numbers], miss: Mapping[int, Numbers]) -> Figure:
    """How the step steers the result: agreement with a sort, and the miss of the target.

    Args:
        rates: the steps tried.
        agreement: for each block size, one number for each step: shares from 0 to 1.
        miss: the same of the miss.
    """
    figure, axes = subplots(1, 2, size=(8.4, 2.9))
    for ax, values, label in zip(
        axes, (agreement, miss), ("decisions as a sort makes them", "mean miss of the target")
    ):
        for (block, ys), marker, line in zip(values.items(), "os", ("-", "--")):
            ax.plot(rates, [max(y, 1e-6) for y in ys], marker=marker, linestyle=line, label=f"blocks of {block}")
        ax.set_xscale("log")
        ax.set(xlabel="step (log scale)", title=label)
    axes[1].set(yscale="log", ylabel="share (log scale; 1e-6: none)")
    axes[0].legend()
    return figure


def layers(sparsity: Mapping[str, Numbers], target: float) -> Figure:
    """The sparsity of every layer of a model, one panel for each rule.

    Args:
        sparsity: for each rule, one share for each layer, in the model's order.
        target: the share asked for.
    """
    figure, axes = subplots(1, len(sparsity), size=(9.0, 2.9), sharey=True, squeeze=False)
    for ax, (rule, shares), marker, color in zip(axes[0], sparsity.items(), "xos", ("prune", "keep", "exact")):
        face = COLORS[color] if marker == "x" else "none"
        ax.scatter(range(len(shares)), shares, s=14, marker=marker, color=COLORS[color], facecolor=face, lw=0.8)
        ax.axhline(target, color=COLORS["ink"], linestyle="--", lw=1)
        ax.set(title=f"{rule}\n{min(shares):.3f} to {max(shares):.3f}", xlabel="layer")
    axes[0, 0].set_ylabel("share pruned")
    return figure


def batches(raw: Numbers, corrected: Numbers, true: float, changes: Numbers, stop: float) -> Figure:
    """Left: a moving average from zero, as it is and corrected. Right: decisions that change from batch to batch.

    Args:
        raw: the average after each batch, as it is.
        corrected: the corrected one.
        true: what is averaged.
        changes: shares of decisions that changed, after the second batch and each that follows.
        stop: the share below which calibration stops.
    """
    figure, (left, right) = subplots(1, 2, size=(8.4, 2.9))
    count = range(1, len(raw) + 1)
    left.plot(count, raw, marker="x", linestyle="--", color=COLORS["prune"], label="as it is")
    left.plot(count, corrected, marker="o", color=COLORS["keep"], label="corrected")
    left.axhline(true, color=COLORS["exact"], linestyle=":", label="true energy")
    left.set(xlabel="batch", ylabel="average", ylim=(0, 1.5 * true), title="an average that starts at zero")
    left.legend(fontsize=9)
    right.plot(range(2, len(changes) + 2), changes, marker="o", color=COLORS["keep"])
    right.axhline(stop, color=COLORS["prune"], linestyle="--", label=f"stop below {stop:g}")
    right.set(xlabel="batch", ylim=(0, None), title="share of decisions that change")
    right.legend(fontsize=9)
    return figure
