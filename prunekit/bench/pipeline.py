"""Benchmarks: what selection costs beside its rivals, and what the whole way from text to weights costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor, nn

from ..calibration.calibrate import calibrate, gram, summing
from ..calibration.corpus import corpus
from ..calibration.windows import calibration_text, longest_window, warm_up
from ..compression.compress import compress
from ..compression.recipe import Recipe
from ..evaluation.evaluate import evaluate
from ..method import baselines
from ..method.fp8 import E4M3
from ..model.linear import linear_layers, weight_of
from ..storage.load import load
from ..system.machine import machine, versions
from ..system.progress import progress

SPARSITY = 0.5


def in_turn(steps: dict[str, tuple[Callable[[], object], int]]) -> dict[str, list[float]]:
    """Seconds of each step, timed in turn: round by round, each step until it has had its number of rounds.

    Args:
        steps: by name, what to call and in how many rounds. Each is called once beforehand unless it has
            fewer than three rounds, being too slow for that.

    Returns:
        By name, the seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for run, rounds in steps.values():
        if rounds >= 3:
            run()
    for number in progress(range(max(rounds for _, rounds in steps.values())), "rounds"):
        for name, (run, rounds) in steps.items():
            if number < rounds:
                begin = perf_counter()
                run()
                seconds[name].append(perf_counter() - begin)
    return seconds


def print_protocol(model_name: str, text: str) -> None:
    """The machine, the versions and what was done, above the figures."""
    about = machine()
    print(f"measured on {about['processor']}, {about['threads']} threads, GPU {about['gpu']}")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(f"model {model_name}; {text}")


def select(model_name: str = "embedded") -> dict:
    """Time selection over all layers against copying, sorting, `kthvalue` and SparseGPT's solve.

    All are given their statistics; all write into memory that exists already where they can.

    Returns:
        Medians in seconds: ``copy_s, select_s, select_cast_s, sort_s, kthvalue_s, sparsegpt_s``; the ratios
        ``over_sort, over_sparsegpt, mean_speedup``; and ``spread``, each step's least and largest time.
    """
    from ..kernels import cpu

    model, tokenizer = load(model_name, device="cpu")
    layers = linear_layers(model)
    ids = corpus(tokenizer, split="train", tokens=4096, context=longest_window(model))
    H = gram_matrices(model, ids, layers)
    weights = {name: weight_of(module).contiguous() for name, module in layers.items()}
    energy = {name: h.diagonal() for name, h in H.items()}
    buffers = {name: torch.empty_like(W) for name, W in weights.items()}
    masks = {name: torch.empty(W.shape, dtype=torch.bool) for name, W in weights.items()}
    cast = {
        name: (masks[name], torch.empty(W.shape, dtype=E4M3.dtype), torch.empty(len(W), 1))
        for name, W in weights.items()
    }

    def each(step: Callable[[str, Tensor], object]) -> Callable[[], None]:
        def run() -> None:
            for name, W in weights.items():
                step(name, W)

        return run

    def by_sort(name: str, W: Tensor) -> None:
        order = torch.sort(W.abs() * energy[name].sqrt(), dim=1, stable=True).indices
        masks[name].fill_(True).scatter_(1, order[:, : int(W.shape[1] * SPARSITY)], False)

    def by_kthvalue(name: str, W: Tensor) -> None:
        L = W.abs() * energy[name].sqrt()
        torch.gt(L, L.kthvalue(int(W.shape[1] * SPARSITY), dim=1, keepdim=True).values, out=masks[name])

    seconds = in_turn(
        {
            "copy_s": (each(lambda name, W: buffers[name].copy_(W)), 15),
            "select_s": (each(lambda n, W: cpu.select(W, energy[n], sparsity=SPARSITY, out=masks[n])), 15),
            "select_cast_s": (
                each(lambda n, W: cpu.select_cast(W, energy[n], sparsity=SPARSITY, out=cast[n])),
                15,
            ),
            "sort_s": (each(by_sort), 3),
            "kthvalue_s": (each(by_kthvalue), 3),
            "sparsegpt_s": (each(lambda name, W: baselines.sparsegpt(W, H[name], SPARSITY)), 2),
        }
    )
    median = {name: statistics.median(values) for name, values in seconds.items()}
    spread = {name: [min(values), max(values)] for name, values in seconds.items()}
    over_sort = median["sort_s"] / median["select_s"]
    over_sparsegpt = median["sparsegpt_s"] / median["select_s"]

    print_protocol(model_name, f"{len(layers)} layers in {next(iter(weights.values())).dtype}, sparsity {SPARSITY}")
    print("median of rounds timed in turn, with the least and the largest")
    labels = {
        "copy_s": "copy the weights",
        "select_s": "EWMA selection",
        "select_cast_s": "EWMA selection and FP8 cast",
        "sort_s": "Wanda's sorting step",
        "kthvalue_s": "the same by kthvalue",
        "sparsegpt_s": "SparseGPT's solving step",
    }
    for name, label in labels.items():
        low, high = spread[name]
        times = median[name] / median["copy_s"]
        print(f"  {label:<28} {median[name]:9.4f} s  [{low:.4f}, {high:.4f}]  {times:8.1f} copies")
    print(
        f"EWMA selection is {over_sort:.1f}x faster than sorting [{_range(seconds, 'sort_s')}], "
        f"{over_sparsegpt:.1f}x faster than SparseGPT's solve [{_range(seconds, 'sparsegpt_s')}]; "
        f"mean {(over_sort + over_sparsegpt) / 2:.1f}x"
    )
    return {
        **median,
        "over_sort": over_sort,
        "over_sparsegpt": over_sparsegpt,
        "mean_speedup": (over_sort + over_sparsegpt) / 2,
        "spread": spread,
        "machine": machine(),
        "versions": versions(),
    }


