"""Exercises 4.2 to 4.4: retention, a bug in Wanda, and the front."""

from math import inf, isclose, isnan, nan

import torch
from torch import Tensor

from ....method.masks import exact_mask
from ....method.scores import contribution
from ...lessons.points import pareto
from ...printing import numbers
from ..exercise import long_guesses
from .masks import choose, mask_of

# 4.2: retention


def retention_inputs(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    n = size + 2
    few = torch.tensor([0, 1, 2, 300]) if size < 4 else torch.randint(0, 49152, (4,), generator=rng)
    few[3] = few[2] + (1 if size < 6 else 256)  # the next token, or one that is alike in one byte, is another one
    target, second, third = (few[torch.randint(0, 4, (n,), generator=rng)] for _ in range(3))
    dense = torch.where(torch.rand(n, generator=rng) < 0.6, target, second)
    compressed = torch.where(torch.rand(n, generator=rng) < 0.5, dense, third)
    dense[-1] = target[-1]
    if size > 3 and torch.rand((), generator=rng) < 0.2:
        dense = target + 1
    return dense, compressed, target


def long_texts() -> list[tuple]:
    """Neighbours among large ids, a dense model that is never right, a compressed one that never is, a long text."""
    target, dense, compressed = long_guesses()
    some, none = torch.tensor([140001, 7]), torch.tensor([140002, 8])
    short = [(some, none, some), (none, some, some), (none, none, some), (torch.stack([some[0], none[1]]), some, some)]
    return [*short, (dense, compressed, target), (compressed, dense, target)]


def top1_retention(dense: Tensor, compressed: Tensor, target: Tensor) -> float:
    """The answer to exercise 4.2: hits of the compressed model over hits of the dense one."""
    hits = int((dense == target).sum())
    return int((compressed == target).sum()) / hits if hits else nan


def verify_retention(args: tuple, out: object) -> str | None:
    dense, compressed, target = args
    value, right = numbers(out), top1_retention(*args)
    if value is None or value.numel() != 1:
        return "expected one number."
    value = value.item()
    if isnan(right):
        return None if isnan(value) else "the dense model is never right here: there is nothing to keep, so return nan."
    if isclose(value, right, rel_tol=1e-5, abs_tol=0):
        return None
    if isnan(value):
        return "nan is for a dense model that is never right; this one is right sometimes."
    hits, dense_hits = (compressed == target).sum(), (dense == target).sum()
    return f"the compressed model is right {hits} times, the dense one {dense_hits} times: retention is their ratio."


# 4.3: Wanda's scores compared across rows


def wanda_inputs(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, float]:
    rows, columns = (size + 1) // 2 + 1, size + 1
    W = torch.randint(-6, 7, (rows, columns), generator=rng).float()
    if size >= 3 and torch.rand((), generator=rng) < 0.5:
        W = torch.randn(rows, columns, generator=rng) / 50
    W *= choose([0.01, 1, 1, 100], (rows, 1), rng)  # rows of different size
    E = choose([0, 0.25, 1, 4, 16], (columns,), rng)
    if size >= 4:
        E = E * 10.0 ** torch.randint(-8, 3, (columns,), generator=rng)
    return W, E, choose([0, 0.25, 0.5, 0.5, 0.75, 0.3], (), rng).item()


def wanda_layers() -> list[tuple]:
    """A layer, and one of small weights and inputs."""
    rng = torch.Generator().manual_seed(0)
    W, E = torch.randn(9, 37, generator=rng) / 50, torch.randn(37, generator=rng).square()
    return [(W, E, 0.5), (W * 1e-4, E * 1e-6, 0.62), (torch.full((2, 5), -0.5), torch.ones(5), 0.5)]


def wanda_mask(W: Tensor, E: Tensor, sparsity: float) -> Tensor:
    """The answer to exercise 4.3: each row ranks its own scores."""
    return exact_mask(contribution(W, E), sparsity)


def verify_wanda(args: tuple, out: object) -> str | None:
    W, E, sparsity = args
    mask, hint = mask_of(out, W.shape, "W")
    if hint:
        return hint
    pruned, count = (~mask).sum(1), int(sparsity * W.shape[1])
    if (pruned != count).any():
        return (
            f"each row must lose exactly {count} of its {W.shape[1]} weights (rounded down); "
            f"these rows lose {pruned.tolist()}."
        )
    score = W.abs().double() * E.double().sqrt()
    lowest_kept = torch.where(mask, score, inf).amin(1)
    highest_pruned = torch.where(mask, -inf, score).amax(1)
    wrong = highest_pruned > lowest_kept * (1 + 1e-6)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        return (
            f"row {row} prunes a weight whose score |W| sqrt(E) is {highest_pruned[row]:.6g} and keeps one whose score "
            f"is {lowest_kept[row]:.6g}."
        )
    return None


# 4.4: the front


def front_inputs(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    n = size + 1
    cost = torch.randint(1, n + 2, (n,), generator=rng).float() * 10
    quality = torch.randint(1, n + 2, (n,), generator=rng).float() / 10
    if size >= 3 and torch.rand((), generator=rng) < 0.6:  # a front of many points, bent either way, some below it
        cost = torch.rand(n, generator=rng)
        quality = cost ** choose([0.3, 1, 3], (), rng) - choose([0, 0, 0, 0.3, 0.8], (n,), rng)
        if torch.rand((), generator=rng) < 0.5:
            cost, quality = cost * 1e8, quality - 5  # bytes, and minus a loss
    if torch.rand((), generator=rng) < 0.2:  # the same point twice
        cost[-1], quality[-1] = cost[0], quality[0]
    return cost, quality


def fronts() -> list[tuple]:
    """Fronts of many points that bend either way, and points that hardly differ."""
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    cost = (torch.arange(9) + 1.0)[order]
    near = torch.tensor([1.0, 1 + 2**-23, 1 - 2**-24])
    flat, steep = torch.tensor([3.0, 3, 1, 1, 2]), torch.tensor([0.5, 0.5, 0.5, 0.2, 0.5])
    return [
        (torch.tensor([1.0, 2, 3]), torch.tensor([0.1, 0.2, 0.9])),
        (cost, cost**2),
        (cost, cost.sqrt()),
        (cost, cost),
        (cost, -cost),
        (cost.sqrt(), cost % 4),
        (near, near),
        (near, -near),
        (near, torch.tensor([0.9, 0.9, 0.9])),
        (flat, steep),
        (torch.tensor([0.0, 0.0]), torch.tensor([-1.0, -2.0])),
    ]


def front_mask(cost: Tensor, quality: Tensor) -> Tensor:
    """The answer to exercise 4.4."""
    return torch.tensor(pareto(cost.tolist(), quality.tolist()))


def verify_front(args: tuple, out: object) -> str | None:
    cost, quality = args
    mask, hint = mask_of(out, cost.shape, "cost")
    if hint:
        return hint
    right = front_mask(cost, quality)
    for i in range(len(cost)):
        here = f"point {i} (cost {cost[i]:.8g}, quality {quality[i]:.8g})"
        if mask[i] and not right[i]:
            beats = (cost <= cost[i]) & (quality >= quality[i]) & ((cost < cost[i]) | (quality > quality[i]))
            j = int(beats.nonzero()[0])
            return f"{here} is not on the front: point {j} (cost {cost[j]:.8g}, quality {quality[j]:.8g}) beats it."
        if right[i] and not mask[i]:
            return f"{here} is on the front: none is as cheap and as good and better in one of the two."
    return None
