"""Open a folder that `save.save` wrote, with the same zeros, codes, scales and logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import PrunekitError
from ..kernels.dispatch import widen
from ..method import fp8
from ..model.copies import replace_layers
from ..model.experts import with_experts
from ..model.fp8_linear import Fp8Linear
from ..model.linear import is_conv1d, weight_of
from ..system.notices import explained, quiet
from .about import read_about
from .pretrained import check_ids
from .tensors import usual_dtype
from .weight_files import weight_files


def open_compressed(folder: Path, dtype: str) -> nn.Module:
    """Open a folder that `save.save` wrote, with the same zeros, codes, scales and logits.

    Args:
        folder: the folder.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``auto`` for all that is not FP8.

    Raises:
        PrunekitError: the folder is damaged.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    with quiet(), explained(str(folder), "model"):
        about = read_about(folder)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        tensors: dict[str, Tensor] = {}
        for file in weight_files(folder):
            tensors |= load_file(file)
        names = set(about["fp8_layers"])
        rest = (tensor for name, tensor in tensors.items() if name.rpartition(".")[0] not in names)
        target = usual_dtype(rest) if dtype == "auto" else getattr(torch, dtype)
        with init_empty_weights(include_buffers=False):  # what no checkpoint holds, rotary frequencies, is computed
            model = AutoModelForCausalLM.from_config(config, dtype=target, trust_remote_code=False)
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        check_ids(model)
        model = with_experts(model, about.get("experts", ()))
        layers = {name: module for name, module in model.named_modules() if name in names}
        if set(layers) != names:
            raise ValueError("prunekit.json names layers that the model does not have")
        model = replace_layers(model, {n: fp8_layer(n, m, tensors, about, target) for n, m in layers.items()})
        own = {name: tensor.dtype for name, tensor in model.state_dict().items()}  # a class may insist on float32
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and tensor.element_size() > 1:
                kept = stays_float32(model, name, target)
                tensors[name] = tensor.to(torch.float32 if kept else own.get(name, target))
            elif name in own and tensor.dtype != own[name]:
                raise ValueError(f"{name} is {tensor.dtype}, where the model has {own[name]}")
        _restore(model, tensors)
    return model.eval().requires_grad_(False)


def stays_float32(model: nn.Module, name: str, dtype: torch.dtype) -> bool:
    """Whether transformers keeps this tensor of a model in float32 when it opens the rest in `dtype`.

    The bias of a router is one such: its values differ by less than bfloat16 tells apart.
    """
    kept = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        kept |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    return any(f".{part}." in f".{name}." for part in kept)


def fp8_layer(name: str, old: nn.Module, tensors: dict[str, Tensor], about: dict, dtype: torch.dtype) -> Fp8Linear:
    """An FP8 layer of a folder that `save.save` wrote.

    Args:
        name: of the layer.
        old: the layer in the dense model, whose weight may be on the meta device.
        tensors: by name, from which those of this layer are taken out.
        about: what prunekit.json says.
        dtype: of the bias.

    Raises:
        ValueError: the tensors do not fit, or hold what no cast gives.
    """
    weight, scale = tensors.pop(f"{name}.weight"), tensors.pop(f"{name}.weight_scale")
    bias, shape = tensors.pop(f"{name}.bias", None), weight_of(old).shape
    try:
        fmt = fp8.format_named(about["recipe"]["fp8"])
    except PrunekitError as error:
        raise ValueError(f"in prunekit.json: {error}") from None
    scale = scale.reshape(1, 1) if scale.numel() == 1 else scale
    if weight.element_size() == 1 and weight.dtype != fmt.dtype:
        raise ValueError(f"{name} is {weight.dtype} where prunekit.json says {fmt.name}")
    if not weight.is_floating_point() or scale.dtype != torch.float32:
        raise ValueError(
            f"{name} is {weight.dtype} with a scale of {scale.dtype}, which is float32 in what save writes"
        )
    if not (torch.isfinite(scale) & (scale > 0)).all():
        raise ValueError(f"{name} holds NaN or infinity, or a number below or at zero, as its scale")
    wide = weight.dtype != fmt.dtype
    weight = weight.T if wide and is_conv1d(old) else weight
    if weight.shape != shape or (bias is not None and bias.shape != shape[:1]):
        raise ValueError(f"{name} has the shape {list(weight.shape)}, or a bias of another, where {list(shape)} fits")
    try:
        fp8.scale_blocks(scale, shape)
    except PrunekitError:
        raise ValueError(f"{name} has scales of the shape {list(scale.shape)}, which fit no granularity") from None
    if wide:  # dividing by the scale gives the codes back exactly
        values, weight = weight, fp8.cast(weight.contiguous(), scale, fmt)
    if not _finite(weight):
        raise ValueError(f"{name} holds NaN or infinity")
    if wide and not torch.equal(widen(weight, scale), values.float()):
        raise ValueError(f"{name} holds numbers that are no {fmt.name} times its scale")
    return Fp8Linear(weight, scale, bias if bias is None else bias.to(dtype), is_conv1d(old))


def _finite(codes: Tensor) -> bool:
    """Whether no FP8 code stands for NaN or infinity: those come last, whatever the sign."""
    largest = torch.tensor(torch.finfo(codes.dtype).max).to(codes.dtype).view(torch.uint8)
    return bool(((codes.view(torch.uint8) & 0x7F) <= largest).all())


def _restore(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put tensors into a model whose parameters are on the meta device."""
    result = model.load_state_dict(tensors, strict=False, assign=True)
    if any(p.is_meta for p in model.parameters()):  # else a head of its own stays, whatever the config says
        causal: Any = model
        causal.tie_weights()
    if result.unexpected_keys:
        raise ValueError(f"unexpected tensor {result.unexpected_keys[0]}")
    for name, tensor in list(model.named_parameters()):
        if tensor.is_meta:
            raise ValueError(f"the tensor {name} is missing")
