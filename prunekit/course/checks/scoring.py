"""Exercises of notebook 01: contribution, a scan, a mask by row, a corrected average, a row that fools, the method."""

import torch
from torch import Generator, Tensor

from ...method.ewma import quantile_mask
from ..printing import numbers
from .exercise import Exercise, whole


def _integers(low: int, high: int, shape: tuple[int, ...], rng: Generator) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=rng).float()


def _close(out: Tensor, expected: Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    return out.shape == expected.shape and bool(torch.isclose(out, expected, rtol=rtol, atol=atol).all())


def _shape_hint(out: Tensor | None, shape: torch.Size, what: str) -> str | None:
    if out is None:
        return f"Hint: return {what} as a tensor."
    if out.shape != shape:
        return f"Hint: the result has shape {list(out.shape)}, expected {list(shape)}: {what}."
    return None


# 1.1


def contribution(W: Tensor, X: Tensor) -> Tensor:
    """Float32 ``[out, in]``: the squared weight times the mean square of its input over the tokens."""
    return W**2 * X.square().mean(0)


def _weights_and_inputs(size: int, rng: Generator) -> tuple[Tensor, Tensor]:
    out, columns, tokens = (whole(rng, 1, size) for _ in range(3))
    if size >= 4:  # wide range, a silent feature
        W = torch.randn(out, columns, generator=rng) * 10.0 ** whole(rng, -2, 2)
        X = torch.randn(tokens, columns, generator=rng) * 10.0 ** _integers(-1, 2, (columns,), rng)
        X[:, 0] = 0
        return W, X
    return _integers(-3, 3, (out, columns), rng), _integers(-3, 3, (tokens, columns), rng)


def _verify_contribution(args: tuple, out: object) -> str | None:
    W, X = args
    out, expected = numbers(out), contribution(W.double(), X.double())
    hint = _shape_hint(out, W.shape, "one score for each weight, [out, in]")
    if hint:
        return hint
    if _close(out, expected):
        return None
    square = X.double().square()
    mistakes = (
        (expected.abs().sqrt(), "this is |W| times the root mean square: contribution is its square."),
        (W.double() ** 2 * square.mean(0).sqrt(), "the weight is squared, the root mean square of the input is not."),
        (W.double().abs() * square.mean(0), "the weight is not squared."),
        (W.double() ** 2 * square.sum(0), "the sum over tokens is not the mean."),
        (W.double() ** 2 * X.double().mean(0) ** 2, "the square comes first, then the mean: not the mean's square."),
        (W.double() ** 2, "the inputs are left out."),
    )
    hints = [why for wrong, why in mistakes if _close(out, wrong)]
    if len(hints) == 1:
        return f"Hint: {hints[0]}"
    if bool((out < 0).any()):
        return "Hint: a contribution is a mean square, so it is never negative."
    return (
        "Hint: each weight times its own input feature: W[i, j] goes with X[:, j], squared, and averaged over tokens."
    )


# 1.2


def scan(L: Tensor, sparsity: float, eta: float, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """One scan over all rows at once: what is pruned, bool ``[rows, in]``, and ``log q`` after it, ``[rows]``."""
    pruned = torch.zeros(L.shape, dtype=torch.bool)
    for j in range(L.shape[1]):
        pruned[:, j] = L[:, j] < log_q.exp()
        log_q = log_q + eta * (sparsity - pruned[:, j].to(log_q.dtype))
    return pruned, log_q


def _row_scores(size: int, rng: Generator) -> tuple[Tensor, float, float, Tensor]:
    """Scores of which none lies so near to its threshold that rounding could decide, except exactly at the start."""
    while True:
        rows, columns = whole(rng, 1, size), whole(rng, 1, 2 * size)
        L = _integers(0, 9, (rows, columns), rng) if size <= 3 else torch.randn(rows, columns, generator=rng) ** 2
        L[0, 0] = 1.0  # exactly the first threshold: not below it
        sparsity = (0.5, 0.25, 0.75)[whole(rng, 0, 2)]
        eta = (0.5, 0.3, 0.1)[whole(rng, 0, 2)]
        log_q = torch.zeros(rows) if size == 1 else torch.randn(rows, generator=rng).round(decimals=1)
        log_q[0] = 0.0
        q, safe = log_q.double(), True
        for j in range(columns):
            gap = (L[:, j].double() - q.exp()).abs()
            if j == 0:
                gap[0] = 1.0
            safe = safe and bool((gap > 1e-3 * q.exp()).all())
            q = q + eta * (sparsity - (L[:, j] < q.exp()).double())
        if safe:
            return L, sparsity, eta, log_q


def _verify_scan(args: tuple, out: object) -> str | None:
    L, sparsity, eta, log_q = args
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        return "Hint: return two things: pruned, [rows, in], and log_q after the scan, [rows]."
    pruned, end = (numbers(part) for part in out)
    hint = _shape_hint(pruned, L.shape, "pruned, one decision for each weight")
    hint = hint or _shape_hint(end, log_q.shape, "log_q after the scan, one number for each row")
    if hint:
        return hint
    expected, expected_end = scan(L.double(), sparsity, eta, log_q.double())
    if not bool(((pruned == 0) | (pruned == 1)).all()):
        return "Hint: pruned holds something other than True and False."
    if torch.equal(pruned.bool(), expected) and _close(end, expected_end, atol=1e-3):
        return None
    if torch.equal(pruned.bool(), expected):
        if _close(end.clamp_min(1e-300).log(), expected_end, atol=1e-3):
            return (
                "Hint: the decisions are right; the second result is q, and log_q is asked for: return its logarithm."
            )
        return (
            "Hint: the decisions are right, log_q at the end is not: each weight, the last one too, moves it by "
            "eta * (sparsity - pruned). Check sign and size."
        )
    if torch.equal(~pruned.bool(), expected):
        return "Hint: True stands for pruned here: L below the threshold."
    if torch.equal(pruned.bool(), log_q.exp()[:, None] > L) and torch.equal(end.double(), log_q.double()):
        return "Hint: the threshold does not move. It changes after each weight, before the next one is met."
    start = pruned[:, 0].bool() != expected[:, 0]
    if bool(start.any()):
        return "Hint: look at column 0, row " + str(int(start.int().argmax())) + ": prune where L < q; q = exp(log_q)."
    share = sparsity - (end - log_q.double()) / (eta * L.shape[1])
    if not _close(pruned.mean(1), share, atol=1e-3):
        return (
            "Hint: the telescoping identity does not hold: the share pruned in a row must be "
            "sparsity - (log_q after - log_q before) / (eta * in). Check the update's sign and size, row by row."
        )
    return "Hint: the first column is right, a later one is not: each row has its own threshold; columns go in order."


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
    return L, (0.5, 0.25, 0.75, 0.0)[whole(rng, 0, 3)]


def _verify_per_row_mask(args: tuple, out: object) -> str | None:
    L, sparsity = args
    out = numbers(out)
    hint = _shape_hint(out, L.shape, "True where a weight is kept, [out, in]")
    if hint:
        return hint
    if not bool(((out == 0) | (out == 1)).all()):
        return "Hint: return True (or 1) where a weight is kept and False (or 0) where it is pruned."
    keep, prune = out.bool(), int(sparsity * L.shape[1])
    for i, (row, kept) in enumerate(zip(L, keep)):
        pruned = int((~kept).sum())
        if pruned != prune:
            why = " The total is right: the ranking goes over the whole layer." if _right_in_all(keep, prune) else ""
            tied = 0 < prune < len(row) and row.sort().values[prune - 1] == row.sort().values[prune]
            why = why or (" Of equal scores, a threshold keeps all or none." if tied else "")
            return f"Hint: row {i} loses {pruned} weights, expected floor({sparsity:g} * {len(row)}) = {prune}.{why}"
        if 0 < prune < len(row) and row[~kept].max() > row[kept].min():
            return f"Hint: row {i} loses {row[~kept].max():g} and keeps {row[kept].min():g}: the smaller one must go."
    return None


def _right_in_all(keep: Tensor, prune: int) -> bool:
    return len(keep) > 1 and int((~keep).sum()) == prune * len(keep)


# 1.4


def average(batches: Tensor, decay: float) -> Tensor:
    """The moving average of ``[batches, in]`` after the last batch, corrected for its start at zero: ``[in]``."""
    raw = torch.zeros_like(batches[0])
    for x in batches:
        raw = decay * raw + (1 - decay) * x
    return raw / (1 - decay ** len(batches))


def _batches(size: int, rng: Generator) -> tuple[Tensor, float]:
    count, columns = whole(rng, 1, size), whole(rng, 1, size)
    decay = (0.5, 0.9, 0.0, 0.75)[whole(rng, 0, 3)]
    x = _integers(0, 8, (count, columns), rng)
    if size >= 4 and whole(rng, 0, 1):
        x = x[:1].expand(count, columns).clone()  # equal batches: the average is the batch
    return x, decay


def _verify_average(args: tuple, out: object) -> str | None:
    x, decay = args
    out, expected = numbers(out), average(x.double(), decay)
    hint = _shape_hint(out, expected.shape, "the average, one number for each feature")
    if hint or _close(out, expected):
        return hint
    count = len(x)
    raw = expected * (1 - decay**count)
    if _close(out, raw):
        return "Hint: the average starts at zero and is still too small: divide by the weight it has, 1 - decay^t."
    if decay < 1 and _close(out, raw / (1 - decay)):
        return "Hint: after t batches the weights add up to 1 - decay^t, not to 1 - decay."
    if count > 1 and _close(out, x.double().mean(0)):
        return "Hint: this is the plain mean: later batches count more, each 1 / decay times as much as the one before."
    if decay > 0 and _close(out, average(x.double(), 1 - decay)):
        return "Hint: decay is the weight of the past; the new batch gets 1 - decay."
    if bool((x == x[:1]).all()):
        return "Hint: all batches are equal here, so the average must be equal to them."
    return "Hint: update once for each batch, from the first to the last, and correct at the end, once, with t batches."


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
    "1.1": Exercise(_weights_and_inputs, _verify_contribution, ("W", "X"), contribution),
    "1.2": Exercise(_row_scores, _verify_scan, ("L", "sparsity", "eta", "log_q"), scan),
    "1.3": Exercise(_scores_by_row, _verify_per_row_mask, ("L", "sparsity"), per_row_mask),
    "1.4": Exercise(_batches, _verify_average, ("batches", "decay"), average),
    "1.6": Exercise(_even_length, _verify_fooled, ("n",), fooled, tries=1),
    "1.7": Exercise(_layers_and_steps, _verify_prune, ("W", "X", "sparsity", "etas"), prune),
}
