"""What learners do wrong in notebook 01."""

from torch import Tensor

from ..checks.scoring import EXERCISES, average, per_row_mask
from ..printing import numbers
from .mistake import gives, right_for

_verify_scan, _verify_per_row_mask = EXERCISES["1.2"].verify, EXERCISES["1.3"].verify


def _mean_square(X: Tensor) -> Tensor:
    return X.double().square().mean(0)


CONTRIBUTIONS = (
    gives(
        "this is |W| times the root mean square: contribution is its square.",
        lambda W, X: W.abs() * _mean_square(X).sqrt(),
    ),
    gives(
        "the weight is squared, the root mean square of the input is not.", lambda W, X: W**2 * _mean_square(X).sqrt()
    ),
    gives("the weight is not squared.", lambda W, X: W.abs() * _mean_square(X)),
    gives("the sum over tokens is not the mean.", lambda W, X: W**2 * X.square().sum(0)),
    gives("the square comes first, then the mean: not the mean's square.", lambda W, X: W**2 * X.double().mean(0) ** 2),
    gives(
        "this is the variance of an input; its mean square keeps the mean in.",
        lambda W, X: W**2 * X.var(0, correction=0),
    ),
    gives("the inputs are left out.", lambda W, X: W**2),
    gives("the weights are left out.", lambda W, X: _mean_square(X).expand(W.shape)),
)


def _lasting(L: Tensor, sparsity: float, eta: float, log_q: Tensor) -> tuple[Tensor, float, float, Tensor]:
    return L, sparsity, 0.0, log_q


SCANS = (
    right_for(
        "the decisions are right; the second result is q, and log_q is asked for: return its logarithm.",
        lambda args, out: _verify_scan(args, (out[0], numbers(out[1]).log())),
        lambda *args: args,
    ),
    right_for(
        "True stands for pruned here: L below the threshold.",
        lambda args, out: _verify_scan(args, (1 - numbers(out[0]), out[1])),
        lambda *args: args,
    ),
    right_for(
        "the threshold does not move. It changes after each weight, before the next one is met.", _verify_scan, _lasting
    ),
    right_for(
        "where a weight is pruned the threshold has to fall, else to rise.",
        _verify_scan,
        lambda L, sparsity, eta, log_q: (L, sparsity, -eta, log_q),
    ),
    right_for(
        "sparsity is the share that is pruned, not the one that is kept.",
        _verify_scan,
        lambda L, sparsity, eta, log_q: (L, 1 - sparsity, eta, log_q),
    ),
)


def _layer_mask(L: Tensor, sparsity: float) -> Tensor:
    return per_row_mask(L.reshape(1, -1), sparsity).reshape(L.shape)


MASKS = (
    gives("the ranking goes over the whole layer: each row has its own.", _layer_mask),
    right_for(
        "True stands for kept here.",
        lambda args, out: _verify_per_row_mask(args, 1 - numbers(out)),
        lambda *args: args,
    ),
    right_for("the smallest scores go, not the largest.", _verify_per_row_mask, lambda L, sparsity: (-L, sparsity)),
    right_for(
        "scores below 0 are smaller than 0: no abs.", _verify_per_row_mask, lambda L, sparsity: (L.abs(), sparsity)
    ),
    gives(
        "of equal scores, a threshold keeps all or none: choose by rank.",
        lambda L, sparsity: L.sort(1).values[:, [int(sparsity * L.shape[1])]] <= L,
    ),
)


def _raw(x: Tensor, decay: float) -> Tensor:
    return average(x.double(), decay) * (1 - decay ** len(x))


AVERAGES = (
    gives("the average starts at zero and is still too small: divide by the weight it has, 1 - decay^t.", _raw),
    gives(
        "after t batches the weights add up to 1 - decay^t, not to 1 - decay.",
        lambda x, decay: _raw(x, decay) / (1 - decay),
    ),
    gives("this is the plain mean: later batches count more.", lambda x, decay: x.mean(0)),
    gives("this is the last batch alone.", lambda x, decay: x[-1]),
    gives(
        "decay is the weight of the past; the new batch gets 1 - decay.",
        lambda x, decay: average(x.double(), 1 - decay),
    ),
    gives(
        "from the first batch to the last: the last one counts most.",
        lambda x, decay: average(x.double().flip(0), decay),
    ),
)


MISTAKES = {"1.1": CONTRIBUTIONS, "1.2": SCANS, "1.3": MASKS, "1.4": AVERAGES}
