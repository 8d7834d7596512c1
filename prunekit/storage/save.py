"""Save a compressed model so that transformers, and servers that read compressed-tensors, can open it.

FP8 E4M3 layers are written as `compressed-tensors` checkpoints of format ``float-quantized``. What that
format cannot hold (E5M2, GPT-2's transposed layers) is written widened, with its scales beside it; prunekit
opens both to the same codes. No pickle anywhere: weights are safetensors, the rest is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from copy import copy, deepcopy
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..compression.result import Compressed, check_compressed
from ..errors import PrunekitError, first_line
from ..method import fp8
from ..model.experts import experts_of
from ..model.fp8_linear import Fp8Linear
from ..system.files import new_folder
from ..system.notices import quiet
from ..system.parallel import first, meet
from .about import write_about
from .compatibility import add_older_names, savable
from .shipped.card import Measurements, write_card
from .shipped.hashes import write_hashes
from .shipped.origin import origin_of
from .tensors import checkpoint_tensors, is_described, usual_dtype

_STRATEGY = {"tensor": "tensor", "row": "channel", "block": "block"}


def save(
    compressed: Compressed,
    tokenizer: Any,
    out: str | Path,
    activations: str = "none",
    *,
    measurements: Measurements = (),
    command: Sequence[str] = (),
) -> Path:
    """Write a compressed model as a new folder, complete or not at all. Of several processes the first writes.

    Args:
        compressed: what `compress.compress` returned.
        tokenizer: the model's tokenizer, saved with it.
        out: a folder that does not exist yet, or is empty.
        activations: what servers do with the inputs of FP8 layers: ``none`` leaves them; ``dynamic`` casts each token
            to FP8, for FP8 tensor cores. `load.load` never casts inputs.
        measurements: for the model card: what `evaluate` gives, or a list of such, with whatever else tells of them.
        command: for the model card: the command line behind `prunekit`; none: the call in Python is shown.

    Returns:
        The folder.

    Raises:
        PrunekitError: the folder cannot be written or is not empty, or `activations` is unknown or does not fit.
    """
    check_activations(activations)
    check_compressed(compressed)
    model: Any = copy(compressed.model)
    recipe, out = compressed.recipe, Path(out)
    model.config = deepcopy(model.config)  # transformers notes in it what it writes
    if getattr(model, "generation_config", None) is not None:
        model.generation_config = savable(model.generation_config)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Fp8Linear)}
    described = bool(layers) and all(map(is_described, layers.values()))
    check_activations(activations, described)
    if first():
        with new_folder(out) as folder, quiet():
            tensors = checkpoint_tensors(model, recipe.granularity)
            dtype = usual_dtype(tensors.values())
            save_tokenizer(tokenizer, folder)
            save_weights(model, tensors, folder)
            quantization = quantization_config(model, layers, recipe.granularity, activations) if described else None
            complete_config(folder, dtype, quantization)
            write_about(folder, compressed, sorted(layers), activations, experts_of(model))
            origin = origin_of(str(getattr(compressed.model.config, "_name_or_path", "")), command)
            write_card(folder, compressed, origin, activations if described else None, measurements)
            write_hashes(folder)
    meet()
    return out


def check_activations(activations: str, described: bool = True) -> None:
    """Raise `PrunekitError` where `activations` is unknown, or asks servers for what no config describes to them."""
    if activations not in ("dynamic", "none"):
        raise PrunekitError(f"unknown activations {activations!r}: expected dynamic or none.")
    if activations == "dynamic" and not described:
        raise PrunekitError(
            "activations='dynamic' belongs to FP8 layers of format e4m3, and not to GPT-2's: leave it out."
        )


def save_weights(model: Any, tensors: dict[str, Tensor], folder: Path) -> None:
    """Let transformers write tensors, the config and what belongs to generation.

    Tensors keep the names that they have here, which transformers reads, too; those of older checkpoints of mixtures of
    experts and of models with a vision tower would not be found again.

    Args:
        model: whose config is written.
        tensors: by name; the dict is emptied.
        folder: where to.
    """
    known = "save_original_format" in signature(model.save_pretrained).parameters
    model.save_pretrained(folder, state_dict=tensors, **({"save_original_format": False} if known else {}))


def complete_config(folder: Path, dtype: torch.dtype, quantization: dict | None) -> None:
    """Put into the config that transformers wrote what it does not know, and older names.

    Args:
        folder: of the checkpoint.
        dtype: that most numbers have.
        quantization: what servers are told of FP8 layers; None where there are none that they can read.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if quantization is not None:
        config["quantization_config"] = quantization
    config["dtype"] = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    add_older_names(folder)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save it, or say in one sentence why not."""
    try:
        tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # the tokenizers library raises nothing narrower, on a full disk for one
        reason = first_line(error)
        advice = "free some space" if "No space" in reason else "see whether it can be saved by itself"
        raise PrunekitError(f"cannot write the tokenizer ({reason}): {advice}.") from None


def quantization_config(model: nn.Module, layers: Collection[str], granularity: str, activations: str) -> dict:
    """What compressed-tensors wants to be told.

    Args:
        model: the model, or the dense one that it was made from.
        layers: names of the layers in FP8.
        granularity: as in `Recipe`.
        activations: as in `save`.
    """
    weights = {
        "num_bits": 8,
        "type": "float",
        "symmetric": True,
        "dynamic": False,
        "strategy": _STRATEGY[granularity],
    }
    if granularity == "block":
        weights["block_structure"] = [fp8.BLOCK, fp8.BLOCK]
    inputs = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": True, "strategy": "token"}
    if granularity == "block":
        inputs |= {"strategy": "group", "group_size": fp8.BLOCK}
    others = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name not in layers]
    group = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": inputs if activations == "dynamic" else None,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": others,
    }
