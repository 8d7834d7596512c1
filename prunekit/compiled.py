"""Decoder blocks compiled by torch.compile, which fuses what lies between the matrix products."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from .linear import replace_layers, shallow_copy
from .sequential import decoder_blocks


def with_compiled_blocks(model: nn.Module, layers: Iterable[str]) -> nn.Module:
    """A copy of the model whose decoder blocks, but for the first, are compiled when they first run.

    Blocks that are alike are compiled once. The first is not quite like the others, since its input needs no gradient.

    Args:
        model: a causal language model; the copy shares its tensors.
        layers: names of layers that lie in the blocks.

    Raises:
        PrunekitError: the layers are not in one list of blocks, or the model was compiled, or spread over devices.
    """
    name, blocks = decoder_blocks(model, layers)
    copies = {f"{name}.{i}": shallow_copy(block) for i, block in enumerate(blocks) if i > 0}
    for block in copies.values():
        block.compile()
    return replace_layers(model, copies)
