"""Linear layers that use what a GPU's tensor cores have: FP8, 2:4, or both; and `accelerate`, which swaps them in.

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

import warnings
from collections import Counter
from functools import partial

import torch
from torch import Tensor, nn

from .. import fp8
from ..errors import PrunekitError, first_line, out_of_memory
from ..fp8_linear import Fp8Linear, Fp8Module
from ..linear import linear_layers, replace_layers, shallow_copy, weight_of, without_sign

TRIAL_TOKENS = 17  # odd, so that padding is tried as well


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


def is_24(weight: Tensor) -> bool:
    """Whether every four neighbours along the input axis hold two zeros or more; FP8 codes are understood."""
    if weight.shape[1] % 4:
        return False
    return bool(without_sign(weight).unflatten(1, (-1, 4)).count_nonzero(2).max() <= 2)


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


def fast_layer(module: nn.Module, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """The first of FP8 with 2:4, FP8 and 2:4 that runs for a linear layer where it is; its `path` says which and why.

    Which is fastest depends on the number of tokens: `prunekit bench gpu`. Each candidate is tried on a few tokens and
    must agree with the plain layer. What remains is a copy of the layer as it was, whose `path` begins with "plain" and
    gives the reason, or is "dense" where there is nothing to gain.

    Args:
        module: nn.Linear, Conv1D or `fp8_linear.Fp8Linear`.
        dtype: what a 2:4 weight in FP8 is computed in where FP8 does not run, bfloat16 or float16.
    """
    codes = module.weight if isinstance(module, Fp8Linear) else None
    candidates = []
    sparse = is_24(weight_of(module) if codes is None else codes)
    if codes is not None:
        kinds = (Sparse24Fp8Product, Fp8Product) if sparse else (Fp8Product,)
        candidates += [(partial(kind, codes, module.weight_scale), kind.path, (8, 9)) for kind in kinds]
    if sparse and (codes is not None or module.weight.dtype in (torch.bfloat16, torch.float16)):

        def sparse24(bias: Tensor | None) -> nn.Module:
            return Sparse24Product(weight_of(module).to(module.weight.dtype if codes is None else dtype), bias)

        candidates.append((sparse24, Sparse24Product.path, (8, 0)))

    reason = ""
    if sparse and not candidates:
        reason = "the weight is 2:4 in float32, load the model in bfloat16"
    for make, path, capability in candidates:
        try:
            _require(module.weight.device, path, capability)
            layer = make(module.bias)
            _try(layer, module)
            return layer
        except Exception as problem:  # whatever a driver or library lacks: the next one may run
            if out_of_memory(problem):
                raise
            reason = reason or f"{path} does not run: {first_line(problem).rstrip('.')}"
    plain = shallow_copy(module)
    plain.path = f"plain: {reason}" if reason else "dense"
    return plain


def accelerate(model: nn.Module) -> nn.Module:
    """A copy of a compressed model whose linear layers run FP8, 2:4 or both wherever this machine can.

    Each layer's `path` names what runs. Where a layer stays plain, which is slower but right, one warning says so. FP8
    products also cast the inputs: see `speed.layers.fp8_error_bound`. Whether a path is faster than dense depends on
    card and batch size, and with few tokens on how fast the host launches its kernels, of which it has more than a
    dense layer: `prunekit bench gpu` measures it. For running only; save the model as it was.

    Args:
        model: what `compress` gave as `.model`, or any model with linear layers.

    Returns:
        A model of the same class that shares what it can with `model`, which stays as it is.

    Raises:
        PrunekitError: the model has no linear layer.
    """
    layers = linear_layers(model)
    half = next((p.dtype for p in model.parameters() if p.dtype in (torch.bfloat16, torch.float16)), torch.bfloat16)
    new = {name: fast_layer(module, half) for name, module in layers.items()}
    reasons = Counter(layer.path for layer in new.values() if layer.path.startswith("plain"))
    for reason, count in reasons.most_common(1):
        warnings.warn(f"{sum(reasons.values())} of {len(new)} layers run as before ({count}: {reason}).", stacklevel=2)
    return replace_layers(model, new)


def _require(device: torch.device, path: str, capability: tuple[int, int]) -> None:
    if device.type != "cuda":
        raise PrunekitError(f"the model is on the {device.type.upper()}, and this takes a CUDA GPU")
    has = torch.cuda.get_device_capability(device)
    if has < capability:
        raise PrunekitError(f"compute capability is {has[0]}.{has[1]}, and it takes {capability[0]}.{capability[1]}")


@torch.inference_mode()
def _try(layer: nn.Module, module: nn.Module) -> None:
    """Raise unless a layer gives what the plain one gives, within the FP8 bound."""
    W = weight_of(module).float()
    g = torch.Generator().manual_seed(0)
    x = torch.randn(TRIAL_TOKENS, W.shape[1], generator=g).to(W.device)
    expected = x @ W.T + (0 if module.bias is None else module.bias.float())
    slack = fp8_error_bound(x, W) + expected.abs() / 64
    error = layer(x) - expected
    if not ((error.abs() <= slack).all() and error.norm() <= 0.1 * expected.norm()):
        raise PrunekitError("it computes wrongly here")
