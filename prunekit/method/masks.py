"""Which weights stay: exact selection by sorting or comparing, and N:M groups.

A mask is bool ``[out, in]``, True where a weight is kept. Ties keep the weight further left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .targets import check_sparsity, check_width, parse_pattern


def exact_mask(L: Tensor, sparsity: float) -> Tensor:
    """Per row, prune exactly ``floor(sparsity * in)`` weights of the lowest score, by sorting.

    Args:
        L: scores ``[out, in]``, any float dtype.
        sparsity: share to prune, in ``[0, 1)``.

    Returns:
        bool ``[out, in]``, True where a weight is kept.

    Raises:
        PrunekitError: sparsity out of range.
    """
    prune = int(check_sparsity(sparsity) * L.shape[1] * (1 + 1e-12))
    # Stable and descending: among equal scores the one further left ranks higher.
    order = torch.sort(L, dim=1, descending=True, stable=True).indices
    keep = torch.ones(L.shape, dtype=torch.bool, device=L.device)
    return keep.scatter_(1, order[:, L.shape[1] - prune :], False)


def nm_mask(L: Tensor, n: int, m: int) -> Tensor:
    """Keep the `n` highest scores in every group of `m` neighbours along the input axis.

    A weight stays if fewer than `n` in its group beat it: m comparisons for each weight, no sort.

    Args:
        L: scores ``[out, in]``; `m` divides `in`.
        n: weights kept in a group.
        m: size of a group.

    Returns:
        bool ``[out, in]``, True where a weight is kept.

    Raises:
        PrunekitError: not ``1 <= n <= m``, or `m` does not divide the width.
    """
    parse_pattern(f"{n}:{m}")
    check_width(L.shape[1], m)
    g = L.unflatten(1, (-1, m))
    beaten_by = torch.zeros(g.shape, dtype=torch.int32, device=L.device)
    column = torch.arange(m, device=L.device)
    for rival in range(m):
        r = g[..., rival : rival + 1]
        beaten_by += (r > g) | ((r == g) & (rival < column))
    return (beaten_by < n).flatten(1)


def sparsity_of(keep: Tensor) -> float:
    """Share of weights that a mask prunes.

    Args:
        keep: bool, any shape, True where a weight stays.

    Returns:
        From 0 to 1; 1 where there are none.
    """
    return 1 - keep.count_nonzero().item() / max(1, keep.numel())
