"""`prunekit evaluate` and `prunekit generate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..calibration.corpus import check_texts, corpus
from ..errors import PrunekitError, check_count
from ..evaluation.evaluate import evaluate
from ..evaluation.generate import generate
from ..model.modes import bfloat16_pays
from ..storage.load import load
from ..system.files import write_json


def run_evaluate(a: argparse.Namespace) -> None:
    """`prunekit evaluate`."""
    check_texts(a.text, a.split)
    model, tokenizer = load(a.model, a.dtype, a.device)
    dense = load(a.dense, a.dtype, a.device)[0] if a.dense else None
    ids = corpus(tokenizer, a.text, a.split, a.tokens, a.context)
    dtype = str(model.dtype).removeprefix("torch.")
    if dtype == "float32" and bfloat16_pays(model):
        print(
            "judged in float32; this CPU is faster, and nearly as exact, with --dtype bfloat16 (notebooks/RESULTS.md)"
        )
    result = {"model": a.model, "text": a.text, "split": a.split, "dtype": dtype} | evaluate(model, ids, dense)
    windows = f"{len(ids)} windows of {a.context} tokens in {dtype}"
    print(f"protocol: {a.text} ({a.split}), {windows}, every token but a window's first predicted")
    print(f"perplexity {result['perplexity']:.3f}   top-1 {result['top1']:.4f}")
    if dense is not None:
        print(f"retention {result['retention']:.4f}   KL {result['kl']:.4f} nats per token   (against {a.dense})")
    if a.json:
        write_json(Path(a.json), result)


def run_generate(a: argparse.Namespace) -> None:
    """`prunekit generate`."""
    tokens = check_count(a.tokens, "--tokens")
    if not a.prompt.strip():
        raise PrunekitError("the prompt is empty: give the beginning of a sentence.")
    model, tokenizer = load(a.model, a.dtype, a.device)
    print(generate(model, tokenizer, a.prompt, tokens))
