"""What the exercises of notebook 06 ask for: bytes of weights, layers to spare, an error bar, a rule, a verdict."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..lessons.memo import BYTES, Criterion, decide, recommend, retention_error, weight_bytes, width
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


def _criteria(values: list, margins: list, limits: list, at_least: list) -> list[Criterion]:
    return [Criterion("", "", *row) for row in zip(values, margins, limits, at_least)]


def rule(values: list[float], margins: list[float], limits: list[float], at_least: list[bool]) -> str:
    """``go``, ``no-go`` or ``open``."""
    return decide(_criteria(values, margins, limits, at_least))


def _numbers(size: int, rng: torch.Generator) -> tuple[list, list, list, list]:
    """Criteria that mostly pass, some open, some failed, some just at the edge, some without margin."""
    count = whole(rng, 1, min(size, 4))
    values, margins, limits, at_least = [], [], [], []
    mood = whole(rng, 0, 2)  # all pass; some open; anything
    for _ in range(count):
        margin = whole(rng, 0, 2) / 4
        limit, up = whole(rng, 1, 6) / 2, bool(whole(rng, 0, 1))
        kind = 0 if mood == 0 else whole(rng, 0, 3)
        inside = (1, 1, 0.5, -1)[kind] * margin  # at the edge of passing, inside, at the edge of failing
        extra = whole(rng, 0, 1) / 4 if kind < 2 else 0
        if mood == 2 and whole(rng, 0, 2) == 0:
            inside, extra = -margin, -1 / 4  # failed
        values.append(limit + (1 if up else -1) * (inside + extra))
        margins.append(margin)
        limits.append(limit)
        at_least.append(up)
    return values, margins, limits, at_least


def _edges() -> list[tuple]:
    """One criterion at any distance from its limit, at the scale of a retention and of a size; and pairs of them."""
    one = [
        ([limit + (1 if up else -1) * margins * margin], [margin], [limit], [up])
        for limit, margin in ((0.95, 0.008), (24.0, 0.6), (1.5e8, 2000.0), (-0.5, 0.02), (2e-5, 2e-6))
        for margins in (1.75, 1.01, 0.99, 0.75, 0.25, -0.25, -0.75, -0.99, -1.01, -1.75)
        for up in (True, False)
    ]
    exact = [([value], [0.0], [1.0], [up]) for value in (0.999, 1.0, 1.001) for up in (True, False)]
    touch = [([1.0 + sign * 0.5], [0.5], [1.0], [up]) for sign in (1, -1) for up in (True, False)]
    three = {"passed": ([2.0], [0.5], [1.0]), "failed": ([0.25], [0.5], [1.0]), "open": ([1.25], [0.5], [1.0])}
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
        return f"one failure is a no-go, whatever the others are ({told}); failed is: all of value +- margin is bad"
    if right == "open":
        return f"nothing failed, but something is open ({told}): its interval, margin to each side, holds the limit"
    return f"everything passed ({told}): an interval may end at its limit; with at_least False smaller is better"


# 6.6 -----------------------------------------------------------------------------------------------------------------


def judged(dense: Tensor, candidates: Mapping[str, Tensor], limit: float, confidence: float) -> dict[str, list]:
    """A retention on each text for each candidate, with margins that hold for all texts at once."""
    errors = width(len(dense), confidence)
    found = {}
    for name, hits in candidates.items():
        pairs = [retention_error(d, h) for d, h in zip(dense, hits)]
        found[name] = [Criterion("retention", "", r, errors * error, limit, True) for r, error in pairs]
    return found


def verdict(dense: Tensor, candidates: Mapping[str, Tensor], limit: float, confidence: float) -> tuple[str, str]:
    """The decision, and the name of the candidate that it is about."""
    return recommend(judged(dense, candidates, limit, confidence))


def _clear(dense: Tensor, candidates: Mapping[str, Tensor], limit: float, confidence: float) -> bool:
    """Whether no interval ends so near its limit that a standard deviation by n or by n - 1 would decide."""
    unbiased = math.sqrt(dense.shape[1] / (dense.shape[1] - 1))
    rows = [c for rows in judged(dense, candidates, limit, confidence).values() for c in rows]
    return all(
        abs(abs(c.value - limit) - wide * c.margin) > 1e-6
        and (abs(c.value - limit) > c.margin) == (abs(c.value - limit) > unbiased * c.margin)
        for c in rows
        for wide in (1, unbiased)
    )


def _runs(size: int, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor], float, float]:
    """Some texts, and candidates that are right nearly as often as the dense model; the limit lies about them."""
    while True:
        texts, tokens, count = whole(rng, 1, min(size, 5)), whole(rng, 4, 12) * size * size, whole(rng, 1, min(size, 4))
        dense = torch.rand(texts, tokens, generator=rng) < 0.3 + 0.4 * torch.rand(texts, 1, generator=rng)
        dense[:, whole(rng, 0, tokens - 1)] = True
        runs = {}
        for name in ("half", "a third", "a quarter", "a fifth")[:count]:
            lost = torch.rand(texts, tokens, generator=rng) < 0.4 * torch.rand(texts, 1, generator=rng)
            won = torch.rand(texts, tokens, generator=rng) < 0.1 * torch.rand(1, generator=rng)
            runs[name] = dense & ~lost | won
        args = dense, runs, whole(rng, 12, 20) / 20, (0.8, 0.9, 0.95, 0.99)[whole(rng, 0, 3)]
        if _clear(*args):
            return args


def _close() -> list[tuple]:
    """Cases in which the margin decides: 1 to 8 texts, each share of hits lost; the better candidate comes later."""
    dense, cases = torch.arange(400).remainder(2) == 0, []
    for texts in (1, 2, 5, 8):
        for lost in range(2, 60, 3):
            hits = dense.clone()
            hits[dense.nonzero()[:lost]] = False
            worse = dense & (torch.arange(400) >= 200)
            both = {"worse": worse.expand(texts, -1), "better": hits.expand(texts, -1)}
            cases += [(dense.expand(texts, -1), both, 0.9, level) for level in (0.8, 0.95)]
    mixed = torch.stack([dense, dense & (torch.arange(400) >= 100)])  # one text kept whole, the other by half
    cases.append((dense.expand(2, -1), {"mixed": mixed, "all": dense.expand(2, -1)}, 0.9, 0.95))
    return [tuple(case) for case in cases if _clear(*case)]


def _verify_verdict(args: tuple, out) -> str | None:
    right, rows = verdict(*args), judged(*args)
    if not isinstance(out, (tuple, list)) or len(out) != 2 or not all(isinstance(part, str) for part in out):
        return "return two strings: 'go', 'open' or 'no-go', and a candidate's name, which is '' after 'no-go'"
    if tuple(out) == right:
        return None
    told = "; ".join(
        f"{name} is {decide(found)}: " + ", ".join(f"{c.value:.3f} +- {c.margin:.3f}" for c in found)
        for name, found in list(rows.items())[:4]
    )
    return f"at least {args[2]:g}, by {width(len(args[0]), args[3]):.3f} errors to each side: {told}"


EXERCISES = {
    "6.1": Exercise(_shapes, _verify_bytes, ("shapes", "dtype"), weight_bytes, _models),
    "6.2": Exercise(_layers, _verify_layers, ("damage", "size", "budget"), spare, _budgets),
    "6.3": Exercise(_hits, _verify_error, ("dense", "hits"), retention_error, _texts),
    "6.4": Exercise(_numbers, _verify_rule, ("values", "margins", "limits", "at_least"), rule, _edges),
    "6.6": Exercise(_runs, _verify_verdict, ("dense", "candidates", "limit", "confidence"), verdict, _close, tries=6),
}
