"""Let the weights that stay make up for those that go: one small solve for each input, no Hessian, no training."""

from __future__ import annotations

import torch
from torch import Tensor

from .targets import check_shape, check_sparsity

SAMPLES = 64
RIDGE = 4.0


def response(X: Tensor, E: Tensor, pruned: float, ridge: float = RIDGE) -> Tensor:
    """How the weights that stay answer an error on sampled inputs: ``Z`` of `compensate`.

    What is pruned from a row leaves an error ``r = p X^T`` on the samples. The change ``d`` of the row's other
    weights that lowers ``|r - d X^T|^2 + t sum(E d^2)`` most is ``r (X_s E_s^-1 X_s^T + t)^-1 X_s E_s^-1``,
    where ``_s`` means the columns that stay. (It is the update of Optimal Brain Surgeon, Hassibi & Stork 1992,
    with a Hessian that is diagonal but for the samples.) The columns differ from row to row. So that one solve serves
    all rows of all layers that read this input, the product over the columns that stay is taken as their share of the
    whole product. This combination is prunekit's own.

    Args:
        X: inputs of the layer for some tokens, ``[samples, in]``.
        E: mean square of the inputs over more tokens, ``[in]``.
        pruned: share of the weights that goes, in ``[0, 1)``.
        ridge: ``t`` over the mean eigenvalue of the product. Few samples know little of the inputs: 0 fits them as
            closely as can be, and new text badly; 4 was chosen on validation text.

    Returns:
        float32 ``[samples, in]``.

    Raises:
        PrunekitError: bad share, or `X` and `E` do not fit.
    """
    check_shape(E, "E", (X.shape[1],))
    X = X.float()
    scaled = X / E.float().clamp_min(torch.finfo(torch.float32).tiny)
    product = (1 - check_sparsity(pruned, "pruned")) * (X @ scaled.T)
    product.diagonal().add_(ridge * product.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny))
    return torch.cholesky_inverse(torch.linalg.cholesky(product)) @ scaled


def compensate(W: Tensor, keep: Tensor, X: Tensor, Z: Tensor) -> Tensor:
    """The weight after the weights that stay have made up for the others: ``W + (P X^T) Z``, `P` what is pruned.

    Args:
        W: weight ``[out, in]``, any float dtype.
        keep: bool ``[out, in]``, the survivors.
        X: sampled inputs ``[samples, in]``.
        Z: `response` to them, ``[samples, in]``.

    Returns:
        float32 ``[out, in]``; where `keep` is False it means nothing and is to be masked.
    """
    W = W.float()
    return torch.addmm(W, torch.where(keep, 0, W) @ X.float().T, Z)
