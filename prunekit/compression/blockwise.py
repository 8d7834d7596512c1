"""Walk through a model block by block, as Wanda and SparseGPT do: each block sees its pruned predecessors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..calibration.observe import check_finite, check_reached, gram, summing
from ..errors import PrunekitError
from ..kernels.dispatch import fastest
from ..method import baselines
from ..method.admm import admm
from ..model.checks import check_text
from ..model.copies import replace_layers
from ..model.linear import weight_of
from ..model.modes import bfloat16_pays, device_of, in_bfloat16
from ..model.structure import decoder_blocks, text_config
from ..system.progress import progress
from .layer import as_precise_as, finish
from .recipe import Recipe

BLOCKWISE = ("wanda", "sparsegpt", "admm")  # methods that go through the model block by block

BATCH_TOKENS = 2048  # that go through a block at once


class _Stop(Exception):
    pass


@torch.no_grad()
def prune_blocks(
    model: nn.Module,
    ids: Tensor,
    layers: dict[str, nn.Module],
    observe: Callable[[Tensor], Tensor],
    prune: Callable[[str, nn.Module, Tensor], nn.Module],
    dense_inputs: bool = False,
    bfloat16: bool = False,
) -> dict[str, nn.Module]:
    """Replace layers one block after another, and feed each block what the replaced ones before it give out.

    Args:
        model: a causal language model.
        ids: int64 ``[windows, context]``.
        layers: which to replace, by name; all within the decoder blocks.
        observe: from the inputs ``[tokens, in]`` of one batch to a statistic, which is summed over batches.
        prune: from name, layer and the statistic divided by the number of tokens to the new layer.
        dense_inputs: feed each block what the original ones before it give out instead: half the work.
        bfloat16: run the blocks in bfloat16.

    Returns:
        The new layers by name.

    Raises:
        PrunekitError: the model has no list of decoder blocks, or cannot read `ids`.
    """
    check_text(model, ids)
    prefix, blocks = decoder_blocks(model, layers)
    hidden, options = _first_inputs(model, blocks, ids)
    if bfloat16:
        hidden, options = _to_bfloat16(hidden), _to_bfloat16(options)
    # Buffers of blocks stay as they are; where one meets weights, autocast brings the two together.
    low_precision = torch.autocast(hidden[0].device.type, torch.bfloat16, enabled=bfloat16)
    new: dict[str, nn.Module] = {}
    for index, block in enumerate(progress(blocks, "blocks")):
        inside = f"{prefix}.{index}."
        mine = [name for name in layers if name.startswith(inside)]
        running = in_bfloat16(block) if bfloat16 else block
        observed = {name: running.get_submodule(name[len(inside) :]) for name in mine}
        with low_precision, summing(observed, observe) as sums:
            outputs = [_tensor(running(x, *args, **kwargs)) for x, (args, kwargs) in zip(hidden, options[index])]
        check_reached(mine, sums)
        for name in mine:
            check_finite(f"inputs of {name}", sums[name])
            new[name] = prune(name, layers[name], sums.pop(name) / ids.numel())
        if not dense_inputs:
            pruned = replace_layers(block, {name[len(inside) :]: new[name] for name in mine})
            outputs = [_tensor(pruned(x, *args, **kwargs)) for x, (args, kwargs) in zip(hidden, options[index])]
        hidden = outputs
    return new


def _to_bfloat16(value: Any) -> Any:
    """The same structure of lists, tuples and dicts with floating-point tensors in bfloat16."""
    if isinstance(value, Tensor):
        return value.bfloat16() if value.is_floating_point() else value
    if isinstance(value, (list, tuple)):
        return type(value)(_to_bfloat16(v) for v in value)
    return {k: _to_bfloat16(v) for k, v in value.items()} if isinstance(value, dict) else value


def _tensor(output: Tensor | tuple) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _first_inputs(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> tuple[list[Tensor], list[list[tuple]]]:
    """What the first block is called with, by batch; what else blocks get (masks, positions), by block and batch, as
    arguments by position and by name.

    Where blocks are of several kinds (Gemma 3's local and global attention) each may get something else, and the whole
    model runs; elsewhere the first block speaks for all.
    """
    config = text_config(getattr(model, "config", None))
    several = len(set(getattr(config, "layer_types", None) or ())) > 1
    watched = blocks if several else blocks[:1]
    hidden: list[Tensor] = []
    options: list[list[tuple[list, dict]]] = [[] for _ in watched]

    def catch(block: nn.Module, args: tuple, kwargs: dict) -> None:
        by_place, by_name = list(args), dict(kwargs)
        x = by_place.pop(0) if by_place else by_name.pop("hidden_states")
        index = next(i for i, b in enumerate(watched) if b is block)
        options[index].append((by_place, by_name))
        if index == 0:
            hidden.append(x)
        if index == len(watched) - 1:
            raise _Stop

    hooks = [block.register_forward_pre_hook(catch, with_kwargs=True) for block in watched]
    try:
        for window in ids.split(max(1, BATCH_TOKENS // ids.shape[1])):
            try:
                model(window.to(device_of(model)), use_cache=False)
            except _Stop:
                continue
    finally:
        for hook in hooks:
            hook.remove()
    return hidden, options if several else options * len(blocks)


def compress_blocks(
    model: nn.Module, ids: Tensor, layers: dict[str, nn.Module], recipes: dict[str, Recipe]
) -> dict[str, nn.Module]:
    """Wanda, SparseGPT or ADMM."""
    method = next(iter(recipes.values())).method
    bfloat16 = bfloat16_pays(model)

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
        return prune_blocks(model, ids, layers, lambda x: x.float().square().sum(0), prune)
    if method == "sparsegpt":
        return prune_blocks(model, ids, layers, gram, prune)
    observe = partial(gram, bfloat16=bfloat16)
    return prune_blocks(model, ids, layers, observe, prune, dense_inputs=True, bfloat16=bfloat16)
