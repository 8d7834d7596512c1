"""What the exercises of notebook 06 ask for: bytes of weights, layers to spare, an error bar, a decision rule."""

import math

import torch
from torch import Tensor

from ..lessons.memo import BYTES, Criterion, decide, retention_error, weight_bytes
from ..lessons.sensitivity import spare
from ..printing import numbers
from .exercise import Exercise, exactly, whole

# 6.1 -----------------------------------------------------------------------------------------------------------------


def _shapes(size: int, rng: torch.Generator) -> tuple[list[tuple[int, int]], str]:
    """A few layers, mostly not square, some alike, in any of the dtypes."""
    shapes = [(whole(rng, 1, 4) * size, whole(rng, 1, 9)) for _ in range(size)]
    if size > 2 and whole(rng, 0, 1):
        shapes[-1] = shapes[0]
    return shapes, list(BYTES)[whole(rng, 0, len(BYTES) - 1)]


def _models() -> list[tuple]:
    """One layer, layers that are alike, and a large model, in each of the dtypes."""
    large = [(4096, 14336), (14336, 4096), (4096, 4096), (1024, 4096)] * 8
    return [(shapes, dtype) for shapes in ([(2, 3)], [(3, 5), (3, 5), (7, 1)], large) for dtype in BYTES]


def _verify_bytes(args: tuple, out) -> str | None:
    shapes, dtype = args
    got = numbers(out)
    if got is None or got.numel() != 1:
        return "return a single number of bytes"
    if exactly(got.item(), weight_bytes(shapes, dtype)):
        return None
    count, rows = sum(rows * columns for rows, columns in shapes), sum(rows for rows, _ in shapes)
    scales = f", and {rows} scales of four bytes, one for each row" if dtype.startswith("float8") else ""
    return f"these are {count} weights of {BYTES[dtype]} byte(s) each{scales}"


# 6.2 -----------------------------------------------------------------------------------------------------------------


def _layers(size: int, rng: torch.Generator) -> tuple[dict, dict, int]:
    """Layers with damage and size, in no order, some just alike; the budget holds some of them, often exactly."""
    names = [f"{i}.{kind}" for i in range(size) for kind in ("up", "v")][: size + 1]
    order = torch.randperm(len(names), generator=rng).tolist()
    lost = {name: (order[i] + 1) / 20 for i, name in enumerate(names)}
    sizes = {name: whole(rng, 1, 6) * 10 for name in names}
    if size > 2 and whole(rng, 0, 1):  # damage of any size, and of little difference
        lost = {name: 10.0 ** -whole(rng, 0, 6) * (1 + value / 1000) for name, value in lost.items()}
        sizes = {name: value * 98304 + 576 for name, value in sizes.items()}
    if size > 2 and whole(rng, 0, 2) == 0:  # twins
        lost[names[1]], sizes[names[1]] = lost[names[0]], sizes[names[0]]
    some = [sizes[name] for name in names if whole(rng, 0, 1)]
    return lost, sizes, sum(some) + whole(rng, -1, 1) * 5 * bool(some)


def _budgets() -> list[tuple]:
    """Two small layers that together were worth more, damage in which 10 is above 9, budgets just missed."""
    lost, sizes = {"a": 0.5, "b": 0.4, "c": 0.3}, {"a": 60, "b": 50, "c": 50}
    tens = {"x": 9.5, "y": 10.25, "z": 1e-7, "w": 2e-5}
    even = dict.fromkeys(tens, 30)
    exact = [(lost, sizes, budget) for budget in (0, 49, 50, 59, 60, 99, 100, 109, 110, 159, 160, 1000)]
    dense, small = {"v": 0.1, "up": 0.3, "down": 0.2}, {"v": 5, "up": 90, "down": 30}
    exact += [(dense, small, budget) for budget in (34, 92, 96)]
    return [*exact, *((tens, even, budget) for budget in (30, 60, 89, 90, 120))]


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
    fits = next((n for n in lost if n not in got and sizes[n] + used <= budget), None)
    if fits is not None:
        return f"{budget - used} weights are left, and {fits} with {sizes[fits]} still fits"
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


