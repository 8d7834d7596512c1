"""Go through a model block by block, each batch through one block before the next; an interrupted walk goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...system.parallel import gathered, meet
from ...system.progress import progress
from ..blocks import Extras, first_inputs
from .hidden import reading_hidden, writing_hidden
from .skeleton import Skeleton

Inputs = Callable[[], Iterable[tuple[Tensor, Extras]]]


class Visit(Protocol):
    """What is done with a block."""

    def __call__(self, index: int, block: nn.Module, inputs: Inputs, give: Callable[[Tensor], Any]) -> None:
        """Call the block with all of ``inputs()``, and `give` with what the next one is to get, batch after batch."""


@torch.no_grad()
def walk(
    skeleton: Skeleton,
    windows: Sequence[Tensor],
    folder: Path,
    visit: Visit,
    convert: Callable[[Any], Any] = lambda value: value,
) -> Path:
    """Visit each block of a model in turn; the hidden states lie in a folder meanwhile.

    Each of several processes does so with all batches, and a folder of its own; they go from block to block together.

    Args:
        skeleton: the model.
        windows: batches of tokens, int64 ``[windows, context]``.
        folder: for the hidden states. Where an earlier walk has left some, this one goes on behind the last block that
            was done.
        visit: what to do with a block.
        convert: what becomes of the hidden states and the rest before the first block.

    Returns:
        The file with what the last block gives out, see `reading_hidden`.
    """

    def file_of(index: int) -> Path:
        return folder / f"hidden-{index:05}"

    count = len(skeleton.blocks)
    start = min(gathered(max((index for index in range(count + 1) if file_of(index).exists()), default=0)))
    if start == count:
        return file_of(count)
    outside = skeleton.outside()
    blocks: Any = outside.get_submodule(skeleton.prefix)
    with nullcontext(lambda x: None) if start else writing_hidden(file_of(0)) as give:
        extras = convert(first_inputs(outside, blocks, windows, lambda x: give(convert(x))))
    del outside, blocks
    for index in progress(range(start, count), "blocks"):

        def inputs(index: int = index) -> Iterator[tuple[Tensor, Extras]]:
            return zip(reading_hidden(file_of(index), skeleton.device), extras[index])

        with writing_hidden(file_of(index + 1)) as give:
            visit(index, skeleton.block(index), inputs, give)
        meet()  # or some would have gone on where others cannot begin again
        file_of(index).unlink()
        extras[index] = []
    return file_of(count)
