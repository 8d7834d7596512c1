"""`prunekit bench select`: what selection costs beside its rivals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..calibration.corpus import corpus
from ..calibration.observe import gram, summing
from ..calibration.windows import longest_window
from ..kernels.arguments import results
from ..method import baselines
from ..method.fp8 import E4M3
from ..model.linear import linear_layers, weight_of
from ..model.structure import body_of
from ..storage.load import load
from ..system.machine import machine, versions
from ..system.progress import progress
from .protocol import SPARSITY, print_protocol
from .timing import time_in_turn

LABELS = {
    "copy_s": "copy the weights",
    "select_s": "EWMA selection",
    "select_cast_s": "EWMA selection and FP8 cast",
    "sort_s": "Wanda's sorting step",
    "kthvalue_s": "the same by kthvalue",
    "sparsegpt_s": "SparseGPT's solving step",
}
ROUNDS = {"copy_s": 15, "select_s": 15, "select_cast_s": 15, "sort_s": 3, "kthvalue_s": 3, "sparsegpt_s": 2}
WARM_UP = {step: int(rounds >= 3) for step, rounds in ROUNDS.items()}  # the last is too slow for it


def select(model_name: str = "embedded") -> dict:
    """Time selection over all layers against copying, sorting, `kthvalue` and SparseGPT's solve.

    All are given their statistics; all write into memory that exists already where they can.

    Args:
        model_name: as in `load.load`.

    Returns:
        Medians in seconds: ``copy_s, select_s, select_cast_s, sort_s, kthvalue_s, sparsegpt_s``; the ratios
        ``over_sort, over_sparsegpt, mean_speedup``; and ``spread``, each step's least and largest time.
    """
    model, tokenizer = load(model_name, device="cpu")
    layers = linear_layers(model)
    ids = corpus(tokenizer, split="train", tokens=4096, context=longest_window(model))
    weights = {name: weight_of(module).contiguous() for name, module in layers.items()}
    calls = steps(weights, gram_matrices(model, ids, layers))
    timed = time_in_turn(calls, rounds=ROUNDS, warmup=WARM_UP)
    dtype = next(iter(weights.values())).dtype
    print_protocol(model_name, f"{len(layers)} layers in {dtype}, sparsity {SPARSITY}")
    result: dict[str, Any] = {step: timing.median for step, timing in timed.items()}
    over_sort, over_sparsegpt = (result[rival] / result["select_s"] for rival in ("sort_s", "sparsegpt_s"))
    result |= {
        "over_sort": over_sort,
        "over_sparsegpt": over_sparsegpt,
        "mean_speedup": (over_sort + over_sparsegpt) / 2,
        "spread": {step: [min(timing.samples), max(timing.samples)] for step, timing in timed.items()},
        "machine": machine(),
        "versions": versions(),
    }
    print("\n".join(describe(result)))
    return result


def steps(weights: dict[str, Tensor], H: dict[str, Tensor]) -> dict[str, Callable[[], None]]:
    """What is timed, by name: each step over all layers.

    Args:
        weights: of each layer, ``[out, in]``, by name.
        H: Gram matrix of its inputs, ``[in, in]``, by name.
    """
    from ..kernels import cpu

    energy = {name: h.diagonal() for name, h in H.items()}
    buffers = {name: torch.empty_like(W) for name, W in weights.items()}
    cast = {name: results(W, E4M3, None) for name, W in weights.items()}
    masks = {name: out[0] for name, out in cast.items()}

    def by_sort(name: str, W: Tensor) -> None:
        order = torch.sort(W.abs() * energy[name].sqrt(), dim=1, stable=True).indices
        masks[name].fill_(True).scatter_(1, order[:, : int(W.shape[1] * SPARSITY)], False)

    def by_kthvalue(name: str, W: Tensor) -> None:
        L = W.abs() * energy[name].sqrt()
        torch.gt(L, L.kthvalue(int(W.shape[1] * SPARSITY), dim=1, keepdim=True).values, out=masks[name])

    each = {
        "copy_s": lambda name, W: buffers[name].copy_(W),
        "select_s": lambda name, W: cpu.select(W, energy[name], sparsity=SPARSITY, out=masks[name]),
        "select_cast_s": lambda name, W: cpu.select_cast(W, energy[name], sparsity=SPARSITY, out=cast[name]),
        "sort_s": by_sort,
        "kthvalue_s": by_kthvalue,
        "sparsegpt_s": lambda name, W: baselines.sparsegpt(W, H[name], SPARSITY),
    }

    def over_layers(step: Callable[[str, Tensor], object]) -> None:
        for name, W in weights.items():
            step(name, W)

    return {label: partial(over_layers, step) for label, step in each.items()}


def describe(result: dict) -> list[str]:
    """What `select` found, as lines of text."""
    lines = ["median of rounds timed in turn, with the least and the largest"]
    for step, label in LABELS.items():
        low, high = result["spread"][step]
        times = result[step] / result["copy_s"]
        lines.append(f"  {label:<28} {result[step]:9.4f} s  [{low:.4f}, {high:.4f}]  {times:8.1f} copies")
    lines.append(
        f"EWMA selection is {result['over_sort']:.1f}x faster than sorting [{_range(result, 'sort_s')}], "
        f"{result['over_sparsegpt']:.1f}x faster than SparseGPT's solve [{_range(result, 'sparsegpt_s')}]; "
        f"mean {result['mean_speedup']:.1f}x"
    )
    return lines


def _range(result: dict, rival: str) -> str:
    """Least and largest ratio over selection."""
    (low, high), (own_low, own_high) = result["spread"][rival], result["spread"]["select_s"]
    return f"{low / own_high:.1f} to {high / own_low:.1f}"


@torch.inference_mode()
def gram_matrices(model: nn.Module, ids: Tensor, layers: dict[str, nn.Module]) -> dict[str, Tensor]:
    """``X^T X / tokens`` of each layer's inputs, float32 ``[in, in]`` by layer name.

    Args:
        model: a causal language model.
        ids: int64 ``[windows, context]``.
        layers: which to observe, by name.
    """
    with summing(layers, lambda x: gram(x) / ids.numel()) as sums:
        for window in progress(ids.split(4), "statistics"):
            body_of(model)(window, use_cache=False)
    return sums
