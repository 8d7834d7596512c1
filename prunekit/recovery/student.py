"""The model in training: its layers and norms, and what they become at the end."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..compression.layer import as_precise_as
from ..compression.result import Compressed, assemble
from ..model.copies import replace_layers, shallow_copy
from .state import checksum
from .together import local_of, sharded, whole
from .trained_layer import TrainedLayer


class Student:
    """A compressed model whose layers and norms are trained in float32; everything else is shared with the original.

    Attributes:
        model: the model in training.
        layers: the compressed layers that it was made from, by name.
        moving: the parameters that are trained, by name.
    """

    def __init__(self, result: Compressed) -> None:
        self.result = result
        self.layers = {layer["name"]: result.model.get_submodule(layer["name"]) for layer in result.layers}
        self._trained = {name: TrainedLayer(layer, result.recipe) for name, layer in self.layers.items()}
        self._norms = {name: deepcopy(norm).float() for name, norm in norms(result.model, self.layers).items()}
        self.model = replace_layers(result.model, self._trained | self._norms)
        self.moving: dict[str, Tensor] = {f"{name}.weight": layer.weight for name, layer in self._trained.items()}
        self.moving |= {
            f"{name}.{key}": p.requires_grad_()
            for name, norm in self._norms.items()
            for key, p in norm.named_parameters()
        }

    def masks(self) -> list[int]:
        """A checksum of what each layer keeps."""
        return [checksum([layer.weight.detach() != 0]) for layer in self._trained.values()]

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

    def finished(self, steps: int, seconds: float) -> Compressed:
        """The result, with the trained weights as `compress` would store them.

        Args:
            steps: how many there were.
            seconds: how long they took.
        """
        new = {name: self._trained[name].finished(layer) for name, layer in self.layers.items()}
        given, model = self.result, self.result.model
        for name, norm in self._norms.items():
            trained = shallow_copy(model.get_submodule(name))
            for key, before in model.get_submodule(name).named_parameters():
                after = as_precise_as(before, whole(norm.get_parameter(key).detach()).to(before.device))
                trained._parameters[key] = nn.Parameter(after.to(before.dtype), requires_grad=False)
            model = replace_layers(model, {name: trained})
        times = given.seconds | {"recover": seconds}
        return replace(assemble(model, new, given.recipe, given.tokens, times), steps=steps)


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
