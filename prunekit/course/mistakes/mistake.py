"""What a mistake is. One is named to a learner only if it, and no other known one, explains all of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..printing import numbers


@dataclass(frozen=True)
class Mistake:
    """A mistake that is known.

    Attributes:
        hint: what it is.
        explains: ``explains(args, out)`` says whether this mistake, and no other, gives ``out``.
    """

    hint: str
    explains: Callable[[tuple, Any], bool]


def gives(hint: str, wrong: Callable, rtol: float = 1e-4, blur: float = 0) -> Mistake:
    """The mistake of answering as `wrong` does.

    Args:
        hint: what it is.
        wrong: takes the arguments of the exercise; what it returns is compared as numbers.
        rtol: how near the numbers must be.
        blur: how near they may be instead, as a share of the largest.
    """

    def explains(args: tuple, out: Any) -> bool:
        got, want = numbers(out), numbers(wrong(*args))
        if got is None or want is None or (got.shape != want.shape and not got.numel() == want.numel() == 1):
            return False
        atol = blur * want.abs().max().item() if blur else 0
        return torch.allclose(got.flatten(), want.flatten(), rtol=rtol, atol=atol, equal_nan=True)

    return Mistake(hint, explains)


def right_for(hint: str, verify: Callable[[tuple, Any], str | None], other: Callable[..., tuple]) -> Mistake:
    """The mistake of answering another question.

    Args:
        hint: what it is.
        verify: as in `Exercise`.
        other: takes the arguments of the exercise and returns those for which the answer is right.
    """
    return Mistake(hint, lambda args, out: verify(other(*args), out) is None)
