"""FP8 written out from its bits: E4M3 and E5M2, and casting a weight to them with a scale.

A code is one byte: sign, exponent field, mantissa. With exponent field `e` and mantissa `m` it stands for
``2^(e - bias) * (1 + m / 2^mantissa_bits)``, or, where ``e = 0`` (subnormal), for
``2^(1 - bias) * m / 2^mantissa_bits`` (Micikevicius et al. 2022, arXiv 2209.05433, table 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import PrunekitError

GRANULARITIES = ("tensor", "row", "block")
BLOCK = 128  # side of the square that shares a scale under "block" granularity


@dataclass(frozen=True)
class Format:
    """One FP8 format: its bits, its largest finite value and the torch dtype that stores its codes."""

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    max: float
    has_inf: bool
    dtype: torch.dtype

    @property
    def min_exponent(self) -> int:
        """Exponent of the smallest normal number; below it the spacing stays the same."""
        return 1 - self.bias


E4M3 = Format("e4m3", 4, 3, 7, 448.0, False, torch.float8_e4m3fn)
E5M2 = Format("e5m2", 5, 2, 15, 57344.0, True, torch.float8_e5m2)
FORMATS = {f.name: f for f in (E4M3, E5M2)}


def format_named(name: str) -> Format:
    """The format called ``e4m3`` or ``e5m2``.

    Raises:
        PrunekitError: any other name.
    """
    if name not in FORMATS:
        raise PrunekitError(f"unknown FP8 format {name!r}: expected one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def encode(x: Tensor, fmt: Format = E4M3, saturate: bool = True) -> Tensor:
    """Round to the nearest FP8 code, ties to even.

    Args:
        x: values of any shape and float dtype.
        fmt: `E4M3` or `E5M2`.
        saturate: values beyond the largest finite one become that one. With False they become NaN (E4M3,
            which has no infinity) or infinity (E5M2), as IEEE rounding would have it.

    Returns:
        uint8 codes of the shape of `x`. NaN becomes the code 0x7F (with its sign bit kept).
    """
    x = x.float()
    bits = x.contiguous().view(torch.int32)
    sign = (bits >> 24) & 0x80
    magnitude = x.abs()
    capped = torch.nan_to_num(magnitude, nan=0.0).clamp(max=fmt.max if saturate else 2.0 * fmt.max)

    # The exponent field of float32 is floor(log2 |x|) + 127, for anything that matters here.
    exponent = ((capped.view(torch.int32) >> 23) - 127).clamp(min=fmt.min_exponent)
    # |x| in units of the spacing at its exponent; torch.round rounds halves to even.
    steps = torch.round(torch.ldexp(capped, fmt.mantissa_bits - exponent)).to(torch.int32)
    # steps holds the leading 1 of a normal number, which raises the exponent field from 0 to 1 by itself;
    # a mantissa that rounds up past its last bit carries into the exponent the same way.
    code = ((exponent - fmt.min_exponent) << fmt.mantissa_bits) + steps
    if not saturate:
        largest = encode(torch.tensor(fmt.max), fmt).item()
        overflow = 0x7C if fmt.has_inf else 0x7F
        code = torch.where(code > largest, overflow, code)
    code = torch.where(torch.isnan(x), 0x7F, code)
    return (code | sign).to(torch.uint8)


def decode(codes: Tensor, fmt: Format = E4M3) -> Tensor:
    """The value of each code.

    Args:
        codes: uint8, or another kind of whole numbers from 0 to 255, of any shape.
        fmt: `E4M3` or `E5M2`.

    Returns:
        float32 of the same shape. In E4M3 the codes 0x7F and 0xFF are NaN; in E5M2 an exponent field of all
        ones is infinity (mantissa 0) or NaN.

    Raises:
        PrunekitError: codes of a floating-point dtype, as `cast` gives them.
    """
    if codes.is_floating_point():
        raise PrunekitError(
            f"codes are {codes.dtype}: expected bytes, as encode gives them; of cast's result take .view(torch.uint8)."
        )
    c = codes.to(torch.int32)
    sign = 1.0 - 2.0 * (c >> 7).float()
    exponent = (c >> fmt.mantissa_bits) & ((1 << fmt.exponent_bits) - 1)
    mantissa = c & ((1 << fmt.mantissa_bits) - 1)
    leading_one = (exponent > 0).to(torch.int32) << fmt.mantissa_bits
    power = exponent.clamp(min=1) - fmt.bias - fmt.mantissa_bits
    value = sign * torch.ldexp((leading_one + mantissa).float(), power)
    if fmt.has_inf:
        top = exponent == (1 << fmt.exponent_bits) - 1
        value = torch.where(top, torch.where(mantissa == 0, sign * torch.inf, torch.nan), value)
    else:
        value = torch.where((c & 0x7F) == 0x7F, torch.nan, value)
    return value


def scales(W: Tensor, fmt: Format = E4M3, granularity: str = "row", keep: Tensor | None = None) -> Tensor:
    """The scale of each tensor, row or block: its largest surviving ``|W|`` over the format's largest value.

    Args:
        W: weight ``[out, in]``, any float dtype.
        fmt: `E4M3` or `E5M2`.
        granularity: ``tensor``, ``row`` or ``block`` (squares of 128 x 128).
        keep: bool ``[out, in]``, the survivors of pruning; None keeps everything.

    Returns:
        float32 scales: ``[1, 1]``, ``[out, 1]`` or ``[ceil(out / 128), ceil(in / 128)]``. Where nothing
        survives, the scale is 1.

    Raises:
        PrunekitError: unknown granularity.
    """
    a = W.float().abs()
    if keep is not None:
        a = torch.where(keep, a, 0.0)
    if granularity == "tensor":
        top = a.amax().reshape(1, 1)
    elif granularity == "row":
        top = a.amax(1, keepdim=True)
    elif granularity == "block":
        rows, columns = W.shape
        a = torch.nn.functional.pad(a, (0, -columns % BLOCK, 0, -rows % BLOCK))
        top = a.unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK)).amax((1, 3))
    else:
        raise PrunekitError(f"unknown granularity {granularity!r}: expected one of {', '.join(GRANULARITIES)}.")
    return torch.where(top > 0, (top / fmt.max).clamp_min(torch.finfo(torch.float32).tiny), 1.0)


def check_codes(codes: Tensor) -> None:
    """Raise `PrunekitError` unless codes are of an FP8 dtype, as `cast` gives them."""
    if codes.dtype not in (E4M3.dtype, E5M2.dtype):
        raise PrunekitError(
            f"codes are {codes.dtype}: expected FP8, as cast gives them; decode reads what encode gives."
        )


def scale_blocks(scale: Tensor, shape: torch.Size | tuple[int, int]) -> tuple[int, int]:
    """Height and width of the weights that share one scale, for a weight of that shape.

    Raises:
        PrunekitError: the scales are for no granularity of that weight.
    """
    rows, columns = shape
    if scale.shape == (1, 1):
        return rows, columns
    if scale.shape == (rows, 1):
        return 1, columns
    if scale.shape != (-(-rows // BLOCK), -(-columns // BLOCK)):
        raise PrunekitError(
            f"the scale has the shape {list(scale.shape)}: expected [1, 1], [{rows}, 1] or one for each block of "
            f"{BLOCK} x {BLOCK}, as scales gives it."
        )
    return BLOCK, BLOCK


def expand_scale(scale: Tensor, shape: torch.Size | tuple[int, int]) -> Tensor:
    """Give a scale from `scales` a form that broadcasts over a weight ``[out, in]``."""
    if scale_blocks(scale, shape) != (BLOCK, BLOCK):
        return scale
    rows, columns = shape
    return scale.repeat_interleave(BLOCK, 0)[:rows].repeat_interleave(BLOCK, 1)[:, :columns]


def cast(W: Tensor, scale: Tensor, fmt: Format = E4M3, keep: Tensor | None = None) -> Tensor:
    """Divide by the scale, saturate, round to FP8; what pruning removed becomes code 0.

    Args:
        W: weight ``[out, in]``, any float dtype.
        scale: as `scales` gives it.
        fmt: `E4M3` or `E5M2`.
        keep: bool ``[out, in]``, the survivors of pruning; None keeps everything.

    Returns:
        ``[out, in]`` of `fmt.dtype`, float8; its bytes are ``.view(torch.uint8)``.

    Raises:
        PrunekitError: scales of no granularity.
    """
    y = (W.float() / expand_scale(scale, W.shape)).clamp(-fmt.max, fmt.max)  # torch's own cast need not saturate
    if keep is not None:
        y = torch.where(keep, y, 0.0)
    return y.to(fmt.dtype)


def uncast(codes: Tensor, scale: Tensor) -> Tensor:
    """Back from FP8: codes times scale.

    Args:
        codes: ``[out, in]``, as `cast` gives them.
        scale: as `scales` gives them.

    Returns:
        float32 ``[out, in]``.

    Raises:
        PrunekitError: bytes, as `encode` gives them, or scales of no granularity.
    """
    check_codes(codes)
    return codes.float() * expand_scale(scale, codes.shape)
