"""The exercises of notebook 03: decode a byte, round onto a grid, the scale of the survivors, a cast without NaN."""

import math

import torch
from torch import Tensor

from ...method import fp8
from ..printing import numbers
from .exercise import Exercise

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # a grid small enough to check by hand


def _pick(items, rng: torch.Generator):
    return items[torch.randint(len(items), (1,), generator=rng).item()]


def _shape_hint(value: Tensor, expected: tuple[int, ...]) -> str:
    return f"the answer has shape {tuple(value.shape)}, but {expected} is expected"


# 3.1: decode a byte of E5M2


def decode_e5m2(code: int) -> float:
    """The value of a byte in E5M2."""
    return fp8.decode(torch.tensor([code]), fp8.E5M2).item()


def _byte(size: int, rng: torch.Generator) -> tuple:
    kinds = {
        1: (0x3C, 0x3D, 0x3E, 0x40, 0x44, 0x43, 0x39),
        2: (0x00, 0x01, 0x02, 0x03, 0x04),
        3: (0xBC, 0xC3, 0x81, 0x83, 0x80),
        4: (0x7B, 0x7C, 0x7D, 0x7E, 0x7F, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF),
    }
    return (_pick(kinds.get(size, range(256)), rng),)


def _verify_byte(args: tuple, out: object) -> str | None:
    (code,) = args
    value, expected = numbers(out), decode_e5m2(code)
    if value is None or value.numel() != 1:
        return "one byte has one value: return a float"
    value, fields = value.item(), f"0x{code:02X} has the fields {code >> 7:b} {code >> 2 & 31:05b} {code & 3:02b}"
    if value == expected or (math.isnan(value) and math.isnan(expected)):
        return None
    if not math.isfinite(expected):
        kind = "NaN" if math.isnan(expected) else f"{expected}, with the sign of the sign bit"
        return f"{fields}: an exponent field of all ones is infinity if the mantissa is 0, else NaN; here {kind}"
    if not math.isfinite(value):
        return f"{fields}: only an exponent field of all ones, 11111, is infinity or NaN"
    if value == -expected:
        return f"{fields}: a sign bit of 1 makes the value negative"
    if value == fp8.decode(torch.tensor([code]), fp8.E4M3).item():
        return f"{fields}: E5M2 has five exponent and two mantissa bits; the answer reads the byte as E4M3"
    if code & 0x7C == 0:
        return f"{fields}: with exponent field 0 there is no leading 1, and the power is that of field 1, 2^(1 - 15)"
    if expected and value and math.frexp(value / expected)[0] == 0.5:
        return f"{fields}: the mantissa is right, the power of two is not; the bias is 15"
    return f"{fields}: the mantissa field counts quarters, and a normal number has a leading 1"


# 3.2: round onto a grid, ties to even


def nearest_codes(x: Tensor, values: Tensor) -> Tensor:
    """Position of the nearest value, ties to the even position."""
    x = x.clamp(max=values[-1])
    above = torch.searchsorted(values, x).clamp(min=1)
    up, down = values[above] - x, x - values[above - 1]
    return torch.where((up < down) | ((up == down) & (above % 2 == 0)), above, above - 1)


def _points(size: int, rng: torch.Generator) -> tuple:
    if size <= 3:
        values = torch.tensor(E2M1)
    else:
        values = fp8.decode(torch.arange(127).to(torch.uint8), fp8.E4M3)
    at = torch.randint(len(values) - 1, (size,), generator=rng)
    eighths = torch.tensor([_pick((0, 1, 3, 4, 4, 4, 5, 7), rng) for _ in range(size)])
    x = values[at] + (values[at + 1] - values[at]) * eighths / 8
    far = torch.rand(size, generator=rng) < 0.15
    return torch.where(far, values[-1] * _pick((1.0, 1.03, 1.125, 2.0, 100.0, 1e8), rng), x), values


def _verify_points(args: tuple, out: object) -> str | None:
    x, values = args
    codes, expected = numbers(out), nearest_codes(x, values).double()
    if codes is None or codes.numel() != x.numel():
        return f"one code for each of the {x.numel()} numbers is expected, shape [n]"
    codes = codes.flatten()
    if torch.equal(codes, expected):
        return None
    if torch.equal(codes, values[expected.long()].double()):
        return "these are the rounded values; their codes are wanted, that is their positions in `values`"
    if not torch.equal(codes, codes.round()) or codes.min() < 0 or codes.max() >= len(values):
        return f"a code is a whole number from 0 to {len(values) - 1}; beyond the last value it is the last one"
    i = (codes != expected).nonzero()[0].item()
    number, given, right = x[i].item(), int(codes[i]), int(expected[i])
    distance = (values.double() - x[i].double()).abs()
    if distance[given] == distance[right]:
        pair = f"{min(given, right)} and {max(given, right)}"
        return f"{number:g} is exactly halfway between codes {pair}: a tie goes to the even code"
    if number > values[-1]:
        return f"{number:g} lies beyond the last value, {values[-1]:g}: it saturates, code {right}"
    if number == values[right]:
        return f"{number:g} is itself a value, of code {right}, and not of code {given}: codes count from 0"
    return f"{number:g} is nearer to {values[right]:g} (code {right}) than to {values[given]:g} (code {given})"


# 3.3: the scale of the survivors


def row_scales(W: Tensor, keep: Tensor) -> Tensor:
    """E4M3 scale of each row's survivors."""
    return fp8.scales(W, fp8.E4M3, "row", keep)


