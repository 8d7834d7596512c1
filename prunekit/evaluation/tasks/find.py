"""Which tasks are meant: lm-eval's by name, a task file by its path, or prunekit's own."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

from ...errors import PrunekitError, first_line, out_of_memory
from ...system.notices import quiet
from .continuation import NAME, write_task


@dataclass(frozen=True)
class Found:
    """Tasks that can be run here.

    Attributes:
        names: what lm-eval calls them.
        manager: lm-eval's `TaskManager`, which knows them.
    """

    names: list[str]
    manager: Any

    def load(self) -> dict[str, Any]:
        """The tasks with their data, for lm-eval's `evaluate`."""
        return self.manager.load(self.names)


def find_tasks(names: Sequence[str]) -> Found:
    """See that tasks and their data can be opened here, before any model is.

    Args:
        names: of lm-eval's tasks, groups or tags, with ``*`` for anything; ``continuation``; or paths of task files.

    Returns:
        The tasks.

    Raises:
        PrunekitError: lm-eval is not installed, a task is unknown, or a task's file or data cannot be read.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise PrunekitError("--tasks needs lm-eval, which is not installed: pip install 'prunekit[eval]'.")
    paths = {name: Path(name).expanduser() for name in names if name.endswith((".yaml", ".yml"))}
    for name, path in paths.items():
        if not path.is_file():
            raise PrunekitError(f"there is no task file {name}: give the path of one, or the name of a task.")
    with lm_eval_quiet():
        from lm_eval.tasks import TaskManager

        groups = {path.resolve() for path in paths.values() if _is_group(path)}  # their tasks lie beside them
        known = not groups and all(name in paths or name == NAME for name in names)  # else it looks through 14,000
        manager = TaskManager(include_path=[str(path.parent) for path in groups] or None, include_defaults=not known)
        named = {str(entry.yaml_path): name for name, entry in manager.task_index.items()} if groups else {}
        files = {name: named.get(str(path.resolve()), str(path)) for name, path in paths.items()}
        wanted = [task for name in names for task in _matches(name, files, manager)]
        found = Found(wanted, manager)
        _check(found)
    return found


@contextmanager
def lm_eval_quiet() -> Iterator[None]:
    """Silence lm-eval's log and the bars of its libraries, these only where nobody watches."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "datasets")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with quiet(), nullcontext() if sys.stderr.isatty() else redirect_stderr(StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _is_group(path: Path) -> bool:
    """Whether a file says that it is a group of tasks, in YAML or in JSON."""
    return re.search(r'^[\s{"]*group"?\s*:', path.read_text("utf-8", "replace"), re.MULTILINE) is not None


def _matches(name: str, files: dict[str, str], manager: Any) -> list[str]:
    """What lm-eval calls a task, or several."""
    if name in files:
        return [files[name]]
    if name == NAME:
        return [str(write_task())]
    if found := manager.match_tasks([name]):
        return found
    close = get_close_matches(name, manager.all_tasks, 1)
    meant = f"did you mean {close[0]}?" if close else "lm-eval ls tasks lists all."
    raise PrunekitError(f"lm-eval knows no task {name!r}, and a file of one ends in .yaml: {meant}")


def _check(found: Found) -> None:
    try:
        found.load()
    except Exception as error:  # of YAML, of datasets, of the hub, or of code that a task brings
        if out_of_memory(error):
            raise
        named = f"the task{'s' * (len(found.names) > 1)} {', '.join(found.names)[:200]}"
        raise PrunekitError(
            f"cannot open {named} ({first_line(error)[:150]}): check names, data and the network, or give {NAME}, "
            "which needs none."
        ) from error
