"""Each method on a model of which one block is in memory at a time: the numbers of `compress`, in another order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...calibration.calibrate import BATCH_TOKENS, Calibration, Convergence, with_prior
from ...calibration.observe import observing
from ...errors import PrunekitError, first_line, out_of_memory
from ...method.compensation import SAMPLES
from ...method.ewma import BatchEWMA
from ...model.blocks import output_of
from ...model.copies import replace_layers
from ...model.modes import bfloat16_pays, low_precision
from ...model.streamed.skeleton import Skeleton
from ...model.streamed.walk import Inputs, walk
from ...system.progress import progress
from ..blockwise import BLOCKWISE, batches, prune_block, step_of, to_bfloat16
from ..compress import compress_each
from ..recipe import Recipe
from .order import in_order, save_order
from .records import DECAY, Records, Replay

EARLY = 0.25  # of the calibration text: what mostly is enough


class Shards(Protocol):
    """Where compressed blocks go."""

    def done(self, index: int) -> bool:
        """Whether the block of that number was written already."""

    def write(self, index: int, block: nn.Module, new: dict[str, nn.Module]) -> None:
        """Write a block whose new layers are given by their names in the model."""


@dataclass(frozen=True)
class Work:
    """What is to be compressed, and how.

    Attributes:
        skeleton: the model.
        layers: names of those to compress.
        recipe: how.
        recipes: the recipe of each layer.
        folder: for what is needed to go on after an interruption.
        shards: where blocks go.
    """

    skeleton: Skeleton
    layers: list[str]
    recipe: Recipe
    recipes: dict[str, Recipe]
    folder: Path
    shards: Shards

    def inside(self, index: int, block: nn.Module) -> dict[str, nn.Module]:
        """The layers of one block that are to be compressed, by their names in the model."""
        inside = self.skeleton.inside(index)
        return {name: block.get_submodule(name[len(inside) :]) for name in self.layers if name.startswith(inside)}

    @property
    def suited(self) -> str | None:
        """The pattern that channels are put in an order for, if they are."""
        return self.recipe.pattern if self.recipe.permute else None

    def ordered(self, index: int, block: nn.Module, inputs: Inputs | None = None) -> nn.Module:
        """A block with its channels in an order that suits the pattern, where the recipe wants that.

        Args:
            index: of the block.
            block: the block.
            inputs: by which the order is found; not needed where it was found before.
        """
        if self.suited is None:
            return block
        file = self.folder / f"order-{index:05}.safetensors"
        if not file.exists():
            assert inputs is not None  # as the first walk comes first
            save_order(file, block, inputs, self.suited)
        return in_order(file, block)

    def compressed(self, index: int, block: nn.Module, calibration: Calibration) -> nn.Module:
        """A block by its number with its layers compressed one by one, and written."""
        layers = self.inside(index, block)
        recipes = {name: self.recipes[name] for name in layers}
        new = compress_each(layers, recipes, self.recipe, calibration) if layers else {}
        return self.written(index, block, new)

    def written(self, index: int, block: nn.Module, new: dict[str, nn.Module]) -> nn.Module:
        """The same with new layers that there are already."""
        inside = self.skeleton.inside(index)
        block = replace_layers(block, {name[len(inside) :]: module for name, module in new.items()})
        self.shards.write(index, block, new)
        return block


@torch.no_grad()
def compress_streamed(work: Work, ids: Tensor | None, stop: bool) -> int:
    """Compress all blocks and write them.

    Args:
        work: what to do.
        ids: calibration tokens, int64 ``[windows, context]``; None where the recipe needs none.
        stop: whether calibration may stop before it has used all of `ids`.

    Returns:
        How many calibration tokens were used.

    Raises:
        PrunekitError: as `compress.compress`; or the disk is full.
    """
    if ids is None or not work.recipe.needs_inputs:
        _without_text(work)
        return 0
    if work.recipe.method in BLOCKWISE:
        _blockwise(work, ids)
        return ids.numel()
    return _by_energy(work, ids, stop)


def _without_text(work: Work) -> None:
    """Compress blocks by their weights alone, and let each run on two tokens: see `checks.check_runs`."""

    def visit(index: int, block: nn.Module, inputs: Inputs, give: Callable[[Tensor], Any]) -> None:
        new = work.compressed(index, block, Calibration({}, 0, 0.0))
        for x, (args, kwargs) in inputs():
            try:
                give(output_of(new(x, *args, **kwargs)))
            except (RuntimeError, AttributeError, TypeError) as error:
                if out_of_memory(error):
                    raise
                raise PrunekitError(
                    f"the model does not run with all these layers in FP8 ({first_line(error)}): leave out (exclude) "
                    "those whose weight it reads instead of calling them, such as Mamba's dt_proj."
                ) from error

    walk(work.skeleton, (torch.zeros(1, 2, dtype=torch.int64),), work.folder, visit)


def _blockwise(work: Work, ids: Tensor) -> None:
    """Wanda, SparseGPT or ADMM."""
    step = step_of(work.recipes, bfloat16_pays(_like_parameters(work.skeleton)))

    def visit(index: int, block: nn.Module, inputs: Inputs, give: Callable[[Tensor], Any]) -> None:
        block = work.ordered(index, block, inputs)
        layers = work.inside(index, block)
        new = prune_block(block, work.skeleton.inside(index), layers, step, inputs, ids.numel(), give)
        work.written(index, block, new)

    walk(work.skeleton, batches(ids), work.folder, visit, *([to_bfloat16] if step.bfloat16 else []))


def _by_energy(work: Work, ids: Tensor, stop: bool) -> int:
    """The EWMA: a walk to see how much energy features carry, then all blocks are compressed; gives the tokens used.

    Where calibration may stop early, and nothing is reordered by all of the text, the walk takes the first `EARLY` of
    the batches, and only where they are not enough a second one the rest.
    """
    windows = ids.split(max(1, BATCH_TOKENS // ids.shape[1]))
    count = SAMPLES if work.recipe.compensate else 0
    early = max(2, int(EARLY * len(windows))) if stop and work.suited is None else len(windows)
    used, tokens = 0, 0
    for number, part in enumerate(filter(len, (windows[:early], windows[early:]))):
        _observe(work, part, count, number * early)
        replays = _replays(work, number + 1)
        used, tokens, settled = _settled(work, replays, windows[: number * early + len(part)], stop)
        if settled:
            break
    for index, replay in enumerate(progress(replays, "select and cast")):
        if not work.shards.done(index):
            _compress_one(work, index, replay, (used, tokens, count))
    return tokens


def _compress_one(work: Work, index: int, replay: Replay, found: tuple[int, int, int]) -> None:
    """Compress one block; when this returns, nothing of it is left in memory.

    Args:
        work: what to do.
        index: of the block.
        replay: what was seen of it.
        found: how many batches count, how many tokens they hold, and how many of these are sampled.
    """
    used, tokens, count = found
    block = work.ordered(index, work.skeleton.block(index))
    samples = replay.samples(count, used) if count else {}
    energy = replay.energy(work.inside(index, block), used, tokens)
    work.compressed(index, block, Calibration(energy, tokens, 0.0, samples=samples))


def _observe(work: Work, windows: tuple[Tensor, ...], count: int, begin: int) -> None:
    """Keep what calibration sees of each block, in files; the first batch has the number `begin`."""
    folder = work.folder / f"from-{begin}"
    folder.mkdir(exist_ok=True)

    def visit(index: int, block: nn.Module, inputs: Inputs, give: Callable[[Tensor], Any]) -> None:
        block = work.ordered(index, block, inputs)
        layers, records = work.inside(index, block), Records(count, begin)
        with observing(layers, records.observe, records.take):
            for x, (args, kwargs) in inputs():
                give(output_of(block(x, *args, **kwargs)))
                records.batch += 1
        records.save(folder / f"records-{index:05}.safetensors", layers)

    with low_precision(_like_parameters(work.skeleton)):
        walk(work.skeleton, windows, folder, visit)


def _replays(work: Work, walks: int) -> list[Replay]:
    """What the first walks have seen of each block."""
    folders = sorted(work.folder.glob("from-*"), key=lambda folder: int(folder.name[5:]))[:walks]
    count = len(work.skeleton.blocks)
    return [Replay([f / f"records-{i:05}.safetensors" for f in folders], work.skeleton.device) for i in range(count)]


def _settled(work: Work, replays: list[Replay], windows: tuple[Tensor, ...], stop: bool) -> tuple[int, int, bool]:
    """How many batches, and tokens, calibration uses of these, and whether it stops there."""
    total = sum(window.numel() for window in windows)
    if not stop:
        return len(windows), total, False
    squares, rows = ({k: v for each in parts for k, v in each.items()} for parts in _parts(replays))
    share = min(max(work.recipe.share, 0.01), 0.99)
    convergence = Convergence({name: rows[name] for name in work.layers}, share)
    averages = {name: BatchEWMA(DECAY) for name in work.layers}
    tokens = 0
    for batch, window in enumerate(windows):
        tokens += window.numel()
        for name in work.layers:
            numbers, values = squares.get(name, ([], None))
            if batch in numbers:
                averages[name].update_(values[numbers.index(batch)])
        if all(average.batches for average in averages.values()):
            energy = {name: with_prior(average.value, tokens) for name, average in averages.items()}
            if convergence.settled(energy):
                return batch + 1, tokens, True
    return len(windows), total, False


def _parts(replays: list[Replay]) -> tuple[list[dict], list[dict]]:
    return [replay.squares() for replay in replays], [replay.rows() for replay in replays]


def _like_parameters(skeleton: Skeleton) -> nn.Module:
    """A layer in the dtype of the model's parameters, and on its device."""
    return nn.Linear(1, 1, device=skeleton.device, dtype=skeleton.dtype)
