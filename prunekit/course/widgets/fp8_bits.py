"""The FP8 bit explorer: click the bits of a byte, drag the scale over a weight's histogram.

Formats are those of Micikevicius et al. 2022 (arXiv 2209.05433), see `prunekit.method.fp8`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ipywidgets
import torch
from torch import Tensor

from ...errors import PrunekitError
from ...method.fp8 import FORMATS, Format, cast, decode, format_named, uncast
from ..figures.casting import draw_bits, positive, short
from ..style import COLORS, subplots
from .live import LiveFigure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 1_000_000  # weights that are looked at
LEFT, RIGHT = -24, 10  # ends of the histogram, powers of two


@dataclass(frozen=True)
class Code:
    """What one byte stands for. All but `value` are NaN where the value is infinite or NaN.

    Attributes:
        value: the number.
        below: the next smaller number; infinite where there is none.
        above: the next larger one, likewise.
        low: lower end of the rounding interval: what lies in it is rounded to `value`. Infinite beyond the largest
            number, since casts here saturate.
        high: its upper end, likewise.
        closed: whether the ends belong to it: a tie goes to the code with an even mantissa.
    """

    value: float
    below: float = math.nan
    above: float = math.nan
    low: float = math.nan
    high: float = math.nan
    closed: bool = False


def describe(code: int, fmt: Format) -> Code:
    """Value, neighbours and rounding interval of a byte.

    Args:
        code: the byte, 0 to 255.
        fmt: `E4M3` or `E5M2`.

    Raises:
        PrunekitError: it is no byte.
    """
    if not 0 <= code <= 255:
        raise PrunekitError(f"{code} is no byte: expected a number from 0 to 255.")
    values, size = positive(fmt).tolist(), code & 0x7F
    if size >= len(values):
        return Code(decode(torch.tensor([code]), fmt).item())
    value = values[size]
    above = values[size + 1] if size + 1 < len(values) else math.inf
    below = values[size - 1] if size else -values[1]
    low, high, closed = (below + value) / 2, (value + above) / 2, size % 2 == 0
    if code & 0x80:
        return Code(-value, -above, -below, -high, -low, closed)
    return Code(value, below, above, low, high, closed)


@dataclass(frozen=True)
class Shares:
    """What a scale does to some weights: shares of all of them that saturate, become subnormal, or become zero,
    and the relative error ``|W - cast(W)| / |W|``."""

    saturated: float
    subnormal: float
    underflow: float
    error: float


def shares(W: Tensor, scale: float, fmt: Format) -> Shares:
    """What one scale does to weights of any shape; zeros count neither as subnormal nor as underflow."""
    W = W.detach().float().reshape(1, -1)
    s = torch.full((1, 1), scale)
    back, y = uncast(cast(W, s, fmt), s), (W / s).abs()
    lost = (back == 0) & (W != 0)
    low = (y < 2.0**fmt.min_exponent) & (W != 0) & ~lost
    parts = [x.float().mean().item() for x in (y > fmt.max, low, lost)]
    return Shares(*parts, error=((back - W).norm() / W.norm().clamp_min(1e-30)).item())


def fp8_bits(W: Tensor, name: str = "weight", code: int = 0x43) -> LiveFigure:
    """Click the bits of a byte; drag the scale of a weight, and watch saturation and underflow.

    Args:
        W: a weight of any shape; of more than a million elements, evenly spread ones are looked at.
        name: what to call it.
        code: the byte to begin with, 0 to 255.

    Raises:
        PrunekitError: the weight is empty, all zero or not finite, or the code is no byte.
    """
    describe(code, FORMATS["e4m3"])
    flat = W.detach().float().cpu().flatten()
    if not flat.any() or not flat.isfinite().all():
        raise PrunekitError("the bit explorer needs a weight of finite numbers that are not all zero.")
    sample, top = flat[:: -(-flat.numel() // MOST)], flat.abs().max().item()
    sizes = sample[sample != 0].abs().sort().values
    spread = f"All but 1 % of the weights lie within {(top / sizes[len(sizes) // 100]).log2():.1f} powers of two."
    buttons = {f"bit{place}": _button(place, bool(code >> place & 1)) for place in range(7, -1, -1)}
    kind = ipywidgets.ToggleButtons(options=[(name.upper(), name) for name in FORMATS], description="format")
    power = ipywidgets.FloatSlider(0, min=-8, max=18, step=0.5, description="scale x 2^", readout_format=".1f")

    def draw(format: str, power: float, **bits: bool) -> tuple[Figure, str]:
        fmt = format_named(format)
        byte = sum(bits[f"bit{place}"] << place for place in range(8))
        figure, alt = picture(byte, fmt, sample, top / fmt.max * 2.0**power, name)
        return figure, f"{alt} {spread}"

    live = LiveFigure(draw, format=kind, **buttons, power=power)
    live.box.children = [kind, ipywidgets.HBox([ipywidgets.Label("bits"), *buttons.values()]), power, live.picture]
    return live


def _button(place: int, on: bool) -> ipywidgets.ToggleButton:
    bit = ipywidgets.ToggleButton(on, description=str(int(on)), layout={"width": "44px"}, tooltip=f"bit {place}")
    bit.observe(lambda change: setattr(bit, "description", str(int(change["new"]))), names="value")
    return bit


def picture(code: int, fmt: Format, W: Tensor, scale: float, name: str) -> tuple[Figure, str]:
    """The explorer's figure and its alternative text, for one byte and one scale for all of `W`."""
    figure, (top, middle, bottom) = subplots(3, 1, size=(7.2, 4.9), height_ratios=(0.9, 1, 2.5))
    figure.set_layout_engine(None)  # placed by hand, which draws three times faster
    figure.subplots_adjust(left=0.06, right=0.98, top=0.99, bottom=0.1, hspace=0.12)
    about, found = describe(code, fmt), shares(W, scale, fmt)
    draw_bits(top, code, fmt)
    _interval(middle, about)
    _histogram(bottom, W, scale, fmt, found)
    bottom.set_xlabel(f"log2 |w| of {name}; one scale, {scale:.3g}: relative error {found.error:.2%}")
    alt = (
        f"The byte 0x{code:02X} in {fmt.name.upper()} stands for {short(about.value)}. {_sentence(about)} "
        f"Below, a histogram of {name} at scale {scale:.3g}: {found.saturated:.2%} saturate, "
        f"{found.subnormal:.2%} are subnormal, {found.underflow:.2%} become zero, relative error {found.error:.2%}."
    )
    return figure, alt


