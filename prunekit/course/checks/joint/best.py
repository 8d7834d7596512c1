"""Exercise 4.1: the best mask where casting has its part."""

from math import inf

import torch
from torch import Tensor

from ....method.scores import keep_score
from .masks import choose, mask_of


def joint_inputs(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
    rows, columns = (size + 1) // 2, size + 1
    W = torch.randint(-7, 8, (rows, columns), generator=rng).float()
    step = choose([1, 2, 4, 4, 8], (rows, 1), rng)  # a format of so few values that casting hurts
    E = choose([0, 0.25, 1, 1, 2, 4, 9], (columns,), rng)
    if size >= 3 and torch.rand((), generator=rng) < 0.5:  # as small as in layers, inputs of any scale
        W, step = torch.randn(rows, columns, generator=rng) / 50, step / 100
        E = E * 10.0 ** torch.randint(-6, 3, (columns,), generator=rng)
    Wq = torch.round(W / step) * step
    keep = int(torch.randint(0, columns + 1, (), generator=rng))
    return W, Wq, E, keep


def joint_layers() -> list[tuple]:
    """Casts that double a weight or more, so that keeping it gains nothing or hurts; and a layer."""
    W, Wq = torch.tensor([[1.0, 3, 1, -2]]), torch.tensor([[4.0, 0, 2, -6]])
    rng = torch.Generator().manual_seed(0)
    layer = torch.randn(12, 12, generator=rng) / 50
    E = torch.randn(12, generator=rng).square() * 10.0 ** torch.randint(-5, 2, (12,), generator=rng)
    cast = layer.to(torch.float8_e5m2).float()
    hard = [(W, Wq, torch.tensor([1.0, 1, 2, 1]), keep) for keep in (1, 2, 3)]
    near = (1 + torch.randperm(8, generator=rng).float() * 2**-12)[None]
    return [
        *hard,
        (near, near, torch.full((8,), 0.0037), 4),
        (layer, cast, E, 6),
        (layer[:3], (layer[:3] * 40).round() / 40, E, 5),
    ]


def loss(W: Tensor, Wq: Tensor, E: Tensor, keep: Tensor) -> Tensor:
    """What is lost in each row, float64 ``[out]``: pruned weights entirely, kept ones by their casting error."""
    W, Wq, E = W.double(), Wq.double(), E.double()
    return (torch.where(keep, W - Wq, W) ** 2 * E).sum(1)


def joint_mask(W: Tensor, Wq: Tensor, E: Tensor, keep: int) -> Tensor:
    """The mask of exercise 4.1: the `keep` highest keep scores of each row."""
    order = keep_score(W.double(), Wq.double(), E.double()).argsort(dim=1, descending=True, stable=True)
    return torch.zeros(W.shape, dtype=torch.bool).scatter_(1, order[:, :keep], True)


def verify_joint(args: tuple, out: object) -> str | None:
    W, Wq, E, keep = args
    mask, hint = mask_of(out, W.shape, "W")
    if hint:
        return hint
    if (mask.sum(1) != keep).any():
        return f"each row must keep exactly {keep} of its {W.shape[1]} weights; these rows keep {mask.sum(1).tolist()}."
    pruned, kept = W.double() ** 2 * E.double(), (W.double() - Wq.double()) ** 2 * E.double()
    gain, blur = pruned - kept, 1e-5 * (pruned + kept)  # which float32 may leave open
    worse = torch.where(mask, gain + blur, inf).amin(1) < torch.where(mask, -inf, gain - blur).amax(1)
    if worse.any():
        row = int(worse.nonzero()[0])
        best, found = loss(W, Wq, E, joint_mask(W, Wq, E, keep))[row], loss(W, Wq, E, mask)[row]
        return (
            f"row {row} loses {found:.6g} where {best:.6g} is possible. A pruned weight loses W^2 E, a kept one "
            "(W - Wq)^2 E: keep those for which the difference of the two is largest, row by row."
        )
    return None
