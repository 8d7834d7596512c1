"""What learners do wrong in notebook 04."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..checks.joint.whole import to_grid, verify
from ..checks.pipeline import EXERCISES, front_mask, joint_mask, joint_pass, top1_retention, wanda_mask
from ..printing import numbers
from .mistake import Mistake, gives, right_for


def _turned(exercise: str, hint: str) -> Mistake:
    """True and False in each other's place."""
    verify = EXERCISES[exercise].verify
    return right_for(hint, lambda args, out: verify(args, 1 - numbers(out)), lambda *args: args)


JOINT = (
    right_for(
        "this keeps what has the highest contribution W^2 E, whatever casting loses",
        EXERCISES["4.1"].verify,
        lambda W, Wq, E, keep: (W, W, E, keep),
    ),
    right_for(
        "the energy of the inputs is left out", EXERCISES["4.1"].verify, lambda W, Wq, E, keep: (W, Wq, E * 0 + 1, keep)
    ),
    _turned("4.1", "True stands for a weight that is kept"),
)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return above.sum() / below.sum()


RETENTIONS = (
    gives(
        "this is agreement: how often the two models say the same, right or wrong. Retention looks at the target.",
        lambda d, c, t: (d == c).double().mean(),
    ),
    gives("this is the accuracy of the compressed model alone.", lambda d, c, t: (c == t).double().mean()),
    gives(
        "tokens that only the compressed model gets right count as well: retention is a ratio of two accuracies.",
        lambda d, c, t: _ratio((d == t) & (c == t), d == t),
    ),
    gives(
        "retention may exceed 1, where the compressed model is right more often: do not clip it.",
        lambda d, c, t: torch.tensor(top1_retention(d, c, t)).clamp(max=1),
    ),
    gives("a ratio was asked for, not percent.", lambda d, c, t: 100 * top1_retention(d, c, t)),
    gives("the compressed model's hits belong above the line.", lambda d, c, t: _ratio(d == t, c == t)),
)


WANDA = (
    gives(
        "the scores of all rows are compared with one another: each row ranks its own.",
        lambda W, E, sparsity: wanda_mask((W.abs() * E.sqrt()).reshape(1, -1), torch.ones(W.numel()), sparsity).view(
            W.shape
        ),
        rtol=0,
    ),
    right_for(
        "this ranks |W| E: the root is missing.", EXERCISES["4.3"].verify, lambda W, E, sparsity: (W, E**2, sparsity)
    ),
    right_for(
        "this ranks |W|: the inputs are left out.",
        EXERCISES["4.3"].verify,
        lambda W, E, sparsity: (W, E * 0 + 1, sparsity),
    ),
    _turned("4.3", "True stands for a weight that is kept."),
)


FRONTS = (
    gives("lower quality is not better.", lambda cost, quality: front_mask(cost, -quality), rtol=0),
    gives("higher cost is not better.", lambda cost, quality: front_mask(-cost, quality), rtol=0),
    _turned("4.4", "True stands for a point on the front."),
    gives(
        "a point that is as cheap and better beats another, too.",
        lambda cost, quality: ~((cost[:, None] < cost) & (quality[:, None] > quality)).any(0),
        rtol=0,
    ),
    gives(
        "equal points do not push each other out.",
        lambda cost, quality: ((cost[:, None] <= cost) & (quality[:, None] >= quality)).sum(0) == 1,
        rtol=0,
    ),
)


def _gives_both(hint: str, wrong: Callable[..., tuple[Tensor, Tensor]]) -> Mistake:
    """The mistake of answering 4.7 as `wrong` does: the same mask and the same weight."""
    parts = [gives(hint, lambda *args, i=i: wrong(*args)[i], rtol=1e-4) for i in (0, 1)]
    return Mistake(hint, lambda args, out: all(part.explains(args, out[i]) for i, part in enumerate(parts)))


def _by(hint: str, score: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Mistake:
    """The joint pass with another score of the weight, the cast weight and the energies."""
    return Mistake(hint, lambda args, out: verify(args, out, score) is None)


def _scale_of_all(W: Tensor, X: Tensor, grid: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    mask = joint_mask(W, to_grid(W, grid), X.square().mean(0), keep)
    return mask, to_grid(W, grid) * mask


def _not_cast(W: Tensor, X: Tensor, grid: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    mask = joint_pass(W, X, grid, keep)[0]
    return mask, W * mask


WHOLE = (
    _gives_both("the last cast takes its scale from the whole row: take it from the survivors.", _scale_of_all),
    _gives_both("what stays is not cast.", _not_cast),
    _by("this keeps what has the highest W^2 E, whatever casting loses.", lambda W, Q, E: W**2 * E),
    _by("this ranks Q^2 E, what is seen after casting, and not what keeping saves.", lambda W, Q, E: Q**2 * E),
    _by("the energies are left out.", lambda W, Q, E: W**2 - (W - Q) ** 2),
)


MISTAKES = {"4.1": JOINT, "4.2": RETENTIONS, "4.3": WANDA, "4.4": FRONTS, "4.7": WHOLE}
