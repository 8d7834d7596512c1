"""Prune by alternating directions: weights and mask of one linear layer are found together, without training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import PrunekitError, check_count
from . import one_pass
from .targets import check_shape, check_target

PENALTIES = (0.2, 0.6, 2.0, 6.0)
STEPS = 16


@torch.no_grad()
def admm(
    W: Tensor,
    H: Tensor,
    sparsity: float | None = None,
    pattern: str | None = None,
    steps: int = STEPS,
    damping: float = 0.01,
    bfloat16: bool = False,
    *,
    select: Callable[..., Tensor] = one_pass.select,
) -> tuple[Tensor, Tensor]:
    """The sparse weight whose outputs are nearest to the dense weight's, by the alternating direction method.

    Minimises ``tr((V - W) H (V - W)^T)`` over weights `V` with zeros in the pattern's places, as Boža 2024
    (arXiv 2401.02938) does: a dense `V` and a sparse `Z` are drawn together by a penalty and a dual variable
    `U`; each step is one product with an inverse. Features are scaled to unit energy first.

    Prunekit's own: the mask is chosen anew in every step, by the moving average that prunes elsewhere, too, and
    the penalty rises in stages, each with an inverse of its own. Low penalties let weights make up for one
    another, high ones settle the mask. (The paper grows the mask at one penalty.)

    Args:
        W: weight ``[out, in]``, any float dtype.
        H: Gram matrix of the inputs, ``[in, in]``, float32; any positive multiple of ``X^T X``.
        sparsity: share of each row to prune, in ``[0, 1)``; or else
        pattern: ``"N:M"``.
        steps: how often the mask is chosen, at least one for each penalty.
        damping: added to the unit diagonal.
        bfloat16: run the steps' products in bfloat16: twice as fast on a CPU that is fast in it.
        select: what chooses the mask, with the arguments of `one_pass.select`; `kernels` has faster ones.

    Returns:
        (new weight of the dtype of `W`, keep): ``[out, in]`` both; `keep` is True where a weight stays, and the
        weight is zero elsewhere.

    Raises:
        PrunekitError: bad sparsity, pattern or number of steps; `H` is no Gram matrix of finite inputs of the layer.
    """
    check_target(sparsity, pattern, W.shape[1])
    check_shape(H, "H", (W.shape[1], W.shape[1]))
    steps = check_count(steps, "steps")
    if steps < len(PENALTIES):
        raise PrunekitError(f"steps is {steps}: expected {len(PENALTIES)} or more, one for each penalty.")
    norm = H.diagonal().float().sqrt()
    dead = norm == 0  # inputs that are always zero: their weights do nothing
    norm = torch.where(dead, 1.0, norm)
    H = (H.float() / norm).div_(norm[:, None])
    H.diagonal().add_(damping)
    target = (W.float() * norm).masked_fill(dead, 0)

    alike = torch.ones(W.shape[1], device=W.device)
    V, U, previous = target, torch.zeros_like(target), None
    for step in range(steps):
        penalty = PENALTIES[step * len(PENALTIES) // steps]
        if penalty != previous:
            inverse = torch.empty(0)  # makes room for the next
            inverse = _inverse(H, penalty)
            pull = target - (penalty * target) @ inverse  # target H (H + penalty)^-1
            inverse = inverse.bfloat16() if bfloat16 else inverse
            U = U * (previous / penalty) if previous else U
            previous = penalty
        drawn = V + U
        keep = select(drawn, alike, sparsity=sparsity, pattern=pattern)
        Z = drawn * keep
        U = drawn - Z
        V = pull + ((penalty * (Z - U)).to(inverse.dtype) @ inverse).float()
    return (Z / norm).to(W.dtype), keep


def _inverse(H: Tensor, penalty: float) -> Tensor:
    """``(H + penalty)^-1``."""
    raised = H.clone()
    raised.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(raised)
    del raised
    if failed or not torch.isfinite(factor.diagonal()).all():  # what is NaN in a row reaches it
        raise PrunekitError("the Hessian is not positive definite: expected X^T X of finite inputs; use more tokens.")
    return torch.cholesky_inverse(factor)
