"""Let a model speak."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunekitError, check_count
from ..model.checks import check_context, check_text
from ..model.modes import device_of, without_dropout
from ..system.notices import quiet


@torch.inference_mode()
def generate(model: nn.Module, tokenizer: Any, prompt: str, tokens: int = 40) -> str:
    """Continue a prompt greedily.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompt: the beginning of a text; not empty.
        tokens: how many to add at most.

    Returns:
        Prompt and continuation as one string.

    Raises:
        PrunekitError: empty prompt, or not valid Unicode, or no tokens, or more than the model takes, or its logits
            hold NaN.
    """
    if not prompt.strip():
        raise PrunekitError("the prompt is empty: give the beginning of a sentence.")
    if any("\ud800" <= c <= "\udfff" for c in prompt):
        raise PrunekitError("the prompt is not valid Unicode: give it in UTF-8.")
    tokens = check_count(tokens, "tokens")
    inputs = tokenizer(prompt, return_tensors="pt").to(device_of(model))
    check_text(model, inputs["input_ids"])
    check_context(model, inputs["input_ids"].shape[1] + tokens - 1)  # the last one is not read again
    causal: Any = model
    own = causal.generation_config
    causal.generation_config = type(own)(  # greedily, whatever else the model's own settings are
        max_new_tokens=tokens,
        do_sample=False,
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
    )
    try:
        with without_dropout(model), quiet():
            out = causal.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs.get("attention_mask"), logits_processor=[_number]
            )
    finally:
        causal.generation_config = own
    return tokenizer.decode(out[0], skip_special_tokens=True)


def _number(_: Tensor, logits: Tensor) -> Tensor:
    """The same logits, if all of them are numbers."""
    if logits.isnan().any():
        raise PrunekitError("the logits hold NaN; load the model in float32 (--dtype float32), or repair it.")
    return logits
