"""The folder beside a model that is being written: shards, and what is needed to go on after an interruption."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import PrunekitError
from ...system.files import check_free, check_writable, sync_folder, write_json
from ...system.locks import MARK, locked, own_name, sweep


class Partial:
    """Where an unfinished model lies.

    Args:
        out: the folder that is wanted.

    Attributes:
        model: the unfinished folder, which gets the name `out` when it is whole.
        state: what the work needs to go on.
        pruned: in it, the model before its blocks are trained.
        training: what that training needs to go on.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = Path(f"{out}.partial")
        self.model, self.state = self.folder / "model", self.folder / "state"
        self.pruned, self.training = self.state / "pruned", self.state / "training"
        self._plan = self.state / "plan.json"

    @property
    def finished(self) -> bool:
        """Whether the model has its name already, and only the rest was not yet cleared away."""
        return self._plan.exists() and not self.model.exists() and self.out.exists()

    def begin(self, plan: dict) -> None:
        """Make the folder, or go on with it.

        Args:
            plan: all that the result depends on, as JSON takes it.

        Raises:
            PrunekitError: other work was interrupted there, or the place cannot be written.
        """
        if self._plan.exists():
            if json.loads(self._plan.read_text("utf-8")) == json.loads(json.dumps(plan)):
                if not self.finished:
                    check_free(self.out)
                return
            shards = [file for folder in (self.model, self.pruned) for file in folder.glob("*.safetensors")]
            if shards or any(self.state.glob("**/records*")):
                raise PrunekitError(
                    f"{self.folder} holds what another command, or other files, left unfinished: give that command "
                    "again to go on, or remove that folder."
                )
        elif any(p.name not in ("lock", "model", "state") and MARK not in p.name for p in self.folder.iterdir()):
            raise PrunekitError(f"{self.folder} is where unfinished work would go: move it away.")
        check_free(self.out)
        check_writable(self.out)
        for folder in (self.model, self.state):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        write_json(self._plan, plan)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from working in the folder.

        Raises:
            PrunekitError: somebody does, or the place cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PrunekitError(f"cannot write to {self.folder}: {error.strerror}; choose another folder.") from None
        mine = False
        try:
            with locked(self.folder / "lock", wait=False) as mine:
                if not mine:
                    raise PrunekitError(f"another process is at work in {self.folder}: wait for it, or choose another.")
                yield
        finally:
            if mine and not self.state.exists():  # done, or refused before anything was begun
                shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self) -> None:
        """Give the model its name, and clear the rest away."""
        if not self.finished:
            sweep(self.model)
            sync_folder(self.model)
            try:
                if os.name == "nt" and self.out.is_dir():
                    self.out.rmdir()
                os.rename(self.model, self.out)
            except OSError as error:
                raise PrunekitError(f"cannot create {self.out}: {error.strerror}; choose another folder.") from None
        with own_name(self.folder) as name:
            os.rename(self.state, name)
            shutil.rmtree(name, ignore_errors=True)
