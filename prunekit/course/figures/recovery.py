"""Figures of notebook 07, each with its alternative text: what is kept, with errors; solving, a budget, minutes.

A text has a panel of its own wherever models are judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING

from ..style import COLORS, ON_WHITE, subplots
from .own_model import field

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {  # of the models; "keep", "prune" and "cast" mean weights
    "one pass": ("muted", "", "o"),
    "compensated": ("yellow", "--", "v"),
    "ADMM": ("light", "\\\\\\", "s"),
    "24 windows": ("exact", "", "D"),
    "4 windows": ("accent", "xx", "X"),
    "budget": ("ink", "", "^"),
}
Measured = tuple[float, float]  # a value, and two standard errors
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)  # seconds


def bars(panels: Mapping[str, Mapping[str, Measured]], unit: str, title: str) -> tuple[Figure, str]:
    """A panel for each text with a bar for each model, each with its error.

    Args:
        panels: by text, then by model: what was measured, and two standard errors of it.
        unit: of it.
        title: what it is.
    """
    figure, row = subplots(1, len(panels), size=(2.6 * len(panels) + 0.8, 3.1), squeeze=False)
    for axes, (text, models) in zip(row[0], panels.items()):
        for place, (name, (value, error)) in enumerate(models.items()):
            color, hatch, _ = LOOKS[name]
            axes.bar(place, value, 0.7, color=COLORS[color], hatch=hatch, ec=COLORS["ink"], lw=0.6)
            axes.errorbar(place, value, error, color=COLORS["ink"], capsize=4, lw=1.2)
            axes.text(place, 0.03 * value, f"{value:.2f}", ha="center", va="bottom", fontsize=9, bbox=ON_WHITE)
        axes.set_xticks(range(len(models)), [name.replace(" ", "\n") for name in models], fontsize=9)
        axes.set_title(text, fontsize=10)
    row[0][0].set_ylabel(f"{unit}, measured")
    figure.suptitle(f"{title}; whiskers: two standard errors", fontsize=10)
    told = {text: [f"{name} {v:.2f} ± {e:.2f}" for name, (v, e) in models.items()] for text, models in panels.items()}
    return figure, f"{title}, {unit}. {_told(told)}."


def valley(errors: Mapping[float, float], marks: Mapping[str, float]) -> tuple[Figure, str]:
    """The error of a row of two weights over the one that stays.

    Args:
        errors: by the weight that stays.
        marks: by what is said of it: one of these weights.
    """
    figure, axes = subplots(size=(6.0, 2.7))
    axes.plot(list(errors), list(errors.values()), color=COLORS["keep"])
    for text, place in marks.items():
        axes.plot(place, errors[place], "o", color=COLORS["ink"])
        axes.annotate(f"{text}: {errors[place]:.2f}", (place, errors[place]), (8, 8), textcoords="offset points")
    axes.set_xlabel("the weight that stays; the other is 0")
    axes.set_ylabel("error of the output")
    axes.margins(y=0.18)
    told = ", ".join(f"{text} {errors[place]:.2f} at {place:g}" for text, place in marks.items())
    return figure, f"The error is a parabola over the weight that stays: {told}."


def solving(panels: Mapping[str, tuple[Sequence[float], Mapping[str, float]]], title: str) -> tuple[Figure, str]:
    """The error of a layer over the steps of ADMM, a panel for each text.

    Args:
        panels: by text: the errors after each step, shares; and other ways' errors, by name.
        title: what it is the error of.
    """
    figure, row = subplots(1, len(panels), size=(8.4, 3.1), sharey=True)
    for axes, (text, (curve, others)) in zip(row, panels.items()):
        last = len(curve)
        axes.plot(range(1, last + 1), [100 * error for error in curve], "-s", ms=4, color=COLORS["keep"])
        for (name, error), style in zip({**others, "ADMM": curve[-1]}.items(), ("--", ":", "")):
            if style:
                axes.plot([1, last], [100 * error] * 2, color=COLORS["ink"], ls=style, lw=1.4)
            axes.text(last + 0.6, 100 * error, f"{name} {error:.1%}", va="center", fontsize=9)
        axes.set_title(text, fontsize=10)
        axes.set_xlabel("steps of ADMM")
        axes.set_xticks([1, 4, 8, 12, 16])
        axes.set_xlim(0, last + 7)
    row[0].set_ylim(bottom=0)
    row[0].set_ylabel(f"{title}, %")
    told = {
        text: [f"{name} {error:.1%}" for name, error in {**others, "ADMM": curve[-1]}.items()]
        for text, (curve, others) in panels.items()
    }
    return figure, f"{title} over {len(curve)} steps of ADMM. {_told(told)}."


def kinds(panels: Mapping[str, Mapping[str, Mapping[str, Measured]]]) -> tuple[Figure, str]:
    """Retention by kind of token, a panel for each text.

    Args:
        panels: by text, by model, by kind of token: retention, and two standard errors of it.
    """
    figure, row = subplots(1, len(panels), size=(8.4, 3.2), sharey=True)
    for axes, (text, models) in zip(row, panels.items()):
        for k, (name, by_kind) in enumerate(models.items()):
            color, hatch, _ = LOOKS[name]
            places = [i + (k - (len(models) - 1) / 2) * 0.4 for i in range(len(by_kind))]
            values, errors = ([100 * pair[which] for pair in by_kind.values()] for which in (0, 1))
            axes.bar(places, values, 0.36, color=COLORS[color], hatch=hatch, ec=COLORS["ink"], lw=0.6, label=name)
            axes.errorbar(places, values, errors, color=COLORS["ink"], ls="", capsize=4, lw=1.2)
            for place, value in zip(places, values):
                axes.text(place, 2, f"{value:.0f}", ha="center", va="bottom", fontsize=9, bbox=ON_WHITE)
        axes.set_xticks(range(len(by_kind)), [kind.replace(", ", ",\n") for kind in by_kind])
        axes.set_title(text, fontsize=10)
    row[0].set_ylabel("retention, %, measured")
    row[-1].legend(loc="upper right", fontsize=9)
    figure.suptitle("by the token to be predicted; whiskers: two standard errors", fontsize=10)
    told = {
        f"{text}, {name}": [f"{kind} {v:.0%} ± {e:.0%}" for kind, (v, e) in by_kind.items()]
        for text, models in panels.items()
        for name, by_kind in models.items()
    }
    return figure, f"Retention by kind of token. {_told(told)}."


def budget(sparsity: Mapping[str, float]) -> tuple[Figure, str]:
    """Each layer's sparsity as a field, kinds of layer by decoder blocks; darker is pruned more."""
    figure, axes = field(sparsity, "share of each layer that is pruned")
    axes.set_xlabel("decoder block")
    by_kind: dict[str, list[float]] = {}
    for name, share in sparsity.items():
        by_kind.setdefault(name.rpartition(".")[2], []).append(share)
    told = ", ".join(f"{kind} {mean(shares):.0%}" for kind, shares in by_kind.items())
    lowest, highest = min(sparsity.values()), max(sparsity.values())
    return figure, f"A field, kinds of layer by decoder blocks, from {lowest:.0%} to {highest:.0%}. On average {told}."


