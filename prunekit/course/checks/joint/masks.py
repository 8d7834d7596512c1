"""What the checks of notebook 04 share: a learner's mask, and random choices."""

import torch
from torch import Tensor

from ...printing import numbers


def mask_of(out: object, shape: torch.Size, what: str) -> tuple[Tensor | None, str | None]:
    """A learner's mask as bool, or a hint why it is none."""
    mask = numbers(out)
    if mask is None or mask.shape != shape:
        found = "something else" if mask is None else str(tuple(mask.shape))
        return None, f"expected a mask of the shape of {what}, {tuple(shape)}; this is {found}."
    if not ((mask == 0) | (mask == 1)).all():
        return None, "a mask says True or False (or 1 and 0) for each weight, True where it is kept."
    return mask.bool(), None


def choose(choices: list[float], shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.tensor(choices)[torch.randint(len(choices), shape, generator=rng)]
