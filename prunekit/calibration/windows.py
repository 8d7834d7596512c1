"""What comes before compression: calibration text, compiled kernels, and the list of layers to be touched."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..compression.layer import compress_layer
from ..compression.recipe import Recipe
from ..model.checks import most_tokens
from ..model.linear import weight_of
from ..system.machine import fast_bfloat16
from ..system.memory import memory_free, more_memory
from .corpus import corpus

CONTEXT = 512
RECOVERY_CONTEXT = 256
ALLOCATION_TOKENS = 4096
TEXT = "wikipedia"
RECOVERY_TEXTS = ("wikipedia", "press")  # of two kinds, since training takes on the manner of what it reads
DEFAULTS = {  # tokens and windows by method; what the EWMA has here it may use at most, since it stops by itself
    "ewma": (2048, 32),
    "admm": (32_768, 128),
    "wanda": (16 * CONTEXT, CONTEXT),
    "sparsegpt": (16 * CONTEXT, CONTEXT),
    "magnitude": (16 * CONTEXT, CONTEXT),
}


def describe(layers: dict[str, nn.Module]) -> str:
    """The layers that will be touched, those that differ only in the block's number on one line."""
    kinds: dict[str, list[str]] = {}
    for name, module in layers.items():
        kinds.setdefault(re.sub(r"\.\d+\.", ".*.", name), []).append("x".join(map(str, module.weight.shape)))
    lines = [f"{len(layers)} layers:"]
    lines += [f"  {len(shapes):4d} x {kind}  [{' or '.join(sorted(set(shapes)))}]" for kind, shapes in kinds.items()]
    return "\n".join(lines)


def cautions(layers: dict[str, nn.Module], recipe: Recipe, recovers: bool) -> list[str]:
    """What may make the work ahead fail or take long, a sentence each, with what to do about it.

    Args:
        layers: to be compressed, by name.
        recipe: what to do with them.
        recovers: whether recovery follows.
    """
    found = []
    weight = next(iter(layers.values())).weight
    shapes = [weight_of(module).shape for module in layers.values()]
    needed = more_memory(shapes, weight.element_size(), recipe, recovers)
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


def calibration_text(
    tokenizer,
    method: str,
    tokens: int | None,
    text: str | Sequence[str] = TEXT,
    seed: int = 0,
    limit: int = CONTEXT,
) -> Tensor:
    """Training windows: `DEFAULTS`, or `tokens` of them in windows of 512 (at most `limit`).

    Short windows come from many documents, which is worth more than long contexts when tokens are few.
    """
    tokens, context = DEFAULTS[method] if tokens is None else (tokens, min(CONTEXT, tokens))
    return corpus(tokenizer, text, "train", tokens, min(context, limit), seed)


def longest_window(model: nn.Module, most: int = CONTEXT) -> int:
    """How many tokens a model takes in a window, but no more than `most`."""
    return min(most, most_tokens(model) or most)


def recovery_text(
    model: nn.Module, tokenizer, text: str | Sequence[str] = RECOVERY_TEXTS, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """What `recover` trains on and what it watches: all training windows, and the first eight for validation.

    A file and news have no part for validation: then windows of the text itself are watched, and not trained on if
    it is long enough. (Where texts are mixed the same place may be cut otherwise, and is trained on.)
    """
    context = longest_window(model, RECOVERY_CONTEXT)
    ids = corpus(tokenizer, text, "train", None, context, seed)
    watch = corpus(tokenizer, text, "validation", None, context, seed)[:8]
    watched = torch.stack([(ids == window).all(1) for window in watch]).any(0)
    return (ids[~watched] if 2 * watched.sum() <= len(ids) else ids), watch


def warm_up(recipe: Recipe, device: torch.device | str = "cpu") -> None:
    """Compile the kernels for a device, or fetch them from their cache, so that no stage is charged for it."""
    if recipe.method == "ewma":
        layer = nn.Linear((recipe.pattern and int(recipe.pattern.split(":")[1])) or 64, 2, bias=False, device=device)
        with torch.no_grad():
            E = torch.ones(layer.in_features, device=device)
            compress_layer(layer, E, recipe, (E[None], 0 * E[None]) if recipe.compensate else None)
