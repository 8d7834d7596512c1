"""What the exercises of notebook 00 ask for: zeros per row, perplexity, retention, a pruned matrix."""

import math

import torch
from torch import Tensor

from ..printing import numbers
from .exercise import Exercise, likely, whole


def _one(out) -> float | None:
    """A learner's answer as a float if it is a single number."""
    value = numbers(out)
    return value.item() if value is not None and value.numel() == 1 else None


def _near(value: float, right: float) -> bool:
    return math.isclose(value, right, rel_tol=1e-3, abs_tol=1e-6)


# 0.1 -----------------------------------------------------------------------------------------------------------------


def row_sparsity(W: Tensor) -> Tensor:
    """The share of zeros in each row, float32 ``[out]``."""
    return (W == 0).float().mean(dim=1)


def _matrix(size: int, rng: torch.Generator) -> tuple[Tensor]:
    """Small whole numbers with zeros among them, negative ones, sometimes a tiny one or an empty row."""
    rows, columns = whole(rng, 1, size), whole(rng, 1, size + 1)
    W = torch.randint(-2, 3, (rows, columns), generator=rng).float()
    kind = whole(rng, 0, 3)
    if kind == 1:
        W[whole(rng, 0, rows - 1)] = 0
    if kind == 2:
        W[0, whole(rng, 0, columns - 1)] = 1e-9
    if kind == 3:
        W[:, 0] *= -1  # which makes some zeros -0.0: they are zeros as well
    return (W,)


def _verify_rows(args: tuple, out) -> str | None:
    (W,) = args
    right, got = row_sparsity(W).double(), numbers(out)
    if got is None or got.numel() != W.shape[0] or got.squeeze().dim() > 1:
        return f"return one number for each of the {W.shape[0]} rows; a row is W[i, :], so reduce over dim=1"
    got = got.reshape(-1)
    if torch.allclose(got, right, atol=1e-6):
        return None
    if torch.allclose(got, 1 - right, atol=1e-6):
        return "this is the density, the share that is left: sparsity is the share of zeros"
    if torch.allclose(got, right * W.shape[1], atol=1e-6):
        return "these are counts: divide by the number of weights in a row"
    if torch.allclose(got, (W <= 0).double().mean(1), atol=1e-6) or torch.allclose(
        got, (W.abs() < 1e-6).double().mean(1), atol=1e-6
    ):
        return "only exact zeros count: neither negative nor tiny weights do"
    return "each number should be (zeros in that row) / (weights in that row), between 0 and 1"


# 0.2 -----------------------------------------------------------------------------------------------------------------


def perplexity(log_probs: Tensor) -> float:
    """``exp`` of the mean negative log-probability."""
    return math.exp(-log_probs.double().mean().item())


def _log_probs(size: int, rng: torch.Generator) -> tuple[Tensor]:
    """Log-probabilities of simple fractions, all different or all equal, and sometimes of nearly impossible tokens."""
    kind = whole(rng, 0, 3)
    halvings = torch.randint(0, 5, (size,), generator=rng)
    if kind == 0:
        halvings[:] = halvings[0]
    logs = halvings * -math.log(2)
    if kind == 3 and size > 2:
        logs = (logs - 60).repeat(5)  # no product of these is above 0, in double precision either
    return (logs.float(),)


def _verify_perplexity(args: tuple, out) -> str | None:
    (logs,) = args
    right, got = perplexity(logs), _one(out)
    if got is None:
        return "return a single number"
    if _near(got, right):
        return None
    n, mean = len(logs), logs.double().mean().item()
    if right > 1e20 and not math.isfinite(got):
        return "multiplying probabilities underflows on longer texts: add logarithms, and take exp only of their mean"
    mistakes = {
        "log-probabilities are negative: take the mean of -log p; a perplexity is never below 1": math.exp(mean),
        "take the mean over the tokens, not the sum": math.exp(min(-mean * n, 700)),
        "this is the mean loss in nats; perplexity is exp of it": -mean,
        "the logarithms are natural: raise e, not 2": 2**-mean,
        "first the mean of the logarithms, then exp: not the mean of 1 / p": logs.double().neg().exp().mean().item(),
    }
    general = "perplexity is exp(mean of -log p) over all tokens; if all p are 1/k it is k"
    return likely(got, mistakes.items()) or general


# 0.3 -----------------------------------------------------------------------------------------------------------------


def retention(target: Tensor, dense: Tensor, model: Tensor) -> float:
    """Top-1 accuracy of the model over that of the dense one."""
    return ((model == target).sum() / (dense == target).sum()).item()


