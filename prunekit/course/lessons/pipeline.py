"""What notebook 04 measures: the three orders of pruning and casting, token by token and layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor, nn

from ...bench.selection import gram_matrices
from ...bench.timing import time_in_turn
from ...compression.layer import warm_up
from ...compression.recipe import Recipe
from ...errors import PrunekitError
from ...evaluation.answers import Answers, judge, log_gaps, retention
from ...method import one_pass
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


def layer_errors(
    model: nn.Module, energy: dict[str, Tensor], ids: Tensor, sparsity: float, blocks: Sequence[int]
) -> list[dict]:
    """How far the outputs of layers are off, by order.

    Args:
        model: a causal language model on the CPU.
        energy: what `prunekit.calibration.calibrate` found.
        ids: int64 ``[windows, context]``, text on which the error is measured.
        sparsity: share of each row to prune.
        blocks: numbers of the blocks whose layers are looked at.

    Returns:
        For each layer its ``name``, the error of each of the `ORDERS`: ``|X (W - W')^T|^2 / |X W^T|^2``; and
        ``cast_share``, casting's share of the joint error: the survivors' part over both parts.
    """
    layers = linear_layers(model, include=[f"layers.{b}." for b in blocks])
    grams, rows = gram_matrices(model, ids, layers), []
    for name, module in layers.items():
        W, H, row = weight_of(module), grams[name], {"name": name}
        size = _energy(W, H)
        for order in ORDERS:
            keep, codes, scale = in_order(W, energy[name], order, sparsity)
            off = W - uncast(codes, scale)
            row[order] = _energy(off, H) / size
        parts = _energy(off * keep, H), _energy(off * ~keep, H)
        rows.append(row | {"cast_share": parts[0] / sum(parts)})
    return rows


def _energy(W: Tensor, H: Tensor) -> float:
    """``trace(W H W^T)``: mean square output of a weight whose inputs have the Gram matrix `H`."""
    return ((W @ H) * W).sum().item()


def medians(rows: Sequence[dict]) -> tuple[float, dict[str, float]]:
    """Print and return medians over layers: casting's share, and each other order's error over the joint one's."""
    share = median(row["cast_share"] for row in rows)
    ratios = {order: median(row[order] / row[JOINT] for row in rows) for order in ORDERS[:2]}
    print(f"medians of {len(rows)} layers: casting makes {share:.1%} of the joint error")
    for order, ratio in ratios.items():
        print(f"  {order}: error {ratio:.4f} times the joint one")
    return share, ratios


def compare_orders(
    model: nn.Module, energy: dict[str, Tensor], ids: Tensor, dense: Answers, sparsity: float
) -> dict[str, tuple[float, float]]:
    """Judge the model in each order, and print it.

    Args:
        model: a causal language model on the CPU.
        energy: what `prunekit.calibration.calibrate` found.
        ids: int64 ``[windows, context]``.
        dense: the model's own answers on them.
        sparsity: share of each row to prune.

    Returns:
        The `log_gap` of the other orders to the joint one.
    """
    print(f"dense: perplexity {dense.perplexity:.2f}")
    found = {}
    for order in ORDERS:
        found[order] = judge(model_in_order(model, energy, order, sparsity), ids)
        kept, margin = retention(found[order], dense)
        print(f"{order}: perplexity {found[order].perplexity:.2f}, retention {kept:.1%} +-{margin:.1%}")
    return log_gaps(found, JOINT)


def stage_seconds(model: nn.Module, energy: dict[str, Tensor], sparsity: float = 0.5, blocks: int = 3) -> dict:
    """Seconds of the steps over the weights of some blocks, timed in turn, and the median taken.

    Args:
        model: a causal language model on the CPU.
        energy: what `prunekit.calibration.calibrate` found.
        sparsity: share of each row to prune.
        blocks: how many blocks, from the first.

    Returns:
        By step: copying the weights, the fused pass, the same in separate steps, and Wanda's scores and sort.
    """
    from ...kernels import cpu

    layers = linear_layers(model, include=[f"layers.{b}." for b in range(blocks)])
    weights = {name: weight_of(module) for name, module in layers.items()}
    buffers = {name: torch.empty_like(W) for name, W in weights.items()}
    each = {
        "copy the weights": lambda name, W: buffers[name].copy_(W),
        "fused pass": lambda name, W: cpu.select_cast(W, energy[name], sparsity=sparsity),
        "the same, step by step": lambda name, W: one_pass.select_cast(W, energy[name], sparsity=sparsity),
        "Wanda's scores and sort": lambda name, W: torch.sort(W.abs() * energy[name].sqrt(), dim=1),
    }
    calls = {step: (lambda f=f: [f(name, W) for name, W in weights.items()]) for step, f in each.items()}
    return {step: timing.median for step, timing in time_in_turn(calls, rounds=3, warmup=1).items()}


def prepare() -> None:
    """Compile the CPU kernels, or fetch them from their cache, so that no measurement is charged for it."""
    warm_up(Recipe(sparsity=0.5, fp8="e4m3"))
    warm_up(Recipe(sparsity=0.5))
    warm_up(Recipe(pattern="2:4", fp8="e4m3"))
