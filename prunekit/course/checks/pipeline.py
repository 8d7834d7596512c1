"""Exercises of notebook 04: the joint keep score, retention, the trade-off front, and a bug in Wanda."""

from math import isnan, nan

import torch
from torch import Tensor

from ...method.masks import exact_mask
from ...method.scores import contribution, keep_score
from ..lessons.points import pareto
from ..printing import numbers
from .exercise import Exercise


def _mask(out: object, shape: torch.Size, what: str) -> tuple[Tensor | None, str | None]:
    """A learner's mask as bool, or a hint why it is none."""
    mask = numbers(out)
    if mask is None or mask.shape != shape:
        found = "something else" if mask is None else str(tuple(mask.shape))
        return None, f"expected a mask of the shape of {what}, {tuple(shape)}; this is {found}."
    if not ((mask == 0) | (mask == 1)).all():
        return None, "a mask says True or False (or 1 and 0) for each weight, True where it is kept."
    return mask.bool(), None


def _random(choices: list[float], shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.tensor(choices)[torch.randint(len(choices), shape, generator=rng)]


# 4.1: the best mask when casting costs its part


def _joint_inputs(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
    rows, columns = (size + 1) // 2, size + 1
    W = torch.randint(-7, 8, (rows, columns), generator=rng).float()
    step = _random([1, 2, 4, 4, 8], (rows, 1), rng)  # a format of so few values that casting hurts
    Wq = torch.round(W / step) * step
    E = _random([0, 0.25, 1, 1, 2, 4, 9], (columns,), rng)
    keep = int(torch.randint(0, columns + 1, (), generator=rng))
    return W, Wq, E, keep


def loss(W: Tensor, Wq: Tensor, E: Tensor, keep: Tensor) -> Tensor:
    """What is lost in each row, float64 ``[out]``: pruned weights entirely, kept ones by their casting error."""
    W, Wq, E = W.double(), Wq.double(), E.double()
    return (torch.where(keep, W - Wq, W) ** 2 * E).sum(1)


def joint_mask(W: Tensor, Wq: Tensor, E: Tensor, keep: int) -> Tensor:
    """The mask of exercise 4.1: the `keep` highest keep scores of each row."""
    order = keep_score(W.double(), Wq.double(), E.double()).argsort(dim=1, descending=True, stable=True)
    return torch.zeros(W.shape, dtype=torch.bool).scatter_(1, order[:, :keep], True)


def _verify_joint(args: tuple, out: object) -> str | None:
    W, Wq, E, keep = args
    mask, hint = _mask(out, W.shape, "W")
    if hint:
        return hint
    if (mask.sum(1) != keep).any():
        return f"each row must keep exactly {keep} of its {W.shape[1]} weights; these rows keep {mask.sum(1).tolist()}."
    best, found = loss(W, Wq, E, joint_mask(W, Wq, E, keep)), loss(W, Wq, E, mask)
    worse = found > best + 1e-5 * (1 + best)
    if worse.any():
        row = int(worse.nonzero()[0])
        return (
            f"row {row} loses {found[row]:.4g} where {best[row]:.4g} is possible. A pruned weight loses W^2 E, a kept "
            "one (W - Wq)^2 E: keep those for which the difference of the two is largest, row by row."
        )
    return None


# 4.2: retention


def _retention_inputs(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    n = size + 2
    target = torch.randint(0, 4, (n,), generator=rng)
    dense = torch.where(torch.rand(n, generator=rng) < 0.6, target, torch.randint(0, 4, (n,), generator=rng))
    compressed = torch.where(torch.rand(n, generator=rng) < 0.5, dense, torch.randint(0, 4, (n,), generator=rng))
    dense[-1] = target[-1]
    if size > 3 and torch.rand((), generator=rng) < 0.2:
        dense = (target + 1) % 4
    return dense, compressed, target


def top1_retention(dense: Tensor, compressed: Tensor, target: Tensor) -> float:
    """The answer to exercise 4.2: hits of the compressed model over hits of the dense one."""
    hits = int((dense == target).sum())
    return int((compressed == target).sum()) / hits if hits else nan


def _verify_retention(args: tuple, out: object) -> str | None:
    dense, compressed, target = args
    value, right = numbers(out), top1_retention(*args)
    if value is None or value.numel() != 1:
        return "expected one number."
    value = value.item()
    if isnan(right):
        return None if isnan(value) else "the dense model is never right here: there is nothing to keep, so return nan."
    if abs(value - right) < 1e-4:
        return None
    both = ((dense == target) & (compressed == target)).sum() / (dense == target).sum()
    if abs(value - (dense == compressed).double().mean().item()) < 1e-4:
        return (
            "this is agreement: how often the two models say the same, right or wrong. Retention looks at the target."
        )
    if abs(value - both.item()) < 1e-4:
        return "tokens that only the compressed model gets right count as well: retention is a ratio of two accuracies."
    if abs(value - min(right, 1.0)) < 1e-4:
        return "retention may exceed 1, where the compressed model is right more often: do not clip it."
    if isnan(value):
        return "nan is for a dense model that is never right; this one is right sometimes."
    return "retention is the compressed model's accuracy on the target over the dense model's, as a ratio, not percent."


# 4.3: Wanda's scores compared across rows


def _wanda_inputs(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, float]:
    rows, columns = (size + 1) // 2 + 1, size + 1
    W = torch.randint(-6, 7, (rows, columns), generator=rng).float()
    W *= _random([0.01, 1, 1, 100], (rows, 1), rng)  # rows of different size
    E = _random([0, 0.25, 1, 4, 16], (columns,), rng)
    return W, E, _random([0, 0.25, 0.5, 0.5, 0.75], (), rng).item()


def wanda_mask(W: Tensor, E: Tensor, sparsity: float) -> Tensor:
    """The answer to exercise 4.3: each row ranks its own scores."""
    return exact_mask(contribution(W, E), sparsity)


def _verify_wanda(args: tuple, out: object) -> str | None:
    W, E, sparsity = args
    mask, hint = _mask(out, W.shape, "W")
    if hint:
        return hint
    pruned = (~mask).sum(1)
    if (pruned != int(sparsity * W.shape[1])).any():
        return (
            f"each row must lose exactly {int(sparsity * W.shape[1])} of its {W.shape[1]} weights (rounded down); "
            f"these rows lose {pruned.tolist()}. Are scores of different rows compared, or does a tie prune too many?"
        )
    score = W.double() ** 2 * E.double()
    inf = torch.inf
    lowest_kept = torch.where(mask, score, inf).amin(1)
    highest_pruned = torch.where(mask, -inf, score).amax(1)
    wrong = highest_pruned > lowest_kept * (1 + 1e-5)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        return f"row {row} prunes a weight whose score |W| sqrt(E) is higher than that of one which it keeps."
    return None


# 4.4: the front


def _front_inputs(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    n = size + 1
    cost = torch.randint(1, n + 2, (n,), generator=rng).float() * 10
    quality = torch.randint(1, n + 2, (n,), generator=rng).float() / 10
    if torch.rand((), generator=rng) < 0.2:  # the same point twice
        cost[-1], quality[-1] = cost[0], quality[0]
    return cost, quality


def front_mask(cost: Tensor, quality: Tensor) -> Tensor:
    """The answer to exercise 4.4."""
    return torch.tensor(pareto(cost.tolist(), quality.tolist()))


def _verify_front(args: tuple, out: object) -> str | None:
    cost, quality = args
    mask, hint = _mask(out, cost.shape, "cost")
    if hint:
        return hint
    right = front_mask(cost, quality)
    for i in range(len(cost)):
        here = f"point {i} (cost {cost[i]:g}, quality {quality[i]:g})"
        if mask[i] and not right[i]:
            beats = (cost <= cost[i]) & (quality >= quality[i]) & ((cost < cost[i]) | (quality > quality[i]))
            j = int(beats.nonzero()[0])
            return f"{here} is not on the front: point {j} (cost {cost[j]:g}, quality {quality[j]:g}) beats it."
        if right[i] and not mask[i]:
            return f"{here} is on the front: none is as cheap and as good and better in one. Equal points stay both."
    return None


EXERCISES = {
    "4.1": Exercise(_joint_inputs, _verify_joint, ("W", "Wq", "E", "keep"), joint_mask),
    "4.2": Exercise(_retention_inputs, _verify_retention, ("dense", "compressed", "target"), top1_retention),
    "4.3": Exercise(_wanda_inputs, _verify_wanda, ("W", "E", "sparsity"), wanda_mask),
    "4.4": Exercise(_front_inputs, _verify_front, ("cost", "quality"), front_mask),
}
