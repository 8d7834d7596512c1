"""What learners do wrong in notebook 07."""

import math
from functools import partial

import torch
from torch import Tensor

from ..checks.recovery import divergence, lasting, recovered, refit
from .mistake import gives


def _double(*args: Tensor) -> list[Tensor]:
    return [a.double() if a.is_floating_point() else a for a in args]


def _kept(w: Tensor, keep: Tensor, values: Tensor) -> Tensor:
    v = torch.zeros(len(w), dtype=torch.float64)
    v[keep] = values
    return v


def _part_of_inverse(w: Tensor, H: Tensor, keep: Tensor) -> Tensor:
    w, H, keep = _double(w, H, keep)
    return _kept(w, keep, torch.linalg.inv(H)[keep][:, keep] @ (H[keep] @ w))


def _added(w: Tensor, H: Tensor, keep: Tensor) -> Tensor:
    w, H, keep = _double(w, H, keep)
    return torch.where(keep, refit(w, H, keep) - w, 0)


REFITS = (
    gives(
        "these are the old weights: let those that stay make up for those that went",
        lambda w, H, keep: torch.where(keep, w, 0),
    ),
    gives(
        "take the rows and columns first, then invert: the inverse of a part is not a part of the inverse",
        _part_of_inverse,
        blur=1e-3,
    ),
    gives("this is what has to be added to the old weights", _added, blur=1e-3),
    gives(
        "the sign: what went is added, as seen through H, not taken away",
        lambda w, H, keep: torch.where(keep, w.double(), 0) - _added(w, H, keep),
        blur=1e-3,
    ),
)


def _each(teacher: Tensor, student: Tensor) -> Tensor:
    p, q = (a.double().log_softmax(-1) for a in (teacher, student))
    return p.exp() * (p - q)


def _cross(teacher: Tensor, student: Tensor) -> Tensor:
    return -(teacher.double().softmax(-1) * student.double().log_softmax(-1)).sum(-1).mean()


DIVERGENCES = (
    gives(
        "the other way round: the teacher's probabilities weigh the difference",
        lambda teacher, student: divergence(student.double(), teacher.double()),
    ),
    gives("the mean over tokens, not the sum", lambda *args: _each(*args).sum()),
    gives("sum over the vocabulary, then take the mean over tokens", lambda *args: _each(*args).mean()),
    gives("this is the cross entropy: it is not 0 for two models that agree", _cross),
    gives("the sign: a divergence is never negative", lambda *args: -_each(*args).sum(-1).mean()),
    gives("in nats: the natural logarithm", lambda *args: _each(*args).sum(-1).mean() / math.log(2)),
    gives(
        "logits are not logarithms of probabilities yet",
        lambda teacher, student: (teacher.double().softmax(-1) * (teacher - student)).sum(-1).mean(),
    ),
)


def _taken(costs: list[list[float]], steps: int, of) -> list[int]:
    """Steps taken by what each layer's next one costs, in the eyes of `of`: a layer's costs and its steps so far."""
    taken = [0] * len(costs)
    for _ in range(steps):
        room = [i for i, cost in enumerate(costs) if taken[i] + 1 < len(cost)]
        taken[min(room, key=lambda i: of(costs[i], taken[i]))] += 1
    return taken


STEPS = (
    gives(
        "compare what the next step adds, not what the layer costs after it",
        lambda costs, steps: _taken(costs, steps, lambda cost, k: cost[k + 1]),
        rtol=0,
    ),
    gives(
        "compare what the next step adds, not what all steps so far have added",
        lambda costs, steps: _taken(costs, steps, lambda cost, k: cost[k + 1] - cost[0]),
        rtol=0,
    ),
)


def _trained(
    W: Tensor, X: Tensor, count: int, steps: int, rate: float, solved: bool = True, share: float = 1
) -> Tensor:
    """As `recovered`, with or without solving, and with a gradient times `share`."""
    W, X = W.double(), X.double()
    start = recovered(W, X, count, 0, rate) if solved else W * lasting(W, X, count)
    keep, p = lasting(W, X, count), (X @ W.T).softmax(1)
    for _ in range(steps):
        start = start - share * rate * keep * (((X @ start.T).softmax(1) - p).T @ X) / len(X)
    return start


RECOVERIES = (
    gives("solve before you train: this started from the old weights", partial(_trained, solved=False), blur=1e-4),
    gives(
        "this was solved and not trained",
        lambda W, X, count, steps, rate: recovered(W.double(), X.double(), count, 0, rate),
        blur=1e-4,
    ),
    gives("the sign: go against the gradient", partial(_trained, share=-1), blur=1e-4),
    gives(
        "the divergence is a mean over tokens: divide its gradient by their number",
        lambda W, X, *rest: _trained(W, X, *rest, share=len(X)),
        blur=1e-4,
    ),
)


MISTAKES = {"7.1": REFITS, "7.2": DIVERGENCES, "7.3": STEPS, "7.5": RECOVERIES}
