"""The exercises of notebook 03: a byte, rounding, the scale of the survivors, a cast without NaN, the whole cast."""

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
    return (_pick(range(256), rng),)


def _bytes() -> list[tuple]:
    """All of them, plain ones first."""
    first = (0x3C, 0x3D, 0x3E, 0x40, 0x44, 0xBC, 0x00, 0x01)
    return [(code,) for code in (*first, *(code for code in range(256) if code not in first))]


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
        return f"{fields}: a sign bit of 1 makes the value negative, and only that"
    if code >> 2 & 31 == 0:
        return f"{fields}: an exponent field of 0 means mantissa / 4 times 2^-14, without a leading 1"
    return f"{fields}: the value is (1 + mantissa / 4) times 2^(exponent - 15)"


# 3.2: round onto a grid, ties to even


def nearest_codes(x: Tensor, values: Tensor) -> Tensor:
    """Position of the nearest value, ties to the even position."""
    x = x.clamp(max=values[-1])
    above = torch.searchsorted(values, x).clamp(min=1)
    up, down = values[above] - x, x - values[above - 1]
    return torch.where((up < down) | ((up == down) & (above % 2 == 0)), above, above - 1)


def _grids() -> tuple[Tensor, Tensor]:
    return torch.tensor(E2M1), fp8.decode(torch.arange(127).to(torch.uint8), fp8.E4M3)


def _points(size: int, rng: torch.Generator) -> tuple:
    values = _grids()[size > 3]
    at = torch.randint(len(values) - 1, (size,), generator=rng)
    eighths = torch.tensor([_pick((0, 1, 3, 4, 4, 4, 5, 7), rng) for _ in range(size)])
    x = values[at] + (values[at + 1] - values[at]) * eighths / 8
    far = torch.rand(size, generator=rng) < 0.15
    return torch.where(far, values[-1] * _pick((1.0, 1.03, 1.125, 2.0, 100.0, 1e8), rng), x), values


def _hard_points() -> list[tuple]:
    """Every tie, its neighbours in float32 and every value, on both grids; tiny and huge numbers; any numbers."""
    rng, found = torch.Generator().manual_seed(0), []
    for values in _grids():
        ties = (values[1:] + values[:-1]) / 2
        below, above = (torch.nextafter(ties, torch.tensor(end)) for end in (0.0, math.inf))
        tiny = torch.tensor([0.0, 1e-45, 1e-30, values[1] / 2 * 0.999, values[1] * 0.51])
        huge = values[-1] * torch.tensor([1.0, 1.03, 1.04, 1.2, 10.0]), torch.tensor([1e8, 1e10])
        small = torch.rand(20, generator=rng) * 4 * values[1]
        some = values[-1] * torch.rand(60, generator=rng) ** torch.randint(1, 9, (60,), generator=rng)
        for x in (ties, values, below, above, tiny, *huge, small, some):
            found += [(x[:1], values), (x, values)]
    return found


def _verify_points(args: tuple, out: object) -> str | None:
    x, values = args
    codes, expected = numbers(out), nearest_codes(x, values).double()
    if codes is None or codes.numel() != x.numel():
        return f"one code for each of the {x.numel()} numbers is expected, shape [n]"
    codes = codes.flatten()
    if torch.equal(codes, expected):
        return None
    if not torch.equal(codes, codes.round()) or codes.min() < 0 or codes.max() >= len(values):
        return f"a code is a whole number from 0 to {len(values) - 1}; beyond the last value it is the last one"
    i = (codes != expected).nonzero()[0].item()
    number, given, right = x[i].item(), int(codes[i]), int(expected[i])
    distance = (values.double() - x[i].double()).abs()
    if distance[given] == distance[right]:
        pair = f"{min(given, right)} and {max(given, right)}"
        return f"{number:.9g} is exactly halfway between codes {pair}: a tie goes to the even code"
    if number > values[-1]:
        return f"{number:.9g} lies beyond the last value, {values[-1]:g}: it saturates, code {right}"
    if number == values[right]:
        return f"{number:.9g} is itself a value, of code {right}, and not of code {given}: codes count from 0"
    return f"{number:.9g} is nearer to {values[right]:g} (code {right}) than to {values[given]:g} (code {given})"


# 3.3: the scale of the survivors


def row_scales(W: Tensor, keep: Tensor) -> Tensor:
    """E4M3 scale of each row's survivors."""
    return fp8.scales(W, fp8.E4M3, "row", keep)


