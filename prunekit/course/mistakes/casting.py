"""What learners do wrong in notebook 03."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...method import fp8
from ..checks.casting import cast_back, cast_rows, decode_e5m2, nearest_codes, row_scales
from ..printing import numbers
from .mistake import Mistake, gives


def _e5m2(code: int, bias: int = 15, leading: bool = True, small: bool = True) -> float:
    """E5M2 without infinities, and with one thing wrong."""
    sign, exponent, mantissa = -1.0 if code & 0x80 else 1.0, code >> 2 & 31, code & 3
    if exponent == 0 and small:
        return sign * 2.0 ** (1 - bias) * mantissa / 4
    return sign * 2.0 ** (exponent - bias) * (leading + mantissa / 4)


def _or_special(code: int, value: float) -> float:
    return value if code >> 2 & 31 < 31 else decode_e5m2(code)


BYTES = (
    gives(
        "this reads the byte as E4M3; E5M2 has five exponent and two mantissa bits",
        lambda code: fp8.decode(torch.tensor([code]), fp8.E4M3),
        rtol=0,
    ),
    gives("an exponent field of all ones is infinity or NaN", _e5m2, rtol=0),
    gives("a sign bit of 1 makes the value negative", lambda code: abs(decode_e5m2(code)), rtol=0),
    gives(
        "an exponent field of 0 has no leading 1, and the power of the field 1",
        lambda code: _or_special(code, _e5m2(code, small=False)),
        rtol=0,
    ),
    gives("the bias is 15", lambda code: _or_special(code, _e5m2(code, bias=16)), rtol=0),
    gives("the mantissa has a leading 1", lambda code: _or_special(code, _e5m2(code, leading=False)), rtol=0),
)


def _distances(x: Tensor, values: Tensor) -> Tensor:
    return (x[:, None].double().clamp(max=values[-1]) - values.double()).abs()


POINTS = (
    gives(
        "these are the rounded values; their codes are wanted, that is their positions in `values`",
        lambda x, values: values[nearest_codes(x, values)],
        rtol=0,
    ),
    gives("codes count from 0", lambda x, values: nearest_codes(x, values) + 1, rtol=0),
    gives(
        "a tie goes to the even code, not always to the lower",
        lambda x, values: _distances(x, values).argmin(1),
        rtol=0,
    ),
    gives(
        "a tie goes to the even code, not always to the higher",
        lambda x, values: len(values) - 1 - _distances(x, values).flip(1).argmin(1),
        rtol=0,
    ),
    gives(
        "this rounds down, not to the nearest", lambda x, values: torch.searchsorted(values, x, right=True) - 1, rtol=0
    ),
    gives(
        "this rounds up, not to the nearest",
        lambda x, values: torch.searchsorted(values, x).clamp(max=len(values) - 1),
        rtol=0,
    ),
)


def _over(top: Tensor, most: float = 448) -> Tensor:
    return torch.where(top > 0, top / most, 1.0)


def _top(W: Tensor, keep: Tensor) -> Tensor:
    return torch.where(keep, W, 0.0).abs().amax(1, keepdim=True)


SCALES = (
    gives(
        "the largest survivor may be negative: take absolute values first",
        lambda W, keep: _over((W * keep).amax(1, True)),
    ),
    gives("pruned weights need no room", lambda W, keep: _over(W.abs().amax(1, keepdim=True))),
    gives("where nothing survives the scale is 1", lambda W, keep: _top(W, keep) / 448),
    gives("the scale is turned over: W / scale must fit", lambda W, keep: 1 / row_scales(W, keep)),
    gives("E4M3 reaches to 448", lambda W, keep: _over(_top(W, keep), 57344)),
    gives("each row has its own largest survivor", lambda W, keep: _over(_top(W, keep).amax().expand(len(W), 1))),
)


def _codes(W: Tensor, scale: Tensor, most: float = 57344.0) -> Tensor:
    return (W / scale).clamp(-most, most).to(torch.float8_e5m2).float()


CASTS = (
    gives("a pruned weight is exactly 0", lambda W, keep, scale: _codes(W, scale) * scale),
    gives(
        "nothing was rounded to what E5M2 codes stand for",
        lambda W, keep, scale: (W / scale).clamp(-57344, 57344) * scale * keep,
    ),
    gives(
        "this went through E4M3, largest number 448; the exercise asks for E5M2",
        lambda W, keep, scale: fp8.uncast(fp8.cast(W, scale, fp8.E4M3, keep), scale),
    ),
    gives(
        "448 is the largest number of E4M3; that of E5M2 is 57344",
        lambda W, keep, scale: _codes(W, scale, 448.0) * scale * keep,
    ),
    gives("multiply by the scale after the cast", lambda W, keep, scale: _codes(W, scale) * keep),
    gives("the sign is lost", lambda W, keep, scale: cast_back(W, keep, scale).abs()),
)


def _codes_are(hint: str, wrong: Callable) -> Mistake:
    """The mistake of giving other codes than those of `cast_rows`: ``wrong(codes, W, keep)``."""

    def explains(args: tuple, out: Any) -> bool:
        got = numbers(out[0]) if isinstance(out, (tuple, list)) and len(out) == 2 else None
        W, keep, _ = args
        want = wrong(cast_rows(*args)[0].int(), W, keep).double()
        return got is not None and got.shape == want.shape and torch.equal(got, want)

    return Mistake(hint, explains)


ROWS = (
    _codes_are("a negative weight has the sign bit: 128 more", lambda codes, W, keep: codes & 127),
    _codes_are(
        "these are the values; their codes are wanted",
        lambda codes, W, keep: fp8.decode(codes),
    ),
    _codes_are(
        "a pruned weight gets code 0",
        lambda codes, W, keep: fp8.encode(W / row_scales(W, keep)).int(),
    ),
)


MISTAKES = {"3.1": BYTES, "3.2": POINTS, "3.3": SCALES, "3.4": CASTS, "3.7": ROWS}
