"""Exercises of notebook 01: contribution, a scan, a mask by row, a corrected average, a row that fools, the method."""

import torch
from torch import Generator, Tensor

from ...method.ewma import quantile_mask
from ..printing import numbers
from .exercise import Exercise, whole


def _integers(low: int, high: int, shape: tuple[int, ...], rng: Generator) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=rng).float()


def _close(out: Tensor, expected: Tensor, rtol: float = 1e-4, atol: float = 0) -> bool:
    return out.shape == expected.shape and bool(torch.isclose(out, expected, rtol=rtol, atol=atol).all())


def _shape_hint(out: Tensor | None, shape: torch.Size, what: str) -> str | None:
    if out is None:
        return f"return {what} as a tensor."
    if out.shape != shape:
        return f"the result has shape {list(out.shape)}, expected {list(shape)}: {what}."
    return None


# 1.1


def contribution(W: Tensor, X: Tensor) -> Tensor:
    """Float32 ``[out, in]``: the squared weight times the mean square of its input over the tokens."""
    return W**2 * X.square().mean(0)


def _weights_and_inputs(size: int, rng: Generator) -> tuple[Tensor, Tensor]:
    out, columns, tokens = (whole(rng, 1, size) for _ in range(3))
    if size >= 4:  # wide range, a silent feature
        W = torch.randn(out, columns, generator=rng) * 10.0 ** whole(rng, -3, 2)
        X = torch.randn(tokens, columns, generator=rng) * 10.0 ** _integers(-3, 2, (columns,), rng)
        X[:, 0] = 0
        return W, X
    return _integers(-3, 3, (out, columns), rng), _integers(-3, 3, (tokens, columns), rng) / 2


def _layer() -> list[tuple]:
    """Weights and inputs of the size that layers have, with inputs that are not 0 on average."""
    rng = Generator().manual_seed(0)
    W, X = torch.randn(7, 40, generator=rng) / 50, torch.randn(90, 40, generator=rng)
    X = (X + torch.randn(40, generator=rng)) * 10.0 ** _integers(-4, 2, (40,), rng)
    return [(torch.tensor([[0.001]]), torch.tensor([[0.002], [-0.001]])), (W, X)]


def _verify_contribution(args: tuple, out: object) -> str | None:
    W, X = args
    out, expected = numbers(out), contribution(W.double(), X.double())
    hint = _shape_hint(out, W.shape, "one score for each weight, [out, in]")
    if hint or _close(out, expected):
        return hint
    i, j = (~torch.isclose(out, expected, rtol=1e-4, atol=0)).nonzero()[0].tolist()
    energy = X[:, j].double().square().mean().item()
    return (
        f"at [{i}, {j}] the answer is {out[i, j]:.6g}, expected is {expected[i, j]:.6g}: the weight {W[i, j]:.6g}, "
        f"squared, times the mean square of X[:, {j}] over the tokens, {energy:.6g}."
    )


# 1.2


