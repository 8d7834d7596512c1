"""transformers' loader, made strict: no code of others, no pickles, no missing weights."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from math import inf, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import nn

from ..errors import PrunekitError
from ..model.structure import text_config
from ..system.notices import explained, quiet
from .compatibility import savable
from .weight_files import INDEX, check_config, names_in_index, weight_files

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
        check_ids(model)
    missing = sorted(info["missing_keys"]) + [key for key, *_ in info.get("mismatched_keys", ())]
    if missing:
        raise PrunekitError(
            f"the checkpoint {source} lacks {len(missing)} weights that its config asks for, {missing[0]} among "
            "them: it is damaged or not a causal language model; download or save it again."
        )
    if more := _layers_left_out(model, info["unexpected_keys"]):
        raise PrunekitError(
            f"the checkpoint {source} holds {more[0]}, a layer that its config does not ask for: it is damaged; "
            "download or save it again."
        )
    foreign = [key for key in info["unexpected_keys"] if key.endswith(QUANTIZED)]
    if foreign:
        raise PrunekitError(
            f"the checkpoint {source} holds {foreign[0]}, which belongs to a kind of quantization that is not read: "
            "give the dense model."
        )
    model.generation_config = savable(model.generation_config)
    return model.eval().requires_grad_(False)


def _layers_left_out(model: nn.Module, unexpected: Iterable[str]) -> list[str]:
    """Which names of tensors say that a list of layers is longer than the model has it."""
    lists = {name: len(module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    numbered = ((re.match(r"(.+?)\.(\d+)\.", key), key) for key in sorted(unexpected))
    return [key for found, key in numbered if found and int(found[2]) >= lists.get(found[1], inf)]


def check_ids(model: Any) -> None:
    """Raise `ValueError` where what begins or ends a text is no token's number, which would show only in `generate`."""
    for settings in (model.generation_config, text_config(model.config)):
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(settings, key, None)
            for each in value if isinstance(value, list) else [value]:
                if not (each is None or (type(each) is int and -1 <= each < 2**31)):
                    raise ValueError(f"{key} is {str(each)[:30]!r}, no token's number")


def check_sizes(folder: Path) -> None:
    """Refuse a config that asks for far more weights than the files hold, before memory is taken for them.

    Args:
        folder: of a model, with its `config.json` and weights.

    Raises:
        PrunekitError: so it is, or config or weights are damaged.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet(), explained(str(folder), "model"):
        held = 0
        for file in weight_files(folder):
            with safe_open(file, "pt") as tensors:
                held += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if hasattr(config, "quantization_config"):
            if not (folder / "prunekit.json").is_file():  # others pack several weights into one number
                return
            del config.quantization_config
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        asked = sum(p.numel() for p in model.parameters())
        if asked > 2 * held:  # what is tied may be written once
            raise ValueError(f"config.json asks for {asked} weights, and the files hold {held}")


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
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        tokenizer("a word")  # what is of a wrong kind in its settings shows only when it is used
    return tokenizer
