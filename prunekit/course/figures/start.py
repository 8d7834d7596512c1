"""Figures of notebook 00: the map of the course, what runs where, and a first look at the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...model.linear import linear_layers
from ..style import COLORS, HATCHES, ON_WHITE, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Notebook, idea, minutes of work (estimated: 150 words a minute, and the exercises).
NOTEBOOKS = (
    ("00 start here", "the model, its voice, how the notebooks work", 45),
    ("01 EWMA scoring", "which weights matter, and choosing them without a sort", 145),
    ("02 structured masks", "2:4 and whole neurons: what gets smaller, what faster", 110),
    ("03 FP8 casting", "eight-bit numbers from their bits, scales, rounding", 115),
    ("04 joint pipeline", "prune and cast together, against three other methods", 100),
    ("05 RTX speed profiling", "what a GPU gains, and benchmarks that mislead", 110),
    ("06 your model", "compress, judge, save, and write a go or no-go memo", 90),
    ("07 recovering quality", "win back what pruning cost, and see overfitting", 90),
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


PRUNED = {"fc": "white", "ec": COLORS["prune"], "hatch": HATCHES["prune"]}


def story(kept: Mapping[str, float]) -> tuple[Figure, str]:
    """Of a hundred next tokens that the dense model gets right, how many models without half of the weights get right.

    Args:
        kept: retention, 0 to 1, of models that were pruned, in order, by what is said of them.

    Returns:
        The figure and its alternative text.
    """
    figure, axes = subplots(size=(9.0, 2.9))
    axes.barh(0, 100, 0.62, color=COLORS["keep"], edgecolor=COLORS["ink"], lw=0.6)
    for place, share in enumerate(kept.values(), 1):
        axes.barh(place, 100 * share, 0.62, **PRUNED)
    for place, share in enumerate((1.0, *kept.values())):
        axes.text(100 * share + 1.5, place, f"{100 * share:.0f}", va="center", weight="bold")
    axes.set_yticks(range(len(kept) + 1), ["dense: all weights", *kept])
    axes.invert_yaxis()
    axes.set_xlim(0, 110)
    axes.set_xlabel("next tokens right, of 100 that the dense model gets right (measured beforehand)", loc="left")
    axes.set_title("Plain: all weights. Hatched: half of them pruned, three times over", loc="left")
    told = ", ".join(f"{name} {share:.0%}" for name, share in kept.items())
    return (
        figure,
        f"Next tokens right, as a share of the dense model's. Hatched bars, half of all weights zero: {told}.",
    )


def course_map() -> tuple[Figure, str]:
    """The notebooks in order, their ideas, and the estimated minutes of work; with alternative text."""
    figure, axes = subplots(size=(9.0, 3.8))
    for place, (_, idea, minutes) in enumerate(NOTEBOOKS):
        axes.barh(place, minutes, 0.62, color=COLORS["light"], edgecolor=COLORS["ink"], lw=0.6)
        axes.text(1.5, place, f"{minutes} min", va="center", fontsize=9)
        axes.text(minutes + 1.5, place, idea, va="center", fontsize=9)
    axes.set_yticks(range(len(NOTEBOOKS)), [name for name, *_ in NOTEBOOKS])
    axes.invert_yaxis()
    axes.set_xlim(0, 160)
    axes.set_xticks(range(0, 161, 40))
    total = sum(minutes for *_, minutes in NOTEBOOKS) / 60
    axes.set_xlabel("minutes of work, estimated: reading, predictions and exercises", loc="left")
    axes.set_title(
        f"The course: about {total:.0f} hours, of which the computer computes about eleven minutes", loc="left"
    )
    told = ", ".join(f"{name} {minutes}" for name, _, minutes in NOTEBOOKS)
    return figure, f"Notebooks as bars, by estimated minutes of work: {told}."


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
            color = COLORS["light"] if cell == LIVE else "white"
            axes.add_patch(Rectangle((column, row), 1, 1, fc=color, ec=COLORS["muted"], lw=0.8))
            axes.text(column + 0.5, row + 0.5, cell, ha="center", va="center", fontsize=9)
    axes.add_patch(Rectangle((mine, 0), 1, rows, fill=False, ec=COLORS["ink"], lw=3))
    axes.text(mine + 0.5, rows + 0.1, "this machine", ha="center", va="top", weight="bold")
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
    """A small matrix with its numbers; pruned ones are hatched, with a zero in their place.

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
            look = {"fc": COLORS["keep"], "ec": "white"} if kept else PRUNED
            axes.add_patch(Rectangle((j + 0.04, i + 0.04), 0.92, 0.92, **look))
            text = {"color": "white", "weight": "bold"} if kept else {"bbox": ON_WHITE | {"pad": 1.5}}
            axes.text(j + 0.5, i + 0.5, f"{W[i, j]:.1f}" if kept else "0", ha="center", va="center", **text)
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
        color = COLORS["light"] if kind in linear else "white"
        axes.barh(place, count / 1e6, 0.7, color=color, edgecolor=COLORS["ink"], lw=0.6)
        axes.text(count / 1e6 + 0.4, place, f"{count / 1e6:.1f} M", va="center", fontsize=9)
    axes.set_yticks(range(len(counts)), list(counts))
    axes.invert_yaxis()
    axes.margins(x=0.12)
    share = sum(counts[kind] for kind in linear) / total
    axes.set_xlabel("million parameters; filled bars: linear layers, which are compressed; empty: left alone")
    axes.set_title(f"{total / 1e6:.0f} million parameters, {share:.0%} of them in linear layers")
    return figure