def minutes(panels: Mapping[str, Sequence[tuple]], title: str, claim: float | None = None) -> tuple[Figure, str]:
    """Retention over the time that it took, on a logarithmic scale, a panel for each text.

    Args:
        panels: by text: name, seconds and retention of each model, and two standard errors of it where they are known.
        title: what was measured.
        claim: a retention that is claimed, drawn as a line.
    """
    figure, row = subplots(1, len(panels), size=(8.6, 3.3), sharey=True)
    for axes, (text, points) in zip(row, panels.items()):
        for name, seconds, kept, *error in sorted(points, key=lambda point: point[1]):
            color, _, marker = LOOKS.get(name, ("keep", "", "o"))
            axes.errorbar(
                seconds,
                100 * kept,
                [100 * error[0]] if error else None,
                color=COLORS[color],
                marker=marker,
                ms=8,
                mec=COLORS["ink"],
                capsize=4,
                ls="",
                label=name,
            )
            if name not in LOOKS:
                _label(axes, name, seconds, kept, left=seconds == max(point[1] for point in points))
        if claim is not None:
            axes.axhline(100 * claim, color=COLORS["ink"], ls=":", lw=1.2)
            said = f"claimed, larger models, untrained: {claim:.2%}"
            axes.text(0.02, 100 * claim, said, transform=axes.get_yaxis_transform(), va="bottom", fontsize=8.5)
        axes.set_xscale("log")
        axes.margins(x=0.18, y=0.12)
        ticks = [tick for tick in TICKS if axes.get_xlim()[0] < tick < axes.get_xlim()[1]]
        axes.set_xticks(ticks if len(ticks) < 8 else ticks[::3])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_title(text, fontsize=10)
        axes.set_xlabel("seconds, log scale")
    row[0].set_ylabel("retention, %")
    if any(point[0] in LOOKS for points in panels.values() for point in points):
        row[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    figure.suptitle(title, fontsize=10)
    told = {
        text: [
            f"{name} {kept:.1%}" + "".join(f" ± {e:.1%}" for e in error) + f" in {seconds:.0f} s"
            for name, seconds, kept, *error in points
        ]
        for text, points in panels.items()
    }
    return figure, f"Retention over seconds, {title}. {_told(told)}."


def _label(axes: Axes, name: str, seconds: float, kept: float, left: bool) -> None:
    """A point's name and percentage beside it."""
    place = {"xytext": (-8 if left else 8, -4), "ha": "right" if left else "left", "textcoords": "offset points"}
    axes.annotate(f"{name}: {kept:.0%}", (seconds, 100 * kept), fontsize=9, bbox=ON_WHITE, **place)


def _told(parts: Mapping[str, Sequence[str]]) -> str:
    """What panels show, panel by panel."""
    return "; ".join(f"{text}: {', '.join(items)}" for text, items in parts.items())
