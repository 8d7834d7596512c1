"""The method on one page: score, select, compensate and cast the weight of one linear layer.

This is the plain version. `kernels` does the same in one sweep over the weight and is tested against this page: bit
for bit, the compensated pass, which works in bfloat16 there, within a bound. Each step has a module of its own here:
`scores`, `ewma` (select without sorting), `masks` (N:M), `compensation`, `fp8`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .compensation import compensate
from .ewma import quantile_mask
from .fp8 import E4M3, Format, cast, scales, uncast
from .masks import nm_mask
from .scores import keep_score, score
from .targets import check_sparsity, check_target, parse_pattern

Rule = Callable[[Tensor, float], Tensor]  # from scores [out, in] and a share to a mask, True where a weight is kept


def select(
    W: Tensor,
    f: Tensor,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    joint: tuple[Format, Tensor] | None = None,
    rule: Rule = quantile_mask,
) -> Tensor:
    """Score each weight by ``W^2 f`` and select what stays, without sorting.

    Args:
        W: weight ``[out, in]``, float32, bfloat16 or float16.
        f: column factors ``[in]``, see `scores.column_factors`.
        sparsity: share to prune per row, in ``[0, 1)``; or else
        pattern: ``"N:M"``, N weights kept in every M neighbours.
        joint: an FP8 format and scales (`fp8.scales`) with which to weigh the casting error in: what pruning would
            lose and what casting loses anyway (`scores.keep_score`).
        rule: how a share is selected; `ewma.mean_mask` and `masks.exact_mask` are others. The kernels have the first.

    Returns:
        bool ``[out, in]``, True where a weight is kept.

    Raises:
        PrunekitError: bad sparsity or pattern, a width that the pattern does not divide, or `f` of another width.
    """
    check_target(sparsity, pattern, W.shape[1])
    if joint is None:
        L = score(W, f)
    else:
        fmt, scale = joint
        L = keep_score(W, uncast(cast(W, scale, fmt), scale), f)
    if pattern is not None:
        return nm_mask(L, *parse_pattern(pattern))
    return rule(L, check_sparsity(sparsity))


def select_cast(
    W: Tensor, f: Tensor, *, sparsity: float | None = None, pattern: str | None = None, fmt: Format = E4M3
) -> tuple[Tensor, Tensor, Tensor]:
    """Score, select and cast, with one FP8 scale for each row.

    The score weighs pruning against casting, with a provisional scale from the whole row; the final scale comes from
    the survivors.

    Args:
        W: weight ``[out, in]``; this and the next three as in `select`.
        f: column factors ``[in]``.
        sparsity: share to prune per row; or else
        pattern: ``"N:M"``.
        fmt: `fp8.E4M3` or `fp8.E5M2`.

    Returns:
        (keep, codes, scale): bool ``[out, in]``; `fmt.dtype` ``[out, in]``, zero where a weight goes; float32
        ``[out, 1]``.

    Raises:
        PrunekitError: as `select`.
    """
    keep = select(W, f, sparsity=sparsity, pattern=pattern, joint=(fmt, scales(W, fmt)))
    return cast_kept(W, keep, fmt)


def select_compensate_cast(
    W: Tensor,
    f: Tensor,
    X: Tensor,
    Z: Tensor,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    fmt: Format = E4M3,
) -> tuple[Tensor, Tensor, Tensor]:
    """`select_cast`, where the weights that stay make up for those that go before they are cast.

    Args:
        W: weight ``[out, in]``; this and the next as in `select`.
        f: column factors ``[in]``.
        X: sampled inputs ``[samples, in]``.
        Z: `compensation.response` to them, ``[samples, in]``.
        sparsity: share to prune per row; or else
        pattern: ``"N:M"``.
        fmt: `fp8.E4M3` or `fp8.E5M2`.

    Returns:
        (keep, codes, scale), as `select_cast`.

    Raises:
        PrunekitError: as `select`.
    """
    keep = select(W, f, sparsity=sparsity, pattern=pattern, joint=(fmt, scales(W, fmt)))
    return cast_kept(compensate(W, keep, X, Z), keep, fmt)


def cast_kept(W: Tensor, keep: Tensor, fmt: Format = E4M3) -> tuple[Tensor, Tensor, Tensor]:
    """Cast the weights that stay, with each row's scale from them: (keep, codes, scale), as `select_cast`."""
    scale = scales(W, fmt, keep=keep)
    return keep, cast(W, scale, fmt, keep), scale
