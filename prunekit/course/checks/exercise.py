"""What an exercise is, and what many of them need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TRIES = 12


def whole(rng: torch.Generator, low: int, high: int) -> int:
    """A random whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=rng))


def exactly(got: float, want: float) -> bool:
    """Whether a number is right to the last digit, or as near as float32 comes."""
    return got in (want, torch.tensor(want, dtype=torch.float32).item())


def long_guesses() -> tuple[Tensor, Tensor, Tensor]:
    """A text of 600 large ids, and what two models guess: right at about 0.6 and 0.55 of the places."""
    rng = torch.Generator().manual_seed(0)
    target, other = torch.randint(0, 151936, (2, 600), generator=rng)
    hit = torch.rand(2, 600, generator=rng) < torch.tensor([[0.6], [0.55]])
    dense, model = (torch.where(h, target, other) for h in hit)
    model[::7] = dense[::7]
    return target, dense, model


@dataclass(frozen=True)
class Exercise:
    """What an exercise asks for.

    Attributes:
        inputs: ``inputs(size, rng)`` returns the arguments as a tuple. Small sizes (1, 2, 3) give small examples.
        verify: ``verify(args, out)`` returns None if ``out`` is right, or else a hint: what is true of this answer to
            these arguments, or what was asked for. Guesses at the reason belong to `course.mistakes`.
        names: names of the arguments, for printing.
        reference: a right solution, whose answer is printed beside the learner's.
        corners: returns arguments that are always tried, before those of `inputs`.
        tries: how many random inputs of each size.
    """

    inputs: Callable[[int, torch.Generator], tuple]
    verify: Callable[[tuple, Any], str | None]
    names: tuple[str, ...]
    reference: Callable
    corners: Callable[[], Iterable[tuple]] = tuple
    tries: int = TRIES
