"""What is to be compressed block by block, and what every method does with a block."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from ...calibration.calibrate import Calibration
from ...model.copies import replace_layers
from ...model.streamed.skeleton import Skeleton
from ...model.streamed.walk import Inputs
from ...system.parallel import first
from ..compress import compress_each
from ..recipe import Recipe
from .order import in_order, save_order


class Shards(Protocol):
    """Where compressed blocks go."""

    def done(self, index: int) -> bool:
        """Whether the block of that number was written already."""

    def write(self, index: int, block: nn.Module, new: dict[str, nn.Module]) -> None:
        """Write a block whose new layers are given by their names in the model."""


@dataclass(frozen=True)
class Work:
    """What is to be compressed, and how.

    Attributes:
        skeleton: the model.
        layers: names of those to compress.
        recipe: how.
        recipes: the recipe of each layer.
        folder: for what is needed to go on after an interruption; each of several processes has its own.
        shards: where blocks go.
    """

    skeleton: Skeleton
    layers: list[str]
    recipe: Recipe
    recipes: dict[str, Recipe]
    folder: Path
    shards: Shards

    def inside(self, index: int, block: nn.Module) -> dict[str, nn.Module]:
        """The layers of one block that are to be compressed, by their names in the model."""
        inside = self.skeleton.inside(index)
        return {name: block.get_submodule(name[len(inside) :]) for name in self.layers if name.startswith(inside)}

    @property
    def suited(self) -> str | None:
        """The pattern that channels are put in an order for, if they are."""
        return self.recipe.pattern if self.recipe.permute else None

    def ordered(self, index: int, block: nn.Module, inputs: Inputs | None = None) -> nn.Module:
        """A block with its channels in an order that suits the pattern, where the recipe wants that.

        Args:
            index: of the block.
            block: the block.
            inputs: by which the order is found; not needed where it was found before.
        """
        if self.suited is None:
            return block
        file = self.folder / f"order-{index:05}.safetensors"
        if not file.exists():
            assert inputs is not None  # as the first walk comes first
            save_order(file, block, inputs, self.suited)
        return in_order(file, block)

    def compressed(self, index: int, block: nn.Module, calibration: Calibration) -> nn.Module:
        """A block by its number with its layers compressed one by one, and written."""
        layers = self.inside(index, block)
        recipes = {name: self.recipes[name] for name in layers}
        new = compress_each(layers, recipes, self.recipe, calibration) if layers else {}
        return self.written(index, block, new)

    def written(self, index: int, block: nn.Module, new: dict[str, nn.Module]) -> nn.Module:
        """The same with new layers that there are already."""
        inside = self.skeleton.inside(index)
        block = replace_layers(block, {name[len(inside) :]: module for name, module in new.items()})
        if first():
            self.shards.write(index, block, new)
        return block

    def like_parameters(self) -> nn.Module:
        """A layer in the dtype of the model's parameters, and on its device."""
        return nn.Linear(1, 1, device=self.skeleton.device, dtype=self.skeleton.dtype)
