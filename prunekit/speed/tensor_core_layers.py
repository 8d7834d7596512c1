"""Linear layers that use what a GPU's tensor cores have: FP8, 2:4, or both; `accelerate` puts them into a model.

- ``fp8``, by `torch._scaled_mm`: FP8 codes with a scale per row or tensor, sizes that are multiples of 16,
  compute capability 8.9.
- ``2:4``, by `torch.sparse.to_sparse_semi_structured`: two zeros in every four weights, bfloat16 or float16,
  compute capability 8.0.
- ``fp8 2:4``, by `torch._cslt_sparse_mm`: both, E4M3, and a torch whose cuSPARSELt takes FP8 on this card.

FP8 products cast their inputs, too: to E4M3, with one scale per token taken from its largest value.
`fp8_error_bound` says how far that can move a result. The fp8 path is tested on the CPU, where
`torch._scaled_mm` computes the same; the other two are untested on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import PrunekitError, out_of_memory
from ..method import fp8
from ..model.fp8_linear import Fp8Module


def scaled_mm(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
    """`torch._scaled_mm` of FP8 ``[m, k]`` and ``[k, n]``, stored column by column, to bfloat16 ``[m, n]``."""
    return torch._scaled_mm(a, b, scale_a=scale_a, scale_b=scale_b, out_dtype=torch.bfloat16)


class Fp8Product(Fp8Module):
    """A linear layer whose product is FP8: ``(x_q W_q^T) * x_scale * weight_scale + bias``.

    Args:
        codes: E4M3 or E5M2 ``[out, in]``.
        scale: float32 ``[out, 1]`` or ``[1, 1]``.
        bias: ``[out]`` or None.

    Raises:
        PrunekitError: scales of blocks, or sizes that do not divide by 16.
    """

    path = "fp8"

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        rows, columns = codes.shape
        if scale.shape not in ((1, 1), (rows, 1)):
            raise PrunekitError("the scales are per block, and FP8 products here take one per row or tensor.")
        if rows % 16 or columns % 16:
            raise PrunekitError(f"the weight is {rows} x {columns}, and FP8 products take multiples of 16.")
        super().__init__(codes.contiguous(), scale.expand(rows, 1).contiguous(), bias)
        self.refused: set[int] = set()  # numbers of tokens for which no kernel applies the scales
        self.scales_inside = codes.dtype == fp8.E4M3.dtype and self._takes_row_scales()

    def _takes_row_scales(self) -> bool:
        """Whether the product applies scales per row itself; on compute capability 12.0 it has refused to."""
        for tokens in (16, 512):  # there may be a kernel for only one of the two
            try:
                x = torch.ones(tokens, self.in_features, device=self.weight.device).to(fp8.E4M3.dtype)
                return bool(self._scaled(x, torch.ones(tokens, 1, device=x.device)).isfinite().all())
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
        return False

    def _scaled(self, x: Tensor, scale: Tensor) -> Tensor:
        return scaled_mm(x, self.weight.t(), scale, self.weight_scale.t())

    def _product(self, x: Tensor, scale: Tensor) -> Tensor:
        """Tokens in E4M3 ``[tokens, in]`` with scales ``[tokens, 1]`` to outputs ``[tokens, out]``."""
        if self.scales_inside and len(x) not in self.refused:
            try:
                return self._scaled(x, scale)
            except RuntimeError as error:  # some numbers of tokens have no kernel, github.com/pytorch/ao/issues/4582
                if out_of_memory(error):
                    raise
                self.refused.add(len(x))
        one = torch.ones((), device=x.device)
        return scaled_mm(x, self.weight.t(), one, one) * scale * self.weight_scale.t()

    def forward(self, x: Tensor) -> Tensor:
        """x ``[..., in]`` of any float dtype to ``[..., out]`` in the same one."""
        flat = x.reshape(-1, self.in_features).contiguous()  # `_scaled_mm` takes rows in order
        if not len(flat):
            return x.new_empty(*x.shape[:-1], self.out_features)
        scale = fp8.scales(flat, fp8.E4M3, "row")
        y = self._product(fp8.cast(flat, scale, fp8.E4M3), scale)
        if self.bias is not None:
            y = y + self.bias
        return y.to(x.dtype).reshape(*x.shape[:-1], self.out_features)


class Sparse24Fp8Product(Fp8Product):
    """`Fp8Product` with a 2:4 weight, compressed by cuSPARSELt. Untested on a GPU."""

    path = "fp8 2:4"

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(codes, scale, bias)
        if codes.dtype != fp8.E4M3.dtype or self.out_features % 32 or self.in_features % 32:
            raise PrunekitError("FP8 with 2:4 takes E4M3 and sizes that are multiples of 32.")
        self.weight = torch._cslt_compress(codes.contiguous())

    def _takes_row_scales(self) -> bool:
        return False

    def _product(self, x: Tensor, scale: Tensor) -> Tensor:
        tokens = len(x)
        bits = nn.functional.pad(x.view(torch.uint8), (0, 0, 0, -tokens % 16))
        y = torch._cslt_sparse_mm(self.weight, bits.view(x.dtype).t(), out_dtype=torch.bfloat16)
        rows = y.t()[:tokens].contiguous()  # attention has no fast kernel for columns
        return rows * scale * self.weight_scale.t()


class Sparse24Product(nn.Module):
    """A linear layer with a 2:4 weight in bfloat16 or float16, compressed by torch. Untested on a GPU.

    Args:
        W: ``[out, in]``, two zeros in every four neighbours.
        bias: ``[out]`` or None.
    """

    path = "2:4"

    def __init__(self, W: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = W.shape
        self.dtype = W.dtype
        self.weight = nn.Parameter(torch.sparse.to_sparse_semi_structured(W.contiguous()), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().to(W.dtype), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x ``[..., in]`` of any float dtype to ``[..., out]`` in the same one."""
        flat = x.reshape(-1, self.in_features).to(self.dtype).contiguous()  # cuSPARSELt does not look at strides
        if not len(flat):
            return x.new_empty(*x.shape[:-1], self.out_features)
        y = nn.functional.linear(flat, self.weight, self.bias).contiguous()  # older torch gives columns
        return y.to(x.dtype).reshape(*x.shape[:-1], self.out_features)


def fp8_error_bound(x: Tensor, W: Tensor) -> Tensor:
    """How far an FP8 product can lie from ``x W^T``, float32 ``[tokens, out]``, with the same (FP8) weight.

    Casting an input to E4M3 moves it by at most ``|x| / 16``, or by ``scale / 1024`` where it is subnormal;
    1/1024 of the sum of magnitudes is left to the accumulator, and 1/128 of the result to its bfloat16.

    Args:
        x: inputs ``[tokens, in]``.
        W: the weight that the codes stand for, ``[out, in]``.
    """
    x, W = x.float(), W.float()
    size = x.abs() @ W.abs().T
    cast = size / 16 + fp8.scales(x, fp8.E4M3, "row") / 1024 * W.abs().sum(1)
    return cast + size / 1024 + ((x @ W.T).abs() + cast) / 128
