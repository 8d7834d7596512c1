"""Exercises: tried on many small inputs; a wrong answer gets its smallest counterexample and a hint.

A module ``checks/TOPIC.py`` defines ``EXERCISES``, a dict from ids such as "1.2" to `Exercise`, and
``mistakes/TOPIC.py`` a dict ``MISTAKES`` from ids to what is often done wrong.
"""

import re
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from ..errors import PrunekitError
from .checks.exercise import Exercise
from .mistakes.mistake import Mistake
from .printing import ANY, clone, described, named, numbers, same, shorten, text
from .sandbox import OutOfTime, call, within

TOPICS = ("start", "scoring", "masks", "casting", "pipeline", "speed", "own_model", "recovery")
SIZES = (1, 2, 3, 4, 6, 8)
SECONDS = 10.0  # for all inputs together, which take a right solution a fraction of one


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
        lines = [shorten(line) for line in self.printed.splitlines()[-5:]]
        return ["it printed: " + " / ".join(lines)] if lines else []

    def report(self, exercise: Exercise, known: str | None) -> str:
        """The example as a learner reads it, with the hint of a known mistake, or else that of this input."""
        lines = [named(name, value) for name, value in zip(exercise.names, self.args)]
        if self.answer:
            lines.append(named("your answer", self.answer[0]))
            lines.append(named("expected", exercise.reference(*clone(self.args))))
        hint = known or self.hint
        return "\n".join([*lines, *self.said(), hint if hint.startswith(("Hint", "On this")) else f"Hint: {hint}"])


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
        function: the learner's function. It gets copies of the arguments, and whatever it raises is reported; one that
            does not end is left. Defaults of torch and numpy are what they are in a fresh process while it runs, and
            are afterwards what they were.

    Returns:
        How the solution did, and what the learner reads.

    Raises:
        PrunekitError: there is no such exercise.
    """
    exercise = find(identifier)
    title = f"Exercise {identifier}"
    if not callable(function):
        return Result("wrong", f"{title}: not right yet. The check needs a function, not {type(function).__name__}.")
    trial = _Trial(identifier, exercise, function)
    try:
        within(SECONDS, trial.run)
    except OutOfTime:
        hint = f"Hint: the function was still at work after {SECONDS:g} seconds. Does a loop never end?"
        trial.result = trial.wrong(_Failure(trial.args, hint), None)
    return Result(trial.result.state, f"{title}: {trial.result.message}")


class _Trial:
    """A solution on all inputs of an exercise. While `run` is at work, ``args`` are those of the present call."""

    def __init__(self, identifier: str, exercise: Exercise, function: Callable) -> None:
        self.identifier, self.exercise, self.function = identifier, exercise, function
        self.args: tuple = ()
        self.result = Result("wrong", "")

    def groups(self) -> Iterator[Iterable[tuple]]:
        """All arguments: corners, then random ones of growing size."""
        yield self.exercise.corners()
        for size in SIZES:
            names = (f"{self.identifier}/{size}/{attempt}" for attempt in range(self.exercise.tries))
            rngs = (torch.Generator().manual_seed(zlib.crc32(name.encode())) for name in names)
            yield (tuple(self.exercise.inputs(size, rng)) for rng in rngs)

    def run(self) -> None:
        """Try all inputs, or as many as it takes to know what is wrong, and leave a result."""
        failures: list[_Failure] = []
        topic = import_module(f"{__package__}.mistakes.{TOPICS[int(self.identifier[0])]}")
        possible, count = topic.MISTAKES.get(self.identifier, ()), 0
        for number, group in enumerate(self.groups()):
            before = len(failures)
            for args in group:
                self.args = args
                failure, out = _try(self.exercise, self.function, args)
                if failure is not None and not failure.attempted and count == 0:
                    said = ["not attempted yet (nothing returned; is a return missing?).", *failure.said()]
                    self.result = Result("not attempted", "\n".join(said))
                    return
                if failure is not None:
                    failures.append(failure)
                possible = [mistake for mistake in possible if explains(mistake, args, out)]
                count += 1
            if number > 0 and len(failures) > before and not possible:  # larger ones would say no more
                break
        if failures:
            known = possible[0].hint if len(possible) == 1 else None
            self.result = self.wrong(_smallest(failures), known)
        else:
            self.result = Result("correct", f"correct ({count} inputs).")

    def wrong(self, failure: _Failure, known: str | None) -> Result:
        """What is read about a failure."""
        report = failure.report(self.exercise, known)
        return Result("wrong", f"not right yet. The smallest example found:\n{report}")


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


def _smallest(failures: list[_Failure]) -> _Failure:
    """The failure with the fewest numbers in its arguments; of several the one whose arguments are shortest to read."""
    counts = [sum(map(_count, failure.args)) for failure in failures]
    fewest = [failure for failure, count in zip(failures, counts) if count == min(counts)]
    return min(fewest, key=lambda failure: sum(len(text(value)) for value in failure.args))


def _count(value: Any) -> int:
    """How many numbers a value consists of."""
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_count, value))
    found = numbers(value)
    return 1 if found is None else found.numel()


def explains(mistake: Mistake, args: tuple, out: Any) -> bool:
    """Whether a mistake gives that answer."""
    try:
        return mistake.explains(args, out)
    except ANY:  # the mistake is not possible with these arguments, or the answer is none
        return False


def _where(error: BaseException, function: Callable) -> str:
    """The line of the learner's function in which an error arose, where its source is known."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (in the line `{shorten(lines[-1], 120)}`)" if lines and lines[-1] else ""


def _copying(name: str, value: Any) -> str:
    """How to copy an argument."""
    if isinstance(value, torch.Tensor):
        return f"{name}.clone()"
    deep = any(isinstance(item, (list, dict)) for item in value)
    return f"copy.deepcopy({name})" if deep else f"{name}.copy()"


def _try(exercise: Exercise, function: Callable, args: tuple) -> tuple[_Failure | None, Any]:
    """What is wrong with the answer, or None, and the answer."""
    given = clone(args)
    came = call(function, given)
    if came.error is not None and not _stub(came.error):
        said = described(came.error, str)
        hint = f"On this input the function raised {type(came.error).__name__}: {said}{_where(came.error, function)}"
        return _Failure(args, hint, printed=came.printed), None
    if came.out is None or came.out is ...:
        hint = "the function returns nothing here. Is a return missing?"
        return _Failure(args, hint, printed=came.printed, attempted=False), None
    if not same(given, args):
        name, old = next((n, old) for n, old, new in zip(exercise.names, args, given) if not same(new, old))
        hint = f"the function changes its argument {name} in place. Work on a copy: {_copying(name, old)}"
        return _Failure(args, hint, printed=came.printed), None
    try:
        hint = exercise.verify(args, came.out)
    except ANY:
        kind = type(came.out).__name__
        hint = f"the answer is a {kind} that cannot be compared. Look at the signature and shapes."
    return (None if hint is None else _Failure(args, hint, (came.out,), came.printed)), came.out


def _stub(error: BaseException) -> bool:
    """Whether this is a stub's ``raise NotImplementedError``; torch raises it with a message."""
    return isinstance(error, NotImplementedError) and not error.args