def _weight(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    rows, columns = max(1, size - 1), max(1, size + torch.randint(-1, 2, (1,), generator=rng).item())
    W = torch.randint(-7, 8, (rows, columns), generator=rng) * _pick((1.0, 0.5, 64.0, 0.001, 1e-9), rng)
    if _pick((False, False, True), rng):
        W = torch.randn(rows, columns, generator=rng) / 50
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


def _weights() -> list[tuple]:
    """A row with nothing left but zeros, and rows of very different size."""
    rng = torch.Generator().manual_seed(0)
    zeros = torch.tensor([[0.0, -0.0, 3.0], [5.0, 1.0, 2.0]]), torch.tensor([[True, True, False], [False, True, True]])
    W = torch.randn(6, 30, generator=rng) * 10.0 ** torch.tensor([[-20.0], [-9], [-3], [0], [3], [9]])
    return [zeros, (torch.tensor([[1e-20]]), torch.tensor([[True]])), (W, torch.rand(6, 30, generator=rng) < 0.5)]


def _verify_scales(args: tuple, out: object) -> str | None:
    W, keep = args
    value, expected = numbers(out), row_scales(W, keep).double()
    if value is None or value.shape != expected.shape:
        shape = "nothing like a tensor" if value is None else _shape_hint(value, tuple(expected.shape))
        return f"{shape}; [out, 1] is what W / scale needs to divide each row by its own scale"
    off = ~torch.isclose(value, expected, rtol=2e-6, atol=0).flatten()
    if not off.any():
        return None
    row = int(off.nonzero()[0])
    if not W[row][keep[row]].any():
        return f"in row {row} no nonzero weight survives: it gets the scale 1"
    top = W[row][keep[row]].abs().max()
    return f"row {row} has the scale {value[row, 0]:.6g}; its largest |W| that is kept is {top:.6g}, and that over 448"


# 3.4: a cast without NaN


def cast_back(W: Tensor, keep: Tensor, scale: Tensor) -> Tensor:
    """Through E5M2 and back, saturating; pruned weights are zero."""
    return fp8.uncast(fp8.cast(W, scale, fp8.E5M2, keep), scale)


def _tight(size: int, rng: torch.Generator) -> tuple:
    rows, columns = max(1, size - 1), size
    scale = 2.0 ** torch.randint(-20, 3, (rows, 1), generator=rng)  # powers of two: dividing by them is exact
    y = torch.randint(-40, 41, (rows, columns), generator=rng) * _pick((1.0, 0.25, 3.0, 0.0625, 2.0**-20), rng)
    keep = torch.rand(rows, columns, generator=rng) < 0.7
    huge = torch.rand(rows, columns, generator=rng) < 0.25
    big = 57344.0 * torch.tensor([_pick((1.0, 1.02, 1.5, 4.0, -2.0), rng) for _ in range(rows * columns)])
    return torch.where(huge, big.reshape(rows, columns), y) * scale, keep, scale


def _all_codes() -> list[tuple]:
    """Every number that E5M2 has, every tie between two, its neighbours in float32; and a layer with its own scales."""
    codes = fp8.decode(torch.arange(124).to(torch.uint8), fp8.E5M2)
    ties = (codes[1:] + codes[:-1]) / 2
    near = [torch.nextafter(ties, torch.tensor(end)) for end in (0.0, math.inf)]
    past = torch.tensor([57345.0, 61440.0, 65536.0, 1e6, 1e12])
    found = []
    for y in (codes, ties, *near, past):
        y = torch.stack([y, -y])
        scale = torch.tensor([[2.0**-9], [4.0]])
        found.append((y * scale, torch.ones(y.shape, dtype=torch.bool), scale))
        found.append((y[:1, -1:] * scale[:1], torch.tensor([[False]]), scale[:1]))
    rng = torch.Generator().manual_seed(0)
    W = torch.randn(5, 40, generator=rng) ** 3 / 50
    keep = torch.rand(5, 40, generator=rng) < 0.6
    scale = (W * keep).abs().amax(1, keepdim=True) / 57344 * torch.tensor([[0.3], [1], [1], [30], [1e-6]])
    return [*found, (W, keep, scale)]


def _verify_tight(args: tuple, out: object) -> str | None:
    W, keep, scale = args
    value, expected = numbers(out), cast_back(W, keep, scale).double()
    if value is None or value.shape != expected.shape:
        return "a weight of the shape of W is expected" if value is None else _shape_hint(value, tuple(W.shape))
    off = ~torch.isclose(value, expected, rtol=1e-6, atol=0)
    if not off.any():
        return None
    i, j = off.nonzero()[0].tolist()
    got, want, code = value[i, j].item(), expected[i, j].item(), (W / scale)[i, j].item()
    here = f"at [{i}, {j}] the answer is {got:.6g}, W / scale is {code:.9g}"
    if not keep[i, j]:
        return f"{here}, and the weight is pruned: exactly 0"
    if abs(code) > 57344:
        return f"{here}: a survivor beyond 57344 times its scale becomes that largest number, {want:.6g}"
    return f"{here}: the nearest number of E5M2 is {want / scale[i, 0].item():.6g}, times the scale {want:.6g}"


# 3.7: the whole cast


def cast_rows(W: Tensor, keep: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of E4M3 and the scale of each row."""
    scale = fp8.scales(W, fp8.E4M3, "row", keep)
    return fp8.cast(W, scale, fp8.E4M3, keep).view(torch.uint8), scale


def _rows(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """As in 3.3; or rows whose scale is a power of two, so that ties are ties."""
    W, keep = _weight(size, rng)
    if _pick((True, False), rng):
        W = torch.randint(-400, 401, W.shape, generator=rng) * _pick((1.0, 0.0625, 2.0**-7, 2.0**-10), rng)
        W[:, 0], keep[:, 0] = 448.0, True
        if W.shape[1] > 1 and _pick((True, False), rng):
            W[:, 1], keep[:, 1] = -4480.0, False  # a pruned weight that is too large
        W = W * 2.0 ** torch.randint(-20, 8, (len(W), 1), generator=rng)
    return W, keep, _grids()[1]


def _all_rows() -> list[tuple]:
    """Every value of E4M3, every tie and its neighbours, of both signs, at scales that are powers of two; a layer."""
    values, rng = _grids()[1], torch.Generator().manual_seed(0)
    ties = (values[1:] + values[:-1]) / 2
    near = [torch.nextafter(ties, torch.tensor(end)) for end in (0.0, math.inf)]
    found: list[tuple] = []
    for y in (values, ties, *near):
        row = torch.cat([torch.tensor([448.0]), -y, y])
        W = torch.stack([row, -row]) * torch.tensor([[2.0**-9], [2.0]])
        found.append((W, torch.ones(W.shape, dtype=torch.bool), values))
    some = torch.randn(5, 40, generator=rng) ** 3 / 50
    found.append((some, torch.rand(5, 40, generator=rng) < 0.5, values))
    return [*((W, keep, values) for W, keep in _weights()), *found]


def _verify_rows(args: tuple, out: object) -> str | None:
    W, keep, _ = args
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        return "return two things, the codes and the scales"
    wrong = _verify_scales((W, keep), out[1])
    if wrong is not None:
        return f"the scales: {wrong}"
    codes, scale = numbers(out[0]), fp8.scales(W, fp8.E4M3, "row", keep)
    if codes is None or codes.shape != W.shape:
        return "the codes: nothing like a tensor" if codes is None else _shape_hint(codes, tuple(W.shape))
    if not torch.equal(codes, codes.round()) or codes.min() < 0 or codes.max() > 255:
        return "a code is a whole number from 0 to 255"
    got, want = (fp8.decode(c.to(torch.uint8)).double() for c in (codes, cast_rows(*args)[0]))
    y = torch.where(keep, W, 0.0).double() / scale.double()
    beside = (((got - y).abs() - (want - y).abs()) < 1e-6 * y.abs()) & (scale.frexp().mantissa != 0.5)
    off = ~((got == want) | beside)  # without an exact scale a number may lie to either side of a tie
    if not off.any():
        return None
    i, j = off.nonzero()[0].tolist()
    here = f"at [{i}, {j}] the code {int(codes[i, j])} stands for {got[i, j].item():g}, W / scale is"
    if not keep[i, j]:
        return f"{here} {(W / scale)[i, j].item():.6g}, and the weight is pruned: code 0"
    if got[i, j] == -want[i, j]:
        return f"{here} {y[i, j].item():.9g}: a negative number has the sign bit, 128"
    return f"{here} {y[i, j].item():.9g}: the nearest value is {want[i, j].item():g}, on a tie that of the even code"


EXERCISES = {
    "3.1": Exercise(_byte, _verify_byte, ("code",), decode_e5m2, _bytes, tries=1),
    "3.2": Exercise(_points, _verify_points, ("x", "values"), nearest_codes, _hard_points),
    "3.3": Exercise(_weight, _verify_scales, ("W", "keep"), row_scales, _weights, tries=24),
    "3.4": Exercise(_tight, _verify_tight, ("W", "keep", "scale"), cast_back, _all_codes),
    "3.7": Exercise(_rows, _verify_rows, ("W", "keep", "values"), cast_rows, _all_rows),
}
