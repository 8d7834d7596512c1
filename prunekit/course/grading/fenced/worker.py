"""Runs answers, each in a process of its own that is fenced in: inputs go in, data comes out, and nothing is judged.

The parent reads tasks, a line of JSON each, and answers how each ended. It knows no checks and no solutions, and what
it imports once, torch above all, its children have without waiting.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import json
import linecache
import os
import signal
import symtable
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import fence


class Course:
    """What stands for ``course`` in a cell: it notes what `check` and `interpret` are given, and does nothing else."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def check(self, identifier: Any = "", value: Any = None, *_: Any) -> None:
        """Note what is handed in for an exercise."""
        self.given[str(identifier)] = value

    interpret = check

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class Library(types.ModuleType):
    """What stands for ``prunekit``: marks are for what the learner wrote."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"an answer is marked without prunekit, so it has no {name}: use Python, torch and numpy")


def main(settings: dict) -> None:
    """Read tasks from standard input until it ends.

    Args:
        settings: "read" and "list", paths for `fence.rules`; "modules" to import.
    """
    fenced = fence.enter()
    ruleset = fence.rules(settings["read"], settings["list"])
    for name in settings["modules"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    importlib.import_module(".packing", __package__)
    importlib.import_module("...sandbox", __package__)
    user = _user(ruleset, settings["list"])
    print(json.dumps(fenced | {"files": ruleset is not None, "user": bool(user)}), flush=True)
    for line in sys.stdin:
        keeper = os.fork()
        if keeper == 0:
            keep(json.loads(line), ruleset, user)
        if os.waitpid(keeper, 0)[1] != 0:
            print(json.dumps({"ended": "lost"}), flush=True)


def _user(ruleset: int | None, folders: list[str]) -> str:
    """As whom answers run: the first of `fence.close_in` that works here."""
    users = () if os.getuid() else ("nobody", "reader")[: 1 if ruleset is None else 2]
    return next((user for user in users if fence.can_close_in(ruleset, user, folders)), "")


def keep(task: dict, ruleset: int | None, user: str) -> None:
    """Run a task in a child, in a room for processes of its own where there is one, and say how it ended."""
    out = os.open(task["result"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    fence.call("unshare", fence.NEW_PIDS)
    child = os.fork()
    if child == 0:
        try:
            inside(task, out, ruleset, user)
        finally:
            os._exit(0)
    until, late = time.monotonic() + task["wall"], False
    while not (ended := os.wait4(child, 0 if late else os.WNOHANG))[0]:
        if time.monotonic() > until:
            late = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    _, status, used = ended
    late = late or (os.WIFSIGNALED(status) and used.ru_utime + used.ru_stime > task["seconds"] - 0.5)
    how = "late" if late else f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "exit"
    print(json.dumps({"ended": how}), flush=True)
    os._exit(0)


def inside(task: dict, out: int, ruleset: int | None, user: str) -> None:
    """Fence this process in, run the task, and write what came of it."""
    from .packing import Frames, unpack

    os.setsid()
    inputs = unpack(Path(task["inputs"]).read_bytes())
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.chdir(task["folder"])
    fence.limit(task["seconds"], task["memory"], task["most"])  # before /proc is out of reach
    fence.close_in(ruleset, user)
    for other in set(range(3, 256)) - {out}:
        with contextlib.suppress(OSError):
            os.close(other)
    frames = Frames(out, task["most"])
    try:
        for found in answers(task, inputs):
            frames.write(found)
    except BaseException as error:
        frames.write({"problem": f"the answer cannot be handed over: {type(error).__name__}, {error}"[:200]})


def answers(task: dict, inputs: list[tuple]) -> Iterator[dict]:
    """Run the cells of an exercise, and then its function on all inputs.

    Returns:
        "problem", or "answer" of an exercise that asks for one; or for each call "out" or "error", what was "printed",
        and the arguments as they were "given" where they were changed.
    """
    space, given, problem = define(task)
    handed = given.get(task["identifier"], space.get(task["name"]))
    if task["kind"] == "interpret":
        yield {"problem": problem} if problem and handed is None else {"answer": handed}
        return
    handed = handed if callable(handed) else space.get(task["name"], handed)
    if callable(handed):
        yield from (_called(handed, args) for args in inputs)
        return
    names = [name for name, value in space.items() if isinstance(value, types.FunctionType) and name not in KNOWN]
    found = f"it has {', '.join(names)}" if names else "it has none"
    yield {"problem": problem or f"the cell defines no function {task['name']}; {found}"}


KNOWN: set[str] = set()  # functions of the course's own cells


def define(task: dict) -> tuple[dict, dict, str]:
    """The names that the cells of a task leave behind, what they hand in, and the last error among them.

    The course's imports and functions come first, then those of the learner's earlier exercises that these cells use.
    """
    course = Course()
    library = sys.modules["prunekit"] = Library("prunekit")
    library.course = course
    space: dict[str, Any] = {"__name__": "notebook", "course": course, "pk": library}
    for source in task["before"]:
        with contextlib.suppress(Exception):
            exec(source, space)
    KNOWN.update(space)
    for number, source in enumerate(_needed(task["earlier"], task["cells"], set(space))):
        _run(source, f"<earlier exercise {number}>", space)
    space["course"], course.given = course, {}
    said = [_run(source, f"<exercise {task['identifier']}>", space) for source in task["cells"]]
    return space, course.given, next(filter(None, reversed(said)), "")


def _run(source: str, name: str, space: dict) -> str:
    """Run a cell; returns the error, if it raises one."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    try:
        try:
            code = compile(source, name, "exec")
        except SyntaxError:  # lines that are no Python but IPython's
            lines = ("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
            code = compile("\n".join(lines), name, "exec")
        exec(code, space)
    except BaseException as error:
        return ": ".join(_words(error))
    return ""


def _needed(earlier: list[str], cells: list[str], known: set[str]) -> list[str]:
    """Those of the earlier cells that set an unknown name which these, or others that they need, read."""
    wanted, found = set().union(*map(_read, cells)) - set().union(*map(_set, cells)) - known, []
    for source in reversed(earlier):
        if wanted & _set(source):
            found.insert(0, source)
            wanted |= _read(source) - known
    return found


def _read(source: str) -> set[str]:
    def names(table: symtable.SymbolTable) -> set[str]:
        top = table.get_type() == "module"
        own = {each.get_name() for each in table.get_symbols() if each.is_referenced() and (top or each.is_global())}
        return own.union(*map(names, table.get_children()))

    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        return names(symtable.symtable(source, "cell", "exec")) - set(dir(builtins))
    return set()


def _set(source: str) -> set[str]:
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        symbols = symtable.symtable(source, "cell", "exec").get_symbols()
        return {each.get_name() for each in symbols if each.is_assigned() or each.is_imported()}
    return set()


def _words(error: BaseException) -> list[str]:
    """The name of an error, and what it says."""
    from ...printing import described

    said = described(error, str) if error.args else ""
    alone = "; only the cell of the exercise runs" if isinstance(error, NameError) else ""
    return [type(error).__name__, said + alone]


def _called(function: Any, args: tuple) -> dict:
    from ...sandbox import call, where
    from .packing import pack

    before = pack(args)
    came = call(function, args)
    found: dict[str, Any] = {"printed": came.printed} if came.printed else {}
    if came.error is not None:
        return found | {"error": _words(came.error), "where": where(came.error, function)}
    return found | {"out": came.out} | ({} if pack(args) == before else {"given": args})
