"""What notebook 04 compares: the three orders of pruning and casting, on a weight and on a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...compression.layer import warm_up
from ...compression.recipe import Recipe
from ...errors import PrunekitError
from ...method.fp8 import cast, scales, uncast
from ...model.copies import replace_layers
from ...model.fp8_linear import Fp8Linear
from ...model.linear import linear_layers, weight_of

PRUNE_FIRST, CAST_FIRST, JOINT = ORDERS = ("prune, then cast", "cast, then prune", "jointly")


@torch.inference_mode()
def in_order(W: Tensor, E: Tensor, order: str, sparsity: float) -> tuple[Tensor, Tensor, Tensor]:
    """Prune and cast one weight to E4M3 in one of the three `ORDERS`, with EWMA selection and a scale per row.

    Args:
        W: weight ``[out, in]`` on the CPU.
        E: mean square of each input feature, ``[in]``.
        order: one of `ORDERS`.
        sparsity: share of each row to prune.

    Returns:
        (keep, codes, scale) as `prunekit.kernels.cpu.select_cast` gives them.

    Raises:
        PrunekitError: unknown order, or sparsity out of range.
    """
    from ...kernels import cpu

    if order not in ORDERS:
        raise PrunekitError(f"unknown order {order!r}: expected one of {'; '.join(ORDERS)}.")
    if order == JOINT:
        return cpu.select_cast(W, E, sparsity=sparsity)
    if order == PRUNE_FIRST:
        keep = cpu.select(W, E, sparsity=sparsity)
        scale = scales(W, keep=keep)  # of the survivors
    else:
        scale = scales(W)  # of all
        keep = cpu.select(uncast(cast(W, scale), scale), E, sparsity=sparsity)
    return keep, cpu.cast(W, keep, scale), scale


def model_in_order(model: nn.Module, energy: dict[str, Tensor], order: str, sparsity: float) -> nn.Module:
    """The whole model by `in_order`.

    Args:
        model: a causal language model on the CPU.
        energy: what `prunekit.calibration.calibrate` found.
        order: one of `ORDERS`.
        sparsity: share of each row to prune.

    Raises:
        PrunekitError: unknown order, or sparsity out of range.
    """
    new = {}
    for name, module in linear_layers(model).items():
        _, codes, scale = in_order(weight_of(module), energy[name], order, sparsity)
        new[name] = Fp8Linear(codes, scale, module.bias)
    return replace_layers(model, new)


def prepare() -> None:
    """Compile the CPU kernels, or fetch them from their cache, so that no measurement is charged for it."""
    warm_up(Recipe(sparsity=0.5, fp8="e4m3"))
    warm_up(Recipe(sparsity=0.5))
    warm_up(Recipe(sparsity=0.5, fp8="e4m3", compensate=True))
    warm_up(Recipe(sparsity=0.5, compensate=True))
    warm_up(Recipe(pattern="2:4", fp8="e4m3"))
