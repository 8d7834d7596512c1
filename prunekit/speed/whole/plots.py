"""Figures on whole models: what a kernel gains and what the model does, the terms of a step, and the way between.

They say whether what they show is published or predicted, and look like those of `prunekit.speed.plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..plots import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from ..published import CITATION
from .step import Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

YELLOW = "#E69F00"
TERMS = {
    "linear layers": (("linear_us",), BLUE, ""),
    "casts to FP8": (("cast_us",), PURPLE, "...."),
    "norms, rotation, activation": (("element_us",), SKY, ""),
    "attention": (("attention_us",), GREEN, "\\\\\\"),
    "output embedding, sampling": (("output_us", "sampling_us"), YELLOW, ""),
}


def pairs(found: Mapping[tuple[str, str], tuple[float, float]]) -> Figure:
    """A kernel's gain beside that of the model it is in, as published.

    Args:
        found: by card and task, how many times as fast the kernel is, and the whole model.
    """
    figure, axes = _figure(0.9 + 0.62 * len(found))
    for place, gains in enumerate(found.values()):
        for side, (gain, color, hatch) in enumerate(zip(gains, (ORANGE, GREY), ("////", ""))):
            label = ("its longest product", "the whole model")[side] if place == 0 else None
            y = place + 0.36 * side - 0.18
            axes.barh(y, gain, 0.33, color=color, hatch=hatch, edgecolor="white", lw=0, label=label)
            axes.annotate(f" {gain:.2f}", (gain, y), va="center")
    axes.axvline(1, color="black", lw=1)
    axes.set_yticks(range(len(found)), [f"{card}\n{task}" for card, task in found])
    axes.invert_yaxis()
    axes.set(xlim=(0, 2.3), xlabel=f"times as fast with 2:4 as dense; 1: nothing gained\n{CITATION}")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def parts(step: Step) -> dict[str, float]:
    """Microseconds of each part of a step, by its name in the figure; the last is the host."""
    gpu = {name: sum(getattr(step, field) for field in fields) for name, (fields, *_) in TERMS.items()}
    return gpu | {"host": step.host_us}


def steps(found: Mapping[str, tuple[Step, Step]], title: str) -> Figure:
    """The terms of steps, dense above 2:4, as shares of the dense step's time.

    Where the host works beside the GPU, a line says until when; where it works after it, a bar.

    Args:
        found: by name the dense step and the one with 2:4.
        title: of which model, on which card.
    """
    figure, axes = _figure(1.6 + 0.8 * len(found))
    names: list[tuple[float, str]] = []
    hosts: set[str] = set()
    for place, (name, both) in enumerate(found.items()):
        for side, (step, kind) in enumerate(zip(both, ("dense", "2:4"))):
            y, left = place * 2.3 + side * 0.95, 0.0
            names.append((y, f"{name}, {kind}"))
            shares = {label: us / both[0].us for label, us in parts(step).items()}
            for label, (_, color, hatch) in TERMS.items():
                width = shares[label]
                legend = label if not names[1:] else None
                axes.barh(y, width, 0.8, left, color=color, hatch=hatch, edgecolor="white", lw=0, label=legend)
                left += width
            host = shares["host"]
            if step.decode:
                said = "host, after the GPU" if "after" not in hosts else None
                axes.barh(y, host, 0.8, left, color=GREY, hatch="xx", edgecolor="white", lw=0, label=said)
                left += host
            else:
                said = "host, beside the GPU, until here" if "beside" not in hosts else None
                axes.plot([host, host], [y - 0.42, y + 0.42], color="black", lw=2.5, label=said)
                left = max(left, host)
            hosts.add("after" if step.decode else "beside")
            axes.annotate(f" {step.us / 1e3:.1f} ms", (left, y), va="center")
    axes.set_yticks(*zip(*names))
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.15), xlabel="share of the dense step's time (predicted)", title=title)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def stages(
    found: Mapping[str, Mapping[str, Mapping[str, float]]], told: Mapping[tuple[str, str], float], title: str
) -> Figure:
    """How a kernel's gain dwindles on its way to the model, one panel a card, and what was published of the model.

    Args:
        found: by card and task, the gain at each stage, by its name.
        told: by card and task, the published gain of the model.
        title: of which model.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axes, (card, tasks) in zip(figure.subplots(1, len(found), sharey=True, squeeze=False)[0], found.items()):
        axes.spines[["top", "right"]].set_visible(False)
        names: Sequence[str] = []
        for (task, gains), (color, marker, style, above) in zip(
            tasks.items(), (("black", "o", "-", 1), (GREEN, "s", "--", -1))
        ):
            names = list(gains)
            axes.plot(range(len(names)), list(gains.values()), style, marker=marker, color=color, label=task)
            for place, gain in enumerate(gains.values()):
                offset, side = ((0, 7), "left") if above > 0 else ((0, -17), "center")
                axes.annotate(f"{gain:.2f}", (place, gain), offset, textcoords="offset points", ha=side)
            axes.plot(len(names), told[card, task], marker, color=color, mfc="white", ms=9, mew=2)
            text = {"textcoords": "offset points"}
            axes.annotate(f"{told[card, task]:.2f}", (len(names), told[card, task]), (10, -4), **text)
        axes.axhline(1, color="black", lw=1)
        axes.set_xticks(range(len(names) + 1), [name.replace(" ", "\n") for name in names] + ["model,\npublished"])
        axes.set(title=card, ylim=(0.9, 2.2), xlim=(-0.4, len(names) + 0.7))
    figure.axes[0].set_ylabel("2:4: times as fast as dense")
    figure.suptitle(f"{title}: filled points predicted, open ones published", fontsize=11)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_fontsize(11)
    return figure, axes
