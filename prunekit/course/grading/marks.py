"""Marks: each exercise of each copy gets a line, whatever is in the copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import PrunekitError
from ..printing import shorten
from ..quiz.readings import judge
from ..sandbox import Call, known_state
from .asked import Asked
from .fenced.packing import error_of, pack
from .fenced.runner import Runner
from .handed_in import Cell, Copy, belonging, cells_of, untouched
from .trial import Came, Trial, groups

WIDTH = 240  # characters of a reason


@dataclass(frozen=True)
class Mark:
    """A line of the marks.

    Attributes:
        student: who.
        exercise: its id, or "" for a file that is none of the course's.
        title: its heading.
        points: 1 or 0.
        reason: in one line.
        details: what the check says, in several.
    """

    student: str
    exercise: str
    title: str
    points: int
    reason: str
    details: str = ""


class Marker:
    """Marks copies, all on the same inputs.

    Args:
        runner: where answers run.
        seed: what the inputs are drawn from.
    """

    def __init__(self, runner: Runner, seed: str) -> None:
        self.runner, self.seed = runner, seed
        self.inputs: dict[str, tuple[list[list[tuple]], bytes]] = {}

    def marks(self, copy: Copy, asked: list[Asked]) -> Iterator[Mark]:
        """A line for each exercise of the copy's notebook.

        Args:
            copy: of a notebook of the course.
            asked: the notebook's exercises.
        """
        try:
            cells, wrong = cells_of(copy.path), ""
        except PrunekitError as error:
            cells, wrong = [], str(error)
        for place, each in enumerate(asked):
            if wrong:
                points, reason, details = 0, wrong, ""
            else:
                points, reason, details = self._marked(each, cells, asked[:place])
            yield Mark(copy.student, each.identifier, each.title, points, shorten(reason, WIDTH), details)

    def _marked(self, asked: Asked, cells: list[Cell], earlier: list[Asked]) -> tuple[int, str, str]:
        """Points, reason and details of an exercise."""
        own = belonging(cells, asked)
        tried = [source for source in own if not untouched(source, asked)]
        if not tried:
            return 0, "not attempted" if own else "its cell is missing", ""
        task = {
            "identifier": asked.identifier,
            "kind": asked.kind,
            "name": asked.name,
            "before": asked.before,
            "earlier": [source for each in earlier for source in belonging(cells, each) if not untouched(source, each)],
            "cells": tried,
        }
        try:
            inputs, packed = self._inputs(asked)
            came, ended = self.runner.run(task, packed)
            if came and "problem" in came[-1]:
                ended = str(came.pop()["problem"])
            if asked.kind == "check":
                return _tried(asked, came, inputs, ended)
            return _read(asked, came[0]["answer"]) if came else (0, ended, "")
        except PrunekitError:  # answers cannot be run any more
            raise
        except Exception as error:  # whatever an answer handed back, others are not to suffer from it
            return 0, f"the answer cannot be judged: {type(error).__name__}", ""

    def _inputs(self, asked: Asked) -> tuple[list[list[tuple]], bytes]:
        """The arguments for an exercise, as it is judged by, and as they are sent."""
        if asked.identifier not in self.inputs:
            made = [list(group) for group in groups(asked.identifier, self.seed + "/")] if asked.kind == "check" else []
            self.inputs[asked.identifier] = made, pack([args for group in made for args in group])
        return self.inputs[asked.identifier]


def _read(asked: Asked, answer: Any) -> tuple[int, str, str]:
    """Points, reason and details of what was read in a figure."""
    try:
        state, said = judge(asked.identifier, answer)
    except PrunekitError as error:  # of another kind
        state, said = "wrong", [str(error)]
    return int(state == "correct"), ": ".join([state, *said[:1]]), "\n".join(said)


def _tried(asked: Asked, calls: list[dict], inputs: list[list[tuple]], ended: str) -> tuple[int, str, str]:
    """Points, reason and details of a function, from what came of its calls; `ended` says why others are missing."""
    left = iter(calls)
    tried = [list(zip(group, left)) for group in inputs]
    came = (call for group in tried for _, call in group)
    some = [[args for args, _ in group] for group in tried]
    trial = Trial(asked.identifier, lambda args: _came(next(came), args), some)
    with known_state():
        trial.run()
    if len(calls) != sum(map(len, inputs)) and trial.state != "wrong":
        return 0, ended, ""
    if trial.state != "wrong":
        return int(trial.state == "correct"), trial.state, trial.said
    return 0, f"wrong: {trial.said.splitlines()[-1].removeprefix('Hint: ')}", trial.said


def _came(call: dict, args: tuple) -> Came:
    """What came of a call, as the worker tells it."""
    error = error_of(*map(str, call["error"])) if "error" in call else None
    made = Call(call.get("out"), error, str(call.get("printed", "")))
    return Came(made, call.get("given", args), str(call.get("where", "")))
