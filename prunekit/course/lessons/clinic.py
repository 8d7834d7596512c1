"""Benchmarks that lie, each beside its honest twin, for notebook 05; and products on a GPU if there is one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ...bench.timing import Timing, speedup, time_in_turn

if TYPE_CHECKING:
    from torch import Tensor


def once(call: Callable[[], object]) -> float:
    """Seconds of a single call, the way that nobody should time: no warm-up, no repetition, no synchronisation."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def best_of_three(calls: Mapping[str, Callable[[], object]]) -> dict[str, Timing]:
    """Calls timed in turn, 15 rounds, each with the best of three short samples: few of those are interrupted.

    Args:
        calls: what to time, by name.
    """
    turns = time_in_turn(calls, rounds=45, sample_s=1e-3)
    return {
        name: replace(turn, samples=tuple(min(turn.samples[first : first + 3]) for first in range(0, 45, 3)))
        for name, turn in turns.items()
    }


def times_faster(old: Callable[[], object], new: Callable[[], object]) -> tuple[float, float, float]:
    """How many times as fast as `old` `new` is, timed in turn: median and quartiles of the ratios."""
    turns = best_of_three({"old": old, "new": new})
    return speedup(turns["old"], turns["new"])


def as_csr(weight: Tensor) -> Tensor:
    """The same matrix in PyTorch's compressed-row format (CSR), without the remark that this is in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return weight.to_sparse_csr()


class Clinic:
    """Collects what bad benchmarks claimed and what honest ones found; all of it measured on this CPU."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, tuple[float, float, float]]] = {}

    def diagnose(self, lie: str, claimed: float, old: Callable[[], object], new: Callable[[], object]) -> None:
        """Print a claimed speed-up beside the honest one of `new` over `old`, and keep both."""
        honest = times_faster(old, new)
        self.found[lie] = (claimed, honest)
        middle, low, high = honest
        print(f"{lie}: {claimed:.1f} times as fast, it claims; honestly {middle:.2f} ({low:.2f} to {high:.2f})")


def measure_gpu(gpu: dict | None, N: int = 16384, K: int = 8192) -> None:
    """Time one layer on the GPU, dense in FP16, 2:4 in FP16 and dense in FP8, and print it; say so if there is none.

    Args:
        gpu: the `gpu` of `prunekit.speed.doctor.examine`, None without a usable one. What does not work on it is left
            out.
        N: outputs.
        K: inputs; the weight should be larger than the card's L2 cache in each form, FP8 included.
    """
    if not gpu:
        print("No GPU: with one, this would time dense, 2:4 and FP8 products of 16, 256 and 4096 tokens on it.")
        return
    import torch
    from torch.nn.functional import linear

    from ...method.masks import nm_mask
    from ...speed.tensor_core_layers import scaled_mm

    weight = torch.randn(N, K, device="cuda").half()
    pruned = weight * nm_mask(weight.float().abs(), 2, 4)
    for M in (16, 256, 4096):
        x = torch.randn(M, K, device="cuda").half()
        calls = {"dense FP16": lambda x=x: linear(x, weight)}
        if gpu["sparse24"]["works"]:
            stored = torch.sparse.to_sparse_semi_structured(pruned)
            calls["2:4 FP16"] = lambda x=x, stored=stored: linear(x, stored)
        if gpu["fp8"]["works"]:
            x8, weight8 = (t.clamp(-448, 448).to(torch.float8_e4m3fn) for t in (x, weight))
            one = torch.ones((), device="cuda")
            calls["dense FP8"] = lambda x8=x8, weight8=weight8, one=one: scaled_mm(x8, weight8.t(), one, one)
        timed = time_in_turn(calls, device="cuda")
        print(f"measured on {gpu['name']}, {M} tokens, weight {N} x {K}:")
        print(*(f"  {name:10} {timing}" for name, timing in timed.items()), sep="\n")
