"""Swap the layers of a model for those of `tensor_core_layers` that run on its device, each tried first."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunekitError, first_line, out_of_memory
from ..model.copies import replace_layers, shallow_copy
from ..model.fp8_linear import Fp8Linear
from ..model.linear import bias_of, linear_layers, stored_weight, weight_of, without_sign
from .tensor_core_layers import Fp8Product, Sparse24Fp8Product, Sparse24Product, fp8_error_bound

TRIAL_TOKENS = 17  # odd, so that padding is tried as well


def is_24(weight: Tensor) -> bool:
    """Whether every four neighbours along the input axis hold two zeros or more; FP8 codes are understood."""
    if weight.shape[1] % 4:
        return False
    return bool(without_sign(weight).unflatten(1, (-1, 4)).count_nonzero(2).max() <= 2)


def fast_layer(module: nn.Module, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """The first of FP8 with 2:4, FP8 and 2:4 that runs for a linear layer where it is; its `path` says which and why.

    Which is fastest depends on the number of tokens: `prunekit bench gpu`. Each candidate is tried on a few tokens and
    must agree with the plain layer. What remains is a copy of the layer as it was, whose `path` begins with "plain" and
    gives the reason, or is "dense" where there is nothing to gain.

    Args:
        module: nn.Linear, Conv1D or `fp8_linear.Fp8Linear`.
        dtype: what a 2:4 weight in FP8 is computed in where FP8 does not run, bfloat16 or float16.
    """
    codes = module.weight if isinstance(module, Fp8Linear) else None
    candidates: list[tuple[Callable[[Tensor | None], nn.Module], str, tuple[int, int]]] = []
    sparse = is_24(weight_of(module) if codes is None else codes)
    if isinstance(module, Fp8Linear):
        kinds = (Sparse24Fp8Product, Fp8Product) if sparse else (Fp8Product,)
        candidates += [(partial(kind, module.weight, module.weight_scale), kind.path, (8, 9)) for kind in kinds]
    if sparse and (codes is not None or stored_weight(module).dtype in (torch.bfloat16, torch.float16)):

        def sparse24(bias: Tensor | None) -> nn.Module:
            return Sparse24Product(weight_of(module).to(stored_weight(module).dtype if codes is None else dtype), bias)

        candidates.append((sparse24, Sparse24Product.path, (8, 0)))

    reason = ""
    if sparse and not candidates:
        reason = "the weight is 2:4 in float32, load the model in bfloat16"
    for make, path, capability in candidates:
        try:
            _require(stored_weight(module).device, path, capability)
            layer = make(bias_of(module))
            _try(layer, module)
            return layer
        except Exception as problem:  # whatever a driver or library lacks: the next one may run
            if out_of_memory(problem):
                raise
            reason = reason or f"{path} does not run: {first_line(problem).rstrip('.')}"
    plain: Any = shallow_copy(module)
    plain.path = f"plain: {reason}" if reason else "dense"
    return plain


def accelerate(model: nn.Module) -> nn.Module:
    """A copy of a compressed model whose linear layers run FP8, 2:4 or both wherever this machine can.

    Each layer's `path` names what runs. Where a layer stays plain, which is slower but right, one warning says so. FP8
    products also cast the inputs: see `tensor_core_layers.fp8_error_bound`. Whether a path is faster than dense depends
    on card and batch size, and with few tokens on how fast the host launches its kernels, of which it has more than a
    dense layer: `prunekit bench gpu` measures it. For running only; save the model as it was.

    Args:
        model: what `compress` gave as `.model`, or any model with linear layers.

    Returns:
        A model of the same class that shares what it can with `model`, which stays as it is.

    Raises:
        PrunekitError: the model has no linear layer.
    """
    layers = linear_layers(model)
    half = next((p.dtype for p in model.parameters() if p.dtype in (torch.bfloat16, torch.float16)), torch.bfloat16)
    new: dict[str, Any] = {name: fast_layer(module, half) for name, module in layers.items()}
    reasons = Counter(layer.path for layer in new.values() if layer.path.startswith("plain"))
    for reason, count in reasons.most_common(1):
        warnings.warn(f"{sum(reasons.values())} of {len(new)} layers run as before ({count}: {reason}).", stacklevel=2)
    return replace_layers(model, new)


def _require(device: torch.device, path: str, capability: tuple[int, int]) -> None:
    if device.type != "cuda":
        raise PrunekitError(f"the model is on the {device.type.upper()}, and this takes a CUDA GPU")
    has = torch.cuda.get_device_capability(device)
    if has < capability:
        raise PrunekitError(f"compute capability is {has[0]}.{has[1]}, and it takes {capability[0]}.{capability[1]}")


@torch.inference_mode()
def _try(layer: nn.Module, module: nn.Module) -> None:
    """Raise unless a layer gives what the plain one gives, within the FP8 bound."""
    W = weight_of(module).float()
    g = torch.Generator().manual_seed(0)
    x = torch.randn(TRIAL_TOKENS, W.shape[1], generator=g).to(W.device)
    bias = bias_of(module)
    expected = x @ W.T + (0 if bias is None else bias.float())
    slack = fp8_error_bound(x, W) + expected.abs() / 64
    error = layer(x) - expected
    if not ((error.abs() <= slack).all() and error.norm() <= 0.1 * expected.norm()):
        raise PrunekitError("it computes wrongly here")