def sentence(tokens: Sequence[str], log_probs: Mapping[str, Tensor]) -> tuple[Figure, str]:
    """The probability that models gave to each token of a sentence, and the perplexities that follow.

    Args:
        tokens: the predicted tokens, as text.
        log_probs: for each of two models their natural log-probabilities, float ``[tokens]``.

    Returns:
        The figure and its alternative text.
    """
    figure, axes = subplots(size=(9.0, 3.4))
    looks, told = (("o", COLORS["keep"], "--"), ("X", COLORS["prune"], ":")), ""
    for (name, values), (marker, color, line) in zip(log_probs.items(), looks):
        level = torch.exp(values.mean()).item()
        axes.plot(range(len(tokens)), values.exp(), marker, ms=8, color=color, label=name)
        axes.axhline(level, color=color, ls=line, lw=1.6)
        axes.text(len(tokens) - 0.25, level, f"{name}: 1 / {1 / level:.3g}", color=color, va="center", weight="bold")
        pairs = ", ".join(f"{token.strip()} {p:.2g}" for token, p in zip(tokens, values.exp().tolist()))
        told += f" {name}: {pairs}, geometric mean 1 / {1 / level:.3g}."
    axes.set_yscale("log")
    axes.grid(axis="x", alpha=0.4)
    axes.set_xlim(-0.6, len(tokens) - 0.4)
    axes.set_xticks(range(len(tokens)), tokens, rotation=35, ha="right")
    axes.set_ylabel("probability (log scale)")
    axes.set_title("Circles: dense. Crosses: ruined. Lines: their geometric means", loc="left")
    return figure, f"Probability of each token that really comes, on a logarithmic scale.{told}"


def before_after(rows: Mapping[str, Mapping[str, float]], protocol: str) -> tuple[Figure, str]:
    """Perplexity, retention and stored bytes of a dense, a pruned, and a pruned and cast model side by side.

    Args:
        rows: for each model ``perplexity``, ``bytes``, and but for the first ``retention`` (a ratio).
        protocol: on what the quality was measured.

    Returns:
        The figure and its alternative text.
    """
    figure, panels = subplots(1, 3, size=(9.0, 3.0))
    kinds = (
        ("perplexity (lower is better)", [row["perplexity"] for row in rows.values()], "{:.0f}"),
        ("retention [%]", [100 * row.get("retention", 1.0) for row in rows.values()], "{:.0f}"),
        ("stored weights [MB], counted", [row["bytes"] / 1e6 for row in rows.values()], "{:.0f}"),
    )
    for axes, (title, values, form) in zip(panels, kinds):
        bars = axes.bar(list(rows), values, 0.62)
        for bar, look in zip(bars, ("keep", "prune", "cast")):
            bar.set(fc=COLORS["keep"] if look == "keep" else "white", ec=COLORS[look], hatch=HATCHES[look])
        axes.bar_label(bars, [form.format(value) for value in values], weight="bold")
        axes.set_title(title, fontsize=10)
        axes.margins(y=0.15)
    figure.suptitle(
        f"Plain: dense. Lines: half pruned. Dots: half pruned, and cast. Measured on {protocol}", fontsize=10
    )
    told = (
        f"{name} has perplexity {perplexity:.0f}, retention {retention:.0f} %, {size:.0f} MB"
        for name, perplexity, retention, size in zip(rows, *(values for _, values, _ in kinds))
    )
    return figure, f"Three models as bars: {'; '.join(told)}."