def _weight(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    rows, columns = max(1, size - 1), max(1, size + torch.randint(-1, 2, (1,), generator=rng).item())
    W = torch.randint(-7, 8, (rows, columns), generator=rng) * _pick((1.0, 0.5, 64.0, 0.001), rng)
    keep = torch.rand(rows, columns, generator=rng) < 0.6
    row = torch.randint(rows, (1,), generator=rng).item()
    kind = _pick(("pruned row", "zero row", "largest pruned", "negative", "plain"), rng)
    if kind == "pruned row":
        keep[row] = False
    elif kind == "zero row":
        W[row], keep[row] = 0.0, True
    elif kind == "largest pruned":
        keep[row, W[row].abs().argmax()] = False
    elif kind == "negative":
        W = -W.abs()
    return W, keep


def _verify_scales(args: tuple, out: object) -> str | None:
    W, keep = args
    value, expected = numbers(out), row_scales(W, keep).double()
    if value is None or value.shape != expected.shape:
        shape = "nothing like a tensor" if value is None else _shape_hint(value, tuple(expected.shape))
        return f"{shape}; [out, 1] is what W / scale needs to divide each row by its own scale"
    if torch.allclose(value, expected, rtol=1e-4, atol=0):
        return None
    empty = ~(keep & (W != 0)).any(1)
    if not torch.allclose(value[empty], expected[empty], rtol=1e-4, atol=0):
        if (value[empty] > 0).all() and value.isfinite().all():
            return "a row in which no nonzero weight survives gets the scale 1"
        return "where nothing survives the largest weight is 0, and dividing by a scale of 0 gives NaN: give 1 there"
    signed = torch.where(keep, W, 0.0).amax(1, keepdim=True)
    if (value <= 0).any() or torch.allclose(value, torch.where(signed > 0, signed / 448, 1.0).double(), rtol=1e-4):
        return "the largest survivor may be negative: take absolute values first"
    if torch.allclose(value, row_scales(W, torch.ones_like(keep)).double(), rtol=1e-4, atol=0):
        return "these scales look at pruned weights, too; only survivors need room"
    ratio = value[~empty] / expected[~empty]
    if torch.allclose(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=0) and ratio.numel():
        return f"all scales are {ratio[0].item():.4g} times what they should be: the largest survivor becomes 448"
    if torch.allclose(value, value[:1].expand_as(value)):
        return "all rows have the same scale: each row has its own largest survivor"
    return "in each row, the largest |W| that is kept, divided by 448; look at negative weights and at the axis"


# 3.4: a cast without NaN


def cast_back(W: Tensor, keep: Tensor, scale: Tensor) -> Tensor:
    """Through E5M2 and back, saturating; pruned weights are zero."""
    return fp8.uncast(fp8.cast(W, scale, fp8.E5M2, keep), scale)


def _tight(size: int, rng: torch.Generator) -> tuple:
    rows, columns = max(1, size - 1), size
    scale = 2.0 ** torch.randint(-6, 3, (rows, 1), generator=rng)  # powers of two: dividing by them is exact
    y = torch.randint(-40, 41, (rows, columns), generator=rng) * _pick((1.0, 0.25, 3.0, 0.0625), rng)
    keep = torch.rand(rows, columns, generator=rng) < 0.7
    huge = torch.rand(rows, columns, generator=rng) < 0.25
    big = 57344.0 * torch.tensor([_pick((1.0, 1.02, 1.5, 4.0, -2.0), rng) for _ in range(rows * columns)])
    return torch.where(huge, big.reshape(rows, columns), y) * scale, keep, scale


def _verify_tight(args: tuple, out: object) -> str | None:
    W, keep, scale = args
    value, expected = numbers(out), cast_back(W, keep, scale).double()
    if value is None or value.shape != expected.shape:
        return "a weight of the shape of W is expected" if value is None else _shape_hint(value, tuple(W.shape))
    if torch.allclose(value, expected, rtol=1e-6, atol=0):
        return None
    if value.isnan().any():
        return "NaN: an infinite code times 0 is NaN. Where does the infinity come from?"
    if value[~keep].any():
        return "a pruned weight is exactly 0"
    if value.isinf().any():
        return "a survivor beyond 57344 times its scale became infinite; it should become that largest number"
    if (value.abs() > 57344.0 * scale.double() * 1.001).any():
        return "an answer is beyond 57344 times its scale: no E5M2 code stands for it; saturate before the cast"
    lost = keep & (value == 0) & (expected != 0)
    if lost.any():
        return "a survivor became 0: one that is too large is still needed, as the largest number"
    kept = torch.where(keep, W, 0.0)
    if torch.allclose(value, kept.double().clamp(-57344.0 * scale, 57344.0 * scale)):
        return "nothing was rounded: the answer should be what E5M2 codes stand for"
    if torch.allclose(value, fp8.uncast(fp8.cast(W, scale, fp8.E4M3, keep), scale).double()):
        return "this went through E4M3, largest number 448; the exercise asks for E5M2"
    if torch.allclose(value, cast_back(kept.clamp(-57344.0, 57344.0), keep, scale).double()):
        return "the limit of 57344 is one of codes: clamp W / scale, not W"
    if torch.allclose(value * scale, expected) or torch.allclose(value, expected / scale):
        return "multiply by the scale after the cast, with which W was divided before it"
    return "divide by the scale, clamp to the largest number 57344, cast to torch.float8_e5m2, and multiply back"


EXERCISES = {
    "3.1": Exercise(_byte, _verify_byte, ("code",), decode_e5m2, tries=30),
    "3.2": Exercise(_points, _verify_points, ("x", "values"), nearest_codes, tries=24),
    "3.3": Exercise(_weight, _verify_scales, ("W", "keep"), row_scales, tries=24),
    "3.4": Exercise(_tight, _verify_tight, ("W", "keep", "scale"), cast_back, tries=24),
}
