"""What a recovery needs to go on after an interruption, in one safetensors file, and the run that keeps it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from warnings import warn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import PrunekitError
from ..system.files import temporary_file
from .budget import Budget

SAVE_EVERY = 120.0  # seconds
SAVE_REST = 10.0  # at least so many times as long as saving took
_MOMENTS = ("exp_avg", "exp_avg_sq")


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
            self.step, self.spent = self.step + 1, self._before + perf_counter() - self._begin
        self.optimizer.zero_grad()

    def save_now_and_then(self) -> None:
        """Save, if that was not done for a while."""
        if self.path and (start := perf_counter()) - self._saved > self._pause:
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


def save_state(
    path: Path | str,
    plan: dict,
    moving: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Write weights, the optimizer's moments and the position under a temporary name, then rename.

    Args:
        path: the file.
        plan: what must be the same when the recovery goes on.
        moving: the trained parameters by name.
        optimizer: AdamW over them.
        step: steps done.
        seconds: time spent.

    Raises:
        PrunekitError: the file cannot be written.
    """
    tensors = {name: p.detach() for name, p in moving.items()}
    for name, p in moving.items():
        tensors |= {f"{name}:{key}": optimizer.state[p][key] for key in _MOMENTS if key in optimizer.state[p]}
    position = {"plan": json.dumps(plan), "step": str(step), "seconds": repr(seconds)}
    with temporary_file(Path(path)) as temporary:
        save_file(tensors, temporary, metadata=position)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended, so that what is saved then fits together."""
    waiting, usual = [], signal.getsignal(signal.SIGINT)
    if not callable(usual) or threading.current_thread() is not threading.main_thread():  # nothing to hold back
        yield
        return
    signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if waiting:
            usual(*waiting[0])


def check_state(path: Path | str, part: dict) -> dict:
    """See early whether a recovery could go on.

    Args:
        path: the file, which need not exist.
        part: what is known already of the plan that `load_state` will be given.

    Returns:
        The plan in the file, empty if there is none.

    Raises:
        PrunekitError: the file is damaged or belongs to another recovery.
    """
    if not Path(path).exists():
        return {}
    with _opened(path) as file:
        plan = _plan(file)
        if not isinstance(plan, dict) or any(plan.get(key) != value for key, value in part.items()):
            raise _another(path)
        return plan


@torch.no_grad()
def load_state(
    path: Path | str, plan: dict, moving: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Put what `save_state` wrote into the parameters and the optimizer, both changed in place.

    Returns:
        (steps done, seconds spent): zeros if there is no such file.

    Raises:
        PrunekitError: the file is damaged or belongs to another recovery.
    """
    path = Path(path)
    if not path.exists():
        return 0, 0.0
    with _opened(path) as file:
        known = set(file.keys())
        earlier = _plan(file)
        if earlier != plan and isinstance(earlier, dict) and earlier | {"mask": plan["mask"]} == plan:
            raise PrunekitError(
                f"{path} was begun with another mask: give the same model and options, on the same machine with as "
                "many threads, or remove it to begin anew."
            )
        if earlier != plan or not moving.keys() <= known:
            raise _another(path)
        position = file.metadata()
        step = int(position["step"])
        for name, p in moving.items():
            p.copy_(file.get_tensor(name))
            if f"{name}:{_MOMENTS[0]}" in known:  # not so where text does not reach, as in a vision tower
                moments = {key: file.get_tensor(f"{name}:{key}").to(p.device, copy=True) for key in _MOMENTS}
                optimizer.state[p] = {"step": torch.tensor(float(step), device=p.device), **moments}
        return step, float(position["seconds"])


@contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except PrunekitError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise PrunekitError(f"cannot go on from {path}: {error}; remove it to begin anew.") from None


def _plan(file: Any) -> object:
    return json.loads((file.metadata() or {}).get("plan", "null"))


def _another(path: Path | str) -> PrunekitError:
    return PrunekitError(
        f"{path} holds the state of another recovery: remove it to begin anew, or give the same options."
    )
