"""How good is a model of which only one decoder block is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_count
from ..model.blocks import logits_after, output_of
from ..model.checks import check_text
from ..model.streamed.hidden import reading_hidden
from ..model.streamed.skeleton import Skeleton
from ..model.streamed.walk import Inputs, walk
from ..system.progress import progress
from .evaluate import check_same, judge, summary

TOKENS = 128  # of each window whose logits are there at once


@torch.no_grad()
def evaluate_streamed(models: Mapping[str, Skeleton], ids: Tensor, batch: int = 2) -> dict[str, dict[str, float]]:
    """`evaluate.evaluate_all` with one block of one model in memory; hidden states lie in a temporary folder.

    Args:
        models: by name; one called ``dense`` is what the others are held against.
        ids: int64 ``[windows, context]``.
        batch: windows that go through a block at a time.

    Returns:
        What `evaluate.evaluate` gives, by name.

    Raises:
        PrunekitError: as `evaluate.evaluate`, or a checkpoint or the disk cannot be used.
    """
    for skeleton in models.values():
        check_text(skeleton.model, ids, least=2)
    names = sorted(models, key=lambda name: name != "dense")
    windows = ids.split(check_count(batch, "batch"))
    with TemporaryDirectory(prefix="prunekit-") as folder:
        last = {}
        for name in names:
            place = Path(folder) / name
            place.mkdir()
            last[name] = walk(models[name], windows, place, _run)
        sums: dict[str, dict[str, float]] = {name: {"nll": 0.0, "hits": 0, "kl": 0.0} for name in names}
        ends = {name: models[name].outside(head=True) for name in names}
        hidden = zip(*(reading_hidden(last[name], models[name].device) for name in names))
        for window, states in zip(windows, progress(hidden, "evaluate")):
            for begin in range(0, ids.shape[1] - 1, TOKENS):
                part, reference = slice(begin, min(begin + TOKENS, ids.shape[1] - 1)), None
                for name, state in zip(names, states):
                    blocks: Any = ends[name].get_submodule(models[name].prefix)
                    logits = logits_after(ends[name], blocks, window, state, part)
                    check_same(logits, reference)
                    for key, value in judge(logits, window[:, 1:][:, part], reference).items():
                        sums[name][key] += value
                    reference = logits if name == "dense" else reference
    return summary(sums, ids[:, 1:].numel(), ids.shape[1])


def _run(index: int, block: nn.Module, inputs: Inputs, give: Callable[[Tensor], Any]) -> None:
    """Let a block run, and nothing else."""
    for x, (args, kwargs) in inputs():
        give(output_of(block(x, *args, **kwargs)))
