"""FP8 layers that cast their inputs, too, as servers may (W8A8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import PrunekitError
from ..method.fp8 import cast, scale_blocks, scales, uncast
from .copies import replace_layers
from .fp8_linear import Fp8Linear


class Fp8InputsLinear(Fp8Linear):
    """An FP8 layer that casts each token's inputs to E4M3 by a scale of their own; one for 128 of them where the
    weight's scales are of blocks."""

    def forward(self, x: Tensor) -> Tensor:
        """``x W^T + b`` for x ``[..., in]``, in the dtype of `x`."""
        _, width = scale_blocks(self.weight_scale, self.weight.shape)
        parts = [(part, scales(part)) for part in x.flatten(0, -2).split(width, 1)]
        return super().forward(torch.cat([uncast(cast(*p), p[1]) for p in parts], 1).view_as(x).to(x.dtype))


def with_cast_inputs(model: nn.Module) -> nn.Module:
    """A copy of a model whose FP8 layers cast their inputs: what a folder with activations ``dynamic`` asks of servers.

    Raises:
        PrunekitError: the model has no FP8 layers.
    """
    layers: dict[str, nn.Module] = {
        name: Fp8InputsLinear(layer.weight, layer.weight_scale, layer.bias, layer.transposed)
        for name, layer in model.named_modules()
        if isinstance(layer, Fp8Linear)
    }
    if not layers:
        raise PrunekitError("the model has no FP8 layers whose inputs could be cast: compress it with --fp8 e4m3.")
    return replace_layers(model, layers)
