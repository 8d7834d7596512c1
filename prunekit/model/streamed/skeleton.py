"""A model on the meta device, whose parts are filled with the tensors of a checkpoint one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_weight_finite
from ..copies import replace_layers
from ..structure import embedding_of, head_of


@dataclass(frozen=True)
class Skeleton:
    """A causal language model without its weights, and where they are.

    Attributes:
        model: on the meta device, buffers apart that no checkpoint holds. It stays so.
        prefix: the name of the list of decoder blocks.
        read: from a name in the model's state to its tensor, in the dtype in which the model is to run.
        stored: the same tensor in the dtype that it is stored in.
        layers: what makes those layers that are no part of the class, those in FP8, by name, from the layer on the meta
            device.
        device: where parts are put.
    """

    model: nn.Module
    prefix: str
    read: Callable[[str], Tensor]
    stored: Callable[[str], Tensor]
    layers: Mapping[str, Callable[[nn.Module], nn.Module]]
    device: torch.device

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder blocks, on the meta device."""
        blocks: Any = self.model.get_submodule(self.prefix)
        return blocks

    @property
    def dtype(self) -> torch.dtype:
        """In which most of the model runs: that of its first parameter."""
        return next(self.model.parameters()).dtype

    def inside(self, index: int) -> str:
        """What the names of a block's layers begin with."""
        return f"{self.prefix}.{index}."

    def block(self, index: int) -> nn.Module:
        """A decoder block with its weights.

        Raises:
            PrunekitError: a weight is not finite, or cannot be read.
        """
        inside = self.inside(index)
        block = deepcopy(self.blocks[index])
        made = {name[len(inside) :]: make for name, make in self.layers.items() if name.startswith(inside)}
        block = replace_layers(block, {name: make(block.get_submodule(name)) for name, make in made.items()})
        names = [name for name in block.state_dict() if name.rpartition(".")[0] not in made]
        self._fill(block, inside, names)
        return block.to(self.device).eval().requires_grad_(False)

    def outside(self, head: bool = False) -> nn.Module:
        """The model with the weights that lie outside its blocks, which stay on the meta device.

        Args:
            head: whether to have what comes behind the blocks, without the input embedding; else the output embedding
                is left out.
        """
        model = deepcopy(self.model)
        part = embedding_of(self.model) if head else head_of(self.model)
        without = next(name for name, module in self.model.named_modules() if module is part)
        names = [name for name in self.outer_names() if name.rpartition(".")[0] != without]
        self._fill(model, "", names)
        for module in model.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and not buffer.is_meta:
                    module._buffers[name] = buffer.to(self.device)
        return model.eval().requires_grad_(False)

    def outer_names(self) -> list[str]:
        """Names in the model's state of what lies outside the blocks, in the model's order."""
        return [name for name in self.model.state_dict() if not name.startswith(f"{self.prefix}.")]

    def _fill(self, module: nn.Module, prefix: str, names: list[str]) -> None:
        """Put tensors in the place of those of a module whose names, after a prefix, are these."""
        done: dict[int, Tensor] = {}  # what was tied stays tied
        kept = module.state_dict(keep_vars=True)
        tensors = {}
        for name in names:
            if id(kept[name]) not in done:
                tensor = self.read(prefix + name)
                check_weight_finite(prefix + name, tensor)
                done[id(kept[name])] = tensor.to(self.device)
            tensors[name] = done[id(kept[name])]
        module.load_state_dict(tensors, strict=False, assign=True)
