"""The linear layers of a model: finding them, and reading their weight as ``[out, in]``."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunekitError
from .fp8_linear import Fp8Linear


def is_conv1d(module: nn.Module) -> bool:
    """GPT-2's linear layer, which keeps its weight transposed, ``[in, out]``."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer: `nn.Linear`, `Fp8Linear` or `Conv1D`.

    Subclasses that compute something else, such as some routers of mixtures of experts, are not; those of libraries
    that quantize are, so that `checks.check_weights` can refuse them.
    """
    if isinstance(module, nn.Linear):
        weight = getattr(module, "weight", None)
        quantized = weight is None or not weight.is_floating_point() or weight.element_size() == 1
        return quantized or type(module).forward is nn.Linear.forward or type(module).__name__ == "FalconLinear"
    return isinstance(module, Fp8Linear) or is_conv1d(module)


def is_transposed(module: nn.Module) -> bool:
    """Whether a checkpoint keeps the layer's weight as ``[in, out]``: `Conv1D`, and what replaces it."""
    return module.transposed if isinstance(module, Fp8Linear) else is_conv1d(module)


def weight_of(module: nn.Module) -> Tensor:
    """The weight as ``[out, in]``, whatever the layer's class; FP8 layers give float32."""
    if isinstance(module, Fp8Linear):
        return module.dense_weight()
    weight = stored_weight(module).detach()
    return weight.T if is_conv1d(module) else weight


def stored_weight(module: nn.Module) -> Tensor:
    """The weight as a linear layer holds it: FP8 codes, or ``[in, out]`` where `is_transposed`."""
    weight: Any = module.weight
    return weight


def bias_of(module: nn.Module) -> Tensor | None:
    """The bias of a linear layer, or None."""
    bias: Any = module.bias
    return bias


def without_sign(weight: Tensor) -> Tensor:
    """What is zero where a weight is: FP8 codes without their sign, uint8; any other weight as it is."""
    return weight.view(torch.uint8) & 0x7F if weight.element_size() == 1 else weight


def zeros_in(weight: Tensor) -> int:
    """How many weights are zero; of FP8 codes both zeros count."""
    return weight.numel() - int(without_sign(weight).count_nonzero())


def exact_dtype(tensor: Tensor) -> torch.dtype:
    """bfloat16 or float16 if it holds all values of the tensor, else the tensor's own dtype."""
    fit = (dtype for dtype in (torch.bfloat16, torch.float16) if torch.equal(tensor.to(dtype).to(tensor.dtype), tensor))
    return next(fit, tensor.dtype)


def check_model(model: object) -> None:
    """Raise `PrunekitError` where something else than a model is given, such as what `compress.compress` gives."""
    if not isinstance(model, nn.Module):
        raise PrunekitError(f"expected a model, got a {type(model).__name__}: of what compress gives pass the .model.")


def linear_layers(
    model: nn.Module, include: str | Sequence[str] = (), exclude: str | Sequence[str] = ()
) -> dict[str, nn.Module]:
    """The layers to compress, by name: every linear layer except the output embedding (`lm_head`).

    Args:
        model: a causal language model.
        include: a pattern, or several, of which one must occur in the name (``*`` and ``?`` are wildcards); none: all.
        exclude: a pattern, or several, that must not occur in the name.

    Returns:
        `nn.Linear`, `Fp8Linear` and GPT-2's `Conv1D` modules, in the model's order.

    Raises:
        PrunekitError: the model has no such layer, a pattern names nothing, or the patterns leave none.
    """

    check_model(model)

    def matches(name: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, f"*{pattern}*") for pattern in patterns)

    include, exclude = ([patterns] if isinstance(patterns, str) else patterns for patterns in (include, exclude))
    head = getattr(model, "get_output_embeddings", lambda: None)()
    found = {name: module for name, module in model.named_modules() if is_linear(module) and module is not head}
    if not found:
        raise PrunekitError("the model has no linear layer to compress: expected nn.Linear or Conv1D modules.")
    for pattern in include:
        if not any(matches(name, [pattern]) for name in found):
            raise PrunekitError(
                f"--include {pattern} matches none of the {len(found)} linear layers: try a part of a name "
                f"such as {next(iter(found))}."
            )
    for pattern in exclude:  # the output embedding may be named, though it stays out by itself
        if not any(matches(name, [pattern]) for name, _ in model.named_modules()):
            raise PrunekitError(
                f"--exclude {pattern} matches nothing in the model: try a part of a name such as {next(iter(found))}."
            )
    chosen = {n: m for n, m in found.items() if (not include or matches(n, include)) and not matches(n, exclude)}
    if not chosen:
        raise PrunekitError("--include and --exclude leave no layer: loosen one of them.")
    return chosen
