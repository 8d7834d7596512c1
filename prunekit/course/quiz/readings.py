"""Exercises that ask what a figure says: a number, an order, or which of some claims follow from it.

A module ``topics/TOPIC.py`` defines ``READINGS``, a dict from ids such as "1.5" to `Claims`, `Order` or `Number`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ...errors import PrunekitError
from .question import topic


@dataclass(frozen=True)
class Claims:
    """Which of some claims follow; they stand in the notebook under letters.

    Attributes:
        follow: the letters of those that do, such as "ac".
        reasons: for each letter why it follows, or why not.
    """

    follow: str
    reasons: Mapping[str, str]

    def wrong(self, answer: object) -> list[str]:
        """What is wrong with an answer, such as "ac": a sentence for each claim that was misjudged."""
        named = _letters(answer, self.reasons)
        misjudged = (letter for letter in self.reasons if (letter in named) != (letter in self.follow))
        return [
            f"{letter} {'follows' if letter in self.follow else 'does not follow'}: {self.reasons[letter]}"
            for letter in misjudged
        ]


@dataclass(frozen=True)
class Order:
    """An order of things that stand in the notebook under letters.

    Attributes:
        right: the letters in order, such as "bca".
        reasons: why each comes before the next, one fewer than letters.
    """

    right: str
    reasons: tuple[str, ...]

    def wrong(self, answer: object) -> list[str]:
        """What is wrong with an answer, such as "bca": a sentence for each neighbours that stand the other way."""
        named = _letters(answer, self.right)
        if sorted(named) != sorted(self.right):
            raise PrunekitError(
                f"name each of {', '.join(sorted(self.right))} once, as in {sorted(self.right)[0]!r}..."
            )
        pairs = zip(self.right, self.right[1:], self.reasons)
        return [
            f"{one} comes before {other}: {reason}"
            for one, other, reason in pairs
            if named.index(one) > named.index(other)
        ]


@dataclass(frozen=True)
class Number:
    """A number that is read off or worked out.

    Attributes:
        right: the number.
        tolerance: how far an answer may be from it, relative to it.
        reason: how it comes about.
        mistakes: what other numbers come from.
    """

    right: float
    tolerance: float
    reason: str
    mistakes: Mapping[float, str] = field(default_factory=dict)

    def wrong(self, answer: object) -> list[str]:
        """What is wrong with an answer: nothing, or one sentence."""
        if isinstance(answer, bool) or not isinstance(answer, (int, float)):
            raise PrunekitError(f"the answer is a number, not {answer!r}.")
        if math.isclose(answer, self.right, rel_tol=self.tolerance):
            return []
        for value, reason in self.mistakes.items():
            if math.isclose(answer, value, rel_tol=self.tolerance):
                return [reason]
        return [f"it is not {answer:g}: {self.reason}"]


def interpret(identifier: str, answer: object = None) -> None:
    """Judge what a learner reads in a figure, and print it: correct, not attempted yet, or a reason for each mistake.

    It never raises.

    Args:
        identifier: the exercise's id, such as "1.5".
        answer: letters as a string, or a number; empty or None if nothing was written yet.
    """
    try:
        state, said = judge(identifier, answer)
    except PrunekitError as error:
        state, said = str(error).removesuffix("."), []
    words = {"wrong": "not right yet", "not attempted": "not attempted yet"}
    print("\n- ".join([f"Exercise {identifier}: {words.get(state, state)}.", *said]))


def judge(identifier: str, answer: object) -> tuple[str, list[str]]:
    """Judge what a learner reads in a figure.

    Args:
        identifier: the exercise's id; this and the next as in `interpret`.
        answer: letters, or a number.

    Returns:
        "correct", "not attempted" or "wrong", and a reason for each mistake.

    Raises:
        PrunekitError: there is no such exercise, or the answer is of another kind.
    """
    readings = topic(f"0{str(identifier).split('.')[0]}").READINGS
    if identifier not in readings:
        raise PrunekitError(f"there is no such exercise, only {', '.join(readings)}.")
    if answer is None or answer is ... or (isinstance(answer, str) and answer == ""):
        return "not attempted", []
    mistakes = readings[identifier].wrong(answer)
    return "wrong" if mistakes else "correct", mistakes


def _letters(answer: object, known: Iterable[str]) -> str:
    """The letters of an answer: "ac", "a, c" and ["a", "c"] are all the same."""
    parts = answer if isinstance(answer, (str, list, tuple, set, frozenset)) else None
    letters = "".join(str(part) for part in parts).replace(",", "").replace(" ", "").lower() if parts else ""
    if not letters or set(letters) - set(known) or len(set(letters)) < len(letters):
        raise PrunekitError(f"the answer is some of the letters {', '.join(sorted(known))}, each once, as a string.")
    return letters
