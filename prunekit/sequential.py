"""Walk through a model block by block, as Wanda and SparseGPT do: each block sees its pruned predecessors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .calibrate import observing
from .errors import PrunekitError
from .linear import replace_layers
from .progress import progress


class _Stop(Exception):
    pass


def decoder_blocks(model: nn.Module, layers: dict[str, nn.Module]) -> tuple[str, nn.ModuleList]:
    """Name and list of the decoder blocks: the module list that holds all the layers.

    Raises:
        PrunekitError: there is none.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and all(layer.startswith(f"{name}.") for layer in layers):
            return name, module
    raise PrunekitError("the model's layers are not in one list of blocks, which this method needs: use --method ewma.")


@torch.inference_mode()
def prune_blocks(
    model: nn.Module,
    ids: Tensor,
    layers: dict[str, nn.Module],
    observe: Callable[[Tensor], Tensor],
    prune: Callable[[str, nn.Module, Tensor], nn.Module],
    batch: int = 4,
) -> dict[str, nn.Module]:
    """Replace layers one block after another, and feed each block what the replaced ones before it give out.

    Args:
        model: a causal language model.
        ids: int64 ``[windows, context]``.
        layers: which to replace, by name; all within the decoder blocks.
        observe: from the inputs ``[tokens, in]`` of one batch to a statistic, which is summed over batches.
        prune: from name, layer and the statistic divided by the number of tokens to the new layer.
        batch: windows at once.

    Returns:
        The new layers by name.

    Raises:
        PrunekitError: the model has no list of decoder blocks.
    """
    prefix, blocks = decoder_blocks(model, layers)
    hidden, options = _first_inputs(model, blocks[0], ids, batch)
    new: dict[str, nn.Module] = {}
    for index, block in enumerate(progress(blocks, "blocks")):
        inside = f"{prefix}.{index}."
        mine = {name: module for name, module in layers.items() if name.startswith(inside)}
        sums: dict[str, Tensor] = {}
        tokens = 0

        def take(name: str, value: Tensor, sums: dict[str, Tensor] = sums) -> None:
            sums[name] = sums[name] + value if name in sums else value

        with observing(mine, observe, take):
            for x, kwargs in zip(hidden, options):
                block(x, **kwargs)
                tokens += x.shape[0] * x.shape[1]
        for name, module in mine.items():
            if not torch.isfinite(sums[name]).all():
                raise PrunekitError(f"the inputs of {name} are not finite: check the model, or use --dtype float32.")
            new[name] = prune(name, module, sums.pop(name) / tokens)
        pruned = replace_layers(block, {name[len(inside) :]: new[name] for name in mine})
        hidden = [_tensor(pruned(x, **kwargs)) for x, kwargs in zip(hidden, options)]
    return new


def _tensor(output: Tensor | tuple) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _first_inputs(model: nn.Module, block: nn.Module, ids: Tensor, batch: int) -> tuple[list[Tensor], list[dict]]:
    """What the first block is called with: hidden states, and the rest (masks, positions) as keywords."""
    hidden, options = [], []

    def catch(_, args, kwargs):
        kwargs = dict(kwargs)
        hidden.append(args[0] if args else kwargs.pop("hidden_states"))
        options.append(kwargs)
        raise _Stop

    hook = block.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for window in ids.split(batch):
            try:
                model(window.to(next(model.parameters()).device), use_cache=False)
            except _Stop:
                continue
    finally:
        hook.remove()
    return hidden, options