def _range(seconds: dict[str, list[float]], rival: str) -> str:
    """Least and largest ratio over selection."""
    own = seconds["select_s"]
    return f"{min(seconds[rival]) / max(own):.1f} to {max(seconds[rival]) / min(own):.1f}"


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
            model.base_model(window, use_cache=False)
    return sums


def pipeline(model_name: str = "embedded") -> dict:
    """Time calibration, selection and cast together, and judge what comes out.

    The rivals are not cast to FP8, which spares them time and error. Each method runs with its own default
    (EWMA stops by itself, and runs as preset ``fast`` does and without compensation; the others take 16 windows of
    512 tokens), then all with the same 8,192 tokens.

    Returns:
        ``runs``, a list of ``group, method, tokens, seconds, sparsity, perplexity``; ``dense_perplexity``;
        ``speedup`` and ``perplexity_ratio`` of the first run over Wanda, and over one pass of calibration
        with exact selection (``speedup_exact``, ``perplexity_ratio_exact``).
    """

    model, tokenizer = load(model_name, device="cpu")
    context = longest_window(model)
    test = corpus(tokenizer, context=context)
    auto = calibration_text(tokenizer, "ewma", None, limit=context)
    full = calibration_text(tokenizer, "wanda", None, limit=context)
    warm_up(Recipe(sparsity=SPARSITY, fp8="e4m3"))
    warm_up(Recipe(sparsity=SPARSITY, fp8="e4m3", compensate=True))
    calibrate(model, auto[:16])
    dense = evaluate(model, test)["perplexity"]
    print_protocol(model_name, f"sparsity {SPARSITY}; perplexity on {test.numel()} tokens of wikipedia (test articles)")
    print(f"  {'':<12} {'method':<24} {'tokens':>6} {'seconds':>8} {'sparsity':>8} {'perplexity':>10}")
    print(f"  {'':<12} {'dense':<24} {'':>6} {'':>8} {'':>8} {dense:10.2f}")
    runs = []

    def measure(group: str, label: str, ids: Tensor | None, rounds: int = 1, **options) -> dict:
        times = []
        for _ in range(rounds):
            begin = perf_counter()
            result = compress(model, ids, sparsity=SPARSITY, **options)
            times.append(perf_counter() - begin)
        run = {
            "group": group,
            "method": label,
            "tokens": result.tokens,
            "seconds": statistics.median(times),
            "spread": [min(times), max(times)],
            "sparsity": result.sparsity,
            "perplexity": evaluate(result.model, test)["perplexity"],
        }
        runs.append(run)
        print(
            f"  {group:<12} {label:<24} {run['tokens']:6d} {run['seconds']:8.2f} {run['sparsity']:8.4f} "
            f"{run['perplexity']:10.2f}"
        )
        return run

    own = measure("own default", "ewma, compensated, FP8", auto, rounds=5, fp8="e4m3", compensate=True)
    measure("own default", "ewma, FP8", auto, rounds=5, fp8="e4m3")
    wanda = measure("own default", "wanda", full, method="wanda")
    sparsegpt = measure("own default", "sparsegpt", full, method="sparsegpt")
    measure("own default", "magnitude", None, method="magnitude")
    measure("same tokens", "ewma, compensated, FP8", full, fp8="e4m3", stop=False, compensate=True)
    measure("same tokens", "ewma, FP8", full, fp8="e4m3", stop=False)
    exact = measure("same tokens", "one pass, exact by sort", full, select="exact", stop=False)
    for run in (wanda, sparsegpt):
        runs.append(run | {"group": "same tokens"})
    result = {
        "runs": runs,
        "dense_perplexity": dense,
        "speedup": wanda["seconds"] / own["seconds"],
        "perplexity_ratio": own["perplexity"] / wanda["perplexity"],
        "speedup_exact": exact["seconds"] / own["seconds"],
        "perplexity_ratio_exact": own["perplexity"] / exact["perplexity"],
        "machine": machine(),
        "versions": versions(),
    }
    print("the same-token figures of wanda and sparsegpt are those above: 8,192 tokens are their default")
    print(
        f"own default over Wanda: {result['speedup']:.1f}x faster, perplexity {result['perplexity_ratio']:.3f} times; "
        f"over one pass and a sort: {result['speedup_exact']:.1f}x, {result['perplexity_ratio_exact']:.3f} times"
    )
    return result
