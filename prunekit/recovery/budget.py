"""How long recovery may take: steps or minutes."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ..errors import PrunekitError, check_count

LIMIT = 19.25  # minutes for pruning and recovery together: of twenty, the rest is for loading and saving


@dataclass(frozen=True)
class Budget:
    """Either steps or minutes.

    Raises:
        PrunekitError: both or neither are given, or the one is no number above 0.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise PrunekitError("give either steps or minutes: how long the recovery may take.")
        if self.steps is not None:
            object.__setattr__(self, "steps", check_count(self.steps, "steps"))
        elif not (isinstance(self.minutes, (int, float)) and 0 < self.minutes < inf):
            raise PrunekitError(f"minutes is {self.minutes}: expected a number above 0.")

    @property
    def _seconds(self) -> float:
        assert self.minutes is not None  # as there are no steps
        return 60 * self.minutes

    def part(self, step: int, spent: float) -> float:
        """How much of it is used after so many steps and seconds: from 0 on, and 1 at the end."""
        return step / self.steps if self.steps else spent / self._seconds

    def is_at_least(self, count: float) -> bool:
        """Whether it is so many steps or more, or as many seconds."""
        return (self.steps or self._seconds) >= count


def recovery_minutes(share: float, spent: float) -> float:
    """How long to recover where half of the weights or more are pruned: what is left of `LIMIT`; else less.

    Args:
        share: of the weights that is pruned.
        spent: seconds until now.

    Returns:
        Minutes, at least one, and for half or more at least five.
    """
    return max(min(2 * share, 1.0) * max(LIMIT - spent / 60, 5.0), 1.0)
