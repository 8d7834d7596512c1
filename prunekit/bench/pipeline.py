"""`prunekit bench pipeline`: what the whole way from text to weights costs, beside its rivals."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any

from torch import Tensor

from ..calibration.calibrate import calibrate
from ..calibration.corpus import corpus
from ..calibration.windows import calibration_text, longest_window
from ..compression.compress import compress
from ..compression.layer import warm_up
from ..compression.recipe import Recipe
from ..evaluation.evaluate import evaluate
from ..storage.load import load
from ..system.machine import machine, versions
from .protocol import SPARSITY, print_protocol


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

    def measure(group: str, label: str, ids: Tensor | None, rounds: int = 1, **options: Any) -> dict:
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
