"""What `compress` says before it starts: which layers, how much memory, what to be careful about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...compression.recipe import Recipe
from ...model.linear import stored_weight, weight_of
from ...model.structure import fused_experts
from ...recovery.recover import multiplies_in_bfloat16
from ...system.machine import fast_bfloat16
from ...system.memory import memory_free

# Bytes for each weight in recovery beside those of the dense model and the new one:
TRAINED = 17  # the weight, its gradient and two moments in float32, and whether it stays
UNUSED = 4  # what malloc holds but cannot give out again, for other sizes; measured with glibc


def describe(layers: dict[str, nn.Module]) -> str:
    """The layers that will be touched, those that differ only in the block's number on one line."""
    kinds = _kinds({name: stored_weight(module) for name, module in layers.items()})
    lines = [f"{len(layers)} layers:", *(f"  {count:4d} x {kind}  {shapes}" for kind, (count, shapes) in kinds.items())]
    return "\n".join(lines)


def left_out(model: nn.Module) -> str:
    """What weights of a mixture of experts are not compressed, and why, in a line; empty for other models."""
    experts = fused_experts(model)
    if not experts:
        return ""
    share = sum(p.numel() for p in experts.values()) / sum(p.numel() for p in model.parameters())
    kinds = ", ".join(f"{kind} {shapes}" for kind, (_, shapes) in _kinds(experts).items())
    return (
        f"left out: fused experts, {share:.0%} of the model's weights ({kinds}): one tensor holds those of all "
        "experts, and only linear layers are compressed"
    )


def _kinds(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, str]]:
    """How many weights there are of a kind and their shapes, by name with ``*`` for the block's number."""
    kinds: dict[str, list[str]] = {}
    for name, weight in weights.items():
        kinds.setdefault(re.sub(r"\.\d+\.", ".*.", name), []).append("x".join(map(str, weight.shape)))
    return {kind: (len(shapes), f"[{' or '.join(sorted(set(shapes)))}]") for kind, shapes in kinds.items()}


def cautions(layers: dict[str, nn.Module], recipe: Recipe, recovers: bool) -> list[str]:
    """What may make the work ahead fail or take long, a sentence each, with what to do about it.

    Args:
        layers: to be compressed, by name.
        recipe: what to do with them.
        recovers: whether recovery follows.
    """
    found = []
    weight = stored_weight(next(iter(layers.values())))
    shapes = [weight_of(module).shape for module in layers.values()]
    copied = weight.dtype != torch.bfloat16 and multiplies_in_bfloat16(weight.dtype, weight.device)
    needed = more_memory(shapes, weight.element_size(), recipe, recovers, copied)
    if needed > (free := memory_free(weight.device)):
        ways = ["--dtype bfloat16"] * (weight.element_size() > 2) + ["--no-permute"] * recipe.permute
        ways += ["no recovery"] * recovers + ["a machine with more"]
        found.append(
            f"this will take some {needed / 1e9:.1f} GB beside the model (predicted), and {free / 1e9:.1f} GB are "
            f"free, so it may end without a result: try {', '.join(ways)}."
        )
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and not fast_bfloat16():
        found.append("this CPU is slow in bfloat16: where its memory allows, --dtype float32 is faster.")
    return found


def more_memory(
    shapes: Sequence[Sequence[int]], itemsize: int, recipe: Recipe, recovers: bool, copied: bool = False
) -> int:
    """Predicted: what compressing a model takes beside the model itself, in bytes.

    New weights take one byte with FP8, else what the old ones take; channels are reordered in one more copy; ADMM holds
    four float32 matrices ``[in, in]`` and seven ``[out, in]`` of one layer.

    Args:
        shapes: ``(out, in)`` of each layer that is to be compressed.
        itemsize: bytes of each weight in the dense model.
        recipe: what to do.
        recovers: whether `recover` trains the result, which takes `TRAINED` and `UNUSED` bytes more for each weight.
        copied: whether it holds a copy of the dense model in bfloat16, too.

    Returns:
        Bytes.
    """
    weights, new = sum(rows * columns for rows, columns in shapes), 1 if recipe.fp8 else itemsize
    taken = weights * (new + itemsize * recipe.permute)
    if recipe.method == "admm":
        taken += max(4 * (4 * columns + 7 * rows) * columns for rows, columns in shapes)
    return max(taken, weights * (new + TRAINED + UNUSED + 2 * copied) if recovers else 0)
