"""What an exercise is, and what many of them need."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

TRIES = 12


def whole(rng: torch.Generator, low: int, high: int) -> int:
    """A random whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=rng))


def likely(got: float, mistakes: Iterable[tuple[str, float | None]], rel_tol: float = 1e-4) -> str | None:
    """The hint of the one mistake that gives this number; None if there is none, or more than one.

    Args:
        got: the learner's number.
        mistakes: hint and number of each; None instead of a number where the mistake is not possible.
        rel_tol: how near the numbers must be, relative to the larger.
    """
    known = ((hint, wrong) for hint, wrong in mistakes if wrong is not None)
    hints = [hint for hint, wrong in known if math.isclose(got, wrong, rel_tol=rel_tol, abs_tol=1e-9)]
    return hints[0] if len(hints) == 1 else None


@dataclass(frozen=True)
class Exercise:
    """What an exercise asks for.

    Attributes:
        inputs: ``inputs(size, rng)`` returns the arguments as a tuple. Small sizes (1, 2, 3) give small examples.
        verify: ``verify(args, out)`` returns None if ``out`` is right, or else a hint: what is wrong and where to look.
        names: names of the arguments, for printing.
        reference: a right solution, whose answer is printed beside the learner's.
        tries: how many random inputs of each size.
    """

    inputs: Callable[[int, torch.Generator], tuple]
    verify: Callable[[tuple, Any], str | None]
    names: tuple[str, ...]
    reference: Callable
    tries: int = TRIES
