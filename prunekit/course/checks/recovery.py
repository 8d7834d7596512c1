"""Exercises of notebook 07: weights that make up for others, a divergence, a budget spent step by step."""

import torch
from torch import Generator, Tensor

from ..printing import numbers
from .exercise import Exercise, whole


def _close(out: Tensor, expected: Tensor, rtol: float = 1e-3, atol: float = 1e-4) -> bool:
    return out.shape == expected.shape and bool(torch.isclose(out, expected.double(), rtol=rtol, atol=atol).all())


# 7.1


def refit(w: Tensor, H: Tensor, keep: Tensor) -> Tensor:
    """The row ``[in]`` that is zero where `keep` is False and least in ``(v - w) H (v - w)^T``."""
    v = torch.zeros_like(w)
    if keep.any():
        v[keep] = torch.linalg.solve(H[keep][:, keep], H[keep] @ w)
    return v


def _row(size: int, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A row, a Gram matrix of inputs that are correlated, sometimes not, and a mask."""
    n = size + 1
    w = torch.randint(-4, 5, (n,), generator=rng).float()
    if whole(rng, 0, 3) == 0:
        H = torch.diag(torch.randint(1, 4, (n,), generator=rng).float())
    else:
        X = torch.randint(-2, 3, (3 * n, n), generator=rng).float() + torch.randint(-2, 3, (3 * n, 1), generator=rng)
        H = X.T @ X / (3 * n) + torch.eye(n)
    return w, H, torch.rand(n, generator=rng) < 0.6


def _verify_refit(args: tuple, out: object) -> str | None:
    w, H, keep = args
    got, right = numbers(out), refit(*(a.double() if a.is_floating_point() else a for a in args))
    if got is None or got.shape != w.shape:
        return f"return a row of {len(w)} weights"
    if _close(got, right):
        return None
    if bool((got[~keep] != 0).any()):
        return "where keep is False the new row is exactly zero"
    if _close(got, torch.where(keep, w, 0).double()):
        return "these are the old weights: let those that stay make up for those that went"
    H, w = H.double(), w.double()
    if keep.any():
        inverse = torch.zeros_like(w)
        inverse[keep] = (torch.linalg.inv(H)[keep][:, keep] @ (H[keep] @ w)).to(w.dtype)
        if _close(got, inverse):
            return "take the rows and columns first, then invert: the inverse of a part is not a part of the inverse"
        other = torch.zeros_like(w)
        other[keep] = torch.linalg.solve(H[keep][:, keep], H[keep][:, ~keep] @ w[~keep])
        if _close(got, other):
            return "this is what has to be added to the old weights"
        if _close(got, torch.where(keep, 2 * w - right, 0)):
            return "the sign: what went is added, as seen through H, not taken away"
    return "for the kept k and the pruned p: H[k][:, k] (v[k] - w[k]) = H[k][:, p] w[p]"


# 7.2


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over tokens of the Kullback-Leibler divergence ``KL(p || q)``, teacher `p`, student `q`, in nats."""
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean()


def _logits(size: int, rng: Generator) -> tuple[Tensor, Tensor]:
    shape = (whole(rng, 1, size), size + 1)
    teacher, student = (torch.randint(-3, 4, shape, generator=rng).float() for _ in range(2))
    if size >= 4:  # what overflows without care
        teacher, student = teacher * (400 if whole(rng, 0, 1) else 1), student * 400
    return teacher, student


def _verify_divergence(args: tuple, out: object) -> str | None:
    teacher, student = (a.double() for a in args)
    got, right = numbers(out), divergence(teacher, student)
    if got is None or got.numel() != 1:
        return "return a single number"
    got = got.reshape(())
    if _close(got, right):
        return None
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    each = p.exp() * (p - q)
    for wrong, why in (
        (divergence(student, teacher), "the other way round: the teacher's probabilities weigh the difference"),
        (each.sum(), "the mean over tokens, not the sum"),
        (each.mean(), "sum over the vocabulary, then take the mean over tokens"),
        (-(p.exp() * q).sum(-1).mean(), "this is the cross entropy: it is not 0 for two models that agree"),
        (-right, "the sign: a divergence is never negative"),
        (right / torch.tensor(2.0).double().log(), "in nats: the natural logarithm"),
        ((teacher.softmax(-1) * (teacher - student)).sum(-1).mean(), "logits are not logarithms of probabilities yet"),
    ):
        if _close(got, wrong):
            return why
    if not torch.isfinite(got):
        return "a probability that rounds to 0 has no logarithm: use log_softmax"
    return "KL = sum over words of p (log p - log q), p the teacher's probability, q the student's; mean over tokens"


# 7.3


def spend(costs: list[list[float]], steps: int) -> list[int]:
    """How many steps each layer takes, if each time the cheapest next step anywhere is taken."""
    taken = [0] * len(costs)
    for _ in range(steps):
        open_ = [i for i, cost in enumerate(costs) if taken[i] + 1 < len(cost)]
        best = min(open_, key=lambda i: costs[i][taken[i] + 1] - costs[i][taken[i]])
        taken[best] += 1
    return taken


def _curves(size: int, rng: Generator) -> tuple[list[list[float]], int]:
    """Costs that rise ever faster, some layers like others, and a number of steps that there is room for."""
    costs = []
    for _ in range(whole(rng, 1, min(size, 4))):
        rises = sorted(whole(rng, 0, 8) / 4 for _ in range(whole(rng, 1, size + 1)))
        costs.append([sum(rises[:k]) for k in range(len(rises) + 1)])
    return costs, whole(rng, 0, sum(len(cost) - 1 for cost in costs))


def _verify_spend(args: tuple, out: object) -> str | None:
    costs, steps = args
    got = numbers(out)
    if got is None or got.numel() != len(costs) or bool((got != got.round()).any()):
        return f"return {len(costs)} whole numbers: the steps of each layer"
    taken = [int(n) for n in got.reshape(-1)]
    if any(n < 0 or n >= len(cost) for n, cost in zip(taken, costs)):
        return "a layer with k costs has room for k - 1 steps"
    if sum(taken) != steps:
        return f"these are {sum(taken)} steps, asked for were {steps}"

    def total(counts: list[int]) -> float:
        return sum(cost[n] for n, cost in zip(counts, costs))

    right = total(spend(costs, steps))
    if abs(total(taken) - right) < 1e-6:
        return None
    return f"these steps cost {total(taken):g}, and {right:g} is possible: compare what the next step adds, not costs"


EXERCISES = {
    "7.1": Exercise(inputs=_row, verify=_verify_refit, names=("w", "H", "keep"), reference=refit),
    "7.2": Exercise(inputs=_logits, verify=_verify_divergence, names=("teacher", "student"), reference=divergence),
    "7.3": Exercise(inputs=_curves, verify=_verify_spend, names=("costs", "steps"), reference=spend),
}
