"""Figures of notebook 00: the map of the course, what runs where, and a first look at the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...model.linear import linear_layers
from ..style import COLORS, ON_WHITE, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Notebook, idea, minutes of work (estimated: 150 words a minute, and the exercises).
NOTEBOOKS = (
    ("00 start here", "the model, its voice, how the notebooks work", 30),
    ("01 EWMA scoring", "which weights matter, and choosing them without a sort", 75),
    ("02 structured masks", "2:4 and whole neurons: what gets smaller, what faster", 65),
    ("03 FP8 casting", "eight-bit numbers from their bits, scales, rounding", 70),
    ("04 joint pipeline", "prune and cast together, against three other methods", 65),
    ("05 RTX speed profiling", "what a GPU gains, and benchmarks that mislead", 60),
    ("06 your model", "compress, judge, save, and write a go or no-go memo", 60),
    ("07 recovering quality", "win back what pruning cost, and see overfitting", 60),
)

CLASSES = ("no GPU", "older than 8.0\n(T4)", "8.0 to 8.8\n(A100, RTX 30)", "8.9 or newer\n(RTX 40, 50, H100)")
# What of the course runs live on each class of machine; numbers in brackets are notebooks.
LIVE, SHOWN = "live", "published,\npredicted"
ABILITIES = (
    ("prune, cast, judge a model (00 to 04, 06, 07)", (LIVE,) * 4),
    ("removing neurons is faster (02)", (LIVE,) * 4),
    ("timing and its traps (05)", (LIVE,) * 4),
    ("speed of 2:4 on a GPU (05)", (SHOWN, SHOWN, LIVE, LIVE)),
    ("speed of FP8 on a GPU (05)", (SHOWN, SHOWN, SHOWN, LIVE)),
)


def course_map() -> Figure:
    """The notebooks in order, their ideas, and the minutes of work that each takes (estimated)."""
    figure, axes = subplots(size=(9.0, 3.8))
    for place, (_, idea, minutes) in enumerate(NOTEBOOKS):
        axes.barh(place, minutes, 0.62, color=COLORS["light"], edgecolor=COLORS["ink"], lw=0.6)
        axes.text(1.5, place, f"{minutes} min", va="center", fontsize=9)
        axes.text(minutes + 1.5, place, idea, va="center", fontsize=9)
    axes.set_yticks(range(len(NOTEBOOKS)), [name for name, *_ in NOTEBOOKS])
    axes.invert_yaxis()
    axes.set_xlim(0, 160)
    axes.set_xticks(range(0, 61, 20))
    total = sum(minutes for *_, minutes in NOTEBOOKS) / 60
    axes.set_xlabel("minutes of work, estimated: reading, predictions and exercises", loc="left")
    axes.set_title(
        f"The course: about {total:.0f} hours, of which the computer computes about eleven minutes", loc="left"
    )
    return figure


def machine_class(report: Mapping) -> int:
    """Which of `CLASSES` a machine is, from the report of `prunekit.speed.doctor.examine`."""
    if report["gpu"] is None:
        return 0
    capability = tuple(int(part) for part in report["gpu"]["capability"].split("."))
    return 3 if capability >= (8, 9) else 2 if capability >= (8, 0) else 1


def what_runs_where(report: Mapping) -> Figure:
    """A table: what the course does live on each class of machine; the reader's own class is framed.

    Args:
        report: what `prunekit.speed.doctor.examine` found.
    """
    from matplotlib.patches import Rectangle

    figure, axes = subplots(size=(9.0, 3.3))
    mine, rows = machine_class(report), len(ABILITIES)
    for row, (_, cells) in enumerate(ABILITIES):
        for column, cell in enumerate(cells):
            live = cell == LIVE
            color = COLORS["light"] if live else "white"
            patch = Rectangle((column, row), 1, 1, fc=color, ec=COLORS["muted"], hatch="" if live else "...", lw=0.8)
            axes.add_patch(patch)
            box = None if live else {"fc": "white", "ec": "none", "pad": 1}
            axes.text(column + 0.5, row + 0.5, cell, ha="center", va="center", fontsize=9, bbox=box)
    axes.add_patch(Rectangle((mine, 0), 1, rows, fill=False, ec=COLORS["prune"], lw=3))
    axes.text(mine + 0.5, rows + 0.1, "this machine", ha="center", va="top", color=COLORS["prune"], weight="bold")
    axes.set_xlim(0, len(CLASSES))
    axes.set_ylim(rows + 0.45, 0)
    axes.set_xticks([i + 0.5 for i in range(len(CLASSES))], CLASSES)
    axes.xaxis.tick_top()
    axes.set_yticks([i + 0.5 for i in range(rows)], [name for name, _ in ABILITIES])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("GPU (compute capability)", fontsize=10)
    return figure


def tiny(W: Tensor, keep: Tensor) -> Figure:
    """A small matrix with its numbers; pruned ones are hatched and crossed out by a zero.

    Args:
        W: float ``[rows, columns]``, a few of each.
        keep: bool, same shape: what stays.
    """
    from matplotlib.patches import Rectangle

    rows, columns = W.shape
    figure, axes = subplots(size=(0.75 * columns + 0.6, 0.6 * rows + 0.3))
    for i in range(rows):
        for j in range(columns):
            kept = bool(keep[i, j])
            look = {"fc": COLORS["light"]} if kept else {"fc": "white", "hatch": "///"}
            axes.add_patch(Rectangle((j, i), 1, 1, ec=COLORS["muted"], **look))
            text = f"{W[i, j]:.1f}" if kept else "0"
            box = None if kept else {"fc": "white", "ec": "none", "pad": 1.5}
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", bbox=box)
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.set_aspect("equal")
    axes.axis("off")
    return figure


def where_weights_are(model: nn.Module) -> Figure:
    """A model's parameters by kind, as bars: those of the linear layers are what the course compresses."""
    chosen, counts = set(linear_layers(model)), {}
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0]
        kind = owner.rpartition(".")[2] if owner in chosen else "embedding" if "embed" in name else "norms"
        counts[kind] = counts.get(kind, 0) + parameter.numel()
    figure, axes = subplots(size=(7.5, 0.32 * len(counts) + 1.1))
    total = sum(counts.values())
    linear = {name.rpartition(".")[2] for name in chosen}
    for place, (kind, count) in enumerate(counts.items()):
        look = {"color": COLORS["light"]} if kind in linear else {"color": "white", "hatch": "///"}
        axes.barh(place, count / 1e6, 0.7, edgecolor=COLORS["ink"], lw=0.6, **look)
        axes.text(count / 1e6 + 0.4, place, f"{count / 1e6:.1f} M", va="center", fontsize=9)
    axes.set_yticks(range(len(counts)), list(counts))
    axes.invert_yaxis()
    axes.margins(x=0.12)
    share = sum(counts[kind] for kind in linear) / total
    axes.set_xlabel("million parameters; plain bars: linear layers, which are pruned and cast; hatched: left alone")
    axes.set_title(f"{total / 1e6:.0f} million parameters, {share:.0%} of them in linear layers")
    return figure


