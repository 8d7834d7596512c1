"""A model, or a block of one, in training: its layers and norms, and what they become at the end."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from ...compression.layer import as_precise_as
from ...compression.recipe import Recipe
from ...model.copies import replace_layers, shallow_copy
from ..state import checksum
from ..together import local_of, sharded, whole
from .trained_layer import TrainedLayer


class Student:
    """A compressed model whose layers and norms are trained in float32; everything else is shared with the original.

    Args:
        model: the compressed model, or a block of one.
        layers: the names of its compressed layers.
        recipe: how they were compressed.

    Attributes:
        model: the model in training.
        layers: the compressed layers that it was made from, by name.
        moving: the parameters that are trained, by name.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str], recipe: Recipe) -> None:
        self.layers = {name: model.get_submodule(name) for name in layers}
        self.recipe = recipe
        self._given = norms(model, self.layers)
        self._trained = {name: TrainedLayer(layer, recipe) for name, layer in self.layers.items()}
        self._norms = {name: deepcopy(norm).float() for name, norm in self._given.items()}
        self.model = replace_layers(model, self._trained | self._norms)
        self.moving: dict[str, Tensor] = {f"{name}.weight": layer.weight for name, layer in self._trained.items()}
        self.moving |= {
            f"{name}.{key}": p.requires_grad_()
            for name, norm in self._norms.items()
            for key, p in norm.named_parameters()
        }

    def masks(self) -> list[int]:
        """A checksum of what each layer keeps."""
        return [checksum([layer.weight.detach() != 0]) for layer in self._trained.values()]

    def optimizer(self, rate: float) -> torch.optim.Optimizer:
        """What moves the parameters that are trained."""
        weights = list(self.moving.values())
        return torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def cast(self, casts: bool) -> None:
        """Let the layers compute with weights cast to FP8 from now on, or not."""
        for layer in self._trained.values():
            layer.casts = casts

    def shard(self, device: torch.device) -> None:
        """Spread what is trained over all processes."""
        self.model = sharded(self.model, self.layers, device)
        for modules in (self._trained, self._norms):
            modules |= {name: self.model.get_submodule(name) for name in modules}  # type: ignore[arg-type,misc]
        for layer in self._trained.values():
            layer.keep = None
            layer.spare_zeros(local_of(layer.weight.detach()) != 0)
        parameters = dict(self.model.named_parameters())
        self.moving = {name: parameters[name] for name in self.moving}

    def finished(self) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
        """The layers as `compress` would store them with the trained weights, and the norms, both by name."""
        norms = {}
        for name, given in self._given.items():
            norms[name] = trained = shallow_copy(given)
            for key, before in given.named_parameters():
                after = as_precise_as(before, whole(self._norms[name].get_parameter(key).detach()).to(before.device))
                trained._parameters[key] = nn.Parameter(after.to(before.dtype), requires_grad=False)
        return {name: self._trained[name].finished(layer) for name, layer in self.layers.items()}, norms


def norms(model: nn.Module, layers: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Modules whose parameters are all vectors, such as norms, apart from the layers' own."""
    return {
        name: module
        for name, module in model.named_modules()
        if name not in layers
        and not any(module.children())
        and (parameters := list(module.parameters()))
        and all(p.ndim == 1 for p in parameters)
    }
