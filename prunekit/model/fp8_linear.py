"""A linear layer that holds FP8 codes and scales."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..kernels.dispatch import widen
from ..method.fp8 import check_codes


class Fp8Module(nn.Module):
    """Holds FP8 codes, `weight`, and their scales, `weight_scale`, and keeps them as they are; a bias gets no gradient.

    Moving a model moves them; casting it (`model.half()`) would turn codes into other numbers, so it passes by.
    """

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        check_codes(codes)
        self.out_features, self.in_features = codes.shape
        self.register_buffer("weight", codes.detach())
        self.register_buffer("weight_scale", scale.detach())
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Fp8Module:
        codes, scale = self.weight, self.weight_scale
        super()._apply(fn, recurse)
        self.weight, self.weight_scale = codes.to(self.weight.device), scale.to(self.weight.device)
        return self


class Fp8Linear(Fp8Module):
    """A linear layer whose weight is stored as FP8 codes and scales, and widened when it is used.

    Buffers bear the names that checkpoints in the compressed-tensors format use: `weight` (float8,
    ``[out, in]``) and `weight_scale` (float32, see `fp8.scales`).

    Args:
        codes: FP8 ``[out, in]``.
        scale: float32, as `fp8.scales` gives it.
        bias: ``[out]`` or None.
        transposed: the layer that it replaces was a GPT-2 `Conv1D`, with its weight ``[in, out]``.
    """

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None = None, transposed: bool = False) -> None:
        super().__init__(codes, scale, bias)
        self.transposed = transposed

    def dense_weight(self) -> Tensor:
        """The weight that the codes stand for, float32 ``[out, in]``."""
        return widen(self.weight, self.weight_scale)

    def forward(self, x: Tensor) -> Tensor:
        """``x W^T + b`` for x ``[..., in]``, in the dtype of `x`."""
        return nn.functional.linear(x, self.dense_weight().to(x.dtype), self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.weight.dtype}"
