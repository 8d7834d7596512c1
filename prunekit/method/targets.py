"""What to prune, a share or N:M, checked once."""

from __future__ import annotations

from torch import Tensor

from ..errors import PrunekitError


def check_sparsity(sparsity: float | str | None, name: str = "sparsity") -> float:
    """Return `sparsity`, or another share called `name`, as a float.

    Raises:
        PrunekitError: not a number in ``[0, 1)``.
    """
    try:
        value = float(sparsity)  # type: ignore[arg-type]  # None is caught, too
    except (TypeError, ValueError, OverflowError):
        value = float("nan")
    if not 0 <= value < 1:
        raise PrunekitError(
            f"{name} is {sparsity!r}: expected a number from 0 (keep all) up to but not including 1; for half give 0.5."
        )
    return value


def parse_pattern(pattern: str) -> tuple[int, int]:
    """``"2:4"`` to ``(2, 4)``: N weights kept in each group of M along the input axis.

    Raises:
        PrunekitError: not of that form, or not ``1 <= N <= M``.
    """
    left, _, right = str(pattern).partition(":")
    digits = all(part.isdecimal() and len(part) < 10 for part in (left, right))
    if not (digits and 1 <= int(left) <= int(right)):
        raise PrunekitError(
            f"pattern {pattern!r} is not N:M with 1 <= N <= M (N weights kept in every M); for example 2:4."
        )
    return int(left), int(right)


def check_width(columns: int, m: int, name: str = "the weight") -> None:
    """Raise `PrunekitError` unless groups of `m` fill a row of `columns` weights."""
    if columns % m:
        raise PrunekitError(
            f"{name} has {columns} input columns, which groups of {m} do not fill: choose an M that divides "
            f"{columns}, or leave this layer out with --exclude."
        )


def check_shape(tensor: Tensor, name: str, shape: tuple[int, ...]) -> None:
    """Raise `PrunekitError` unless a statistic of a layer's inputs, called `name`, has the shape that it asks."""
    if tuple(tensor.shape) != shape:
        raise PrunekitError(
            f"{name} has the shape {list(tensor.shape)}: expected {list(shape)}, of the inputs of this very layer."
        )


def check_target(sparsity: float | None, pattern: str | None, columns: int) -> tuple[int, int]:
    """What to prune in rows of `columns` weights: ``(n, m)`` of a pattern, ``(0, 0)`` for a share.

    A share of 0 is the pattern 1:1, which keeps everything.

    Raises:
        PrunekitError: both or neither are given, one is bad, or the pattern does not divide the width.
    """
    if (sparsity is None) == (pattern is None):
        raise PrunekitError("give either a sparsity or a pattern, not both and not neither: sparsity 0.5, or 2:4.")
    if pattern is None:
        return (0, 0) if check_sparsity(sparsity) > 0 else (1, 1)
    n, m = parse_pattern(pattern)
    check_width(columns, m)
    return n, m
