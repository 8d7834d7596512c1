"""What the exercises of notebook 06 ask for: bytes of weights, layers to spare, an error bar, a decision rule."""

import math

import torch
from torch import Tensor

from ..lessons.memo import BYTES, Criterion, decide, retention_error, weight_bytes
from ..lessons.sensitivity import spare
from ..printing import numbers
from .exercise import Exercise, likely, whole

# 6.1 -----------------------------------------------------------------------------------------------------------------


def _shapes(size: int, rng: torch.Generator) -> tuple[list[tuple[int, int]], str]:
    """A few layers, mostly not square, in any of the dtypes."""
    shapes = [(whole(rng, 1, 4) * size, whole(rng, 1, 9)) for _ in range(size)]
    return shapes, list(BYTES)[whole(rng, 0, len(BYTES) - 1)]


def _verify_bytes(args: tuple, out) -> str | None:
    shapes, dtype = args
    got, right = numbers(out), weight_bytes(shapes, dtype)
    if got is None or got.numel() != 1:
        return "return a single number of bytes"
    got = got.item()
    if got == right:
        return None
    count = sum(rows * columns for rows, columns in shapes)
    scales = sum(rows for rows, _ in shapes)
    mistakes = {
        "these are bits: eight of them make a byte": 8 * right,
        "this is the number of weights: how many bytes does each take?": count if BYTES[dtype] > 1 else -1,
    }
    if dtype.startswith("float8"):
        mistakes |= {
            "each row of an FP8 weight has a scale besides": count,
            "a scale for each row, not for each column: rows are outputs": count + 4 * sum(c for _, c in shapes),
            "scales are float32: four bytes each": count + scales,
            "one scale for each row, not for each layer": count + 4 * len(shapes),
        }
    else:
        mistakes["only FP8 weights have scales"] = right + 4 * scales
    general = "bytes = sum over layers of rows x columns x bytes of the dtype, and for FP8 four more for each row"
    return likely(got, mistakes.items()) or general


# 6.2 -----------------------------------------------------------------------------------------------------------------


def _layers(size: int, rng: torch.Generator) -> tuple[dict, dict, int]:
    """Layers with damage and size, in no order, some just alike; the budget holds some of them, often exactly."""
    names = [f"{i}.{kind}" for i in range(size) for kind in ("up", "v")][: size + 1]
    order = torch.randperm(len(names), generator=rng).tolist()
    lost = {name: (order[i] + 1) / 20 for i, name in enumerate(names)}
    sizes = {name: whole(rng, 1, 6) * 10 for name in names}
    if size > 2 and whole(rng, 0, 2) == 0:  # twins
        lost[names[1]], sizes[names[1]] = lost[names[0]], sizes[names[0]]
    some = [sizes[name] for name in names if whole(rng, 0, 1)]
    return lost, sizes, sum(some) + whole(rng, 0, 1) * 5


def _verify_layers(args: tuple, out) -> str | None:
    lost, sizes, budget = args
    if isinstance(out, str) or not isinstance(out, (list, tuple, set, frozenset, dict)):
        return "return a list of names"
    got = list(out)
    if any(name not in lost for name in got) or len(set(got)) < len(got):
        return "each name must be one of the layers, and only once"
    right = spare(lost, sizes, budget)
    if sorted((lost[n], sizes[n]) for n in got) == sorted((lost[n], sizes[n]) for n in right):
        return None
    used = sum(sizes[name] for name in got)
    if used > budget:
        return f"these layers have {used} weights, more than the budget of {budget}"
    if any(sizes[n] + used <= budget for n in lost if n not in got):
        return f"{budget - used} weights are left, and a layer still fits: skip one that does not, and try the next"
    return "the most damaged layer goes first, if it fits; what it takes is gone from the budget for the others"


# 6.3 -----------------------------------------------------------------------------------------------------------------


