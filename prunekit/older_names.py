"""Names that transformers 4, and servers that stand on it, look for in what transformers 5 writes.

Without them they would take a default in place of the model's own frequency of rotary positions, and not find the
tokenizer's class.
"""

from __future__ import annotations

import json
from pathlib import Path


def add_older_names(folder: Path) -> None:
    """Complete the `config.json` and `tokenizer_config.json` of a checkpoint; transformers 5 reads them as before."""
    _change(folder / "config.json", lambda config: config | _rotary(config))
    _change(folder / "tokenizer_config.json", lambda settings: settings | _tokenizer(settings))


def _change(file: Path, changed) -> None:
    if file.is_file():
        values = json.loads(file.read_text("utf-8"))
        file.write_text(json.dumps(changed(values), indent=2, ensure_ascii=False) + "\n", "utf-8")


def _rotary(config: dict) -> dict:
    rope = config.get("rope_parameters") or {}
    dtype = {"torch_dtype": config["dtype"]} if "dtype" in config else {}
    if "rope_theta" not in rope:  # none, or a kind for each type of layer, which version 4 writes in another way
        return dtype
    scaling = {k: v for k, v in rope.items() if k != "rope_theta"}
    plain = scaling.get("rope_type", "default") == "default"
    return dtype | {"rope_theta": rope["rope_theta"], "rope_scaling": None if plain else scaling}


def _tokenizer(settings: dict) -> dict:
    any_fast = settings.get("tokenizer_class") == "TokenizersBackend"
    return {"tokenizer_class": "PreTrainedTokenizerFast"} if any_fast else {}
