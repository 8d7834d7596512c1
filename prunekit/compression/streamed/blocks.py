"""Each method on a model of which one block is in memory at a time: the numbers of `compress`, in another order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...calibration.calibrate import Calibration
from ...errors import PrunekitError, first_line, out_of_memory
from ...model.blocks import output_of
from ...model.modes import bfloat16_pays
from ...model.streamed.walk import Inputs, walk
from ..blockwise import BLOCKWISE, batches, prune_block, step_of, to_bfloat16
from .energy import by_energy
from .work import Work


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
    return by_energy(work, ids, stop)


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
    step = step_of(work.recipes, bfloat16_pays(work.like_parameters()))

    def visit(index: int, block: nn.Module, inputs: Inputs, give: Callable[[Tensor], Any]) -> None:
        block = work.ordered(index, block, inputs)
        layers = work.inside(index, block)
        new = prune_block(block, work.skeleton.inside(index), layers, step, inputs, ids.numel(), give)
        work.written(index, block, new)

    walk(work.skeleton, batches(ids), work.folder, visit, *([to_bfloat16] if step.bfloat16 else []))
