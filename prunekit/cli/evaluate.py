"""`prunekit evaluate` and `prunekit generate`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import Any

from torch import Tensor

from ..calibration.corpus import check_texts, corpus
from ..errors import PrunekitError, check_count
from ..evaluation.evaluate import evaluate
from ..evaluation.generate import generate
from ..evaluation.streamed import evaluate_streamed
from ..evaluation.tasks.compare import Compared, compare_tasks
from ..evaluation.tasks.find import Found, find_tasks
from ..evaluation.tasks.run import Done, run_tasks
from ..model.activations import with_cast_inputs
from ..model.modes import bfloat16_pays
from ..storage.load import chosen_device, load, locate
from ..storage.pretrained import open_tokenizer
from ..storage.shipped.card import NAME as CARD
from ..storage.shipped.card import check_card, measure
from ..storage.streamed.skeletons import local_folder, open_skeleton
from ..system.files import write_json
from ..system.freed import give_back_freed_memory

TEXT = {"text": "wikipedia", "split": "test", "tokens": 8192, "context": 512}  # what the options are by default


def run_evaluate(a: argparse.Namespace) -> None:
    """`prunekit evaluate`."""
    if a.tasks:
        _tasks(a)
        return
    if given := [name for name in ("limit", "shots", "batch") if getattr(a, name) is not None]:
        raise PrunekitError(f"--{given[0]} belongs to --tasks: add them, or leave it out.")
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


def _tasks(a: argparse.Namespace) -> None:
    """The field's tasks, one model in memory at a time."""
    if a.stream:
        raise PrunekitError("--tasks needs the whole model in memory: leave out --stream.")
    if a.card:
        raise PrunekitError("--card holds what is measured on text: leave it out, or leave out --tasks.")
    if given := [name for name, usual in TEXT.items() if getattr(a, name) != usual]:
        raise PrunekitError(f"--{given[0]} is not for --tasks, which bring their own text: leave it out.")
    if not (tasks := [name.strip() for name in a.tasks.split(",") if name.strip()]):
        raise PrunekitError("--tasks names no task: give continuation, or one of lm-eval's.")
    if a.shots is not None and a.shots < 0:
        raise PrunekitError(f"--shots is {a.shots}: expected 0 or more.")
    options = {"limit": a.limit, "batch": 8 if a.batch is None else a.batch}
    for name, value in options.items():
        if value is not None:
            check_count(value, f"--{name}")
    found = find_tasks(tasks)
    dense, _ = _did(a.dense, "none", a, found, options) if a.dense else (None, "")
    model, where = _did(a.model, a.activations, a, found, options)
    rows = compare_tasks(model, dense)
    protocol = {
        "lm_eval": version("lm_eval"),
        **options,
        "shots": a.shots,
        "where": where,
        "chat_template": False,
        "activations": a.activations,
    }
    print(
        f"protocol: lm-eval {protocol['lm_eval']}, batches of {options['batch']}, {where}, no chat template, ", end=""
    )
    print(f"the first {a.limit} items of each task" if a.limit else "all items")
    _print_tasks(rows)
    if a.json:
        write_json(Path(a.json), {"model": a.model, "dense": a.dense, "protocol": protocol, "tasks": _figures(rows)})


def _did(
    name: str, activations: str, a: argparse.Namespace, tasks: Found, options: dict[str, Any]
) -> tuple[list[Done], str]:
    """How a model did its tasks; and in which dtype, on which device."""
    model, tokenizer = load(name, a.dtype, a.device)
    model = with_cast_inputs(model) if activations == "dynamic" else model
    done = run_tasks(model, tokenizer, tasks, shots=a.shots, **options)
    return done, f"{str(model.dtype).removeprefix('torch.')} on {model.device.type}"


def _print_tasks(rows: list[Compared]) -> None:
    both = any(row.dense for row in rows)
    heads = ["items", "shots", "chance", *["dense"] * both, "model", *["kept above chance"] * both]
    width = max(len(f"{row.model.task} {row.model.metric}") for row in rows)
    print(f"{'task':<{width}}{heads[0]:>7}{heads[1]:>7}{heads[2]:>8}" + "".join(f"{head:>18}" for head in heads[3:]))
    for row in rows:
        done, chance = row.model, "" if row.chance is None else f"{row.chance:.3f}"
        values = [(row.dense.value, row.dense.error) if row.dense else None] * both + [(done.value, done.error)]
        cells = "".join(f"{_with_error(value):>18}" for value in values + [row.kept] * both)
        shots = "" if done.shots is None else done.shots
        print(f"{f'{done.task} {done.metric}':<{width}}{done.items:>7}{shots:>7}{chance:>8}{cells}")
    print("each value with its standard error; kept above chance: (value - chance) / (dense - chance)")


def _with_error(value: tuple[float, float] | None) -> str:
    if value is None or isnan(value[0]):
        return ""
    return f"{value[0]:.3f}" + ("" if isnan(value[1]) else f" ± {value[1]:.3f}")


def _figures(rows: list[Compared]) -> list[dict]:
    """The rows as they are written to a file."""

    def of(done: Done) -> dict:
        return {key: value for key, value in asdict(done).items() if key in ("value", "error", "loglikelihoods")}

    return [
        {name: getattr(row.model, name) for name in ("task", "metric", "items", "shots", "version")}
        | {"chance": row.chance, "model": of(row.model), "dense": of(row.dense) if row.dense else None}
        | {"kept_above_chance": row.kept}
        for row in rows
    ]


def run_generate(a: argparse.Namespace) -> None:
    """`prunekit generate`."""
    tokens = check_count(a.tokens, "--tokens")
    if not a.prompt.strip():
        raise PrunekitError("the prompt is empty: give the beginning of a sentence.")
    model, tokenizer = load(a.model, a.dtype, a.device)
    print(generate(model, tokenizer, a.prompt, tokens))
