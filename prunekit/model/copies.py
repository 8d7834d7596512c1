"""Copies of models and layers in which some parts are exchanged and all others shared."""

from __future__ import annotations

from types import MethodType

from torch import Tensor, nn

from ..errors import PrunekitError
from .linear import bias_of, is_conv1d, stored_weight, weight_of


def shallow_copy(module: nn.Module) -> nn.Module:
    """A copy that shares tensors and children; what is put into it or registered on it later is its own.

    Raises:
        PrunekitError: the module calls code that is bound to it, which would run in place of the copy's.
    """
    own = vars(module).copy()
    if own.get("forward") == MethodType(type(module).forward, module):  # as transformers 4.57 leaves it
        del own["forward"]
    if {"forward", "_hf_hook"} & own.keys() or own.get("_compiled_call_impl"):
        raise PrunekitError(
            f"a {type(module).__name__} of the model was compiled (torch.compile) or spread over devices (device_map): "
            "load the model without that, and compile or spread the result."
        )
    copy = module.__class__.__new__(module.__class__)
    copy.__dict__.update({k: v.copy() if isinstance(v, dict) else v for k, v in own.items()})
    return copy


def with_weight(module: nn.Module, W: Tensor) -> nn.Module:
    """A copy of the layer that has the weight `W`, ``[out, in]``, and shares the bias."""
    copy = shallow_copy(module)
    W = W.to(stored_weight(module).dtype)
    copy._parameters["weight"] = nn.Parameter((W.T if is_conv1d(module) else W).contiguous(), requires_grad=False)
    return copy


def with_rows(module: nn.Module, index: Tensor) -> nn.Module:
    """A copy of a linear layer with the rows ``index``, int64 ``[new out]``, and their biases, in that order."""
    copy = with_weight(module, weight_of(module)[index])
    bias = bias_of(module)
    if bias is not None:
        copy._parameters["bias"] = nn.Parameter(bias.detach()[index], requires_grad=False)
    return _with_size(copy, ("out_features", "nf"), len(index))


def with_columns(module: nn.Module, index: Tensor) -> nn.Module:
    """A copy of a linear layer with the columns ``index``, int64 ``[new in]``, in that order."""
    return _with_size(with_weight(module, weight_of(module)[:, index]), ("in_features", "nx"), len(index))


def _with_size(copy: nn.Module, attributes: tuple[str, ...], size: int) -> nn.Module:
    for attribute in attributes:
        if attribute in copy.__dict__:
            setattr(copy, attribute, size)
    return copy


def replace_layers(model: nn.Module, layers: dict[str, nn.Module]) -> nn.Module:
    """A copy of the model with some layers exchanged; everything else is shared with the original.

    Args:
        model: any module.
        layers: new modules by the names of those that they replace.

    Raises:
        PrunekitError: the model was compiled, or spread over devices.
    """
    return _replaced(model, layers, "")


def _replaced(module: nn.Module, layers: dict[str, nn.Module], prefix: str) -> nn.Module:
    """`replace_layers` for a part whose names begin with a prefix. No closure, which would hold the layers longer."""
    if prefix[:-1] in layers:
        return layers[prefix[:-1]]
    if not any(name.startswith(prefix) for name in layers):
        return module
    copy = shallow_copy(module)
    parts = module._modules.items()
    copy._modules = {n: c if c is None else _replaced(c, layers, f"{prefix}{n}.") for n, c in parts}
    return copy
