"""What the exercises of notebook 00 ask for: zeros per row, perplexity, retention, a pruned matrix."""

import math

import torch
from torch import Tensor

from ..printing import numbers
from .exercise import Exercise, long_guesses, whole

VOCABULARY = 49152


def _one(out) -> float | None:
    """A learner's answer as a float if it is a single number."""
    value = numbers(out)
    return value.item() if value is not None and value.numel() == 1 else None


# 0.1 -----------------------------------------------------------------------------------------------------------------


def row_sparsity(W: Tensor) -> Tensor:
    """The share of zeros in each row, float32 ``[out]``."""
    return (W == 0).float().mean(dim=1)


def _matrix(size: int, rng: torch.Generator) -> tuple[Tensor]:
    """Weights with zeros among them, negative, small and tiny ones, sometimes an empty row."""
    rows, columns = whole(rng, 1, size), whole(rng, 1, size + 1)
    W = torch.randint(-2, 3, (rows, columns), generator=rng) * (1.0, 1.0, 0.25, 0.02)[whole(rng, 0, 3)]
    kind = whole(rng, 0, 3)
    if kind == 1:
        W[whole(rng, 0, rows - 1)] = 0
    if kind == 2:
        W[0, whole(rng, 0, columns - 1)] = (1e-3, 1e-9, -1e-30)[whole(rng, 0, 2)]
    if kind == 3:
        W[:, 0] *= -1  # which makes some zeros -0.0: they are zeros as well
    return (W,)


def _matrices() -> list[tuple]:
    """Tiny weights beside zeros, and rows so wide that their zeros fill more than a byte."""
    tiny = torch.tensor([[0.0, 1e-12, -1e-30, 0.3], [-0.0, 2.0, 3.0, 1e30]])
    wide = torch.randn(3, 700, generator=torch.Generator().manual_seed(0)) / 50
    wide[0, :601] = 0
    wide[2, ::3] = 0
    return [(tiny[:, :3],), (tiny,), (wide,)]


def _verify_rows(args: tuple, out) -> str | None:
    (W,) = args
    right, got = (W == 0).double().mean(dim=1), numbers(out)
    if got is None or got.numel() != W.shape[0] or got.squeeze().dim() > 1:
        return f"return one number for each of the {W.shape[0]} rows; a row is W[i, :], so reduce over dim=1"
    off = (got.reshape(-1) - right).abs() > 2e-7  # NaN is not above anything
    off |= got.reshape(-1).isnan()
    if not off.any():
        return None
    row = int(off.nonzero()[0])
    zeros = int((W[row] == 0).sum())
    return f"row {row} has {zeros} zeros among {W.shape[1]} weights; only 0.0 and -0.0 are zeros"


# 0.2 -----------------------------------------------------------------------------------------------------------------


def perplexity(log_probs: Tensor) -> float:
    """``exp`` of the mean negative log-probability."""
    return math.exp(-log_probs.double().mean().item())


def _log_probs(size: int, rng: torch.Generator) -> tuple[Tensor]:
    """Log-probabilities of simple fractions or of any, all equal or not, sometimes of nearly impossible tokens."""
    kind = whole(rng, 0, 5)
    halvings = torch.randint(0, 5, (size,), generator=rng).float()
    if kind == 0:
        halvings[:] = halvings[0]
    logs = halvings * -math.log(2)
    if kind == 3 and size > 2:
        logs = (logs - 60).repeat(5)  # no product of these is above 0, in double precision either
    if kind > 3:
        logs = -6 * torch.rand(size, generator=rng)
    return (logs,)


def _texts() -> list[tuple]:
    """A certain token, an unlikely one, and a long text as a model sees it."""
    long = -2.5 * torch.randn(2000, generator=torch.Generator().manual_seed(0)).square()
    return [(torch.zeros(1),), (torch.tensor([-25.0]),), (torch.tensor([0.0, -1.3, -1.3, -30.0]),), (long,)]


def _verify_perplexity(args: tuple, out) -> str | None:
    (logs,) = args
    right, got = perplexity(logs), _one(out)
    if got is None:
        return "return a single number"
    if math.isclose(got, right, rel_tol=3e-4):
        return None
    what = f"the mean of -log p over the {len(logs)} tokens is {-logs.double().mean().item():.6g}"
    if not math.isfinite(got) or got == 0:
        return f"{what}, and its exp is neither infinite nor 0: what is added up as logarithms cannot underflow"
    return f"{what}; perplexity is exp of that"


# 0.3 -----------------------------------------------------------------------------------------------------------------


def retention(target: Tensor, dense: Tensor, model: Tensor) -> float:
    """Top-1 accuracy of the model over that of the dense one."""
    return ((model == target).sum() / (dense == target).sum()).item()


def _guesses(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Few different tokens, so that models agree on right and on wrong ones; the dense one is right at least once."""
    few = torch.randint(0, VOCABULARY - 1, (3,), generator=rng)
    few[2] = few[0] + 1  # the next token is another one
    if size < 3:
        few = torch.tensor([0, 1, 300])
    target, dense, model = (few[torch.randint(0, 3, (size + 1,), generator=rng)] for _ in range(3))
    dense[whole(rng, 0, size)] = few[1] + 256
    sure = whole(rng, 0, size)
    dense[sure] = target[sure]
    if whole(rng, 0, 2) == 0:
        model = target.clone()  # better than the dense one: a retention above 1
        model[whole(rng, 0, size)] += 1
    return target, dense, model


def _long_guesses() -> list[tuple]:
    """Token 0, neighbours among large ids, ids that are alike in one byte, and a long text."""
    target, dense, model = long_guesses()
    return [
        (torch.tensor([0, 5]), torch.tensor([0, 0]), torch.tensor([0, 5])),
        (torch.tensor([140001, 140001]), torch.tensor([140001, 140002]), torch.tensor([140002, 140001])),
        (torch.tensor([140001, 140001]), torch.tensor([140001, 140257]), torch.tensor([140002, 140000])),
        (torch.tensor([70000, 3]), torch.tensor([70000, 3]), torch.tensor([70000 - 65536, 3])),
        (target, dense, model),
    ]


def _verify_retention(args: tuple, out) -> str | None:
    target, dense, model = args
    right, got = (model == target).sum().item() / (dense == target).sum().item(), _one(out)
    if got is None:
        return "return a single number"
    if math.isclose(got, right, rel_tol=1e-5, abs_tol=0):
        return None
    hits = f"the compressed model gets {(model == target).sum()} tokens right, the dense one {(dense == target).sum()}"
    return f"{hits}; retention is the first over the second"


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
    return "in each row the lowest scores W[i, j]^2 E[j] go, and the highest stay; E has one number for each column"


EXERCISES = {
    "0.1": Exercise(_matrix, _verify_rows, ("W",), row_sparsity, _matrices),
    "0.2": Exercise(_log_probs, _verify_perplexity, ("log_probs",), perplexity, _texts),
    "0.3": Exercise(_guesses, _verify_retention, ("target", "dense", "model"), retention, _long_guesses),
    "0.5": Exercise(inputs=_weights_and_energy, verify=_verify_prune, names=("W", "E", "count"), reference=prune),
}
