"""What `prunekit compress` does: check, load, prune, recover if asked to, save, report."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

from ..errors import PrunekitError, check_count
from ..model.modes import device_of


def run_compress(a: argparse.Namespace) -> None:
    """`prunekit compress`."""
    from ..calibration.corpus import check_texts
    from ..calibration.windows import (
        ALLOCATION_TOKENS,
        RECOVERY_TEXTS,
        TEXT,
        calibration_text,
        longest_window,
        recovery_text,
    )
    from ..compression.allocate import allocate
    from ..compression.compress import compress
    from ..compression.layer import warm_up
    from ..compression.presets import preset_named
    from ..compression.recipe import Recipe
    from ..model.checks import check_weights
    from ..model.linear import is_conv1d, linear_layers
    from ..recovery.recover import check_windows
    from ..recovery.state import check_state
    from ..storage.load import load
    from ..storage.save import save
    from ..storage.tensors import stored_bytes
    from ..system.files import check_free, check_space, check_writable, write_json
    from ..system.memory import peak_rss
    from ..system.progress import Stages
    from .forecast import cautions, describe

    preset = preset_named(a.preset)
    method = a.method or preset.method
    recipe = Recipe(
        sparsity=a.sparsity,
        pattern=a.pattern,
        metric=a.metric,
        select=a.select,
        method=method,
        fp8=None if a.fp8 == "none" else a.fp8,
        granularity=a.granularity,
    )
    compensates = preset.compensates and method == "ewma" and recipe.needs_inputs and not a.no_compensate
    permutes = preset.permutes and recipe.pattern is not None and recipe.needs_inputs and not a.no_permute
    recipe = replace(recipe, compensate=compensates, permute=permutes)
    budget = _budget(a)
    recovers = a.recover or bool(budget) or (preset.recovers and recipe.prunes)
    texts = a.calibration_text or (RECOVERY_TEXTS if recovers else [TEXT])
    tokens = None if a.calibration_tokens == "auto" else check_count(a.calibration_tokens, "--calibration-tokens")
    if a.allocate and not recipe.sparsity:
        raise PrunekitError("--allocate needs a --sparsity above 0 to spread; a pattern takes the same of every layer.")
    if a.activations not in ("none", "dynamic"):
        raise PrunekitError(f"unknown --activations {a.activations!r}: expected none or dynamic.")
    if a.activations == "dynamic" and recipe.fp8 != "e4m3":
        raise PrunekitError("--activations dynamic belongs to FP8 weights: add --fp8 e4m3, or leave it out.")
    if a.out:
        if a.json:
            out, report = Path(a.out).absolute(), Path(a.json).absolute()
            if out == report or out in report.parents or report in out.parents:
                raise PrunekitError(f"--json {a.json} and --out {a.out} lie within one another: keep them apart.")
        check_free(Path(a.out))
        check_writable(Path(a.out))
        if recovers:
            if _state(a).is_dir():
                raise PrunekitError(f"{_state(a)} is where an interrupted recovery is kept: move that folder away.")
            plan = {"steps": None, "minutes": None} | budget if budget else {"steps": None}
            kept = check_state(_state(a), plan | {"seed": a.seed, "recipe": asdict(recipe)})
            if kept and not budget:
                budget = {"minutes": kept["minutes"]}
                print(f"goes on from {_state(a)}, for the {kept['minutes']:.1f} minutes that it was given first")

    reads = recipe.needs_inputs or recovers or a.allocate
    if reads or a.calibration_text:
        check_texts(texts)
    stages = Stages()
    with stages("load"):
        model, tokenizer = load(a.model, a.dtype, a.device)
    layers = linear_layers(model, a.include, a.exclude)
    check_weights(model, layers, recipe.pattern)
    if a.activations == "dynamic" and any(map(is_conv1d, layers.values())):
        raise PrunekitError("--activations dynamic is not for GPT-2's kind of layer: leave it out.")
    print(describe(layers))
    if reads:
        print(f"calibration text: {' and '.join(texts)}")
    for caution in cautions(layers, recipe, recovers):
        print(f"prunekit: {caution}", file=sys.stderr)
    bytes_dense = stored_bytes(model)
    if a.out:  # FP8 takes at least a byte for each weight of the layers, and a mask alone makes nothing smaller
        fewest = sum(layer.weight.numel() for layer in layers.values()) if recipe.fp8 else bytes_dense
        check_space(Path(a.out), fewest)
    elif method == "admm" or recovers:
        print("no --out: the figures are printed, the compressed model is not kept")
    warm_up(recipe, device_of(model))
    begin = perf_counter()
    ids = training = None
    limit = longest_window(model)
    if recovers:
        with stages("text"):
            training = recovery_text(model, tokenizer, texts, a.seed)
        check_windows(training[0])
    if recipe.needs_inputs:
        with stages("text"):
            ids = calibration_text(tokenizer, method, tokens, texts, a.seed, limit)
    options = {"include": a.include, "exclude": a.exclude, "stop": tokens is None}
    if a.allocate:
        with stages("allocate"):
            few = min(tokens or ALLOCATION_TOKENS, ALLOCATION_TOKENS)
            text = calibration_text(tokenizer, method, few, texts, a.seed, limit)
            allocation = allocate(model, text, recipe.sparsity, include=a.include, exclude=a.exclude)
        print(allocation)
        options["budget"] = allocation.sparsity
    result = compress(model, ids, **asdict(recipe), **options)
    if recovers:
        result = _recover(result, model, *training, a, budget, begin)
    del model, layers
    stages.seconds |= result.seconds
    size = stored_bytes(result.model)
    if a.out:
        with stages("save"):
            save(result, tokenizer, a.out, a.activations)
        if recovers:
            _state(a).unlink(missing_ok=True)
    print(f"sparsity {result.sparsity:.4f}   calibration tokens {result.tokens}")
    print(f"weights on disk {size / 1e6:.1f} MB, dense {bytes_dense / 1e6:.1f} MB")
    print("seconds " + ", ".join(f"{stage} {value:.2f}" for stage, value in stages.seconds.items()))
    if a.out:
        print(f"saved to {a.out}")
    if a.json:
        report = {
            "model": a.model,
            "recipe": asdict(recipe),
            "calibration_text": [*texts] if reads else [],
            "sparsity": result.sparsity,
            "calibration_tokens": result.tokens,
            "recovery_steps": result.steps,
            "layers": result.layers,
            "bytes_dense": bytes_dense,
            "bytes": size,
            "seconds": stages.seconds,
            "peak_rss": peak_rss(),
        }
        write_json(Path(a.json), report)


def _budget(a: argparse.Namespace) -> dict:
    """How long to recover, if an option says so: keywords of `recover`."""
    if a.minutes is not None and a.steps is not None:
        raise PrunekitError("give either --minutes or --steps, not both.")
    if a.steps is not None:
        return {"steps": check_count(a.steps, "--steps")}
    if a.minutes is not None and not 0 < a.minutes < 1e6:
        raise PrunekitError(f"--minutes is {a.minutes}: expected a number above 0 and below a million.")
    return {} if a.minutes is None else {"minutes": a.minutes}


def _recover(result, model, ids, watch, a: argparse.Namespace, budget: dict, begin: float):
    """Recovery; with `--out`, what is needed to go on lies beside it meanwhile."""
    from ..recovery.budget import recovery_minutes
    from ..recovery.recover import recover

    budget = budget or {"minutes": recovery_minutes(result.recipe.share, perf_counter() - begin)}
    state = _state(a) if a.out else None
    try:
        return recover(result, model, ids, **budget, seed=a.seed, state=state, watch=watch, report=print)
    except KeyboardInterrupt:
        kept = state is not None and state.exists()
        raise KeyboardInterrupt(f"the same command goes on from {state}" if kept else "") from None


def _state(a: argparse.Namespace) -> Path:
    """Where an interrupted recovery is kept: beside the folder to be written."""
    return Path(f"{Path(a.out)}.recovery")
