"""The methods to compare with, written to be read: magnitude, Wanda and SparseGPT for one linear layer.

All are pure: a weight ``[out, in]`` and statistics of its inputs in, a mask or a new weight out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import PrunekitError, check_count
from .masks import exact_mask, nm_mask
from .scores import contribution
from .targets import check_shape, check_target


def magnitude_mask(W: Tensor, sparsity: float | None = None, pattern: str | None = None) -> Tensor:
    """Keep the largest ``|W|`` of the whole layer (or of each N:M group).

    Args:
        W: weight ``[out, in]``, any float dtype.
        sparsity: share of the layer to prune, in ``[0, 1)``; or else
        pattern: ``"N:M"``.

    Returns:
        bool ``[out, in]``, True where a weight is kept.

    Raises:
        PrunekitError: bad sparsity or pattern.
    """
    n, m = check_target(sparsity, pattern, W.shape[1])
    if m:
        return nm_mask(W.abs(), n, m)
    assert sparsity is not None  # check_target saw to it
    return exact_mask(W.abs().reshape(1, -1), sparsity).reshape(W.shape)


def wanda_mask(W: Tensor, E: Tensor, sparsity: float | None = None, pattern: str | None = None) -> Tensor:
    """Keep the largest ``|W_ij| ||X_j||`` of each output row (or N:M group), by sorting.

    Sun et al. 2023, arXiv 2306.11695, section 3. ``W^2 E`` orders weights the same way.

    Args:
        W: weight ``[out, in]``, any float dtype.
        E: mean square of each input feature, ``[in]``.
        sparsity: share of each row to prune, in ``[0, 1)``; or else
        pattern: ``"N:M"``.

    Returns:
        bool ``[out, in]``, True where a weight is kept.

    Raises:
        PrunekitError: bad sparsity or pattern.
    """
    L = contribution(W, E)
    n, m = check_target(sparsity, pattern, W.shape[1])
    if m:
        return nm_mask(L, n, m)
    assert sparsity is not None  # check_target saw to it
    return exact_mask(L, sparsity)


@torch.no_grad()
def sparsegpt(
    W: Tensor,
    H: Tensor,
    sparsity: float | None = None,
    pattern: str | None = None,
    block: int = 128,
    damping: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """Prune column by column and let the columns to the right make up for what is lost.

    Frantar and Alistarh 2023, arXiv 2301.00774, algorithm 1. With ``H = X^T X`` over the inputs, removing
    ``W_ij`` costs ``W_ij^2 / [H^-1]_jj`` once the weights to its right have been updated; the rows of the
    Cholesky factor of ``H^-1`` hold that diagonal and that update for every column.

    Args:
        W: weight ``[out, in]``, any float dtype.
        H: Gram matrix of the inputs, ``[in, in]``, float32; any positive multiple of ``X^T X``.
        sparsity: share to prune in each block of columns, in ``[0, 1)``; or else
        pattern: ``"N:M"``.
        block: columns whose mask is chosen together.
        damping: share of the mean diagonal of `H` that is added to it.

    Returns:
        (new weight of the dtype of `W`, keep): ``[out, in]`` both; `keep` is True where a weight stays, and the
        weight is zero elsewhere.

    Raises:
        PrunekitError: bad sparsity, pattern or block; `H` does not fit, or is not positive definite even when damped.
    """
    columns = W.shape[1]
    n, m = check_target(sparsity, pattern, columns)
    check_shape(H, "H", (columns, columns))
    block = check_count(block, "block")
    if m:
        block = max(m, block // m * m)

    new, H = W.float().clone(), H.float().clone()
    dead = H.diagonal() == 0  # inputs that are always zero: their weights do nothing
    H.diagonal()[dead] = 1
    new[:, dead] = 0
    H.diagonal().add_(damping * H.diagonal().mean())
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(H))
        U = torch.linalg.cholesky(inverse, upper=True)
    except torch.linalg.LinAlgError:
        raise PrunekitError(
            "SparseGPT's Hessian is not positive definite: expected X^T X of finite inputs; "
            "use more calibration tokens or a larger damping."
        ) from None

    keep = torch.ones_like(new, dtype=torch.bool)
    for start in range(0, columns, block):
        end = min(start + block, columns)
        w, u, k = new[:, start:end], U[start:end, start:end], keep[:, start:end]
        cost = w**2 / u.diagonal() ** 2
        if not m:
            assert sparsity is not None  # check_target saw to it
            # The share refers to the block as a whole: rows that matter less lose more.
            k[:] = exact_mask(cost.reshape(1, -1), sparsity).reshape(k.shape)
        errors = torch.zeros_like(w)
        for j in range(end - start):
            if m and j % m == 0:
                k[:, j : j + m] = nm_mask(w[:, j : j + m] ** 2 / u.diagonal()[j : j + m] ** 2, n, m)
            column = w[:, j].clone()
            errors[:, j] = torch.where(k[:, j], 0.0, column) / u[j, j]
            w[:, j:] -= errors[:, j : j + 1] * u[j : j + 1, j:]
            w[:, j] = torch.where(k[:, j], column, 0.0)
        new[:, end:] -= errors @ U[start:end, end:]
    return (new * keep).to(W.dtype), keep
