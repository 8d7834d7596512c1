"""A solution on an exercise's inputs: a wrong answer gets its smallest counterexample and a hint.

A module ``checks/TOPIC.py`` defines ``EXERCISES``, a dict from ids such as "1.2" to `Exercise`, and
``mistakes/TOPIC.py`` a dict ``MISTAKES`` from ids to what is often done wrong.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from ...errors import PrunekitError
from ..checks.exercise import Exercise
from ..mistakes.mistake import Mistake
from ..printing import ANY, clone, described, named, numbers, same, shorten, text
from ..sandbox import Call

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
class Came:
    """What came of a call, the arguments as they were after it, and the line in which an error arose, in brackets."""

    call: Call
    given: tuple
    where: str = ""


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
    exercises = import_module(f"..checks.{TOPICS[int(number[1])]}", __package__).EXERCISES
    if identifier not in exercises:
        raise PrunekitError(f"there is no exercise {identifier!r}, only {', '.join(exercises)}.")
    return exercises[identifier]


def groups(identifier: str, seed: str = "") -> Iterator[Iterable[tuple]]:
    """All arguments that an exercise tries: corners, then random ones of growing size.

    Args:
        identifier: the exercise's id, such as "1.2".
        seed: what the random ones are drawn from; the empty one is that of the notebooks.

    Raises:
        PrunekitError: there is no such exercise.
    """
    exercise = find(identifier)
    yield exercise.corners()
    for size in SIZES:
        names = (f"{seed}{identifier}/{size}/{attempt}" for attempt in range(exercise.tries))
        rngs = (torch.Generator().manual_seed(zlib.crc32(name.encode())) for name in names)
        yield (tuple(exercise.inputs(size, rng)) for rng in rngs)


class Trial:
    """A solution on all inputs of an exercise. While `run` is at work, ``args`` are those of the present call."""

    def __init__(self, identifier: str, ask: Callable[[tuple], Came], inputs: Iterable[Iterable[tuple]]) -> None:
        self.identifier, self.exercise, self.ask, self.inputs = identifier, find(identifier), ask, inputs
        self.args: tuple = ()
        self.state, self.said = "wrong", ""

    @property
    def result(self) -> Result:
        """How the solution did."""
        return Result(self.state, f"Exercise {self.identifier}: {self.said}")

    def stop(self, hint: str) -> None:
        """Leave it at a failure on the present input."""
        self._wrong(_Failure(self.args, hint), None)

    def run(self) -> None:
        """Try all inputs, or as many as it takes to know what is wrong, and leave a result."""
        failures: list[_Failure] = []
        topic = import_module(f"..mistakes.{TOPICS[int(self.identifier[0])]}", __package__)
        possible, count = topic.MISTAKES.get(self.identifier, ()), 0
        for number, group in enumerate(self.inputs):
            before = len(failures)
            for args in group:
                self.args = args
                failure, out = _try(self.exercise, self.ask(args), args)
                if failure is not None and not failure.attempted and count == 0:
                    said = ["not attempted yet (nothing returned; is a return missing?).", *failure.said()]
                    self.state, self.said = "not attempted", "\n".join(said)
                    return
                if failure is not None:
                    failures.append(failure)
                possible = [mistake for mistake in possible if explains(mistake, args, out)]
                count += 1
            if number > 0 and len(failures) > before and not possible:  # larger ones would say no more
                break
        if failures:
            known = possible[0].hint if len(possible) == 1 else None
            self._wrong(_smallest(failures), known)
        else:
            self.state, self.said = "correct", f"correct ({count} inputs)."

    def _wrong(self, failure: _Failure, known: str | None) -> None:
        self.said = f"not right yet. The smallest example found:\n{failure.report(self.exercise, known)}"


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


def _copying(name: str, value: Any) -> str:
    """How to copy an argument."""
    if isinstance(value, torch.Tensor):
        return f"{name}.clone()"
    deep = any(isinstance(item, (list, dict)) for item in value)
    return f"copy.deepcopy({name})" if deep else f"{name}.copy()"


def _try(exercise: Exercise, answer: Came, args: tuple) -> tuple[_Failure | None, Any]:
    """What is wrong with the answer, or None, and the answer."""
    came, given = answer.call, answer.given
    if came.error is not None and not _stub(came.error):
        said = described(came.error, str)
        hint = f"On this input the function raised {type(came.error).__name__}: {said}{answer.where}"
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
