"""What compression gives: the model, the recipe, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ..errors import PrunekitError
from ..model.copies import replace_layers
from ..model.fp8_linear import Fp8Linear
from ..model.linear import stored_weight, weight_of, zeros_in
from .recipe import Provenance, Recipe


@dataclass
class Compressed:
    """A compressed model and how it came about.

    Attributes:
        model: the new model. What was not compressed is shared with the original: copy it (``copy.deepcopy``) before
            it is moved to another device or cast.
        recipe: the options.
        sparsity: share of the weights in the chosen layers that are zero.
        layers: for each layer its name, shape ``[out, in]`` and sparsity.
        tokens: calibration tokens used.
        seconds: by stage: ``permute`` if it was asked for; ``calibrate`` and ``select`` (with the cast), or
            ``prune`` for a method that does both block by block.
        steps: steps of recovery (`recover.recover`), 0 without.
        provenance: what is needed beside the recipe to repeat it.
        left_out: why other matrices were not compressed, by name (`experts.left_out`).
    """

    model: nn.Module
    recipe: Recipe
    sparsity: float
    layers: list[dict]
    tokens: int
    seconds: dict[str, float]
    steps: int = 0
    provenance: Provenance = field(default_factory=Provenance)
    left_out: dict[str, str] = field(default_factory=dict)


def check_compressed(result: object) -> None:
    """Raise `PrunekitError` where something else than what `compress` gives is given, such as its model alone."""
    if not isinstance(result, Compressed):
        raise PrunekitError(f"expected what compress gives, got a {type(result).__name__}: pass all of it.")


@dataclass(frozen=True)
class Written:
    """What was written to a folder without ever being in memory as a whole. Attributes as in `Compressed`."""

    out: Path
    recipe: Recipe
    sparsity: float
    layers: list[dict]
    tokens: int
    provenance: Provenance = field(default_factory=Provenance)
    left_out: dict[str, str] = field(default_factory=dict)


def assemble(
    model: nn.Module, layers: dict[str, nn.Module], recipe: Recipe, tokens: int, seconds: dict[str, float]
) -> Compressed:
    """Put new layers, given by name, into a copy of the model, and count their zeros."""
    report, sparsity = counted([zeros_of(name, module) for name, module in layers.items()])
    return Compressed(replace_layers(model, layers), recipe, sparsity, report, tokens, seconds)


def zeros_of(name: str, module: nn.Module) -> dict:
    """A layer's name, shape ``[out, in]`` and number of zeros."""
    weight = stored_weight(module)
    shape = list(weight.shape if isinstance(module, Fp8Linear) else weight_of(module).shape)
    return {"name": name, "shape": shape, "zeros": zeros_in(weight)}


def counted(layers: list[dict]) -> tuple[list[dict], float]:
    """`Compressed.layers` and `Compressed.sparsity` from what `zeros_of` gives for each layer."""
    report, zeros, total = [], 0, 0
    for layer in layers:
        count, size = layer["zeros"], layer["shape"][0] * layer["shape"][1]
        report.append({"name": layer["name"], "shape": layer["shape"], "sparsity": count / size})
        zeros, total = zeros + count, total + size
    return report, zeros / total
