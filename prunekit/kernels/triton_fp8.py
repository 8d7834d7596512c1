"""FP8 for the Triton kernel, by float32 arithmetic, so that it needs no FP8 hardware."""

from __future__ import annotations

import triton
import triton.language as tl

_TINY = tl.constexpr(2.0**-126)


@triton.jit
def divide(x, s, r, FMA: tl.constexpr):
    """``x / s`` correctly rounded, by the reciprocal `r` of `s` and one correction (Markstein 1990).

    Without fused multiply-adds, as in the interpreter, it divides.
    """
    if FMA:
        quotient = x * r
        quotient = tl.fma(tl.fma(-quotient, s, x), r, quotient)
    else:
        quotient = tl.div_rn(x, s)
    return quotient


@triton.jit
def round_to_fp8(y, MANTISSA: tl.constexpr, LOWEST: tl.constexpr):
    """The FP8 value nearest to y >= 0 (already saturated), halves to even, and its exponent.

    Adding 1.5 times the power of two whose spacing is that of the FP8 value, and taking it away again, rounds.
    """
    exponent = tl.maximum((y.to(tl.int32, bitcast=True) >> 23) - 127, LOWEST)
    large = (((exponent + (127 + 23 - MANTISSA)) << 23) | 0x400000).to(tl.float32, bitcast=True)
    return (y + large) - large, exponent


@triton.jit
def scale_of(top, MAX: tl.constexpr):
    """One row's scale from its largest |w|: `fp8.scales`."""
    return tl.where(top > 0, tl.maximum(tl.div_rn(top, MAX), _TINY), 1.0)


@triton.jit
def cast_tile(w, stays, s, r, FMA: tl.constexpr, MAX: tl.constexpr, MANTISSA: tl.constexpr, LOWEST: tl.constexpr):
    """FP8 codes of a tile as bytes, zero where a weight goes: `fp8.cast`."""
    value, exponent = round_to_fp8(tl.minimum(divide(tl.abs(w), s, r, FMA), MAX), MANTISSA, LOWEST)
    # In units of the spacing; a leading 1, or a carry out of the mantissa, raises the exponent field.
    spacings = value * ((MANTISSA + 127 - exponent) << 23).to(tl.float32, bitcast=True)
    code = ((exponent - LOWEST) << MANTISSA) + spacings.to(tl.int32)
    code = code | ((w.to(tl.int32, bitcast=True) >> 24) & 0x80)
    return tl.where(stays, code, 0).to(tl.uint8)
