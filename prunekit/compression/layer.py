"""Compress one linear layer, given the statistics of its inputs."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.dispatch import codes_of, fastest
from ..method import baselines, ewma, fp8, masks, one_pass
from ..method.compensation import compensate
from ..method.scores import column_factors
from ..model.copies import with_weight
from ..model.fp8_linear import Fp8Linear
from ..model.linear import bias_of, exact_dtype, is_transposed, weight_of
from .recipe import Recipe

RULES = {"ewma-mean": ewma.mean_mask, "exact": masks.exact_mask}


@torch.no_grad()
def compress_layer(
    module: nn.Module, E: Tensor | None, recipe: Recipe, answer: tuple[Tensor, Tensor] | None = None
) -> nn.Module:
    """Compress one linear layer.

    Args:
        module: nn.Linear or Conv1D.
        E: mean square of its inputs, ``[in]``; None where the recipe does not look at inputs.
        recipe: what to do; its method is ``ewma`` or ``magnitude``.
        answer: sampled inputs and the response to them (`compensation.response`), for weights that make up for others.

    Returns:
        A new layer: of the same class, or `fp8_linear.Fp8Linear`.
    """
    W, fmt = weight_of(module), recipe.format
    target: dict[str, Any] = {"sparsity": recipe.sparsity, "pattern": recipe.pattern}
    if recipe.method == "magnitude":
        return finish(module, W, baselines.magnitude_mask(W, **target), recipe)
    f = torch.ones(W.shape[1], device=W.device) if E is None else column_factors(E, recipe.metric)
    if recipe.select == "ewma":
        passes = fastest(W.device)
        if fmt is not None and recipe.granularity == "row":
            one = passes.select_cast if answer is None else passes.select_compensate_cast
            _, codes, scale = one(W, f, *(answer or ()), **target, fmt=fmt)
            return Fp8Linear(codes, scale, bias_of(module), is_transposed(module))
        select = passes.select
    else:
        select = partial(one_pass.select, rule=RULES[recipe.select])
    keep = select(W, f, **target, joint=fmt and (fmt, fp8.scales(W, fmt, recipe.granularity)))
    if answer is not None:
        changed = compensate(W, keep, *answer)
        W = as_precise_as(W, changed.to(W.dtype)) if fmt is None else changed
    return finish(module, W, keep, recipe)


def finish(module: nn.Module, W: Tensor, keep: Tensor, recipe: Recipe) -> nn.Module:
    """Apply a mask to a weight ``[out, in]``, cast it if the recipe says so, and give the new layer."""
    if recipe.format is None:
        return with_weight(module, torch.where(keep, W, 0))
    scale = fp8.scales(W, recipe.format, recipe.granularity, keep)
    return Fp8Linear(codes_of(W, scale, recipe.format, keep), scale, bias_of(module), is_transposed(module))


def as_precise_as(old: Tensor, new: Tensor) -> Tensor:
    """Round updated weights to bfloat16 or float16 if all old ones fit it: they are stored no wider than before."""
    return new.to(old.dtype if old.element_size() == 2 else exact_dtype(old)).to(new.dtype)


def warm_up(recipe: Recipe, device: torch.device | str = "cpu") -> None:
    """Compile the kernels for a device, or fetch them from their cache, so that no stage is charged for it."""
    if recipe.method not in ("ewma", "admm"):
        return
    layer = nn.Linear((recipe.pattern and int(recipe.pattern.split(":")[1])) or 64, 2, bias=False, device=device)
    with torch.no_grad():
        E = torch.ones(layer.in_features, device=device)
        if recipe.method == "ewma":
            compress_layer(layer, E, recipe, (E[None], 0 * E[None]) if recipe.compensate else None)
        elif recipe.prunes:  # it selects in every step
            fastest(E.device).select(layer.weight, E, sparsity=recipe.sparsity, pattern=recipe.pattern)
