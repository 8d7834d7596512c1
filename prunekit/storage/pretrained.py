"""transformers' loader, made strict: no code of others, no pickles, no missing weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PrunekitError
from ..system.notices import explained, quiet
from .compatibility import savable
from .weight_files import INDEX, check_config, names_in_index

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER = "{} holds an adapter (LoRA): merge it into its model first, and give that."
QUANTIZED = ("_scale", "_scale_inv", ".scales", ".qweight", ".qzeros", ".absmax", ".SCB", "_zero_point")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)


def open_model(source: str, **options: Any) -> PreTrainedModel:
    """`AutoModelForCausalLM.from_pretrained` without progress bars, and with one sentence when it fails.

    Raises:
        PrunekitError: unknown model, damaged checkpoint, or no network.
    """
    from transformers import AutoModelForCausalLM

    with quiet(), explained(source, "model"):
        if not os.path.isdir(source):
            _check_hub(source)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, output_loading_info=True, trust_remote_code=False, use_safetensors=True, **options
        )
        model, info = loaded
    missing = sorted(info["missing_keys"]) + [key for key, *_ in info.get("mismatched_keys", ())]
    if missing:
        raise PrunekitError(
            f"the checkpoint {source} lacks {len(missing)} weights that its config asks for, {missing[0]} among "
            "them: it is damaged or not a causal language model; download or save it again."
        )
    foreign = [key for key in info["unexpected_keys"] if key.endswith(QUANTIZED)]
    if foreign:
        raise PrunekitError(
            f"the checkpoint {source} holds {foreign[0]}, which belongs to a kind of quantization that is not read: "
            "give the dense model."
        )
    model.generation_config = savable(model.generation_config)
    return model.eval().requires_grad_(False)


def _check_hub(name: str) -> None:
    """Refuse adapters, and what has or names pickles or code: transformers would follow, or have it converted."""
    from transformers.utils import cached_file, find_adapter_config_file

    if find_adapter_config_file(name):
        raise PrunekitError(ADAPTER.format(name))

    def cached(file: str) -> Path | None:
        path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        return Path(path) if path else None

    if config := cached("config.json"):
        check_config(config)
    if cached("model.safetensors"):
        return
    if not (index := cached(INDEX)):
        raise PrunekitError(f"{name} holds no model.safetensors, and pickles are never read: choose another model.")
    names_in_index(index)


def open_tokenizer(source: str) -> Any:
    from transformers import AutoTokenizer

    folder = Path(source)
    if folder.is_dir() and not any((folder / f).is_file() for f in _TOKENIZER_FILES):
        raise PrunekitError(
            f"the folder {source} has a model but no tokenizer: copy its tokenizer files ({_TOKENIZER_FILES[0]} ...) "
            "into it."
        )
    with quiet(), explained(source, "tokenizer"):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
