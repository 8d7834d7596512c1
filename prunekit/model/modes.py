"""Modes that a model runs in meanwhile: without gradients, without dropout, in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn

from ..system.machine import fast_bfloat16


def in_bfloat16(module: nn.Module) -> nn.Module:
    """A copy with parameters in bfloat16; buffers, such as the frequencies of positions, stay as they are."""
    return deepcopy(module, {id(p): nn.Parameter(p.detach().bfloat16(), p.requires_grad) for p in module.parameters()})


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No gradients for the model's own parameters meanwhile."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    for p in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter is; where accelerate has moved it away, it says where inputs go by itself."""
    device = next(model.parameters()).device
    return torch.device("cpu") if device.type == "meta" else device


def bfloat16_pays(model: nn.Module) -> bool:
    """Whether a model is in float32 or bfloat16, on a CPU that multiplies faster in bfloat16."""
    dtype = next(model.parameters()).dtype
    return device_of(model).type == "cpu" and dtype in (torch.float32, torch.bfloat16) and fast_bfloat16()


def low_precision(model: nn.Module, bfloat16: bool | None = None) -> torch.autocast:
    """A context in which a model's products run in bfloat16.

    Args:
        model: whose dtype says whether they may: those of a model in float16 stay as they are.
        bfloat16: whether to do that at all; default: where it pays (`bfloat16_pays`).
    """
    enabled = bfloat16_pays(model) if bfloat16 is None else bfloat16
    dtype = next(model.parameters()).dtype
    return torch.autocast(device_of(model).type, torch.bfloat16, enabled=enabled and dtype != torch.float16)


@contextmanager
def without_dropout(*models: nn.Module) -> Iterator[None]:
    """Modules that are in training mode, in which they drop values at random, leave it meanwhile."""
    training = {module for model in models for module in model.modules() if module.training}
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
