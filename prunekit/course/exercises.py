"""Exercises: tried on many small random inputs; a wrong answer gets its smallest counterexample and a hint.

A module ``checks/TOPIC.py`` defines ``EXERCISES``, a dict from ids such as "1.2" to `Exercise`.
"""

import contextlib
import io
import re
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import torch

from ..errors import PrunekitError
from .checks.exercise import Exercise
from .printing import clone, named, same

TOPICS = ("start", "scoring", "masks", "casting", "pipeline", "speed", "own_model", "recovery")
SIZES = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Result:
    """How a solution did: ``state`` is "correct", "not attempted" or "wrong"; ``message`` is what the learner reads."""

    state: str
    message: str

    @property
    def passed(self) -> bool:
        """Whether the solution is correct."""
        return self.state == "correct"


@dataclass(frozen=True)
class _Failure:
    """One input on which a solution is wrong."""

    args: tuple
    hint: str
    answer: tuple = ()  # the learner's answer, if there is one
    printed: str = ""
    attempted: bool = True

    def said(self) -> list[str]:
        """What the learner's function printed, its last lines on one."""
        return ["it printed: " + " / ".join(self.printed.splitlines()[-5:])] if self.printed else []

    def report(self, exercise: Exercise) -> str:
        lines = [named(name, value) for name, value in zip(exercise.names, self.args)]
        if self.answer:
            lines.append(named("your answer", self.answer[0]))
            lines.append(named("expected", exercise.reference(*clone(self.args))))
        return "\n".join([*lines, *self.said(), self.hint])


def find(identifier: str) -> Exercise:
    """The exercise with that id.

    Args:
        identifier: such as "1.2".

    Raises:
        PrunekitError: there is none.
    """
    identifier = str(identifier)
    number = re.fullmatch(r"(\d)\.\d+", identifier)
    if number is None or int(number[1]) >= len(TOPICS):
        raise PrunekitError(f"{identifier!r} is no exercise: ids look like '1.2'.")
    exercises = import_module(f"{__package__}.checks.{TOPICS[int(number[1])]}").EXERCISES
    if identifier not in exercises:
        raise PrunekitError(f"there is no exercise {identifier!r}, only {', '.join(exercises)}.")
    return exercises[identifier]


def grade(identifier: str, function: Callable) -> Result:
    """Try a solution on the exercise's inputs; the same inputs every time.

    Args:
        identifier: the exercise's id, such as "1.2".
        function: the learner's function. It gets copies of the arguments, and whatever it raises is reported.

    Returns:
        How the solution did, and what the learner reads.

    Raises:
        PrunekitError: there is no such exercise.
    """
    exercise = find(identifier)
    title = f"Exercise {identifier}"
    if not callable(function):
        return Result("wrong", f"{title}: not right yet. The check needs a function, not {type(function).__name__}.")
    count = 0
    for size in SIZES:
        failures = []
        for attempt in range(exercise.tries):
            rng = torch.Generator().manual_seed(zlib.crc32(f"{identifier}/{size}/{attempt}".encode()))
            args = tuple(exercise.inputs(size, rng))
            failure = _try(exercise, function, args)
            if failure is not None and not failure.attempted and count == 0:
                message = f"{title}: not attempted yet (nothing returned; is a return missing?)."
                return Result("not attempted", "\n".join([message, *failure.said()]))
            if failure is not None:
                failures.append(failure)
            count += 1
        if failures:
            report = min((failure.report(exercise) for failure in failures), key=len)
            return Result("wrong", f"{title}: not right yet. The smallest example found:\n{report}")
    return Result("correct", f"{title}: correct ({count} random inputs).")


def check(identifier: str, function: Callable) -> None:
    """Grade an exercise and print the result: correct, not attempted yet, or a counterexample with a hint.

    It never raises.

    Args:
        identifier: the exercise's id; this and the next as in `grade`.
        function: the learner's function.
    """
    try:
        message = grade(identifier, function).message
    except PrunekitError as error:
        message = f"Exercise {identifier}: {error}"
    print(message)


def _where(error: Exception, function: Callable) -> str:
    """The line of the learner's function in which an error arose, where its source is known."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (in the line `{lines[-1]}`)" if lines and lines[-1] else ""


def _try(exercise: Exercise, function: Callable, args: tuple) -> _Failure | None:
    """None if the answer is right, or what is wrong."""
    given = clone(args)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            out = function(*given)
    except Exception as error:
        if str(error) or not isinstance(error, NotImplementedError):
            message = " ".join(str(error).split())[:200]
            hint = f"On this input the function raised {type(error).__name__}: {message}{_where(error, function)}"
            return _Failure(args, hint, printed=printed.getvalue())
        out = None  # a stub that raises it; torch does so with a message
    if out is None or out is ...:
        hint = "Hint: the function returns nothing here. Is a return missing?"
        return _Failure(args, hint, printed=printed.getvalue(), attempted=False)
    if not same(given, args):
        changed = [name for name, old, new in zip(exercise.names, args, given) if not same(new, old)]
        hint = f"Hint: the function changes its argument {changed[0]} in place. Work on a copy: x.clone(), or x.copy()"
        return _Failure(args, hint, printed=printed.getvalue())
    try:
        hint = exercise.verify(clone(args), clone(out))
    except Exception:
        hint = f"Hint: the answer is a {type(out).__name__} that cannot be compared. Look at the signature and shapes."
    if hint is None:
        return None
    hint = hint if hint.lower().startswith("hint") else f"Hint: {hint}"
    return _Failure(args, hint, (out,), printed.getvalue())
