"""Exercise 4.7: the joint pass on one layer, from its inputs to the weight that is left."""

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor

from ....method.scores import keep_score
from ...printing import numbers
from ..exercise import whole
from .masks import choose, mask_of

FP4 = [0.0, 0.5, 1, 1.5, 2, 3, 4, 6]
GRIDS = (FP4, [0.0, 1], [0.0, 1, 2, 3, 4, 5, 6, 7], [0.0, 0.001, 1, 448])


def inputs(size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
    """A layer with inputs of any scale; some rows and features are all zeros."""
    rows, columns, tokens = (size + 1) // 2, size + 1, whole(rng, 1, size + 2)
    W = torch.randn(rows, columns, generator=rng)
    if size >= 3:
        W = W / 50 * choose([1, 1, 1e-3, 1e3, 0], (rows, 1), rng)
    X = torch.randn(tokens, columns, generator=rng) * choose([0, 0.1, 1, 1, 10, 100], (columns,), rng)
    grid = torch.tensor(GRIDS[whole(rng, 0, len(GRIDS) - 1)] if size >= 3 else FP4)
    return W, X, grid, whole(rng, 0, columns)


def corners() -> list[tuple]:
    """The matrix of the notebook, a row whose largest weight goes, equal weights, one token, and a layer."""
    W = torch.tensor([[1.3, 0.7, 1.4, 1.1, -0.5, 6.0], [2.6, 1.4, -2.2, 1.7, 6.0, 3.3]])
    E = torch.tensor([1.0, 4.2, 1.0, 2.0, 0.05, 0.25])
    X = E.sqrt() * torch.tensor([[1.0], [-1.0]])
    rng = torch.Generator().manual_seed(0)
    layer = torch.randn(6, 24, generator=rng) / 50
    many = torch.randn(40, 24, generator=rng) * 10.0 ** torch.randint(-2, 3, (24,), generator=rng)
    flat, grid = torch.full((2, 4), -0.3), torch.tensor(FP4)
    return [
        (W, X, grid, 3),
        (W[:1], X, grid, 2),
        (torch.tensor([[5.0, 1.0, -0.8]]), torch.tensor([[0.01, 1.0, 1.0]]), grid, 2),
        (flat, torch.ones(3, 4), grid, 2),
        (layer, many, grid, 12),
        (layer, many[:1], grid, 7),
    ]


def to_grid(W: Tensor, grid: Tensor, keep: Tensor | None = None) -> Tensor:
    """A weight through a format: each row has a scale that puts its largest, of those kept, on the end of the grid."""
    W = W if keep is None else torch.where(keep, W, 0.0)
    top = W.abs().amax(1, keepdim=True)
    scale = torch.where(top > 0, top / grid[-1], 1.0)
    nearest = ((W.abs() / scale)[..., None] - grid).abs().argmin(-1)
    return W.sign() * grid[nearest] * scale


def joint_pass(W: Tensor, X: Tensor, grid: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The mask and the weight of exercise 4.7."""
    W, grid, E = W.double(), grid.double(), X.double().square().mean(0)
    best = keep_score(W, to_grid(W, grid), E).argsort(dim=1, descending=True, stable=True)[:, :keep]
    mask = torch.zeros(W.shape, dtype=torch.bool).scatter_(1, best, True)
    return mask, to_grid(W, grid, mask).float()


def verify(args: tuple, out: object, score: Callable[[Tensor, Tensor, Tensor], Tensor] = keep_score) -> str | None:
    """The mask by its scores, then the weight by the learner's own mask; `score` takes W, the cast W and E."""
    W, X, grid, keep = args
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        return "return two things, the mask and the weight that is left."
    mask, hint = mask_of(out[0], W.shape, "W")
    if mask is None:
        return f"the mask: {hint}"
    if (mask.sum(1) != keep).any():
        return f"each row must keep exactly {keep} of its {W.shape[1]} weights; these rows keep {mask.sum(1).tolist()}."
    W, grid, E = W.double(), grid.double(), X.double().square().mean(0)
    Q = to_grid(W, grid)
    gain, blur = score(W, Q, E), 1e-5 * (W**2 + (W - Q) ** 2) * E  # which float32 may leave open
    worse = torch.where(mask, gain + blur, inf).amin(1) < torch.where(mask, -inf, gain - blur).amax(1)
    if worse.any():
        return (
            f"the mask: row {int(worse.nonzero()[0])} prunes a weight of a higher keep score than one that it keeps. "
            "Energies are mean squares of the columns of X; Q is cast with a scale from the whole row."
        )
    return _verify_weight(W, grid, mask, numbers(out[1]))


def _verify_weight(W: Tensor, grid: Tensor, mask: Tensor, new: Tensor | None) -> str | None:
    """Whether what is left is the nearest value of the format, with the scale of the survivors."""
    if new is None or new.shape != W.shape:
        return f"the weight: expected the shape of W, {tuple(W.shape)}."
    if new[~mask].any():
        return "the weight: what is pruned is 0."
    top = torch.where(mask, W, 0.0).abs().amax(1, keepdim=True)
    scale = torch.where(top > 0, top / grid[-1], 1.0)
    least = ((W.abs() / scale)[..., None] - grid).abs().amin(-1)
    there = ((new.abs() / scale)[..., None] - grid).abs().amin(-1) <= 1e-5 * grid[-1]
    near = (new - W).abs() <= (least + 1e-5 * grid[-1]) * scale
    off = mask & ~(there & near)
    if not off.any():
        return None
    i, j = off.nonzero()[0].tolist()
    return (
        f"the weight: at [{i}, {j}] stands {new[i, j]:.6g} for {W[i, j]:.6g}; the scale of the survivors is "
        f"{scale[i, 0]:.6g}, and the nearest value of the format times it is {to_grid(W, grid, mask)[i, j]:.6g}."
    )
