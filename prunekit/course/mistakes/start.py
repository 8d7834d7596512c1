"""What learners do wrong in notebook 00."""

from torch import Tensor

from ..checks import start
from .mistake import gives

ROWS = (
    gives(
        "this is the density, the share that is left: sparsity is the share of zeros",
        lambda W: 1 - start.row_sparsity(W),
    ),
    gives("these are counts: divide by the number of weights in a row", lambda W: (W == 0).sum(1)),
    gives("divide by the number of weights in a row, not by that of rows", lambda W: (W == 0).sum(1) / len(W)),
    gives("negative weights are not zeros", lambda W: (W <= 0).double().mean(1)),
    gives("these are percent: a share is from 0 to 1", lambda W: 100 * start.row_sparsity(W)),
    gives("only exact zeros count, tiny weights do not", lambda W: (W.abs() < 1e-6).double().mean(1)),
    gives(
        "only exact zeros count: as whole numbers, small weights become 0", lambda W: (W.int() == 0).double().mean(1)
    ),
)


PERPLEXITIES = (
    gives(
        "log-probabilities are negative: take the mean of -log p; a perplexity is never below 1",
        lambda x: x.mean().exp(),
    ),
    gives("take the mean over the tokens, not the sum", lambda x: (-x.sum()).exp()),
    gives("this is the mean loss in nats; perplexity is exp of it", lambda x: -x.mean()),
    gives("the logarithms are natural: raise e, not 2", lambda x: 2 ** -x.double().mean()),
    gives("first the mean of the logarithms, then exp: not the mean of 1 / p", lambda x: x.neg().exp().mean()),
    gives("first the mean of the logarithms, then exp: not 1 / mean of p", lambda x: 1 / x.exp().mean()),
)


def _ratio(above, below) -> Tensor:
    return above.sum() / below.sum()


RETENTIONS = (
    gives(
        "this is how often both models agree; only right next tokens count", lambda t, d, m: (m == d).double().mean()
    ),
    gives(
        "this is the compressed model's accuracy: divide it by the dense model's",
        lambda t, d, m: (m == t).double().mean(),
    ),
    gives(
        "the right tokens need not be the same ones: count each model's hits on its own",
        lambda t, d, m: _ratio((m == t) & (d == t), d == t),
    ),
    gives("upside down: the compressed model's hits belong above the line", lambda t, d, m: _ratio(d == t, m == t)),
    gives(
        "a retention can be above 1, if the compressed model happens to be right more often: do not clamp it",
        lambda t, d, m: min(start.retention(t, d, m), 1.0),
    ),
    gives("these are percent: a retention of 1 is nothing lost", lambda t, d, m: 100 * start.retention(t, d, m)),
)


def _pruned(score, count, W) -> Tensor:
    return W.scatter(1, score.argsort(dim=1, stable=True)[:, :count], 0.0)


PRUNED = (
    gives("this is pruning by magnitude: the score is W[i, j]^2 times E[j]", lambda W, E, n: _pruned(W.abs(), n, W)),
    gives("the score is the square of the weight times E: not |W| E", lambda W, E, n: _pruned(W.abs() * E, n, W)),
    gives("the square is missing: the score is W[i, j]^2 E[j]", lambda W, E, n: _pruned(W * E, n, W)),
    gives("the highest scores went: the lowest are to go", lambda W, E, n: _pruned(-(W**2) * E, n, W)),
    gives("`count` weights go in each row: so many stayed", lambda W, E, n: _pruned(W**2 * E, W.shape[1] - n, W)),
)

MISTAKES = {"0.1": ROWS, "0.2": PERPLEXITIES, "0.3": RETENTIONS, "0.5": PRUNED}
