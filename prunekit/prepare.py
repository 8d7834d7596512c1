"""What comes before compression: calibration text, compiled kernels, and the list of layers to be touched."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from .compress import compress_layer
from .corpus import corpus
from .recipe import Recipe

AUTO_TOKENS, AUTO_CONTEXT = 2048, 32  # what calibration may use at most when it stops by itself
CONTEXT = 512


def describe(layers: dict[str, nn.Module]) -> str:
    """The layers that will be touched, those that differ only in the block's number on one line."""
    kinds: dict[str, list[str]] = {}
    for name, module in layers.items():
        kinds.setdefault(re.sub(r"\.\d+\.", ".*.", name), []).append("x".join(map(str, module.weight.shape)))
    lines = [f"{len(layers)} layers:"]
    lines += [f"  {len(shapes):4d} x {kind}  [{' or '.join(sorted(set(shapes)))}]" for kind, shapes in kinds.items()]
    return "\n".join(lines)


def calibration_text(
    tokenizer, method: str, tokens: int | None, text: str = "wikipedia", seed: int = 0, limit: int = CONTEXT
) -> Tensor:
    """Training windows: short ones for calibration that stops by itself, 512 tokens (at most `limit`) otherwise.

    Short windows come from many documents, which is worth more than long contexts when tokens are few.
    """
    if tokens is None and method == "ewma":
        return corpus(tokenizer, text, "train", AUTO_TOKENS, AUTO_CONTEXT, seed)
    tokens = tokens or 16 * CONTEXT
    return corpus(tokenizer, text, "train", tokens, min(CONTEXT, tokens, limit), seed)


def warm_up(recipe: Recipe) -> None:
    """Compile the CPU kernels, or fetch them from their cache, so that no stage is charged for it."""
    if recipe.method == "ewma":
        layer = nn.Linear((recipe.pattern and int(recipe.pattern.split(":")[1])) or 64, 2, bias=False)
        with torch.no_grad():
            compress_layer(layer, torch.ones(layer.in_features), recipe)
