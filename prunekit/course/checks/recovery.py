"""Exercises of notebook 07: weights that make up for others, a divergence, a budget, and the whole recovery."""

import torch
from torch import Generator, Tensor

from ..printing import numbers
from .exercise import Exercise, whole

# 7.1


def refit(w: Tensor, H: Tensor, keep: Tensor) -> Tensor:
    """The row ``[in]`` that is zero where `keep` is False and least in ``(v - w) H (v - w)^T``."""
    v = torch.zeros_like(w)
    if keep.any():
        v[keep] = torch.linalg.solve(H[keep][:, keep], H[keep] @ w)
    return v


def _row(size: int, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A row, a Gram matrix of inputs that are correlated, sometimes not, and a mask; of any scale."""
    n = size + 1
    w = torch.randint(-4, 5, (n,), generator=rng).float()
    if whole(rng, 0, 3) == 0:
        H = torch.diag(torch.randint(1, 4, (n,), generator=rng).float())
    else:
        X = torch.randint(-2, 3, (3 * n, n), generator=rng).float() + torch.randint(-2, 3, (3 * n, 1), generator=rng)
        H = X.T @ X / (3 * n) + torch.eye(n)
    if size >= 3:
        w, H = w * (1.0, 0.01)[whole(rng, 0, 1)], H * (1.0, 1e-6, 1e4)[whole(rng, 0, 2)]
    return w, H, torch.rand(n, generator=rng) < 0.6


def _rows() -> list[tuple]:
    """Masks that keep nothing, everything and one weight; and a row of a layer, half of it kept."""
    rng = Generator().manual_seed(0)
    w, H = torch.tensor([1.0, -2.0]), torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    small = [(w, H, torch.tensor(keep)) for keep in ([True, False], [False, True], [False, False], [True, True])]
    X = torch.randn(400, 24, generator=rng) + torch.randn(400, 1, generator=rng)
    return [*small, (torch.randn(24, generator=rng) / 50, X.T @ X / 400, torch.arange(24) % 2 == 0)]


def _verify_refit(args: tuple, out: object) -> str | None:
    w, H, keep = args
    got, right = numbers(out), refit(*(a.double() if a.is_floating_point() else a for a in args))
    if got is None or got.shape != w.shape:
        return f"return a row of {len(w)} weights"
    off = ~torch.isclose(got, right, rtol=1e-3, atol=1e-4 * w.abs().max().item())
    if bool((got[~keep] != 0).any()):
        return "where keep is False the new row is exactly zero"
    if not off.any():
        return None
    changes = [((v - w.double()) @ H.double() @ (v - w.double())).item() for v in (got, right)]
    return (
        f"(v - w) H (v - w)^T is {changes[0]:.6g}, and {changes[1]:.6g} is possible. For the kept k and the pruned p: "
        "H[k][:, k] (v[k] - w[k]) = H[k][:, p] w[p]"
    )


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


def _models() -> list[tuple]:
    """Models that agree, that nearly do, and a vocabulary of hundreds."""
    rng = Generator().manual_seed(0)
    small = torch.randint(-3, 4, (3, 3), generator=rng).float()
    teacher = 4 * torch.randn(20, 300, generator=rng)
    student = teacher + torch.randn(20, 300, generator=rng) / 4
    return [(small[:1], small[:1]), (small, small.T), (teacher, student), (teacher[:, :20], 3 * student[:, :20])]


def _verify_divergence(args: tuple, out: object) -> str | None:
    teacher, student = (a.double() for a in args)
    got, right = numbers(out), divergence(teacher, student).item()
    if got is None or got.numel() != 1:
        return "return a single number"
    blur = 1e-6 * max(1.0, teacher.abs().max().item(), student.abs().max().item())  # what float32 leaves of logits
    if abs(got.item() - right) <= 1e-4 * abs(right) + blur:
        return None
    if not torch.isfinite(got):
        return f"this is {got.item()}, and {right:.6g} is expected: a probability that rounds to 0 has no logarithm"
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
    """Costs that rise ever faster from anywhere, some layers like others, and steps that there is room for."""
    costs = []
    unit = 1.0 if size < 3 else (1.0, 1e-5, 300.0)[whole(rng, 0, 2)]
    for _ in range(whole(rng, 1, min(size, 4))):
        start = whole(rng, 0, 3) * 2.5 if size > 1 else 0.0
        rises = sorted(whole(rng, 0, 8) / 4 for _ in range(whole(rng, 1, size + 1)))
        costs.append([unit * (start + sum(rises[:k])) for k in range(len(rises) + 1)])
    return costs, whole(rng, 0, sum(len(cost) - 1 for cost in costs))


def _budgets() -> list[tuple]:
    """A layer that is dear but rises little, one that can take nothing, cheap steps behind dear layers."""
    dear, cheap, stuck = [10.0, 10.5, 11.5], [0.0, 1.0, 3.0], [1.0]
    steep = [2.0, 2.25, 9.0]
    sets = ([dear, cheap], [cheap, dear, stuck], [steep, dear, cheap], [stuck, cheap], [[0.3, 0.31, 0.36, 0.5], cheap])
    return [(costs, steps) for costs in sets for steps in range(sum(len(cost) - 1 for cost in costs) + 1)]


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

    right, most = total(spend(costs, steps)), sum(cost[-1] - cost[0] for cost in costs)
    if total(taken) - right <= 1e-6 * most:
        return None
    return f"these steps cost {total(taken):.6g} in all, and {right:.6g} is possible: compare what the next step adds"


# 7.5


def recovered(W: Tensor, X: Tensor, count: int, steps: int, rate: float) -> Tensor:
    """A weight ``[words, in]``: pruned by contribution, solved row by row, then trained to speak as `W` does on `X`."""
    H, keep = X.T @ X / len(X), lasting(W, X, count)
    V = torch.stack([refit(w, H, k) for w, k in zip(W, keep)])
    p = (X @ W.T).softmax(1)
    for _ in range(steps):
        q = (X @ V.T).softmax(1)
        V = V - rate * keep * ((q - p).T @ X) / len(X)
    return V


def lasting(W: Tensor, X: Tensor, count: int) -> Tensor:
    """Where weights stay if the `count` lowest contributions of each row go, bool ``[words, in]``."""
    lowest = (W.square() * X.square().mean(0)).topk(count, dim=1, largest=False).indices
    return torch.ones_like(W, dtype=torch.bool).scatter(1, lowest, False)


def _one_layer(size: int, rng: Generator) -> tuple[Tensor, Tensor, int, int, float]:
    """Inputs that are correlated, weights of any scale with no two contributions alike, and a rate that converges."""
    n, words = size + 1, whole(rng, 1, size + 2)
    X = torch.randn(4 * n + 2, n, generator=rng) + torch.randn(4 * n + 2, 1, generator=rng)
    X = X * (0.5 + torch.rand(n, generator=rng))
    W = torch.randn(words, n, generator=rng)
    if size < 3:
        X, W = (x.mul(10).round().div(10) for x in (X, W))
    scores = (W.square() * X.square().mean(0)).sort(1).values
    if (scores.diff(dim=1) < 1e-3 * scores[:, 1:]).any():
        return _one_layer(size, rng)
    unit = (1.0, 1e-2, 30.0)[whole(rng, 0, 2)] if size >= 3 else 1.0
    top = torch.linalg.eigvalsh(X.T @ X / len(X))[-1].item() * unit**2
    return W / unit, X * unit, whole(rng, 0, n), whole(rng, 0, 2 + 3 * size), 1 / top


def _layers() -> list[tuple]:
    """Nothing pruned, all pruned, no steps, and sizes of a layer."""
    rng = Generator().manual_seed(0)
    W, X, *_, rate = _one_layer(2, rng)
    small = [(W, X, count, steps, rate) for count, steps in ((1, 0), (1, 3), (0, 2), (3, 2), (2, 1))]
    W, X, *_, rate = _one_layer(23, rng)
    return [*small, (W, X, 12, 0, rate), (W, X, 12, 40, rate)]


def _verify_recovered(args: tuple, out: object) -> str | None:
    W, X, count, steps, rate = args
    W, X = W.double(), X.double()
    got, right, keep = numbers(out), recovered(W, X, count, steps, rate), lasting(W, X, count)
    if got is None or got.shape != W.shape:
        return f"return a weight of the shape of W, {list(W.shape)}"
    if bool((got[~keep] != 0).any()):
        return "at the end the `count` lowest contributions W^2 E of each row, E the mean square of X, are exactly zero"
    if torch.allclose(got, right, rtol=2e-3, atol=2e-4 * W.abs().max().item()):
        return None
    if steps == 0:
        return "with no steps each row is solved as in 7.1, with its own mask and H = X^T X / tokens"
    far, near = (divergence(X @ W.T, X @ V.T).item() for V in (got, right))
    return (
        f"the mask is right; the divergence from W's answers is {far:.6g}, and {near:.6g} is expected after {steps} "
        "steps. In each: the logits' gradient (q - p) / tokens, through X, on the weights that stay"
    )


EXERCISES = {
    "7.1": Exercise(_row, _verify_refit, ("w", "H", "keep"), refit, _rows),
    "7.2": Exercise(_logits, _verify_divergence, ("teacher", "student"), divergence, _models),
    "7.3": Exercise(_curves, _verify_spend, ("costs", "steps"), spend, _budgets),
    "7.5": Exercise(_one_layer, _verify_recovered, ("W", "X", "count", "steps", "rate"), recovered, _layers),
}