def sentence(tokens: Sequence[str], log_probs: Tensor) -> Figure:
    """The probability that the model gave to each token of a sentence, and the perplexity that follows.

    Args:
        tokens: the predicted tokens, as text.
        log_probs: their natural log-probabilities, float ``[tokens]``.
    """
    figure, axes = subplots(size=(9.0, 3.0))
    places = range(len(tokens))
    axes.plot(places, log_probs.exp(), "o", ms=7, color=COLORS["keep"])
    for place, value in zip(places, log_probs.exp().tolist()):
        axes.text(place, value * 1.5, f"{value:.2g}", ha="center", fontsize=8, bbox=ON_WHITE)
    axes.set_yscale("log")
    axes.set_ylim(top=4)
    axes.grid(axis="x", alpha=0.4)
    axes.set_xticks(places, tokens, rotation=35, ha="right")
    level = torch.exp(log_probs.mean()).item()
    axes.axhline(level, color=COLORS["prune"], ls="--", lw=1.4)
    axes.set_ylabel("probability (log scale)")
    axes.set_title(f"dashed: geometric mean {level:.2g} = 1 / {1 / level:.1f}, so the perplexity is {1 / level:.1f}")
    return figure


def before_after(rows: Mapping[str, Mapping[str, float]], protocol: str) -> Figure:
    """Perplexity, top-1 accuracy and stored bytes of some models side by side.

    Args:
        rows: for each model ``perplexity``, ``top1`` (0 to 1) and ``bytes``.
        protocol: on what the quality was measured.
    """
    figure, panels = subplots(1, 3, size=(9.0, 2.7))
    kinds = (
        ("perplexity (lower is better)", [row["perplexity"] for row in rows.values()], "{:.1f}"),
        ("top-1 accuracy [%]", [100 * row["top1"] for row in rows.values()], "{:.1f}"),
        ("stored weights [MB], counted", [row["bytes"] / 1e6 for row in rows.values()], "{:.0f}"),
    )
    looks = ((COLORS["muted"], ""), (COLORS["light"], "///"), (COLORS["accent"], "..."))
    for axes, (title, values, form) in zip(panels, kinds):
        bars = axes.bar(list(rows), values, 0.6, color=[c for c, _ in looks[: len(rows)]], edgecolor=COLORS["ink"])
        for bar, (_, hatch) in zip(bars, looks):
            bar.set_hatch(hatch)
        axes.bar_label(bars, [form.format(value) for value in values])
        axes.set_title(title, fontsize=10)
        axes.margins(y=0.15)
    figure.suptitle(f"quality measured on {protocol}", fontsize=10)
    return figure