def _texts() -> list[tuple]:
    """A model that is never right, and texts of hundreds of tokens."""
    rng = torch.Generator().manual_seed(0)
    dense = torch.rand(700, generator=rng) < 0.45
    model = torch.where(torch.rand(700, generator=rng) < 0.1, ~dense, dense)
    return [(torch.tensor([True, False, True]), torch.zeros(3, dtype=torch.bool)), (dense, model), (model, dense)]


def _verify_error(args: tuple, out) -> str | None:
    dense, model = args
    n, (r, error) = len(dense), retention_error(dense, model)
    got = numbers(out)
    if got is None or got.numel() != 2:
        return "return two numbers: the retention and its standard error"
    ratio, found = got.reshape(-1).tolist()
    if not math.isclose(ratio, r, rel_tol=1e-5, abs_tol=1e-7):
        return f"the retention is {model.sum()} hits of the compressed model over {dense.sum()} of the dense one"
    either = (error, error * math.sqrt(n / (n - 1)))  # the usual two standard deviations
    if any(math.isclose(found, e, rel_tol=1e-4, abs_tol=1e-7) for e in either):
        return None
    spread = error * dense.double().mean().item() * math.sqrt(n)
    return (
        f"the standard deviation of hits - r dense is {spread:.6g}, divided by mean(dense) = "
        f"{dense.double().mean():.6g} and by the root of {n} tokens"
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


def _edges() -> list[tuple]:
    """One criterion at any distance from its limit, at the scale of a retention and of a size; and pairs of them."""
    one = [
        ([limit + (1 if up else -1) * errors * error], [error], [limit], [up])
        for limit, error in ((0.95, 0.004), (24.0, 0.3), (1.5e8, 1000.0), (-0.5, 0.01), (2e-5, 1e-6))
        for errors in (3.5, 2.02, 1.98, 1.5, 0.5, -0.5, -1.5, -1.98, -2.02, -3.5)
        for up in (True, False)
    ]
    exact = [([value], [0.0], [1.0], [up]) for value in (0.999, 1.0, 1.001) for up in (True, False)]
    touch = [([1.0 + sign * 0.5], [0.25], [1.0], [up]) for sign in (1, -1) for up in (True, False)]
    three = {"passed": ([2.0], [0.25], [1.0]), "failed": ([0.25], [0.25], [1.0]), "open": ([1.25], [0.25], [1.0])}
    pairs = [
        (*(a + b + c for a, b, c in zip(three[x], three[y], three[z])), [True] * 3)
        for x in three
        for y in three
        for z in three
    ]
    return [*touch, *exact, *one, *pairs]


def _verify_rule(args: tuple, out) -> str | None:
    right = rule(*args)
    if not isinstance(out, str) or str(out) not in ("go", "no-go", "open"):
        return "return one of the strings 'go', 'no-go', 'open'"
    if str(out) == right:
        return None
    states = [criterion.state for criterion in _criteria(*args)]
    told = ", ".join(f"number {i}: {state}" for i, state in enumerate(states))
    if right == "no-go":
        return f"one failure is a no-go, whatever the others are ({told}); failed is: all of value +- 2 errors is bad"
    if right == "open":
        return f"nothing failed, but something is open ({told}): its interval of 2 errors to each side holds the limit"
    return f"everything passed ({told}): an interval may end at its limit; with at_least False smaller is better"


EXERCISES = {
    "6.1": Exercise(_shapes, _verify_bytes, ("shapes", "dtype"), weight_bytes, _models),
    "6.2": Exercise(_layers, _verify_layers, ("damage", "size", "budget"), spare, _budgets),
    "6.3": Exercise(_hits, _verify_error, ("dense", "hits"), retention_error, _texts),
    "6.4": Exercise(_numbers, _verify_rule, ("values", "errors", "limits", "at_least"), rule, _edges),
}
