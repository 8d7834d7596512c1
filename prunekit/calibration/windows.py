"""Which text, in which windows, each method is calibrated on, and what recovery reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..model.checks import most_tokens
from .corpus import corpus, has_splits

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


def calibration_text(
    tokenizer: Any,
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
    model: nn.Module, tokenizer: Any, text: str | Sequence[str] = RECOVERY_TEXTS, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """What `recover` trains on and what it watches: all training windows, and the first eight for validation.

    A file and news have no part for validation: then windows of the text itself are watched, and not trained on if
    it is long enough. (Where texts are mixed the same place may be cut otherwise, and is trained on.)
    """
    context = longest_window(model, RECOVERY_CONTEXT)
    ids = corpus(tokenizer, text, "train", None, context, seed)
    watch = (corpus(tokenizer, text, "validation", None, context, seed) if has_splits(text) else ids)[:8]
    watched = torch.stack([(ids == window).all(1) for window in watch]).any(0)
    return (ids[~watched] if 2 * watched.sum() <= len(ids) else ids), watch
