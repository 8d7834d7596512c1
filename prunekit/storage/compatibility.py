"""Names that transformers 4, and servers that stand on it, look for in what transformers 5 writes.

Without them they would take a default in place of the model's own frequency of rotary positions, and not find the
tokenizer's class.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

_SCALINGS = {"default", "linear", "dynamic", "yarn", "longrope", "llama3"}  # that transformers 4 knows


def add_older_names(folder: Path) -> None:
    """Complete the `config.json` and `tokenizer_config.json` of a checkpoint; transformers 5 reads them as before."""
    _change(folder / "config.json", with_older_names)
    _change(folder / "tokenizer_config.json", _tokenizer)


def with_older_names(config: dict) -> dict:
    """A config with the older names beside today's; that of a text model within it, too.

    Args:
        config: what transformers 5 writes as `config.json`.
    """
    older = {"torch_dtype": config["dtype"]} if "dtype" in config else {}
    rope = config.get("rope_parameters") or {}
    if {"full_attention", "sliding_attention"} <= rope.keys():  # as Gemma 3 has them
        older["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    if "rope_theta" in rope and rope.get("rope_type", "default") in _SCALINGS:
        scaling = {k: v for k, v in rope.items() if k not in ("rope_theta", "partial_rotary_factor")}
        plain = scaling.get("rope_type", "default") == "default"
        neox = config.get("model_type") == "gpt_neox"
        older |= {"rotary_emb_base" if neox else "rope_theta": rope["rope_theta"]}
        older["rope_scaling"] = None if plain else scaling
        if "partial_rotary_factor" in rope:
            older["rotary_pct" if neox else "partial_rotary_factor"] = rope["partial_rotary_factor"]
    if isinstance(config.get("text_config"), dict):
        older["text_config"] = with_older_names(config["text_config"])
    return config | older


def _tokenizer(settings: dict) -> dict:
    settings = dict(settings)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(settings.get("extra_special_tokens"), list):
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    return settings


def _change(file: Path, changed: Callable[[dict], dict]) -> None:
    if file.is_file():
        values = changed(json.loads(file.read_text("utf-8")))
        file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")


def savable(generation: Any) -> Any:
    """The same settings, if need be with sampling, or else the special tokens alone: what transformers will save."""
    for change in ({}, {"do_sample": True}):  # a temperature without do_sample, mostly
        changed = deepcopy(generation)
        changed.update(**change)
        with suppress(ValueError):
            changed.validate(strict=True)
            return changed
    ids = {k: v for k in ("bos_token_id", "eos_token_id") if (v := getattr(generation, k, None)) is not None}
    return type(generation)(**ids)
