"""The EWMA on a model of which one block is in memory at a time: one walk to observe, then each block by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...calibration.calibrate import BATCH_TOKENS, Calibration, Convergence, with_prior
from ...calibration.observe import observing
from ...method.compensation import SAMPLES
from ...method.ewma import BatchEWMA
from ...model.blocks import output_of
from ...model.modes import low_precision
from ...model.streamed.walk import Inputs, walk
from ...system.parallel import from_first
from ...system.progress import progress
from .records import DECAY, Records, Replay
from .work import Work

EARLY = 0.25  # of the calibration text: what mostly is enough


def by_energy(work: Work, ids: Tensor, stop: bool) -> int:
    """See how much energy features carry, and compress all blocks.

    Where calibration may stop early, and nothing is reordered by all of the text, the walk takes the first `EARLY` of
    the batches, and only where they are not enough a second one the rest.

    Args:
        work: what to do.
        ids: calibration tokens, int64 ``[windows, context]``.
        stop: whether calibration may stop before it has used all of `ids`.

    Returns:
        How many calibration tokens were used.
    """
    windows = ids.split(max(1, BATCH_TOKENS // ids.shape[1]))
    count = SAMPLES if work.recipe.compensate else 0
    early = max(2, int(EARLY * len(windows))) if stop and work.suited is None else len(windows)
    used, tokens = 0, 0
    begins = [0] if early >= len(windows) else [0, early]
    for number, (begin, end) in enumerate(zip(begins, [*begins[1:], len(windows)]), 1):
        _observe(work, windows[begin:end], count, begin)
        replays = _replays(work, begins[:number])
        used, tokens, settled = _settled(work, replays, windows[:end], stop)
        if settled:
            break
    done = from_first([work.shards.done(index) for index in range(len(replays))])
    for index, replay in enumerate(progress(replays, "select and cast")):
        if not done[index]:
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
    _walk_of(work, begin).mkdir(exist_ok=True)

    def visit(index: int, block: nn.Module, inputs: Inputs, give: Callable[[Tensor], Any]) -> None:
        block = work.ordered(index, block, inputs)
        layers, records = work.inside(index, block), Records(count, begin)
        with observing(layers, records.observe, records.take):
            for x, (args, kwargs) in inputs():
                give(output_of(block(x, *args, **kwargs)))
                records.batch += 1
        records.save(_records_of(work, begin, index), layers)

    with low_precision(work.like_parameters()):
        walk(work.skeleton, windows, _walk_of(work, begin), visit)


def _walk_of(work: Work, begin: int) -> Path:
    """The folder of the walk whose first batch has the number `begin`."""
    return work.folder / f"from-{begin}"


def _records_of(work: Work, begin: int, index: int) -> Path:
    """What such a walk has seen of one block."""
    return _walk_of(work, begin) / f"records-{index:05}.safetensors"


def _replays(work: Work, begins: list[int]) -> list[Replay]:
    """What the walks that begin there have seen of each block."""
    count, device = len(work.skeleton.blocks), work.skeleton.device
    return [Replay([_records_of(work, begin, index) for begin in begins], device) for index in range(count)]


def _settled(work: Work, replays: list[Replay], windows: tuple[Tensor, ...], stop: bool) -> tuple[int, int, bool]:
    """How many batches, and tokens, calibration uses of these, and whether it stops there."""
    total = sum(window.numel() for window in windows)
    if not stop:
        return len(windows), total, False
    squares = {name: seen for replay in replays for name, seen in replay.squares().items()}
    rows = {name: few for replay in replays for name, few in replay.rows().items()}
    share = min(max(work.recipe.share, 0.01), 0.99)
    convergence = Convergence({name: rows[name] for name in work.layers}, share)
    averages = {name: BatchEWMA(DECAY) for name in work.layers}
    tokens = 0
    for batch, window in enumerate(windows):
        tokens += window.numel()
        for name, (numbers, values) in squares.items():
            if batch in numbers:
                averages[name].update_(values[numbers.index(batch)])
        if all(average.batches for average in averages.values()):
            energy = {name: with_prior(average.value, tokens) for name, average in averages.items()}
            if convergence.settled(energy):
                return batch + 1, tokens, True
    return len(windows), total, False
