"""A model around its decoder blocks: what the blocks are called with, and what follows from what they give out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from .modes import device_of
from .structure import embedding_of

Extras = tuple[list, dict]  # what a block gets beside the hidden states: arguments by position and by name


class _Stop(Exception):
    pass


def output_of(output: Tensor | tuple) -> Tensor:
    """The hidden states among what a block gives."""
    return output[0] if isinstance(output, tuple) else output


def first_inputs(
    model: nn.Module, blocks: nn.ModuleList, windows: Iterable[Tensor], give: Callable[[Tensor], None]
) -> list[list[Extras]]:
    """What a model calls its blocks with; the blocks themselves do not run, and may be on the meta device.

    Args:
        model: a causal language model.
        blocks: its decoder blocks.
        windows: batches of tokens, int64 ``[windows, context]``.
        give: is called with the hidden states that the first block is given, batch after batch.

    Returns:
        What else blocks get (masks, positions), by block and batch. Where blocks are of several kinds (Gemma 3's local
        and global attention) each may get something else.
    """
    extras: list[list[Extras]] = [[] for _ in blocks]

    def stub(index: int, x: Tensor, rest: Extras) -> Tensor:
        extras[index].append(rest)
        if index == 0:
            give(x)
        if index == len(blocks) - 1:
            raise _Stop
        return x

    with _stubbed(blocks, stub):
        for window in windows:
            try:
                model(window.to(device_of(model)), use_cache=False)
            except _Stop:
                continue
    return extras


def logits_after(model: nn.Module, blocks: nn.ModuleList, ids: Tensor, hidden: Tensor, tokens: slice) -> Tensor:
    """The logits of a model whose last block gives some hidden states; neither the input embedding nor any block runs.

    Args:
        model: a causal language model.
        blocks: its decoder blocks.
        ids: int64 ``[windows, context]``.
        hidden: what the last block gives, ``[windows, context, width]``.
        tokens: for which tokens of each window logits are wanted.

    Returns:
        ``[windows, tokens, vocabulary]``.
    """
    keeps = "logits_to_keep" in signature(model.forward).parameters
    wanted = torch.arange(ids.shape[1], device=hidden.device)[tokens]
    with _stubbed([embedding_of(model), *blocks], lambda index, x, rest: hidden):
        output: Any = model(ids.to(hidden.device), use_cache=False, **({"logits_to_keep": wanted} if keeps else {}))
    return output.logits if keeps else output.logits[:, tokens]


@contextmanager
def _stubbed(blocks: Iterable[nn.Module], stub: Callable[[int, Tensor, Extras], Tensor]) -> Iterator[None]:
    """Let ``stub(index, hidden states, rest)`` stand in for what each block computes."""

    def forward(index: int, block: nn.Module, *args: Any, **kwargs: Any) -> Tensor | tuple:
        by_place, by_name = list(args), dict(kwargs)
        x = by_place.pop(0) if by_place else by_name.pop("hidden_states", None)
        output = stub(index, x, (by_place, by_name))
        return (output,) if _gives_tuple(block) else output

    blocks = list(blocks)
    own = [vars(block).get("forward") for block in blocks]
    for index, block in enumerate(blocks):
        vars(block)["forward"] = partial(forward, index, block)
    try:
        yield
    finally:
        for block, its in zip(blocks, own):
            if its is None:
                del vars(block)["forward"]
            else:
                vars(block)["forward"] = its


def _gives_tuple(block: nn.Module) -> bool:
    """Whether a block says that it gives a tuple, as those of transformers 4 did; what it gives first are the hidden
    states."""
    kind = signature(type(block).forward).return_annotation
    return "tuple" in str(kind).lower() and not str(kind).startswith("<class 'torch")
