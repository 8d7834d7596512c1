"""Walk through a model block by block, as Wanda and SparseGPT do: each block sees its pruned predecessors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..calibration.observe import check_finite, check_reached, gram, summing
from ..errors import PrunekitError
from ..kernels.dispatch import fastest
from ..method import baselines
from ..method.admm import admm
from ..model.blocks import Extras, first_inputs, output_of
from ..model.checks import check_text
from ..model.copies import replace_layers
from ..model.distributed.dealt import made_together, owners
from ..model.experts import every_expert
from ..model.linear import weight_of
from ..model.modes import bfloat16_pays, in_bfloat16
from ..model.structure import decoder_blocks
from ..system.parallel import mine, rank, summed
from ..system.progress import progress
from .layer import as_precise_as, finish
from .recipe import Recipe

BLOCKWISE = ("wanda", "sparsegpt", "admm")  # methods that go through the model block by block

BATCH_TOKENS = 2048  # that go through a block at once


@dataclass(frozen=True)
class Step:
    """What a method does with a block.

    Attributes:
        observe: from the inputs ``[tokens, in]`` of one batch to a statistic, which is summed over batches.
        prune: from name, layer and the statistic divided by the number of tokens to the new layer.
        dense_inputs: whether the block that follows is fed what the original block gives out, and not the pruned one.
        bfloat16: whether blocks run in bfloat16.
        cubic: whether pruning takes time as a product with a Gram matrix does (`dealt.owners`).
        apart: whether each of several processes has batches of its own, whose sums are added; else all of them have all
            batches, and each sums up, in the order of one process, for the layers that it prunes.
    """

    observe: Callable[[Tensor], Tensor]
    prune: Callable[[str, nn.Module, Tensor], nn.Module]
    dense_inputs: bool = False
    bfloat16: bool = False
    cubic: bool = False
    apart: bool = False


@torch.no_grad()
def prune_blocks(model: nn.Module, ids: Tensor, layers: dict[str, nn.Module], step: Step) -> dict[str, nn.Module]:
    """Replace layers one block after another, and feed each block what the replaced ones before it give out.

    Several processes take the batches in turn; their sums are added, and each prunes some layers of the block for all.

    Args:
        model: a causal language model.
        ids: int64 ``[windows, context]``.
        layers: which to replace, by name; all within the decoder blocks.
        step: what to do with each block.

    Returns:
        The new layers by name.

    Raises:
        PrunekitError: the model has no list of decoder blocks, or cannot read `ids`.
    """
    check_text(model, ids)
    prefix, blocks = decoder_blocks(model, layers)
    step = replace(step, apart=True)
    hidden: list[Tensor] = []
    extras: list = first_inputs(model, blocks, mine(batches(ids)), hidden.append)
    if step.bfloat16:
        hidden, extras = to_bfloat16(hidden), to_bfloat16(extras)
    new: dict[str, nn.Module] = {}
    for index, block in enumerate(progress(blocks, "blocks")):
        inside, given = f"{prefix}.{index}.", hidden
        outputs: list[Tensor] = []
        its = {name: module for name, module in layers.items() if name.startswith(inside)}
        new |= prune_block(block, inside, its, step, lambda: zip(given, extras[index]), ids.numel(), outputs.append)  # noqa: B023
        hidden = outputs
    return new


def prune_block(
    block: nn.Module,
    inside: str,
    layers: dict[str, nn.Module],
    step: Step,
    inputs: Callable[[], Iterable[tuple[Tensor, Extras]]],
    tokens: int,
    give: Callable[[Tensor], Any],
) -> dict[str, nn.Module]:
    """Replace the layers of one block.

    Args:
        block: the block.
        inside: what the names of its layers begin with.
        layers: those to replace, by their names in the model.
        step: what to do.
        inputs: gives anew what the block is called with, batch after batch: hidden states and the rest.
        tokens: how many there are in all batches.
        give: is called with what the block that follows is to be fed, batch after batch.

    Returns:
        The new layers by name.
    """
    running = in_bfloat16(block) if step.bfloat16 else block
    device = next(block.parameters()).device
    owner = owners(layers, step.cubic)
    seen = layers if step.apart else [name for name in layers if owner[name] == rank()]
    observed = {name: running.get_submodule(name[len(inside) :]) for name in seen}
    # Buffers of blocks stay as they are; where one meets weights, autocast brings the two together.
    cast = partial(torch.autocast, device.type, torch.bfloat16, enabled=step.bfloat16)
    with cast(), summing(observed, step.observe) as sums:
        for x, (args, kwargs) in inputs():
            output = output_of(running(x, *args, **kwargs))
            if step.dense_inputs:
                give(output)
    if step.apart:
        sums = summed(sums, device)
    unread = {name: module for name, module in observed.items() if name not in sums}  # experts without tokens
    if unread:
        x, (args, kwargs) = next(iter(inputs()))
        with cast(), summing(unread, step.observe) as late, every_expert(running):
            running(x, *args, **kwargs)
        sums |= summed(late, device) if step.apart else late
    del running, observed, unread
    check_reached(seen, sums)
    for name in seen:
        check_finite(f"inputs of {name}", sums[name])

    def make(name: str, module: nn.Module) -> nn.Module:
        return step.prune(name, module, sums.pop(name) / tokens)

    new = made_together(layers, make, owner)
    if not step.dense_inputs:
        pruned = replace_layers(block, {name[len(inside) :]: module for name, module in new.items()})
        for x, (args, kwargs) in inputs():
            give(output_of(pruned(x, *args, **kwargs)))
    return new


def batches(ids: Tensor) -> tuple[Tensor, ...]:
    """Windows, as many at a time as go through a block at once."""
    return ids.split(max(1, BATCH_TOKENS // ids.shape[1]))


def to_bfloat16(value: Any) -> Any:
    """The same structure of lists, tuples and dicts with floating-point tensors in bfloat16."""
    if isinstance(value, Tensor):
        return value.bfloat16() if value.is_floating_point() else value
    if isinstance(value, (list, tuple)):
        return type(value)(to_bfloat16(v) for v in value)
    return {k: to_bfloat16(v) for k, v in value.items()} if isinstance(value, dict) else value


def compress_blocks(
    model: nn.Module, ids: Tensor, layers: dict[str, nn.Module], recipes: dict[str, Recipe]
) -> dict[str, nn.Module]:
    """Wanda, SparseGPT or ADMM."""
    step = step_of(recipes, bfloat16_pays(model))
    return prune_blocks(model, ids, layers, step)


def step_of(recipes: dict[str, Recipe], bfloat16: bool) -> Step:
    """What Wanda, SparseGPT or ADMM do with a block.

    Args:
        recipes: by layer, all of one method.
        bfloat16: whether bfloat16 pays (`modes.bfloat16_pays`).
    """
    method = next(iter(recipes.values())).method

    def prune(name: str, module: nn.Module, statistic: Tensor) -> nn.Module:
        W, recipe = weight_of(module), recipes[name]
        target = recipe.sparsity, recipe.pattern
        if not recipe.prunes:
            return finish(module, W, torch.ones_like(W, dtype=torch.bool), recipe)
        if method == "wanda":
            return finish(module, W, baselines.wanda_mask(W, statistic, *target), recipe)
        try:
            if method == "admm":
                new, keep = admm(W, statistic, *target, bfloat16=bfloat16, select=fastest(W.device).select)
            else:
                new, keep = baselines.sparsegpt(W, statistic, *target)
        except PrunekitError as error:
            raise PrunekitError(f"{name}: {error}") from None
        return finish(module, as_precise_as(W, new), keep, recipe)

    if method == "wanda":
        return Step(lambda x: x.float().square().sum(0), prune)
    if method == "sparsegpt":
        return Step(gram, prune, cubic=True)
    return Step(partial(gram, bfloat16=bfloat16), prune, dense_inputs=True, bfloat16=bfloat16, cubic=True)
