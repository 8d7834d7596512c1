"""Recovery where the model is large: each block by itself is trained to give what the dense one gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from ..compression.recipe import Recipe
from ..compression.streamed.trained import Example
from ..errors import PrunekitError, check_count
from ..model.blocks import output_of
from .budget import CAST_FROM, rate_at
from .recover import multiplies_in_bfloat16
from .student.student import Student

RATE = 2e-3


@dataclass(frozen=True)
class BlockTraining:
    """How `compress_folder` trains each block when all have been compressed, the masks held fixed.

    A block gets what the compressed and trained blocks before it give out, and is to give what the dense block gives
    out in the dense model (as in EBFT; Guo et al. 2024, arXiv 2402.12419). The loss is the squared error of each token,
    relative to the square of what is aimed at, since the norms that read it divide by that, too. AdamW moves the
    weights that are left, and the norms, at a rate that rises, then falls to zero; each step reads text of its own.
    With FP8 the last fifth of the steps uses the cast weights, as in `recover`.

    Args:
        block_steps: how many steps for each block.
        rate: highest learning rate.

    Raises:
        PrunekitError: a number that is none above 0.
    """

    block_steps: int
    rate: float = RATE

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_steps", check_count(self.block_steps, "block_steps"))
        if not (isinstance(self.rate, (int, float)) and self.rate > 0):
            raise PrunekitError(f"rate is {self.rate}: expected a number above 0.")

    @property
    def options(self) -> dict[str, float | None]:
        """What is noted of it."""
        return asdict(self)

    def train(
        self, block: nn.Module, layers: Iterable[str], recipe: Recipe, examples: Iterable[Example]
    ) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
        """Train a block.

        Args:
            block: the compressed block, which stays as it is.
            layers: the names of its compressed layers.
            recipe: how they were compressed.
            examples: for each step what the block is given, and what it is to give.

        Returns:
            Its new layers and its new norms, by name.

        Raises:
            PrunekitError: a loss is not finite.
        """
        student = Student(block, layers, recipe)
        self._move(student, block, examples)
        return student.finished()

    def _move(self, student: Student, block: nn.Module, examples: Iterable[Example]) -> None:
        """Take a step with each example, for a student that was made of the block."""
        optimizer = student.optimizer(self.rate)
        with torch.enable_grad():
            for step, (x, (args, kwargs), target) in enumerate(examples):
                part = step / self.block_steps
                student.cast(part >= CAST_FROM)
                for group in optimizer.param_groups:
                    group["lr"] = rate_at(part, self.rate, self.block_steps)
                with multiplying(block):
                    value = relative_error(output_of(student.model(x, *args, **kwargs)), target)
                if not torch.isfinite(value):
                    raise PrunekitError(
                        f"the loss is {value.item()} at step {step} of a block: try a lower rate than {self.rate}."
                    )
                value.backward()
                optimizer.step()
                optimizer.zero_grad()


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """The mean over tokens of the squared error ``|output - target|^2 / |target|^2``; both ``[..., width]``."""
    wanted = target.float()
    return ((output.float() - wanted).square().sum(-1) / wanted.square().sum(-1)).mean()


def multiplying(block: nn.Module) -> torch.autocast:
    """A context in which products are in bfloat16 where recovery has them so."""
    first = next(block.parameters())
    bfloat16 = multiplies_in_bfloat16(first.dtype, first.device)
    return torch.autocast(first.device.type, torch.bfloat16, enabled=bfloat16)
