"""What compression gives: the model, the recipe, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """

    model: nn.Module
    recipe: Recipe
    sparsity: float
    layers: list[dict]
    tokens: int
    seconds: dict[str, float]
    steps: int = 0
    provenance: Provenance = field(default_factory=Provenance)


def check_compressed(result: object) -> None:
    """Raise `PrunekitError` where something else than what `compress` gives is given, such as its model alone."""
    if not isinstance(result, Compressed):
        raise PrunekitError(f"expected what compress gives, got a {type(result).__name__}: pass all of it.")


def assemble(
    model: nn.Module, layers: dict[str, nn.Module], recipe: Recipe, tokens: int, seconds: dict[str, float]
) -> Compressed:
    """Put new layers, given by name, into a copy of the model, and count their zeros."""
    report, zeros, total = [], 0, 0
    for name, module in layers.items():
        weight = stored_weight(module)
        count, size = zeros_in(weight), weight.numel()
        shape = list(weight.shape if isinstance(module, Fp8Linear) else weight_of(module).shape)
        report.append({"name": name, "shape": shape, "sparsity": count / size})
        zeros, total = zeros + count, total + size
    return Compressed(replace_layers(model, layers), recipe, zeros / total, report, tokens, seconds)
