"""Train each block of a compressed model to give what the dense one gives, with one block of both in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...model.blocks import Extras, output_of
from ...model.copies import replace_layers
from ...model.modes import low_precision
from ...model.streamed.hidden import reading_hidden, writing_hidden
from ...model.streamed.skeleton import Skeleton
from ...model.streamed.walk import Inputs, walk
from ..recipe import Recipe
from .work import Work

STEP_TOKENS = 512  # in each step
CONTEXT = 128

Example = tuple[Tensor, Extras, Tensor]  # what a block is given, hidden states and the rest, and what it is to give


class Trains(Protocol):
    """How a block is trained; `recovery.blocks.BlockTraining` is one."""

    @property
    def block_steps(self) -> int:
        """Steps for each block."""

    @property
    def options(self) -> dict[str, float | None]:
        """What is noted of it."""

    def train(
        self, block: nn.Module, layers: Iterable[str], recipe: Recipe, examples: Iterable[Example]
    ) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
        """New layers and norms of a compressed block, by name; each example is for a step."""


def lessons(ids: Tensor, steps: int) -> list[Tensor]:
    """So many batches of windows in random order; where there are too few, all come again.

    Args:
        ids: int64 ``[windows, context]``.
        steps: how many batches.
    """
    size = max(1, STEP_TOKENS // ids.shape[1])
    order = torch.arange(size * steps) % len(ids)
    return list(ids[order[torch.randperm(len(order), generator=torch.Generator().manual_seed(0))]].split(size))


def train_blocks(work: Work, pruned: Skeleton, ids: Tensor, trains: Trains) -> None:
    """Train the blocks of a compressed model one after another, and write them.

    Args:
        work: the dense model, and where blocks go; its folder is for the hidden states.
        pruned: the compressed model.
        ids: text, int64 ``[windows, context]``.
        trains: how.

    Raises:
        PrunekitError: the disk is full, or as `trains` raises.
    """
    last = len(work.skeleton.blocks) - 1

    def visit(index: int, block: nn.Module, inputs: Inputs, give: Callable[[Tensor], Any]) -> None:
        mine, own = pruned.block(index), _own(work, index)
        _own(work, index - 1).unlink(missing_ok=True)

        def run(block: nn.Module, x: Tensor, extras: Extras) -> Tensor:
            with low_precision(work.like_parameters()):  # never around a step, since it keeps weights that it has cast
                return output_of(block(x, *extras[0], **extras[1]))

        def given() -> Iterator[Tensor]:
            """What the compressed blocks before this one give out."""
            return reading_hidden(own, pruned.device) if index else (x for x, _ in inputs())

        def examples() -> Iterator[Example]:
            for (x, extras), its in zip(inputs(), given()):
                target = run(block, x, extras)
                give(target)
                yield its, extras, target

        inside = pruned.inside(index)
        names = [name[len(inside) :] for name in work.inside(index, mine)]
        layers, norms = trains.train(mine, names, work.recipe, examples())
        mine = work.written(index, replace_layers(mine, norms), {inside + name: new for name, new in layers.items()})
        if index < last:
            with writing_hidden(_own(work, index + 1)) as keep:
                for (_, extras), its in zip(inputs(), given()):
                    keep(run(mine, its, extras))

    work.folder.mkdir(exist_ok=True)
    walk(work.skeleton, lessons(ids, trains.block_steps), work.folder, visit)


def _own(work: Work, index: int) -> Path:
    """The file with what the compressed blocks before one of that number give out."""
    return work.folder / f"own-{index:05}"
