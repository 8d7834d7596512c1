"""A layer in training that keeps its zeros, and computes with weights cast to FP8."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..compression.layer import as_precise_as, finish
from ..compression.recipe import Recipe
from ..kernels import cpu
from ..kernels.dispatch import codes_of, widen
from ..method import fp8
from ..model.linear import bias_of, weight_of


@torch.library.custom_op("prunekit::straight_through", mutates_args=())  # which torch.compile does not look into
def straight_through(W: Tensor, keep: Tensor, fmt: str, granularity: str) -> Tensor:
    """To FP8 and back; the gradient passes as if nothing had been rounded."""
    known = fp8.format_named(fmt)
    if W.device.type == "cpu" and granularity == "row":
        return cpu.round_trip(W, known)
    scale = fp8.scales(W, known, granularity)  # what is not kept is zero, and sets no scale
    return widen(codes_of(W, scale, known, keep), scale)


straight_through.register_fake(lambda W, *_: torch.empty_like(W))
straight_through.register_autograd(lambda _, gradient: (gradient, None, None, None))


def _spare_zeros(keep: Tensor, weight: nn.Parameter) -> None:
    """Let what is not kept have no gradient. It does not know the layer, which else would stay when nobody needs it."""
    assert weight.grad is not None  # which torch has just accumulated
    weight.grad.mul_(keep.view(torch.uint8))  # torch multiplies by bytes several times faster than by bools


class TrainedLayer(nn.Module):
    """A compressed layer in training: weight ``[out, in]`` in float32, of which the zeros stay zero."""

    def __init__(self, layer: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        W = weight_of(layer).float()
        self.weight = nn.Parameter(W.clone(memory_format=torch.contiguous_format))
        self.keep = W != 0
        self.bias, self.recipe = bias_of(layer), recipe
        self.casts = True
        self.weight.register_post_accumulate_grad_hook(partial(_spare_zeros, self.keep))

    def forward(self, x: Tensor) -> Tensor:
        W = self.weight
        if self.recipe.fp8 is not None and self.casts:
            W = straight_through(W, self.keep, self.recipe.fp8, self.recipe.granularity)
        return linear(x, W.to(x.dtype) if not torch.is_autocast_enabled(x.device.type) else W, self.bias)

    @torch.no_grad()
    def finished(self, layer: nn.Module) -> nn.Module:
        """The layer as `compress` would give it, with the trained weight."""
        W = self.weight.detach()
        W = as_precise_as(weight_of(layer), W) if self.recipe.fp8 is None else W
        return finish(layer, W, self.keep, self.recipe)
