"""How long recovery may take: steps or minutes."""

from __future__ import annotations

LIMIT = 19.25  # minutes for pruning and recovery together: of twenty, the rest is for loading and saving


def recovery_minutes(share: float, spent: float) -> float:
    """How long to recover where half of the weights or more are pruned: what is left of `LIMIT`; else less.

    Args:
        share: of the weights that is pruned.
        spent: seconds until now.

    Returns:
        Minutes, at least one, and for half or more at least five.
    """
    return max(min(2 * share, 1.0) * max(LIMIT - spent / 60, 5.0), 1.0)


def _part(step: int, spent: float, steps: int | None, minutes: float | None) -> float:
    """How much of the budget is used."""
    return step / steps if steps else spent / (60 * minutes)