def _hits(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paired hits, sometimes the same, sometimes unrelated; the dense model is right at least once."""
    n = size + 3
    dense, other = (torch.rand(n, generator=rng) < 0.6 for _ in range(2))
    dense[whole(rng, 0, n - 1)] = True
    flip = torch.rand(n, generator=rng) < 0.3
    model = (dense.clone(), other, dense ^ flip)[whole(rng, 0, 2)]
    return dense, model


def _verify_error(args: tuple, out) -> str | None:
    dense, model = args
    n, (r, error) = len(dense), retention_error(dense, model)
    got = numbers(out)
    if got is None or got.numel() != 2:
        return "return two numbers: the retention and its standard error"
    ratio, found = got.reshape(-1).tolist()
    if not math.isclose(ratio, r, rel_tol=1e-4, abs_tol=1e-6):
        return "the retention is the number of the compressed model's hits over that of the dense model's"
    if any(math.isclose(found, e, rel_tol=1e-3, abs_tol=1e-6) for e in (error, error * math.sqrt(n / (n - 1)))):
        return None
    d, h = dense.double(), model.double()
    p = h.mean().item()
    alone = math.sqrt(p * (1 - p) / n)
    mistakes = {
        "divide by the square root of the number of tokens": error * math.sqrt(n),
        "divide by sqrt(tokens), not by tokens": error / math.sqrt(n),
        "divide by the dense model's accuracy as well: r is a ratio": error * d.mean().item(),
        "this is the error of the compressed model's accuracy alone: use the residuals": alone,
        "the residual is hits - r dense, with r before it": (h - d).square().mean().sqrt().item()
        / (d.mean().item() * math.sqrt(n)),
    }
    return (
        likely(found, mistakes.items())
        or "error = sqrt(mean(residual^2)) / (mean(dense) sqrt(tokens)), residual = hits - r dense"
    )


# 6.4 -----------------------------------------------------------------------------------------------------------------


def _criteria(values: list, errors: list, limits: list, at_least: list) -> list[Criterion]:
    return [Criterion("", *row) for row in zip(values, errors, limits, at_least)]


def rule(values: list[float], errors: list[float], limits: list[float], at_least: list[bool]) -> str:
    """``go``, ``no-go`` or ``open``."""
    return decide(_criteria(values, errors, limits, at_least))


def _numbers(size: int, rng: torch.Generator) -> tuple[list, list, list, list]:
    """Criteria that mostly pass, some open, some failed, some just at the edge, some without error."""
    count = whole(rng, 1, min(size, 4))
    values, errors, limits, at_least = [], [], [], []
    mood = whole(rng, 0, 2)  # all pass; some open; anything
    for _ in range(count):
        error = whole(rng, 0, 2) / 8
        limit, up = whole(rng, 1, 6) / 2, bool(whole(rng, 0, 1))
        kind = 0 if mood == 0 else whole(rng, 0, 3)
        inside = (2, 2, 1, -2)[kind] * error  # at the edge of passing, inside, at the edge of failing
        extra = whole(rng, 0, 1) / 4 if kind < 2 else 0
        if mood == 2 and whole(rng, 0, 2) == 0:
            inside, extra = -2 * error, -1 / 4  # failed
        values.append(limit + (1 if up else -1) * (inside + extra))
        errors.append(error)
        limits.append(limit)
        at_least.append(up)
    return values, errors, limits, at_least


def _verify_rule(args: tuple, out) -> str | None:
    right = rule(*args)
    if not isinstance(out, str) or out not in ("go", "no-go", "open"):
        return "return one of the strings 'go', 'no-go', 'open'"
    if out == right:
        return None
    states = [criterion.state for criterion in _criteria(*args)]
    told = ", ".join(f"number {i}: {state}" for i, state in enumerate(states))
    if right == "no-go":
        return f"one failure is a no-go, whatever the others are ({told}); failed is: all of value +- 2 errors is bad"
    if right == "open":
        return f"nothing failed, but something is open ({told}): its interval of 2 errors to each side holds the limit"
    return f"everything passed ({told}): an interval may end at its limit; with at_least False smaller is better"


EXERCISES = {
    "6.1": Exercise(inputs=_shapes, verify=_verify_bytes, names=("shapes", "dtype"), reference=weight_bytes),
    "6.2": Exercise(inputs=_layers, verify=_verify_layers, names=("damage", "size", "budget"), reference=spare),
    "6.3": Exercise(inputs=_hits, verify=_verify_error, names=("dense", "hits"), reference=retention_error),
    "6.4": Exercise(
        inputs=_numbers,
        verify=_verify_rule,
        names=("values", "errors", "limits", "at_least"),
        reference=rule,
        tries=30,
    ),
}
