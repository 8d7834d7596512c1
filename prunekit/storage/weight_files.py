"""Which files hold a model's weights: only safetensors are ever read, and nothing that a config names beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import PrunekitError

INDEX = "model.safetensors.index.json"
MOST_LAYERS = 1000
_LAYERS = re.compile(r"(n|num)_(\w+_)?layers?")


def weight_files(folder: Path) -> list[Path]:
    """The files with a model's weights: `model.safetensors`, or those that its index names; others may lie beside them.

    Args:
        folder: of a model.

    Raises:
        PrunekitError: there are none, the index is damaged or names something else or files that are not there, or
            `check_config` refuses.
    """
    check_config(folder / "config.json")
    single, index = folder / "model.safetensors", folder / INDEX
    if single.is_file():
        return [single]
    if not index.is_file():
        if pickles := sorted(path.name for kind in ("*.bin", "*.pt", "*.pth") for path in folder.glob(kind)):
            raise PrunekitError(
                f"the folder {folder} holds weights as pickle ({pickles[0]}), which can run code and is never read: "
                "convert them to safetensors first."
            )
        raise PrunekitError(f"the folder {folder} holds no model.safetensors: download or save the model again.")
    files = [folder / name for name in names_in_index(index)]
    if lost := [file.name for file in files if not file.is_file()]:  # nor is a pipe a file, which nobody may ever fill
        raise PrunekitError(
            f"the folder {folder} lacks {lost[0]}, which its index names: download or save the model again."
        )
    return files


def names_in_index(index: Path) -> list[str]:
    """The names of files in an index, each once: safetensors beside it, never below or outside.

    Raises:
        PrunekitError: the index is damaged or names something else.
    """
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        plain = all(Path(name).name == name and name.endswith(".safetensors") for name in names)
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        names, plain = set(), False
    if not (names and plain):
        raise PrunekitError(
            f"{index} is damaged or names other files than safetensors beside it: download or save the model again."
        )
    return sorted(names)


def check_config(config: Path) -> None:
    """Refuse a config that names weights of another kind or code on the hub, which transformers would follow.

    And one of FP8 of compressed-tensors that prunekit did not write, whose layers cannot be read here, and one of so
    many layers that transformers would build them for hours before it looked for their weights.

    Args:
        config: a `config.json`. Where it cannot be read, opening the model will say so.

    Raises:
        PrunekitError: it sets `transformers_weights`, an attention that is a kernel on the hub (``owner/name``), or the
            quantization of compressed-tensors with no prunekit.json beside it, or more than `MOST_LAYERS` layers.
    """
    try:
        values = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    for key, value in _settings(values):
        if key == "transformers_weights":
            raise PrunekitError(
                f"{config} names its weights itself (transformers_weights: {value!r}), which is never followed: remove "
                "that line, and name them model.safetensors."
            )
        if "attn_implementation" in key and "/" in str(value):
            raise PrunekitError(
                f"{config} asks for code from the hub ({key}: {value!r}), which is never fetched: remove that line."
            )
        if _LAYERS.fullmatch(key) and isinstance(value, int) and not 0 <= value <= MOST_LAYERS:
            raise PrunekitError(
                f"{config} asks for fewer than 0 or more than {MOST_LAYERS} layers ({key}), as no model has them: "
                "download or save it again."
            )
        if (key, value) == ("quant_method", "compressed-tensors") and not (config.parent / "prunekit.json").is_file():
            raise PrunekitError(
                f"{config} says that compressed-tensors has quantized this model, and no prunekit.json lies beside it: "
                "give the dense model, or the whole folder if prunekit wrote it."
            )


def _settings(values: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values of a config, those of the configs within it, too."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield key, value
            yield from _settings(value)