def _guesses(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Few different tokens, so that models agree on right and on wrong ones; the dense one is right at least once."""
    target, dense, model = (torch.randint(1, 4, (size + 1,), generator=rng) for _ in range(3))
    dense[whole(rng, 0, size)] = 0
    sure = whole(rng, 0, size)
    dense[sure] = target[sure]
    if whole(rng, 0, 2) == 0:
        model = target.clone()  # better than the dense one: a retention above 1
        model[whole(rng, 0, size)] = 9
    return target, dense, model


def _verify_retention(args: tuple, out) -> str | None:
    target, dense, model = args
    right, got = retention(target, dense, model), _one(out)
    if got is None:
        return "return a single number"
    if _near(got, right):
        return None
    hits, dense_hits = model == target, dense == target
    both = (hits & dense_hits).sum().item() / dense_hits.sum().item()
    mistakes = {
        "this is how often both models agree; only right next tokens count": (model == dense).double().mean().item(),
        "this is the compressed model's accuracy: divide it by the dense model's": hits.double().mean().item(),
        "the right tokens need not be the same ones: count each model's hits on its own": both,
        "upside down: the compressed model's hits belong above the line": 1 / right if right else math.inf,
        "a retention can be above 1, if the compressed model happens to be right more often: do not clamp it": min(
            right, 1.0
        ),
    }
    general = "retention = (tokens that the compressed model gets right) / (tokens that the dense model gets right)"
    return likely(got, mistakes.items()) or general


# 0.5 -----------------------------------------------------------------------------------------------------------------


def prune(W: Tensor, E: Tensor, count: int) -> Tensor:
    """A copy of `W`, in each row the `count` weights of the lowest ``W^2 E`` set to zero."""
    lowest = (W**2 * E).argsort(dim=1, stable=True)[:, :count]
    return W.scatter(1, lowest, 0.0)


def _weights_and_energy(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Weights as they come, or small whole numbers times a power of two, with ties and zeros; energies far apart."""
    rows, columns, kind = whole(rng, 1, size), whole(rng, 1, size + 1), whole(rng, 0, 3)
    if kind == 0:
        W = 0.05 * torch.randn(rows, columns, generator=rng)
        return W, (3 * torch.randn(columns, generator=rng)).exp(), whole(rng, 0, columns)
    W = torch.randint(-3, 4, (rows, columns), generator=rng) * 2.0 ** (0, 0, -20, 12)[kind]
    powers = torch.randint(-4, 5, (columns,), generator=rng) * (kind != 1)  # kind 1: all energies are 1
    return W, 4.0**powers, whole(rng, 0, columns)


def _verify_prune(args: tuple, out) -> str | None:
    W, E, count = (args[0].double(), args[1].double(), args[2])
    got = numbers(out)
    if got is None or got.shape != W.shape:
        return f"return a matrix of the shape of W, {list(W.shape)}, with zeros where a weight is pruned"
    if not ((got == 0) | torch.isclose(got, W, rtol=1e-6, atol=0)).all():
        return "each number is either 0 or the weight of W at that place: weights that stay keep their values"
    right = (W**2 * E).sort(dim=1).values
    right[:, :count] = 0
    if torch.allclose((got**2 * E).sort(dim=1).values, right, rtol=1e-5, atol=0):
        return None
    zeros, due = (got == 0).sum(1), (right == 0).sum(1)
    if (zeros != due).any():
        row = (zeros != due).nonzero()[0].item()
        return f"row {row} should have {due[row]} zeros, those that W has itself included, and has {zeros[row]}"
    size = W.abs().sort(dim=1).values
    size[:, :count] = 0
    if torch.allclose(got.abs().sort(dim=1).values, size, rtol=1e-5, atol=0):
        return "this is pruning by magnitude: the score is W[i, j]^2 times E[j]"
    return "in each row the lowest scores W[i, j]^2 E[j] go, and the highest stay; E has one number for each column"


EXERCISES = {
    "0.1": Exercise(inputs=_matrix, verify=_verify_rows, names=("W",), reference=row_sparsity),
    "0.2": Exercise(inputs=_log_probs, verify=_verify_perplexity, names=("log_probs",), reference=perplexity),
    "0.3": Exercise(inputs=_guesses, verify=_verify_retention, names=("target", "dense", "model"), reference=retention),
    "0.5": Exercise(inputs=_weights_and_energy, verify=_verify_prune, names=("W", "E", "count"), reference=prune),
}
