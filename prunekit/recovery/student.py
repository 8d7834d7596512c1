"""A model, or a block of one, in training: its layers and norms, and what they become at the end."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

from torch import Tensor, nn

from ..compression.layer import as_precise_as
from ..compression.recipe import Recipe
from ..model.copies import replace_layers
from .state import checksum
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
        return [checksum([layer.keep]) for layer in self._trained.values()]

    def cast(self, casts: bool) -> None:
        """Let the layers compute with weights cast to FP8 from now on, or not."""
        for layer in self._trained.values():
            layer.casts = casts

    def finished(self) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
        """The layers as `compress` would store them with the trained weights, and the norms, both by name."""
        for old, norm in zip(self._given.values(), self._norms.values()):
            for before, after in zip(old.parameters(), norm.parameters()):
                after.data = as_precise_as(before, after.data)
            norm.to(next(old.parameters()).dtype).requires_grad_(False)
        return {name: self._trained[name].finished(layer) for name, layer in self.layers.items()}, self._norms


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
