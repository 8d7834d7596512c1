"""A recovery under way: how far it is, what it saves, what it tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from warnings import warn

import torch
from torch import Tensor

from ..errors import PrunekitError
from ..system.parallel import from_first, gathered
from .budget import Budget
from .state import load_state, save_state, undisturbed

SAVE_EVERY = 120.0  # seconds
SAVE_REST = 10.0  # at least so many times as long as saving took


class Run:
    """A recovery under way: how far it is, what it has saved, what it has told.

    It goes on where the state in `path` ended, if there is one.

    Args:
        budget: how long it may take.
        plan: what must be the same when it goes on later.
        moving: the trained parameters by name.
        optimizer: AdamW over them.
        path: the file of the state, or None.
        report: gets a line about the progress, ten times, and what could not be saved; else that is a warning.

    Attributes:
        step: steps done.
        spent: seconds spent, those before an interruption included.

    Raises:
        PrunekitError: see `load_state`.
    """

    def __init__(
        self,
        budget: Budget,
        plan: dict,
        moving: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        path: Path | str | None,
        report: Callable[[str], None] | None,
    ) -> None:
        self.budget, self.report, self.path, self.optimizer = budget, report, path, optimizer
        self.step, self.spent = load_state(path, plan, moving, optimizer) if path else (0, 0.0)
        if len(set(gathered(self.step))) > 1:
            raise PrunekitError(f"not all processes read the same {path}: put it where all of them can.")
        self.tell = report or warn
        self._what = plan, moving, optimizer
        self._before, self._pause = self.spent, SAVE_EVERY
        self._begin = self._saved = perf_counter()
        self._told = self._tenths()

    @property
    def part(self) -> float:
        """How much of the budget is used."""
        return self.budget.part(self.step, self.spent)

    def update(self) -> None:
        """Let the optimizer take a step; Ctrl-C waits until it is done."""
        with undisturbed():
            self.optimizer.step()
            self.step, self.spent = self.step + 1, from_first(self._before + perf_counter() - self._begin)
        self.optimizer.zero_grad()

    def save_now_and_then(self) -> None:
        """Save, if that was not done for a while."""
        if self.path and from_first((start := perf_counter()) - self._saved > self._pause):
            self.save()
            self._saved = perf_counter()
            self._pause = max(SAVE_EVERY, SAVE_REST * (self._saved - start))

    def save(self) -> None:
        """Save, or say why that is not possible: a full disk, perhaps, is no reason to stop."""
        try:
            self._save()
        except PrunekitError as error:
            self.tell(str(error))

    def report_tenths(self, loss: float, perplexity: Callable[[], float] | None) -> None:
        """Tell about the progress, if another tenth of the budget is used.

        Args:
            loss: of the last step.
            perplexity: measures it, on what is watched.
        """
        if not self.report or self._tenths() <= self._told:
            return
        self._told = self._tenths()
        line = f"recover: {10 * self._told} %, step {self.step}, {self.spent / 60:.1f} minutes, loss {loss:.3f}"
        self.report(line + (f", perplexity {perplexity():.2f}" if perplexity else ""))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Save when the block is interrupted, which then passes on, and at its end."""
        try:
            yield
        except KeyboardInterrupt:
            self.optimizer.zero_grad()
            self._save()
            raise
        self.save()

    def _save(self) -> None:
        if self.path:
            save_state(self.path, *self._what, self.step, self.spent)

    def _tenths(self) -> int:
        return int(10 * self.part)
