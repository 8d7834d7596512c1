"""The model in training: its layers and norms, and what they become at the end."""

from __future__ import annotations

from torch import nn


def _norms(model: nn.Module, layers: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Modules whose parameters are all vectors, such as norms, apart from the layers' own."""
    return {
        name: module
        for name, module in model.named_modules()
        if name not in layers
        and not any(module.children())
        and (parameters := list(module.parameters()))
        and all(p.ndim == 1 for p in parameters)
    }
