"""Modes that a model runs in meanwhile: without gradients, in bfloat16."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy

from torch import nn


def in_bfloat16(module: nn.Module) -> nn.Module:
    """A copy with parameters in bfloat16; buffers, such as the frequencies of positions, stay as they are."""
    return deepcopy(module, {id(p): nn.Parameter(p.detach().bfloat16(), p.requires_grad) for p in module.parameters()})


@contextmanager
def frozen(model: nn.Module):
    """No gradients for the model's own parameters meanwhile."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    for p in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)