def scan(L: Tensor, sparsity: float, eta: float, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """One scan over all rows at once: what is pruned, bool ``[rows, in]``, and ``log q`` after it, ``[rows]``."""
    pruned = torch.zeros(L.shape, dtype=torch.bool)
    for j in range(L.shape[1]):
        pruned[:, j] = L[:, j] < log_q.exp()
        log_q = log_q + eta * (sparsity - pruned[:, j].to(log_q.dtype))
    return pruned, log_q


def _safe(L: Tensor, sparsity: float, eta: float, log_q: Tensor) -> bool:
    """Whether no score lies so near to its threshold that rounding could decide, except for one exactly at 1."""
    q = log_q.double()
    for j in range(L.shape[1]):
        near = (L[:, j].double() - q.exp()).abs() < 1e-3 * q.exp()
        if (near & ~((q == 0) & (L[:, j] == 1))).any():
            return False
        q = q + eta * (sparsity - (L[:, j] < q.exp()).double())
    return True


def _row_scores(size: int, rng: Generator) -> tuple[Tensor, float, float, Tensor]:
    """Scores and thresholds of any scale; the first score is exactly the first threshold: not below it."""
    while True:
        rows, columns = whole(rng, 1, size), whole(rng, 1, 2 * size)
        L = _integers(0, 9, (rows, columns), rng) if size <= 3 else torch.randn(rows, columns, generator=rng) ** 2
        sparsity = (0.5, 0.25, 0.75, 0.7)[whole(rng, 0, 3)]
        eta = (0.5, 0.3, 0.1, 1.5)[whole(rng, 0, 3)]
        log_q = torch.zeros(rows) if size == 1 else torch.randn(rows, generator=rng).round(decimals=1)
        if size >= 4:  # rows of any scale, one of them silent
            powers = _integers(-9, 3, (rows,), rng)
            L, log_q = L * 10.0 ** powers[:, None], log_q + powers * 2.302585
            L[-1, 1:] *= whole(rng, 0, 1)
        L[0, 0], log_q[0] = 1.0, 0.0
        if _safe(L, sparsity, eta, log_q):
            return L, sparsity, eta, log_q


def _verify_scan(args: tuple, out: object) -> str | None:
    L, sparsity, eta, log_q = args
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        return "return two things: pruned, [rows, in], and log_q after the scan, [rows]."
    pruned, end = (numbers(part) for part in out)
    hint = _shape_hint(pruned, L.shape, "pruned, one decision for each weight")
    hint = hint or _shape_hint(end, log_q.shape, "log_q after the scan, one number for each row")
    if hint:
        return hint
    expected, expected_end = scan(L.double(), sparsity, eta, log_q.double())
    if not bool(((pruned == 0) | (pruned == 1)).all()):
        return "pruned holds something other than True and False."
    wrong = (pruned.bool() != expected).any(0)
    if wrong.any():
        j = int(wrong.int().argmax())
        i = int((pruned[:, j].bool() != expected[:, j]).int().argmax())
        q = scan(L[:, :j].double(), sparsity, eta, log_q.double())[1][i].exp()
        word = "below" if expected[i, j] else "not below"
        return (
            f"row {i} meets {L[i, j]:.6g} in column {j} with q = {q:.6g}: {word} it. Before, all decisions are right."
        )
    if _close(end, expected_end, atol=1e-3 * eta):
        return None
    return (
        "here the decisions are right, log_q at the end is not: each weight, the last one too, moves it by "
        "eta * (sparsity - pruned)."
    )


# 1.3


def per_row_mask(L: Tensor, sparsity: float) -> Tensor:
    """Bool ``[out, in]``: in each row the ``floor(sparsity * in)`` smallest scores are False."""
    keep = torch.ones(L.shape, dtype=torch.bool)
    smallest = L.argsort(dim=1)[:, : int(sparsity * L.shape[1])]
    return keep.scatter(1, smallest, False)


def _scores_by_row(size: int, rng: Generator) -> tuple[Tensor, float]:
    rows, columns = whole(rng, 1, size), whole(rng, 1, 2 * size)
    L = _integers(0, 9 if whole(rng, 0, 2) else 2, (rows, columns), rng)  # the second has many ties
    L = L * (1 + 9 * _integers(0, 1, (rows, 1), rng))  # rows of different size
    kind = whole(rng, 0, 3)
    if kind == 0:
        L = torch.randn(rows, columns, generator=rng) * 10.0 ** _integers(-12, 3, (rows, 1), rng)
    if kind == 1:
        L = L / 16 - 0.125
    while True:  # no product near to a whole number, where rounding decides, but those of fractions that are exact
        sparsity = (0.5, 0.25, 0.75, 0.0, 0.3, 0.9)[whole(rng, 0, 5)]
        if sparsity in (0.0, 0.25, 0.5, 0.75) or columns % 10:
            return L, sparsity


def _scores_of_layers() -> list[tuple]:
    """Scores so near to one another, so small and so many as those of layers."""
    rng = Generator().manual_seed(0)
    L = torch.randn(5, 97, generator=rng).square() * 10.0 ** torch.tensor([[-12.0], [-5], [0], [5], [-25]])
    near = 1 + torch.randperm(8, generator=rng).float() * 2**-23  # neighbours in float32
    near = torch.stack([near, near * 1e-9, -near])
    return [(L, 0.5), (L, 0.93), (near, 0.5), (near[:1, :2], 0.5), (torch.tensor([[0.2, -0.5, 0.0, -0.1]]), 0.5)]


def _verify_per_row_mask(args: tuple, out: object) -> str | None:
    L, sparsity = args
    out = numbers(out)
    hint = _shape_hint(out, L.shape, "True where a weight is kept, [out, in]")
    if hint:
        return hint
    if not bool(((out == 0) | (out == 1)).all()):
        return "return True (or 1) where a weight is kept and False (or 0) where it is pruned."
    keep, prune = out.bool(), int(sparsity * L.shape[1])
    for i, (row, kept) in enumerate(zip(L, keep)):
        pruned = int((~kept).sum())
        if pruned != prune:
            return f"row {i} loses {pruned} weights, expected floor({sparsity:g} * {len(row)}) = {prune}."
        if 0 < prune < len(row) and row[~kept].max() > row[kept].min():
            return f"row {i} loses {row[~kept].max():.9g} and keeps {row[kept].min():.9g}: the smaller one must go."
    return None


# 1.4


def average(batches: Tensor, decay: float) -> Tensor:
    """The moving average of ``[batches, in]`` after the last batch, corrected for its start at zero: ``[in]``."""
    raw = torch.zeros_like(batches[0])
    for x in batches:
        raw = decay * raw + (1 - decay) * x
    return raw / (1 - decay ** len(batches))


def _batches(size: int, rng: Generator) -> tuple[Tensor, float]:
    count, columns = whole(rng, 1, size), whole(rng, 1, size)
    decay = (0.5, 0.9, 0.0, 0.75, 0.99)[whole(rng, 0, 4)]
    x = _integers(0, 8, (count, columns), rng)
    if size >= 4 and whole(rng, 0, 1):
        x = x[:1].expand(count, columns).clone()  # equal batches: the average is the batch
    if size >= 4 and whole(rng, 0, 1):
        x = torch.rand(count, columns, generator=rng) * 10.0 ** _integers(-7, 3, (columns,), rng)
    return x, decay


def _many_batches() -> list[tuple]:
    return [(torch.rand(60, 5, generator=Generator().manual_seed(0)) * torch.logspace(-8, 3, 5), 0.95)]


def _verify_average(args: tuple, out: object) -> str | None:
    x, decay = args
    out, expected = numbers(out), average(x.double(), decay)
    hint = _shape_hint(out, expected.shape, "the average, one number for each feature")
    if hint or _close(out, expected):
        return hint
    if bool((x == x[:1]).all()):
        return "all batches are equal here, so the average must be equal to them."
    return "update once for each batch, from the first to the last, and correct at the end, once, with t batches."


# 1.6


def fooled(n: int) -> Tensor:
    """Float32 ``[n]``: ones and twos, ten times as large in the second half."""
    row = torch.tensor([1.0, 2.0]).repeat(n // 2)
    row[n // 2 :] *= 10
    return row


def _even_length(size: int, rng: Generator) -> tuple[int]:
    return (2048 + 256 * size - 256 * (size == 1),)


def _verify_fooled(args: tuple, out: object) -> str | None:
    (n,) = args
    out = numbers(out)
    hint = _shape_hint(out, torch.Size([n]), "one row of n scores")
    if hint:
        return hint
    if not bool(((out >= 1e-9) & (out <= 1e9)).all()):
        return "Hint: all scores lie between 1e-9 and 1e9; zeros do not count."
    pruned = ~quantile_mask(out.float()[None], 0.5)[0]
    share = pruned.double().mean().item()
    if abs(share - 0.5) > 0.01:
        return f"Hint: {share:.1%} are pruned. The share is right only where q ends the row about where it began it."
    loss = (out[pruned].sum() / out.sort().values[: n // 2].sum()).item()
    if loss < 1.2:
        return (
            f"Hint: half is pruned, and loses {loss:.2f} times what a sort's half loses, not 1.2. log q moves by "
            "0.005 for each weight, no faster: let it follow scores that rise, and prune where all are large."
        )
    return None


# 1.7


def prune(W: Tensor, X: Tensor, sparsity: float, etas: list[float]) -> Tensor:
    """Bool ``[out, in]``, True where a weight is kept: contribution, a scan for each step, the last decides."""
    L = contribution(W, X)
    return _scans(L, sparsity, etas, L.mean(1).log())[0]


def _scans(L: Tensor, sparsity: float, etas: list[float], log_q: Tensor) -> tuple[Tensor, float]:
    """The last scan's mask, and how near the nearest of all decisions was, relative to its threshold."""
    nearest = float("inf")
    for eta in etas:
        keep = torch.ones(L.shape, dtype=torch.bool)
        for j in range(L.shape[1]):
            q = log_q.exp()
            nearest = min(nearest, ((L[:, j] - q).abs() / q).min().item())
            keep[:, j] = L[:, j] >= q
            log_q = log_q + eta * (sparsity - (~keep[:, j]).to(L.dtype))
    return keep, nearest


def _layers_and_steps(size: int, rng: Generator) -> tuple[Tensor, Tensor, float, list[float]]:
    """No decision is so near that rounding could turn it."""
    while True:
        out, columns, tokens = whole(rng, 1, size), whole(rng, 2, 2 * size + 1), whole(rng, 1, size)
        W = torch.randn(out, columns, generator=rng) * 10.0 ** _integers(-2, 1, (out, 1), rng)
        X = torch.randn(tokens, columns, generator=rng) * 10.0 ** _integers(-1, 1, (columns,), rng)
        if size >= 4:
            X[:, whole(rng, 1, columns - 1)] = 0  # a silent feature
        sparsity = (0.5, 0.25, 0.75)[whole(rng, 0, 2)]
        etas = [(0.5, 0.3, 0.2, 0.1)[whole(rng, 0, 3)] for _ in range(whole(rng, 1, min(size, 4)))]
        L = contribution(W.double(), X.double())
        if _scans(L, sparsity, etas, L.mean(1).log())[1] > 1e-3:
            return W, X, sparsity, etas


def _verify_prune(args: tuple, out: object) -> str | None:
    W, X, sparsity, etas = args
    out = numbers(out)
    hint = _shape_hint(out, W.shape, "True where a weight is kept, [out, in]")
    if hint:
        return hint
    if not bool(((out == 0) | (out == 1)).all()):
        return "Hint: return True (or 1) where a weight is kept and False (or 0) where it is pruned."
    keep, L = out.bool(), contribution(W.double(), X.double())
    start = L.mean(1).log()
    expected = _scans(L, sparsity, etas, start)[0]
    if torch.equal(keep, expected):
        return None
    square = W.double() ** 2
    mistakes = (
        (~expected, "True stands for kept here."),
        (_scans(L, sparsity, etas[-1:], start)[0], "the last scan begins where the one before ended, not at the mean."),
        (_scans(L, sparsity, etas[:1], start)[0], "the last scan decides, not the first."),
        (_scans(L, sparsity, etas, L[:, 0].log())[0], "the first threshold is the mean of the row's scores."),
        (_scans(L, sparsity, etas, L.mean().log().expand(len(L)))[0], "each row has its own mean as first threshold."),
        (_scans(L, 1 - sparsity, etas, start)[0], "sparsity is the share to prune, not to keep."),
        (_scans(square, sparsity, etas, square.mean(1).log())[0], "the inputs are left out: scores are contributions."),
    )
    hints = [why for wrong, why in mistakes if torch.equal(keep, wrong)]
    if len(hints) == 1:
        return f"Hint: {hints[0]}"
    return (
        "Hint: check the parts: contribution, one scan, the start at each row's mean, and q carried from scan to scan."
    )


EXERCISES = {
    "1.1": Exercise(_weights_and_inputs, _verify_contribution, ("W", "X"), contribution, _layer),
    "1.2": Exercise(_row_scores, _verify_scan, ("L", "sparsity", "eta", "log_q"), scan),
    "1.3": Exercise(_scores_by_row, _verify_per_row_mask, ("L", "sparsity"), per_row_mask, _scores_of_layers),
    "1.4": Exercise(_batches, _verify_average, ("batches", "decay"), average, _many_batches),
    "1.6": Exercise(_even_length, _verify_fooled, ("n",), fooled, tries=1),
    "1.7": Exercise(_layers_and_steps, _verify_prune, ("W", "X", "sparsity", "etas"), prune),
}
