"""Save a compressed model so that transformers, and servers that read compressed-tensors, can open it.

FP8 E4M3 layers are written as `compressed-tensors` checkpoints of format ``float-quantized``. What that
format cannot hold (E5M2, GPT-2's transposed layers) is written widened, with its scales beside it; prunekit
opens both to the same codes. No pickle anywhere: weights are safetensors, the rest is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from copy import copy, deepcopy
from dataclasses import asdict
from inspect import signature
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from . import fp8
from .compress import Compressed
from .errors import PrunekitError
from .files import new_folder
from .linear import Fp8Linear, exact_dtype, is_conv1d, replace_layers
from .models import explained, quiet, savable

_STRATEGY = {"tensor": "tensor", "row": "channel", "block": "block"}


def save(compressed: Compressed, tokenizer, out: str | Path, activations: str = "none") -> Path:
    """Write a compressed model as a new folder, complete or not at all.

    Args:
        compressed: what `compress.compress` returned.
        tokenizer: the model's tokenizer, saved with it.
        out: a folder that does not exist yet, or is empty.
        activations: what servers do with the inputs of FP8 layers: ``none`` leaves them; ``dynamic`` casts each token
            to FP8, for FP8 tensor cores. `models.load` never casts inputs.

    Returns:
        The folder.

    Raises:
        PrunekitError: the folder cannot be written or is not empty, or `activations` is unknown or does not fit.
    """
    if activations not in ("dynamic", "none"):
        raise PrunekitError(f"unknown activations {activations!r}: expected dynamic or none.")
    model, recipe, out = copy(compressed.model), compressed.recipe, Path(out)
    model.config = deepcopy(model.config)  # transformers notes in it what it writes
    if getattr(model, "generation_config", None) is not None:
        model.generation_config = savable(model.generation_config)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Fp8Linear)}
    described = bool(layers) and all(map(_holds, layers.values()))
    if activations == "dynamic" and not described:
        raise PrunekitError(
            "activations='dynamic' belongs to FP8 layers of format e4m3, and not to GPT-2's: leave it out."
        )
    with new_folder(out) as folder, quiet():
        tensors = stored_tensors(model)
        dtype = str(_usual_dtype(tensors.values())).removeprefix("torch.")
        if recipe.granularity == "tensor":  # transformers expects the scale of a whole tensor as [1]
            tensors |= {n: t.reshape(1) for n, t in tensors.items() if n.endswith(".weight_scale")}
        # Tensors keep the names that they have here, which transformers reads, too; those of older checkpoints of
        # mixtures of experts and of models with a vision tower would not be found again.
        names = (
            {"save_original_format": False}
            if "save_original_format" in signature(model.save_pretrained).parameters
            else {}
        )
        model.save_pretrained(folder, state_dict=tensors, **names)  # which empties the dict
        tokenizer.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        if described:
            config["quantization_config"] = _quantization_config(model, layers, recipe.granularity, activations)
        config["dtype"] = dtype
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        about = {
            "version": 1,
            "recipe": asdict(recipe),
            "sparsity": compressed.sparsity,
            "calibration_tokens": compressed.tokens,
            "fp8_layers": sorted(layers),
        }
        (folder / "prunekit.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    return out


def open_compressed(folder: Path, dtype: str) -> nn.Module:
    """Open a folder that `save` wrote, with the same zeros, codes, scales and logits.

    Args:
        folder: the folder.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``auto`` for all that is not FP8.

    Raises:
        PrunekitError: the folder is damaged.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    with quiet(), explained(str(folder), "model"):
        about = json.loads((folder / "prunekit.json").read_text("utf-8"))
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        tensors: dict[str, Tensor] = {}
        for file in sorted(folder.glob("*.safetensors")):
            tensors |= load_file(file)
        names = set(about["fp8_layers"])
        rest = (tensor for name, tensor in tensors.items() if name.rpartition(".")[0] not in names)
        target = _usual_dtype(rest) if dtype == "auto" else getattr(torch, dtype)
        with init_empty_weights(include_buffers=False):  # what no checkpoint holds, rotary frequencies, is computed
            model = AutoModelForCausalLM.from_config(config, dtype=target)
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        layers = {name: module for name, module in model.named_modules() if name in names}
        if set(layers) != names:
            raise ValueError("prunekit.json names layers that the model does not have")
        model = replace_layers(model, {n: _fp8_layer(n, m, tensors, about, target) for n, m in layers.items()})
        own = {name: tensor.dtype for name, tensor in model.state_dict().items()}  # a class may insist on float32
        for name, tensor in tensors.items():
            if tensor.dtype in (torch.bfloat16, torch.float16, torch.float32):
                kept = _stays_float32(model, name, target)
                tensors[name] = tensor.to(torch.float32 if kept else own.get(name, target))
        _restore(model, tensors)
    return model.eval().requires_grad_(False)


