"""`prunekit evaluate` and `prunekit generate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor

from ..calibration.corpus import check_texts, corpus
from ..errors import PrunekitError, check_count
from ..evaluation.evaluate import evaluate
from ..evaluation.generate import generate
from ..evaluation.streamed import evaluate_streamed
from ..model.activations import with_cast_inputs
from ..model.modes import bfloat16_pays
from ..storage.load import chosen_device, load, locate
from ..storage.pretrained import open_tokenizer
from ..storage.shipped.card import NAME as CARD
from ..storage.shipped.card import check_card, measure
from ..storage.streamed.skeletons import local_folder, open_skeleton
from ..system.files import write_json
from ..system.freed import give_back_freed_memory


def run_evaluate(a: argparse.Namespace) -> None:
    """`prunekit evaluate`."""
    check_texts(a.text, a.split)
    if a.stream and a.activations == "dynamic":
        raise PrunekitError("--activations dynamic needs the whole model in memory: leave out --stream.")
    if a.card:
        check_card(Path(a.model))
    ids, dtype, figures = _streamed(a) if a.stream else _whole(a)
    result = {"model": a.model, "text": a.text, "split": a.split, "dtype": dtype, "activations": a.activations}
    result |= figures
    windows = f"{len(ids)} windows of {a.context} tokens in {dtype}"
    print(f"protocol: {a.text} ({a.split}), {windows}, every token but a window's first predicted")
    print(f"perplexity {result['perplexity']:.3f}   top-1 {result['top1']:.4f}")
    if a.dense:
        print(f"retention {result['retention']:.4f}   KL {result['kl']:.4f} nats per token   (against {a.dense})")
    if a.card:
        measure(Path(a.model), _row(result, ids, a.dense))
        print(f"noted in {Path(a.model) / CARD}")
    if a.json:
        write_json(Path(a.json), result)


def _row(result: dict[str, Any], ids: Tensor, dense: str | None) -> dict[str, Any]:
    """The figures as a row of a model card, with the protocol."""
    row = {"text": f"{Path(result['text']).name} ({result['split']})", "tokens": ids.numel()}
    row |= {"in windows of": ids.shape[1], "dtype": result["dtype"], "inputs cast": result["activations"]}
    row |= {"perplexity": result["perplexity"], "top-1": result["top1"]}
    return row | ({"retention": result["retention"], "KL, nats per token": result["kl"]} if dense else {})


def _whole(a: argparse.Namespace) -> tuple[Tensor, str, dict[str, float]]:
    """The windows, the dtype and the figures."""
    model, tokenizer = load(a.model, a.dtype, a.device)
    dense = load(a.dense, a.dtype, a.device)[0] if a.dense else None
    ids = corpus(tokenizer, a.text, a.split, a.tokens, a.context)
    dtype = str(model.dtype).removeprefix("torch.")
    if dtype == "float32" and bfloat16_pays(model):
        print(
            "judged in float32; this CPU is faster, and nearly as exact, with --dtype bfloat16 (notebooks/RESULTS.md)"
        )
    return ids, dtype, evaluate(with_cast_inputs(model) if a.activations == "dynamic" else model, ids, dense)


def _streamed(a: argparse.Namespace) -> tuple[Tensor, str, dict[str, float]]:
    """The same, with one block of one model in memory."""
    give_back_freed_memory()
    device = chosen_device(a.device)
    dtype = a.dtype or ("float32" if device.startswith("cpu") else "auto")
    models = {"model": a.model} | ({"dense": a.dense} if a.dense else {})
    skeletons = {name: open_skeleton(local_folder(folder), dtype, device) for name, folder in models.items()}
    ids = corpus(open_tokenizer(locate(a.model)), a.text, a.split, a.tokens, a.context)
    figures = evaluate_streamed(skeletons, ids)["model"]
    return ids, str(skeletons["model"].dtype).removeprefix("torch."), figures


def run_generate(a: argparse.Namespace) -> None:
    """`prunekit generate`."""
    tokens = check_count(a.tokens, "--tokens")
    if not a.prompt.strip():
        raise PrunekitError("the prompt is empty: give the beginning of a sentence.")
    model, tokenizer = load(a.model, a.dtype, a.device)
    print(generate(model, tokenizer, a.prompt, tokens))
