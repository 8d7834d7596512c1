"""How long recovery may take: steps or minutes."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from torch import Tensor

from ..errors import PrunekitError, check_count
from ..system.parallel import world
from .distillation import TEXT_SHARE

RATE = 5e-4
BATCH = 2
WARM_UP = 0.05  # share of the budget in which the learning rate rises
CAST_FROM = 0.8  # share of the budget from which on the weights are cast in each step
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


@dataclass(frozen=True)
class Plan:
    """What `recover` is asked for, by the names of its arguments.

    Raises:
        PrunekitError: neither or both of steps and minutes, or a bad number.
    """

    steps: int | None = None
    minutes: float | None = None
    rate: float = RATE
    batch: int = BATCH
    text_share: float = TEXT_SHARE
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", self.budget.steps)
        object.__setattr__(self, "batch", check_count(self.batch, "batch"))
        if not self.rate > 0:
            raise PrunekitError(f"rate is {self.rate}: expected a number above 0.")
        if not 0 <= self.text_share <= 1:
            raise PrunekitError(f"text_share is {self.text_share}: expected a number from 0 to 1.")
        if not isinstance(self.seed, int):
            raise PrunekitError(f"seed is {self.seed}: expected a whole number.")

    @property
    def budget(self) -> Budget:
        """How long it may take."""
        return Budget(self.steps, self.minutes)


def rate_at(part: float, highest: float, steps: int) -> float:
    """The learning rate when so much of a budget is used: it rises, then falls in a straight line to zero.

    Args:
        part: how much is used, from 0 to 1.
        highest: learning rate.
        steps: how many there are in all, or about.
    """
    return highest * min(1.0, (part + 0.5 / steps) / WARM_UP) * (1 - part)


def check_windows(ids: Tensor, batch: int = BATCH) -> None:
    """Raise `PrunekitError` where windows of text are too few for a step of recovery."""
    if len(ids) < batch:
        raise PrunekitError(f"{len(ids)} windows of text do not fill a batch of {batch}: give more text.")


def check_shares(batch: int) -> None:
    """Raise `PrunekitError` where the windows of a step cannot be dealt out evenly to the processes."""
    if batch % world():
        raise PrunekitError(f"{batch} windows a step for {world()} processes: give as many or a multiple as batch.")
