"""Figures of notebook 03: the bits of a byte, the grids of both formats, and what a scale does to a weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...method.fp8 import FORMATS, Format, decode
from ..style import COLORS, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIELDS = {"sign": "prune", "exponent": "light", "mantissa": "yellow"}
LINES = {"e4m3": ("keep", "-", "o"), "e5m2": ("prune", "--", "s")}


def short(value: float) -> str:
    """A number with up to six digits; a small power of two as one."""
    size = abs(value)
    if 0 < size < 0.02 and math.frexp(size)[0] == 0.5:
        return f"{'-' if value < 0 else ''}2^{math.frexp(size)[1] - 1}"
    return f"{value:.6g}"


def formula(code: int, fmt: Format) -> str:
    """The value of a byte as a calculation, such as ``2^(8-7) x (1 + 3/8) = 2.75``."""
    value, parts = decode(torch.tensor([code]), fmt).item(), 1 << fmt.mantissa_bits
    exponent, m = (code & 0x7F) >> fmt.mantissa_bits, code & (parts - 1)
    if not math.isfinite(value):
        return f"{value:g}, a code set aside"
    sign = "-" if code & 0x80 else ""
    if exponent == 0:
        return f"{sign}2^{fmt.min_exponent} x {m}/{parts} = {short(value)} ({'subnormal' if m else 'zero'})"
    return f"{sign}2^({exponent}-{fmt.bias}) x (1 + {m}/{parts}) = {short(value)}"


def draw_bits(axes: Axes, code: int, fmt: Format) -> None:
    """A byte as eight boxes with its fields named, and the formula with its digits."""
    from matplotlib.patches import Rectangle

    place = 0
    for field, length in {"sign": 1, "exponent": fmt.exponent_bits, "mantissa": fmt.mantissa_bits}.items():
        for x in range(place, place + length):
            axes.add_patch(Rectangle((x, 0), 1, 1, fc=COLORS[FIELDS[field]] + "55", ec=COLORS["ink"], lw=0.8))
            axes.text(x + 0.5, 0.47, str(code >> (7 - x) & 1), ha="center", va="center", fontsize=14)
        axes.plot([place + 0.08, place + length - 0.08], [-0.12, -0.12], color=COLORS["ink"], lw=1)
        axes.text(place + length / 2, -0.25, field, ha="center", va="top", fontsize=8)
        place += length
    axes.text(8.3, 0.5, f"{fmt.name.upper()}   0x{code:02X} = {formula(code, fmt)}", va="center", fontsize=11)
    axes.set_xlim(0, 19)
    axes.set_ylim(-0.75, 1.1)
    axes.set_axis_off()


def bits(code: int) -> Figure:
    """One byte, from 0 to 255, read as E4M3 and as E5M2."""
    figure, rows = subplots(len(FORMATS), 1, size=(7.2, 1.7))
    for axes, fmt in zip(rows, FORMATS.values()):
        draw_bits(axes, code, fmt)
    return figure


def positive(fmt: Format) -> Tensor:
    """All finite values from 0 up, float32, in the order of their codes."""
    values = decode(torch.arange(128).to(torch.uint8), fmt)
    return values[values.isfinite()]


def grids() -> Figure:
    """Where the numbers of both formats lie: near zero, and their relative distance over the whole range."""
    figure, (near, far) = subplots(2, 1, size=(7.2, 4.6), height_ratios=(1, 2.2))
    edge = 2.0**-5
    for row, (name, fmt) in enumerate(FORMATS.items()):
        values, (color, style, marker) = positive(fmt), LINES[name]
        shown, normal = values[values <= edge], values >= 2.0**fmt.min_exponent
        sub = shown < 2.0**fmt.min_exponent
        y = torch.full_like(shown, 1.0 - row)
        near.plot(shown[~sub], y[~sub], "|", color=COLORS[color], ms=16, mew=1.4)
        near.plot(shown[sub], y[sub], marker, color=COLORS[color], mfc="white", ms=5)
        gap = (values[1:] - values[:-1]) / values[:-1]
        far.plot(values[1:-1], gap[1:], style, marker=marker, ms=2.5, lw=1, color=COLORS[color], label=name.upper())
        start = values[normal][0].item()
        far.annotate(
            f"{name.upper()}: smallest\nnormal {short(start)}",
            (start, gap[normal[:-1]][0].item()),
            (start * 1.25, 0.5),
            fontsize=8.5,
            arrowprops={"arrowstyle": "-", "lw": 0.7},
        )
    near.set_yticks([1, 0], [name.upper() for name in FORMATS])
    near.set_ylim(-0.7, 1.7)
    near.set_xticks([0, 2.0**-9, 2.0**-6, 2.0**-5], ["0", "$2^{-9}$", "$2^{-6}$", "$2^{-5}$"])
    near.set_title("Near zero (linear): hollow marks are subnormal, bars are normal")
    far.set_xscale("log", base=2)
    far.set_yscale("log", base=2)
    far.set_yticks([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16], ["100 %", "50 %", "25 %", "12.5 %", "6.25 %"])
    far.set_ylabel("gap to the next number")
    far.set_xlabel("value (logarithmic; a tick for every four powers of two)")
    far.set_title("The gap, relative to the value: small over the normal range, wide below it")
    far.legend(loc="upper right")
    return figure


def digits(matrices: Mapping[str, Tensor], marked: Mapping[str, Tensor] | None = None) -> Figure:
    """Small matrices side by side with their digits; behind each row its relative error against the first matrix.

    Args:
        matrices: equal shapes ``[out, in]`` by title; the first is the original.
        marked: by title, bool ``[out, in]``, cells to be hatched.
    """
    from matplotlib.patches import Rectangle

    first = next(iter(matrices.values()))
    rows, columns = first.shape
    figure, row = subplots(1, len(matrices), size=(2.45 * len(matrices), 1.0 + 0.42 * rows))
    for axes, (title, M) in zip(row, matrices.items()):
        hatched = (marked or {}).get(title, torch.zeros_like(M, dtype=torch.bool))
        for i in range(rows):
            for j in range(columns):
                fill, hatch = (COLORS["prune"] + "40", "///") if hatched[i, j] else ("white", "")
                box = Rectangle(
                    (j, rows - 1 - i), 1, 1, fc=fill, hatch=hatch, ec=COLORS["muted"], lw=0.8, clip_on=False
                )
                axes.add_patch(box)
                number = f"{M[i, j]:.0f}" if abs(M[i, j]) >= 1000 else f"{M[i, j]:.3g}"
                text = axes.text(j + 0.5, rows - 0.5 - i, number, ha="center", va="center", fontsize=8)
                if hatched[i, j]:
                    text.set_bbox({"fc": "white", "lw": 0, "pad": 1.5})
            if M is not first:
                error = (M[i] - first[i]).norm() / first[i].norm().clamp_min(1e-30)
                axes.text(columns + 0.12, rows - 0.5 - i, f"{error:.1%}", va="center", fontsize=9, weight="bold")
        axes.set_xlim(0, columns + (0 if M is first else 1.1))
        axes.set_ylim(0, rows)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.supxlabel(f"bold, behind a row: its error against {next(iter(matrices))}", fontsize=9)
    return figure


def layer_errors(errors: Mapping[tuple[str, str], Sequence[float]]) -> Figure:
    """Relative error of each layer, by format and granularity.

    Args:
        errors: by (format's name, granularity), one share for each layer, in the order of the model.
    """
    marks = {"tensor": ("^", "accent"), "row": ("o", "keep"), "block": ("s", "exact")}
    names = list(dict.fromkeys(name for name, _ in errors))
    figure, row = subplots(1, 1 + len(names), size=(8.6, 3.2), width_ratios=(1.3, *[1] * len(names)))
    for (name, granularity), values in errors.items():
        marker, color = marks[granularity]
        percent = [100 * value for value in values]
        look = {"color": COLORS[color], "mfc": "none", "ms": 3, "mew": 0.8}
        row[0].plot(percent, marker, **look)
        row[1 + names.index(name)].plot(percent, marker, label=granularity, **look)
    for name, axes in zip(names, row[1:]):
        axes.set_title(f"{name.upper()}, enlarged")
        axes.set_xlabel("layer")
        first = [100 * v for v in errors[name, "row"]]
        row[0].text(0, max(first) + 0.25, f"{name.upper()}", fontsize=9)
    row[0].set_ylim(0, 1.15 * row[0].get_ylim()[1])
    row[0].set_title("Both formats")
    row[0].set_xlabel("layer")
    row[0].set_ylabel("relative error, percent")
    row[-1].legend(title="scale per", markerscale=1.6, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def valley(errors: Mapping[str, Mapping[float, float]]) -> Figure:
    """Relative error of a weight while its scale grows; on a log scale.

    Args:
        errors: by format's name, then by power: the error, a share, with the usual scale times 2 to that power.
    """
    figure, axes = subplots(size=(7.2, 3.3))
    powers = list(next(iter(errors.values())))
    for name, curve in errors.items():
        color, style, marker = LINES[name]
        percent = [100 * value for value in curve.values()]
        axes.plot(list(curve), percent, style, marker=marker, ms=4.5, color=COLORS[color], label=name.upper())
    axes.axvline(0, color=COLORS["muted"], lw=1)
    axes.text(0.3, 80, "the usual scale: largest weight = largest number", va="top", fontsize=8.5)
    axes.text(powers[0], 4, "to the left:\nsaturation", fontsize=8.5)
    axes.text(powers[-1], 12, "to the right:\nunderflow", ha="right", fontsize=8.5)
    axes.set_yscale("log")
    axes.set_ylim(1.8, 110)
    ticks = [2, 5, 10, 20, 50, 100]
    axes.set_yticks(ticks, [f"{tick} %" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("scale, times 2 to the power of")
    axes.set_ylabel("relative error of the layer")
    axes.legend(loc="center", bbox_to_anchor=(0.5, 0.6))
    return figure
