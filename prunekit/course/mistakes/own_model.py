"""What learners do wrong in notebook 06."""

import math

from torch import Tensor

from ..checks.own_model import EXERCISES, judged, rule
from ..lessons.memo import BYTES, Criterion, recommend, retention_error, weight_bytes, width
from .mistake import Mistake, gives, right_for


def _scaled(scales):
    """Bytes with the bytes of scales counted otherwise, from shapes and whether the dtype is FP8."""
    return lambda shapes, dtype: (
        sum(a * b for a, b in shapes) * BYTES[dtype] + scales(shapes, dtype.startswith("float8"))
    )


WEIGHTS = (
    gives("these are bits: eight of them make a byte", lambda *args: 8 * weight_bytes(*args), rtol=0),
    gives(
        "this is the number of weights: how many bytes does each take?",
        lambda shapes, dtype: sum(a * b for a, b in shapes),
        rtol=0,
    ),
    gives("each row of an FP8 weight has a scale besides", _scaled(lambda shapes, fp8: 0), rtol=0),
    gives(
        "a scale for each row, not for each column: rows are outputs",
        _scaled(lambda shapes, fp8: 4 * fp8 * sum(b for _, b in shapes)),
        rtol=0,
    ),
    gives("scales are float32: four bytes each", _scaled(lambda shapes, fp8: fp8 * sum(a for a, _ in shapes)), rtol=0),
    gives("one scale for each row, not for each layer", _scaled(lambda shapes, fp8: 4 * fp8 * len(shapes)), rtol=0),
    gives("only FP8 weights have scales", _scaled(lambda shapes, fp8: 4 * sum(a for a, _ in shapes)), rtol=0),
)


def _greedy(order, size: dict, budget: int) -> list:
    chosen = []
    for name in order:
        if size[name] <= budget:
            chosen.append(name)
            budget -= size[name]
    return chosen


def _chosen(hint: str, wrong) -> Mistake:
    """Exercise 6.2 with the layers that `wrong` chooses."""
    return Mistake(hint, lambda args, out: set(out) == set(wrong(*args)))


def _until(damage: dict, size: dict, budget: int) -> list:
    """Stops at the first layer that does not fit."""
    chosen: list = []
    for name in sorted(damage, key=damage.get, reverse=True):
        if size[name] > budget:
            return chosen
        chosen.append(name)
        budget -= size[name]
    return chosen


LAYERS = (
    _chosen("a layer that does not fit is skipped, and the next one is tried", _until),
    _chosen(
        "the most damaged layer comes first, not the least", lambda d, size, b: _greedy(sorted(d, key=d.get), size, b)
    ),
    _chosen(
        "the order is by damage alone, not by damage per weight",
        lambda d, size, b: _greedy(sorted(d, key=lambda n: -d[n] / size[n]), size, b),
    ),
    _chosen(
        "the order is by damage, not by size", lambda d, size, b: _greedy(sorted(d, key=lambda n: size[n]), size, b)
    ),
    _chosen(
        "what a layer takes is gone from the budget for the others",
        lambda d, size, b: [name for name in d if size[name] <= b],
    ),
    _chosen("an exact fit is fine", lambda d, size, b: _greedy(sorted(d, key=d.get, reverse=True), size, b - 1)),
)


def _error(hint: str, factor) -> Mistake:
    """Exercise 6.3 with an error that is wrong by a factor, found from dense hits and the number of tokens."""

    def wrong(dense: Tensor, hits: Tensor) -> tuple[float, float]:
        r, error = retention_error(dense, hits)
        return r, error * factor(dense.double().mean().item(), len(dense))

    return gives(hint, wrong)


def _alone(dense: Tensor, hits: Tensor) -> tuple[float, float]:
    p = hits.double().mean().item()
    return retention_error(dense, hits)[0], math.sqrt(p * (1 - p) / len(hits))


ERRORS = (
    _error("divide by the square root of the number of tokens", lambda mean, n: math.sqrt(n)),
    _error("divide by sqrt(tokens), not by tokens", lambda mean, n: 1 / math.sqrt(n)),
    _error("divide by the dense model's accuracy as well: r is a ratio", lambda mean, n: mean),
    gives("this is the error of the compressed model's accuracy alone: use the residuals", _alone),
)


def _ruled(hint: str, change) -> Mistake:
    """Exercise 6.4 with changed arguments."""
    return right_for(hint, EXERCISES["6.4"].verify, change)


def _ranked(hint: str, words: tuple[str, ...]) -> Mistake:
    """Exercise 6.4 answered with the first of these words that is true of any one number."""

    def wrong(args: tuple) -> str:
        found = {rule(*([x] for x in row)) for row in zip(*args)}
        return next(word for word in words if word in found)

    return Mistake(hint, lambda args, out: str(out) == wrong(args))


RULES = (
    _ruled("the margins are left out", lambda v, e, limits, up: (v, [0.0] * len(e), limits, up)),
    _ruled(
        "the margin goes to each side, not half of it", lambda v, e, limits, up: (v, [x / 2 for x in e], limits, up)
    ),
    _ruled("margins are margins already, not errors", lambda v, e, limits, up: (v, [2 * x for x in e], limits, up)),
    _ruled("where at_least is False smaller is better", lambda v, e, limits, up: (v, e, limits, [True] * len(up))),
    _ruled("at_least is turned round", lambda v, e, limits, up: (v, e, limits, [not x for x in up])),
    _ranked("one failure is a no-go, also where something else is open", ("open", "no-go", "go")),
    _ranked("it is a go only if everything passed", ("go", "no-go", "open")),
)


def _other(hint: str, confidence) -> Mistake:
    """Exercise 6.6 with a margin for another confidence than the one for each text, found from texts and candidates."""

    def wrong(dense: Tensor, candidates: dict, limit: float, level: float) -> tuple[str, str]:
        one = 1 - len(dense) * (1 - confidence(level, len(dense), len(candidates)))  # `judged` shares it among texts
        return recommend(judged(dense, candidates, limit, one))

    return Mistake(hint, lambda args, out: tuple(out) == wrong(*args))


def _ordered(args: tuple) -> tuple[str, str]:
    """The first candidate that is not a no-go."""
    for name, rows in judged(*args).items():
        found = recommend({name: rows})
        if found[1]:
            return found
    return "no-go", ""


def _pooled(args: tuple) -> tuple[str, str]:
    """All texts as if they were one."""
    dense, candidates, limit, level = args
    rows = {}
    for name, hits in candidates.items():
        r, error = retention_error(dense.flatten(), hits.flatten())
        rows[name] = [Criterion("", "", r, width(len(dense), level) * error, limit, True)]
    return recommend(rows)


VERDICTS = (
    _other("all texts must hold at once: share 1 - confidence among them", lambda level, texts, count: level),
    _other(
        "1 - confidence is shared among texts, not among candidates",
        lambda level, texts, count: 1 - (1 - level) / count,
    ),
    _other("a margin misses on two sides: halve what may go wrong", lambda level, n, k: 1 - 2 * (1 - level) / n),
    Mistake("an open candidate is the answer only if none may go", lambda args, out: tuple(out) == _ordered(args)),
    Mistake("each text has a retention of its own", lambda args, out: tuple(out) == _pooled(args)),
)


MISTAKES = {"6.1": WEIGHTS, "6.2": LAYERS, "6.3": ERRORS, "6.4": RULES, "6.6": VERDICTS}
