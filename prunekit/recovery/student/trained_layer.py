"""A layer in training that keeps its zeros, and computes with weights cast to FP8."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ...compression.layer import as_precise_as, finish
from ...compression.recipe import Recipe
from ...kernels import cpu
from ...kernels.dispatch import codes_of, widen
from ...method import fp8
from ...model.linear import bias_of, weight_of
from ..together import local_of, whole


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


class TrainedLayer(nn.Module):
    """A compressed layer in training: weight ``[out, in]`` in float32, of which the zeros stay zero."""

    def __init__(self, layer: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        W = weight_of(layer).float()
        self.weight = nn.Parameter(W.clone(memory_format=torch.contiguous_format))
        keep = W != 0
        self.keep: Tensor | None = keep  # none where the weight is spread over processes, which it says itself
        self.bias, self.recipe = bias_of(layer), recipe
        self.casts = True
        self.spare_zeros(keep)

    def spare_zeros(self, keep: Tensor) -> None:
        """Let no gradient move what is zero.

        Args:
            keep: what is not, bool; of a weight that is spread over processes, this one's part.
        """
        kept = keep.view(torch.uint8)  # by which torch multiplies several times faster than by bools

        def spare(weight: nn.Parameter) -> None:
            assert weight.grad is not None  # which torch has just accumulated
            local_of(weight.grad).mul_(kept)

        self.weight.register_post_accumulate_grad_hook(spare)

    def forward(self, x: Tensor) -> Tensor:
        W: Tensor = self.weight
        if self.recipe.fp8 is not None and self.casts:
            # NumPy, which the CPU's kernel works on, would fix the size of what FSDP2 has to free.
            W = W.clone() if self.keep is None else W
            W = straight_through(W, self._kept(W), self.recipe.fp8, self.recipe.granularity)
        return linear(x, W.to(x.dtype) if not torch.is_autocast_enabled(x.device.type) else W, self.bias)

    @torch.no_grad()
    def finished(self, layer: nn.Module) -> nn.Module:
        """The layer as `compress` would give it, with the trained weight."""
        W = whole(self.weight.detach()).to(weight_of(layer).device)
        W = as_precise_as(weight_of(layer), W) if self.recipe.fp8 is None else W
        return finish(layer, W, self._kept(W), self.recipe)

    def _kept(self, W: Tensor) -> Tensor:
        return W != 0 if self.keep is None else self.keep