def _usual_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """Which of float32, bfloat16 and float16 most of the tensors' numbers have; others do not count."""
    counts = dict.fromkeys((torch.float32, torch.bfloat16, torch.float16), 0)
    for t in tensors:
        if t.dtype in counts:
            counts[t.dtype] += t.numel()
    return max(counts, key=counts.get)


def _stays_float32(model: nn.Module, name: str, dtype: torch.dtype) -> bool:
    """Whether transformers keeps this tensor of a model in float32 when it opens the rest in `dtype`.

    The bias of a router is one such: its values differ by less than bfloat16 tells apart.
    """
    kept = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        kept |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    return any(f".{part}." in f".{name}." for part in kept)


def _fp8_layer(name: str, old: nn.Module, tensors: dict[str, Tensor], about: dict, dtype: torch.dtype) -> Fp8Linear:
    weight, scale = tensors.pop(f"{name}.weight"), tensors.pop(f"{name}.weight_scale")
    fmt = fp8.format_named(about["recipe"]["fp8"])
    scale = scale.reshape(1, 1) if scale.numel() == 1 else scale
    if weight.dtype != fmt.dtype:  # written widened: dividing by the scale gives the codes back exactly
        weight = fp8.cast(weight.T if is_conv1d(old) else weight, scale, fmt)
    if not (torch.isfinite(scale).all() and _finite(weight)):
        raise ValueError(f"{name} holds NaN or infinity")
    bias = tensors.pop(f"{name}.bias", None)
    return Fp8Linear(weight, scale, bias if bias is None else bias.to(dtype), is_conv1d(old))


def _finite(codes: Tensor) -> bool:
    """Whether no FP8 code stands for NaN or infinity: those come last, whatever the sign."""
    largest = torch.tensor(torch.finfo(codes.dtype).max).to(codes.dtype).view(torch.uint8)
    return bool(((codes.view(torch.uint8) & 0x7F) <= largest).all())


def _restore(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put tensors into a model whose parameters are on the meta device."""
    result = model.load_state_dict(tensors, strict=False, assign=True)
    if any(p.is_meta for p in model.parameters()):  # else a head of its own stays, whatever the config says
        model.tie_weights()
    if result.unexpected_keys:
        raise ValueError(f"unexpected tensor {result.unexpected_keys[0]}")
    for name, tensor in list(model.named_parameters()):
        if tensor.is_meta:
            raise ValueError(f"the tensor {name} is missing")


def narrow(tensor: Tensor) -> Tensor:
    """The same values in bfloat16 or float16 if all of them fit it, so that widening for a CPU costs no disk space."""
    return tensor.to(exact_dtype(tensor)) if tensor.dtype == torch.float32 else tensor


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint of the model holds, by name: FP8 layers as codes and scales, the rest as narrow as
    is exact, tied weights once."""
    return dict(_stored(model))


def stored_bytes(model: nn.Module) -> int:
    """Size of the weights in a checkpoint of the model, in bytes, without writing one."""
    return sum(t.numel() * t.element_size() for _, t in _stored(model))


def _stored(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """`stored_tensors`, one after the other."""
    seen = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if place in seen:
            continue
        seen.add(place)
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        if isinstance(module, Fp8Linear) and leaf != "bias":
            if leaf == "weight" and not _holds(module):
                W = module.dense_weight().cpu()
                tensor = W.T if module.transposed else W
            yield name, tensor.contiguous()
        else:
            yield name, narrow(tensor.detach()).contiguous()


def _holds(module: Fp8Linear) -> bool:
    """Whether the compressed-tensors format can hold this layer."""
    return module.weight.dtype == torch.float8_e4m3fn and not module.transposed


def _quantization_config(model: nn.Module, layers: dict[str, nn.Module], granularity: str, activations: str) -> dict:
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