def _sentence(about: Code) -> str:
    if not math.isfinite(about.value):
        return "No number is rounded to it, because casts here saturate."
    ends = "ends included" if about.closed else "ends excluded"
    return f"What lies between {short(about.low)} and {short(about.high)}, {ends}, is rounded to it."


def _interval(axes: Axes, about: Code) -> None:
    """The number line around a value: neighbours as circles, the rounding interval as a bar."""
    axes.set_ylim(-1.1, 1.9)
    axes.set_axis_off()
    if not math.isfinite(about.value):
        axes.text(0.5, 0, _sentence(about), ha="center", transform=axes.transAxes)
        return
    gap = min(about.above - about.value, about.value - about.below)
    left, right = about.value - 2 * gap, about.value + 2 * gap
    axes.plot([left, right], [0, 0], color=COLORS["muted"], lw=1)
    inside = [max(about.low, left), min(about.high, right)]
    axes.plot(inside, [0, 0], color=COLORS["accent"], lw=9, alpha=0.6, solid_capstyle="butt")
    for end, mark in zip((about.low, about.high), "[]" if about.closed else "()"):
        if math.isfinite(end):
            axes.text(end, 0, mark, ha="center", va="center", fontsize=16, weight="bold")
            axes.text(end, 0.42, short(end), ha="center", va="bottom", fontsize=8.5)
    for value in (about.below, about.above):
        if math.isfinite(value):
            axes.plot(value, 0, "o", mfc="white", mec=COLORS["ink"], ms=7)
            axes.text(value, -0.4, short(value), ha="center", va="top", fontsize=9)
    axes.plot(about.value, 0, "D", color=COLORS["keep"], ms=8)
    axes.text(about.value, -0.4, short(about.value), ha="center", va="top", fontsize=9, weight="bold")
    axes.text(about.value, 1.15, _sentence(about), ha="center", va="bottom", fontsize=9)
    axes.set_xlim(left - 0.1 * gap, right + 0.1 * gap)


def _histogram(axes: Axes, W: Tensor, scale: float, fmt: Format, found: Shares) -> None:
    """Counts of ``log2 |W|``, and where the format's range lies at this scale."""
    powers = W[W != 0].abs().log2().clamp(LEFT, RIGHT)
    counts = torch.histc(powers, 2 * (RIGHT - LEFT), LEFT, RIGHT)
    used = counts.nonzero().flatten()
    axes.bar((LEFT + used / 2).numpy(), counts[used].numpy(), 0.5, align="edge", color=COLORS["muted"], lw=0)
    smallest = fmt.min_exponent - fmt.mantissa_bits
    zero, normal, most = (math.log2(scale) + x for x in (smallest - 1, fmt.min_exponent, math.log2(fmt.max)))
    peak = counts.max().item()
    for start, stop, color, hatch, label in (
        (LEFT, zero, "prune", "\\\\", f"becomes 0\n{found.underflow:.2%}"),
        (zero, normal, "yellow", "..", f"subnormal\n{found.subnormal:.2%}"),
        (normal, most, "light", "", "normal"),
        (most, RIGHT, "accent", "//", f"saturates\n{found.saturated:.2%}"),
    ):
        start, stop = max(start, LEFT), min(stop, RIGHT)
        if stop > start:
            axes.axvspan(start, stop, fc=COLORS[color] + "40", ec=COLORS["muted"], hatch=hatch, lw=0.5, zorder=0)
        if stop - start > 2.5:
            box = {"fc": "white", "lw": 0, "pad": 1.5}
            axes.text((start + stop) / 2, 1.3 * peak, label, ha="center", va="top", fontsize=8.5, bbox=box)
    axes.set_xlim(LEFT, RIGHT)
    axes.set_ylim(0, 1.35 * peak)
    axes.set_yticks([])
    axes.set_ylabel("number of weights")
