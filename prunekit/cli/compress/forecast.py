"""What `compress` says before it starts: which layers, how much memory, what to be careful about."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...compression.fit.memory import more_memory
from ...compression.recipe import Recipe
from ...model.experts import left_out
from ...model.linear import stored_weight, weight_of
from ...recovery.recover import copies_teacher
from ...system.machine import fast_bfloat16
from ...system.memory import memory_free


def describe(layers: dict[str, nn.Module]) -> str:
    """The layers that will be touched, those that differ only in the block's number on one line."""
    kinds = _kinds({name: stored_weight(module) for name, module in layers.items()})
    lines = [f"{len(layers)} layers:", *(f"  {count:4d} x {kind}  {shapes}" for kind, (count, shapes) in kinds.items())]
    return "\n".join(lines)


def describe_others(model: nn.Module, layers: dict[str, nn.Module]) -> list[str]:
    """Which other matrices of a model are left out, embeddings apart, and why: a line for each reason."""
    weights, reasons = dict(model.named_parameters()), left_out(model, layers)
    lines = []
    for reason in dict.fromkeys(reasons.values()):
        others = {n: weights.get(f"{n}.weight", weights.get(n)) for n, why in reasons.items() if why == reason}
        found = {name: weight for name, weight in others.items() if weight is not None}
        share = sum(p.numel() for p in found.values()) / sum(p.numel() for p in weights.values())
        kinds = ", ".join(f"{count} x {kind} {shapes}" for kind, (count, shapes) in _kinds(found).items())
        lines.append(f"left out, {share:.0%} of the model's weights: {kinds}: {reason}")
    return lines


def _kinds(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, str]]:
    """How many weights there are of a kind and their shapes, by name with ``*`` for the block's number."""
    kinds: dict[str, list[str]] = {}
    for name, weight in weights.items():
        kinds.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "*", name), []).append("x".join(map(str, weight.shape)))
    return {kind: (len(shapes), f"[{' or '.join(sorted(set(shapes)))}]") for kind, shapes in kinds.items()}


def beside(layers: dict[str, nn.Module], recipe: Recipe, recovers: bool) -> int:
    """Predicted: bytes of memory that the work takes beside the dense model.

    Args:
        layers: to be compressed, by name.
        recipe: what to do with them.
        recovers: whether recovery follows.
    """
    weight = stored_weight(next(iter(layers.values())))
    shapes = [weight_of(module).shape for module in layers.values()]
    copied = copies_teacher(weight.dtype, weight.device)
    return more_memory(shapes, weight.element_size(), recipe, recovers, copied)


def cautions(layers: dict[str, nn.Module], recipe: Recipe, recovers: bool) -> list[str]:
    """What may make the work ahead fail or take long, a sentence each, with what to do about it.

    Args:
        layers: to be compressed, by name.
        recipe: what to do with them.
        recovers: whether recovery follows.
    """
    found = []
    weight = stored_weight(next(iter(layers.values())))
    needed = beside(layers, recipe, recovers)
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
