"""Check a folder that prunekit wrote against what it says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...compression.recipe import Recipe
from ...errors import PrunekitError
from ...method.targets import parse_pattern
from ...model.checks import check_weight_finite
from ...model.linear import is_conv1d, linear_layers, stored_weight, without_sign, zeros_in
from ...model.streamed.skeleton import Skeleton
from ..about import read_about, read_recipe
from ..save import quantization_config
from ..shipped.hashes import check_hashes
from .skeletons import local_folder, open_skeleton


@dataclass(frozen=True)
class Verified:
    """What was found in order.

    Attributes:
        files: how many files have their hash.
        layers: how many compressed layers hold what the recipe says.
        sparsity: share of their weights that is zero.
    """

    files: int
    layers: int
    sparsity: float


def verify(folder: str | Path) -> Verified:
    """Check every file's hash, and of every compressed layer its groups of N:M, its codes and its scales.

    Also that the config tells servers of these layers, and that the sparsity is what prunekit.json says. One layer is
    in memory at a time; no code and no weight from elsewhere is needed.

    Args:
        folder: that `save.save`, `compress_folder` or ``prunekit compress`` wrote.

    Returns:
        `Verified`.

    Raises:
        PrunekitError: something is not as it was written; the first thing that was found.
    """
    folder = local_folder(folder)
    files = check_hashes(folder)
    recipe, given, activations = read_recipe(folder)
    about = read_about(folder)
    skeleton = open_skeleton(folder, "auto", blocks=False)
    layers = linear_layers(skeleton.model, given.include, given.exclude)
    fp8 = about["fp8_layers"]
    if sorted(fp8) != (sorted(layers) if recipe.fp8 else []):
        raise PrunekitError(f"{folder}/prunekit.json lists other FP8 layers than its recipe makes: save it again.")
    _check_config(folder, skeleton, recipe, fp8, activations)
    zeros = total = 0
    for name, module in layers.items():
        weight = _weight(skeleton, name, module)
        _check_groups(name, weight, recipe)
        zeros, total = zeros + zeros_in(weight), total + weight.numel()
    if zeros / total != about["sparsity"]:
        raise PrunekitError(
            f"{folder} has {zeros / total:.6f} of its weights at zero, and prunekit.json says {about['sparsity']:.6f}: "
            "save the model again."
        )
    return Verified(files, len(layers), zeros / total)


def _weight(skeleton: Skeleton, name: str, module: nn.Module) -> Tensor:
    """A layer's codes or weight, ``[out, in]``, codes and scales checked."""
    if name in skeleton.layers:
        return stored_weight(skeleton.layers[name](module))
    weight = skeleton.stored(f"{name}.weight")
    check_weight_finite(f"{name}.weight", weight)
    return weight.T if is_conv1d(module) else weight


def _check_groups(name: str, weight: Tensor, recipe: Recipe) -> None:
    """Refuse a layer with a group in which more than N of M weights are left."""
    if recipe.pattern is None:
        return
    n, m = parse_pattern(recipe.pattern)
    left = (without_sign(weight) != 0).unflatten(1, (-1, m)).sum(-1, dtype=torch.int32)
    if (left > n).any():
        row, group = (left > n).nonzero()[0].tolist()
        raise PrunekitError(
            f"{name} keeps {left[row, group]} of {m} weights in row {row}, group {group}, where the pattern is "
            f"{recipe.pattern}: save the model again."
        )


def _check_config(folder: Path, skeleton: Skeleton, recipe: Recipe, fp8: list[str], activations: str) -> None:
    """Refuse a config that tells servers something else of the FP8 layers than what is there."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    model = skeleton.model
    described = recipe.fp8 == "e4m3" and not any(is_conv1d(model.get_submodule(name)) for name in fp8)
    wanted = quantization_config(model, fp8, recipe.granularity, activations) if described else None
    if config.get("quantization_config") != wanted:
        raise PrunekitError(f"{folder}/config.json describes other FP8 layers than there are: save the model again.")
