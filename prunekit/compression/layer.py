"""Compress one linear layer, given the statistics of its inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels import fused_for
from ..method import baselines, ewma, fp8
from ..method.compensation import compensate
from ..method.masks import exact_mask, nm_mask, parse_pattern
from ..method.scores import column_factors, keep_score, score
from ..model.fp8_linear import Fp8Linear, codes_of
from ..model.linear import exact_dtype, is_transposed, weight_of, with_weight
from .recipe import Recipe


@torch.no_grad()
def compress_layer(
    module: nn.Module, E: Tensor | None, recipe: Recipe, answer: tuple[Tensor, Tensor] | None = None
) -> nn.Module:
    """Compress one linear layer.

    Args:
        module: nn.Linear or Conv1D.
        E: mean square of its inputs, ``[in]``; None where the recipe does not look at inputs.
        recipe: what to do; its method is ``ewma`` or ``magnitude``.
        answer: sampled inputs and the response to them (`compensate.response`), for weights that make up for others.

    Returns:
        A new layer: of the same class, or `fp8_linear.Fp8Linear`.
    """
    W, fmt = weight_of(module), recipe.format
    f = torch.ones(W.shape[1], device=W.device) if E is None else column_factors(E, recipe.metric)
    if recipe.method == "magnitude":
        keep = baselines.magnitude_mask(W, recipe.sparsity, recipe.pattern)
        return finish(module, W, keep, recipe)
    fused = fused_for(W.device) if recipe.select == "ewma" else None
    if fused is not None:
        target = {"sparsity": recipe.sparsity, "pattern": recipe.pattern}
        if fmt is not None and recipe.granularity == "row" and (answer is None or W.device.type == "cpu"):
            one_pass = fused.select_cast if answer is None else fused.select_compensate_cast
            _, codes, scale = one_pass(W, f, *(answer or ()), **target, fmt=fmt)
            return Fp8Linear(codes, scale, module.bias, is_transposed(module))
        keep = fused.select(W, f, **target, joint=fmt and (fmt, fp8.scales(W, fmt, recipe.granularity)))
    else:
        keep = plain_mask(W, f, recipe)
    if answer is not None:
        changed = compensate(W, keep, *answer)
        W = as_precise_as(W, changed.to(W.dtype)) if fmt is None else changed
    return finish(module, W, keep, recipe)


def plain_mask(W: Tensor, f: Tensor, recipe: Recipe) -> Tensor:
    """The mask of method ``ewma`` by the plain functions: the reference for `kernels`, on any device.

    Args:
        W: weight ``[out, in]``.
        f: column factors ``[in]``.
        recipe: with an FP8 format, casting errors are weighed in (`scores.keep_score`).

    Returns:
        bool ``[out, in]``.
    """
    fmt = recipe.format
    if fmt is None:
        L = score(W, f)
    else:
        scale = fp8.scales(W, fmt, recipe.granularity)
        L = keep_score(W, fp8.uncast(fp8.cast(W, scale, fmt), scale), f)
    if recipe.pattern is not None:
        return nm_mask(L, *parse_pattern(recipe.pattern))
    choose = {"ewma": ewma.quantile_mask, "ewma-mean": ewma.mean_mask, "exact": exact_mask}
    return choose[recipe.select](L, recipe.sparsity)


def finish(module: nn.Module, W: Tensor, keep: Tensor, recipe: Recipe) -> nn.Module:
    """Apply a mask to a weight ``[out, in]``, cast it if the recipe says so, and give the new layer."""
    if recipe.format is None:
        return with_weight(module, torch.where(keep, W, 0))
    scale = fp8.scales(W, recipe.format, recipe.granularity, keep)
    return Fp8Linear(codes_of(W, scale, recipe.format, keep), scale, module.bias, is_transposed(module))


def as_precise_as(old: Tensor, new: Tensor) -> Tensor:
    """Round updated weights to bfloat16 or float16 if all old ones fit it: they are stored no wider than before."""
    return new.to(old.dtype if old.element_size() == 2 else exact_dtype(old)).to(new.dtype)
