"""Models that accelerate has spread over devices and the disk (`device_map`): read, and gathered."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_HOOKS = ("_hf_hook", "_old_forward", "forward", "hf_device_map", "to", "cuda", "npu", "xpu", "mlu", "sdaa", "musa")


def is_spread(module: nn.Module) -> bool:
    """Whether accelerate moves the module's inputs or weights, or those of its parts."""
    return any("_hf_hook" in vars(each) for each in module.modules())


def gathered_up(module: nn.Module) -> nn.Module:
    """A copy on the CPU of what is spread over devices and the disk; any other module as it is.

    It shares the weights that are on the CPU already, and what was spread stays so (over GPUs not tested yet).
    """
    if not is_spread(module):
        return module
    copy = _gathered(module, {})
    tie: Any = getattr(copy, "tie_weights", None)
    if tie is not None:
        tie()
    return copy


def _gathered(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) in done:
        return done[id(module)]
    copy = done[id(module)] = module.__class__.__new__(module.__class__)
    own: dict[str, Any] = {key: value for key, value in vars(module).items() if key not in _HOOKS}
    vars(copy).update({key: value.copy() if isinstance(value, dict) else value for key, value in own.items()})
    copy._parameters = {
        name: p if p is None else nn.Parameter(_tensor(module, name), p.requires_grad)
        for name, p in module._parameters.items()
    }
    copy._buffers = {name: x if x is None else _tensor(module, name) for name, x in module._buffers.items()}
    copy._modules = {name: each if each is None else _gathered(each, done) for name, each in module._modules.items()}
    return copy


def _tensor(module: nn.Module, name: str) -> Tensor:
    """A module's own parameter or buffer, wherever it is."""
    from accelerate.utils import align_module_device

    tensor = getattr(module, name).detach()
    if tensor.is_meta:
        with align_module_device(module, torch.device("cpu")):
            tensor = getattr(module, name).detach()
    return tensor.cpu()
