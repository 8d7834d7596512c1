"""Figures of notebook 03: the bits of a byte, the numbers of both formats, and what a scale does to a weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...method.fp8 import FORMATS, Format, decode
from ..style import COLORS, HATCHES, ON_WHITE, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIELDS = {"sign": "accent", "exponent": "light", "mantissa": "yellow"}
KINDS = (
    {"fc": COLORS["light"] + "80", "ec": COLORS["ink"]},
    {"fc": "white", "ec": COLORS["prune"], "hatch": HATCHES["prune"]},
)  # a number, and none
LINES = {"e4m3": ("cast", "-", "o"), "e5m2": ("exact", "--", "s"), "int8": ("ink", ":", "^")}


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


def near_zero() -> Figure:
    """The smallest numbers of both formats, each enlarged to two powers of two above its subnormals."""
    figure, rows = subplots(len(FORMATS), 1, size=(7.2, 2.6))
    for axes, (name, fmt) in zip(rows, FORMATS.items()):
        values, edge = positive(fmt), 2.0**fmt.min_exponent
        shown = values[values <= 4 * edge]
        low = shown < edge
        color = COLORS[LINES[name][0]]
        axes.axvspan(-edge / 8, edge * (1 - 0.5**fmt.mantissa_bits / 2), fc=COLORS["yellow"] + "40", hatch="..", lw=0)
        axes.plot(shown[low], torch.zeros(int(low.sum())), LINES[name][2], color=color, mfc="white", ms=7)
        axes.plot(shown[~low], torch.zeros(int((~low).sum())), "|", color=color, ms=18, mew=1.8)
        smallest = fmt.min_exponent - fmt.mantissa_bits
        powers = [smallest, *range(fmt.min_exponent - 1, fmt.min_exponent + 3)]
        axes.set_xticks([0, *(2.0**k for k in powers)], ["0", *(f"$2^{{{k}}}$" for k in powers)])
        axes.set_xlim(-edge / 8, 4.1 * edge)
        axes.set_ylim(-1, 1)
        axes.set_yticks([0], [name.upper()])
    rows[0].set_title("Near zero: circles are subnormal, bars are normal")
    return figure


def gaps() -> Figure:
    """The distance to the next number, relative to the value, over the whole range of both formats."""
    figure, axes = subplots(size=(7.2, 3.3))
    for name, fmt in FORMATS.items():
        values, (color, style, marker) = positive(fmt), LINES[name]
        gap = (values[1:] - values[:-1]) / values[:-1]
        line = {"marker": marker, "ms": 2.5, "lw": 1, "color": COLORS[color], "label": name.upper()}
        axes.plot(values[1:-1], gap[1:], style, **line)
        start = 2.0**fmt.min_exponent
        axes.annotate(
            f"{name.upper()}: smallest\nnormal $2^{{{fmt.min_exponent}}}$",
            (start, 0.5**fmt.mantissa_bits),
            (start * 1.5, 0.5),
            fontsize=8.5,
            arrowprops={"arrowstyle": "-", "lw": 0.7},
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_yticks([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16], ["100 %", "50 %", "25 %", "12.5 %", "6.25 %"])
    axes.set_ylabel("gap to the next number,\nrelative to the value")
    axes.set_xlabel("value, on a logarithmic scale")
    axes.legend(loc="upper right")
    return figure


def beyond(x: Tensor, sweeps: Mapping[tuple[str, str], Tensor]) -> Figure:
    """What becomes of numbers around the largest one of a format.

    Args:
        x: float32 ``[n]``, ascending, in units of the largest number.
        sweeps: by (format's name, way of casting): the values, ``[n]``, that come out.
    """
    names, ways = (list(dict.fromkeys(part)) for part in zip(*sweeps))
    figure, row = subplots(1, len(names), size=(8.8, 2.3), sharey=True)
    for axes, name in zip(row, names):
        fmt = FORMATS[name]
        last = positive(fmt)[-2:]
        middle = (last[1] + (last[1] - last[0]) / 2).item() / fmt.max  # to where the next number would be
        for place, way in enumerate(ways):
            edges, start = [*x.tolist(), x[-1].item()], 0
            for kind, run in groupby(f"{v:g}" for v in sweeps[name, way].tolist()):
                stop = start + len(list(run))
                look = KINDS[kind in ("inf", "nan")]
                axes.barh(place, edges[stop] - edges[start], 0.6, edges[start], lw=0.8, **look)
                middle_of = (edges[start] + edges[stop]) / 2
                axes.text(middle_of, place, kind, ha="center", va="center", fontsize=9, bbox=ON_WHITE)
                start = stop
        axes.axvline(1, color=COLORS["ink"], lw=1)
        axes.axvline(middle, color=COLORS["ink"], lw=1, ls=":")
        axes.set_xticks([1, middle], [f"{fmt.max:.0f}", f"{middle * fmt.max:.0f}"])
        for label, side in zip(axes.get_xticklabels(), ("right", "left")):
            label.set_horizontalalignment(side)
        axes.set_xlim(x[0].item(), x[-1].item())
        axes.set_title(name.upper())
    row[0].set_yticks(range(len(ways)), ways)
    row[0].invert_yaxis()
    figure.supxlabel(
        "the number that is cast: solid, the largest of the format; dotted, halfway to the next", fontsize=9
    )
    return figure


def in_format(rows: Mapping[str, tuple[Tensor, Tensor]], fmt: Format, left: int, right: int) -> Figure:
    """Where weights lie in a format once they are divided by their scale.

    Args:
        rows: by title: weights over their scale, ``[in]``, and which of them are kept, bool ``[in]``.
        fmt: the format whose ranges are shaded.
        left: the first power of two that is shown.
        right: the last.
    """
    from matplotlib.ticker import PercentFormatter

    figure, columns = subplots(len(rows), 1, size=(7.6, 0.9 + 1.75 * len(rows)), sharex=True, squeeze=False)
    smallest = fmt.min_exponent - fmt.mantissa_bits - 1
    ends = (left, smallest, fmt.min_exponent, math.log2(fmt.max), right)
    zones = (("prune", "becomes 0"), ("yellow", "subnormal"), ("light", "normal"), ("accent", "beyond"))
    for axes, (title, (y, keep)) in zip(columns[:, 0], rows.items()):
        squares, powers = y.double().square(), y.abs().clamp_min(1e-30).log2()
        share = squares / squares[keep].sum()
        starts = [ends[3] - step / 2 for step in range(1 + int(2 * (ends[3] - left)), int(2 * (ends[3] - right)), -1)]
        bars = [share[keep & (powers > k + 1e-4) & (powers <= k + 0.5 + 1e-4)].sum().item() for k in starts]
        axes.bar(starts, bars, 0.5, align="edge", color=COLORS["keep"], lw=0)
        peak = max(bars)
        for start, stop, (color, label) in zip(ends, ends[1:], zones):
            if stop > max(start, left):
                axes.axvspan(max(start, left), stop, fc=COLORS[color] + "30", ec=COLORS["muted"], lw=0.5, zorder=0)
                middle = (max(start, left) + stop) / 2
                axes.text(middle, 1.36 * peak, label, ha="center", va="top", fontsize=8.5)
        for place, size in ((gone := powers[~keep & (powers > left)], 4), (gone[gone > ends[3]], 11)):
            axes.plot(place, 0.06 * peak + 0 * place, "x", color=COLORS["prune"], ms=size, mew=size / 4)
        axes.set_title(title, fontsize=10)
        axes.set_xlim(left, right)
        axes.set_ylim(0, 1.4 * peak)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    columns[-1, 0].set_xlabel(
        "log2 of |w| / scale; bars are kept weights" + (", crosses pruned ones" if len(gone) else "")
    )
    figure.supylabel("share of the kept weights'\nsum of squares", fontsize=9)
    return figure


def digits(matrices: Mapping[str, Tensor], marked: Mapping[str, Tensor] | None = None) -> Figure:
    """Small matrices, two in a row, with their digits; behind each row its relative error against the first matrix.

    Args:
        matrices: equal shapes ``[out, in]`` by title; the first is the original.
        marked: by title, bool ``[out, in]``, cells to be hatched.
    """
    from matplotlib.patches import Rectangle

    first = next(iter(matrices.values()))
    rows, columns = first.shape
    figure, grid = subplots(-(-len(matrices) // 2), 2, size=(7.6, (0.45 + 0.4 * rows) * -(-len(matrices) // 2) + 0.3))
    for axes, (title, M) in zip(grid.flat, matrices.items()):
        hatched = (marked or {}).get(title, torch.zeros_like(M, dtype=torch.bool))
        for i in range(rows):
            for j in range(columns):
                fill, hatch = (COLORS["prune"] + "40", HATCHES["prune"]) if hatched[i, j] else ("white", "")
                box = Rectangle(
                    (j, rows - 1 - i), 1, 1, fc=fill, hatch=hatch, ec=COLORS["muted"], lw=0.8, clip_on=False
                )
                axes.add_patch(box)
                number = f"{M[i, j]:.0f}" if abs(M[i, j]) >= 1000 else f"{M[i, j]:.3g}"
                text = axes.text(j + 0.5, rows - 0.5 - i, number, ha="center", va="center", fontsize=9)
                if hatched[i, j]:
                    text.set_bbox({"fc": "white", "lw": 0, "pad": 1.5})
            if M is not first:
                error = (M[i] - first[i]).norm() / first[i].norm().clamp_min(1e-30)
                axes.text(columns + 0.12, rows - 0.5 - i, f"{error:.1%}", va="center", fontsize=9, weight="bold")
        axes.set_xlim(0, columns + 0.9)
        axes.set_ylim(0, rows)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.supxlabel(f"bold, behind a row: its error against {next(iter(matrices))}", fontsize=9)
    return figure


def curves(errors: Mapping[str, Mapping[int, float]], label: str, subject: str, notes: Mapping[str, tuple]) -> Figure:
    """Relative errors over powers of two, on a log scale.

    Args:
        errors: by format's name, then by power of two: the error, a share.
        label: what that power is.
        subject: whose error it is.
        notes: where to write what: by text its x and y, y in percent.
    """
    figure, axes = subplots(size=(7.2, 3.3))
    for name, curve in errors.items():
        color, style, marker = LINES[name]
        percent = [100 * value for value in curve.values()]
        axes.plot(list(curve), percent, style, marker=marker, ms=4.5, color=COLORS[color], label=name.upper())
    axes.axvline(0, color=COLORS["muted"], lw=1)
    for text, (x, y) in notes.items():
        axes.text(x, y, text, fontsize=8.5, ha="center", bbox=ON_WHITE)
    axes.set_yscale("log")
    axes.set_ylim(0.7, 130)
    ticks = [1, 2, 5, 10, 20, 50, 100]
    axes.set_yticks(ticks, [f"{tick} %" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(f"{label}, as a power of 2")
    axes.set_ylabel(f"relative error of\n{subject}")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
