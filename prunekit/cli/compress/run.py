"""Do the job: load, prune, recover if asked to, save, report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from math import ceil
from time import perf_counter
from typing import Any

from torch import Tensor, nn

from ...calibration.windows import (
    ALLOCATION_TOKENS,
    calibration_text,
    longest_window,
    recovery_text,
)
from ...compression.allocate import allocate
from ...compression.compress import compress, fitting_layers
from ...compression.layer import warm_up
from ...compression.result import Compressed
from ...errors import PrunekitError
from ...model.linear import is_conv1d, stored_weight
from ...model.modes import device_of
from ...recovery.budget import BATCH, recovery_minutes
from ...recovery.recover import check_windows, recover, recover_sharded
from ...storage.load import load
from ...storage.save import save
from ...storage.tensors import stored_bytes
from ...system.files import check_space, write_json
from ...system.memory import peak_rss
from ...system.parallel import first, from_first, world
from ...system.progress import Stages
from .forecast import beside, cautions, describe, describe_others
from .job import Job, read_job
from .streamed import must_stream, run_streamed


def run_compress(a: argparse.Namespace) -> None:
    """`prunekit compress`."""
    job = read_job(a)
    if a.shard and (world() == 1 or not job.recovers):
        raise PrunekitError("--shard spreads recovery over processes: add --recover, and start them by torchrun.")
    if a.stream or job.trains or from_first(must_stream(job, a)):
        run_streamed(job, a)
        return
    stages = Stages()
    with stages("load"):
        model, tokenizer = load(a.model, a.dtype, a.device or ("cpu" if a.shard else None))
    bytes_dense = stored_bytes(model)
    _foresee(job, model, bytes_dense)
    warm_up(job.recipe, device_of(model))
    begin = perf_counter()
    ids = training = None
    if job.reads:
        with stages("text"):
            ids, training = _read_text(job, model, tokenizer)
    budget = job.rest.budget
    if job.allocates:
        with stages("allocate"):
            budget = _allocate(job, model, tokenizer)
    result = compress(
        model,
        ids,
        recipe=job.recipe,
        budget=budget,
        stop=job.rest.tokens is None,
        include=job.rest.include,
        exclude=job.rest.exclude,
    )
    if training is not None:
        recovering = recover_sharded if a.shard else recover
        result = _recover(job, recovering, result, model, *training, begin)
    del model
    stages.seconds |= result.seconds
    text = job.rest.text if job.reads else ()
    made = replace(result.provenance, text=text, tokens=job.rest.tokens, seed=job.rest.seed)
    result = replace(result, provenance=made)
    if job.out:
        with stages("save"):
            save(result, tokenizer, job.out, job.activations, command=a.words)
        if job.recovers and first():
            job.state.unlink(missing_ok=True)
    report = {"model": a.model, "recipe": asdict(job.recipe), "calibration_text": [*text]}
    _report(job, report, result, bytes_dense, stages)


def _foresee(job: Job, model: nn.Module, bytes_dense: int) -> None:
    """Refuse a model that this job does not fit, and say what is ahead."""
    model, layers = fitting_layers(model, job.recipe, job.rest.include, job.rest.exclude)
    if job.activations == "dynamic" and any(map(is_conv1d, layers.values())):
        raise PrunekitError("--activations dynamic is not for GPT-2's kind of layer: leave it out.")
    print(describe(layers))
    for line in describe_others(model, layers):
        print(line)
    if job.reads:
        print(f"calibration text: {' and '.join(job.rest.text)}")
    needed = beside(layers, job.recipe, job.recovers)
    print(f"takes some {needed / 1e9:.2f} GB of memory beside the model (predicted); prunekit fit tells of other ways")
    for caution in cautions(layers, job.recipe, job.recovers):
        print(f"prunekit: {caution}", file=sys.stderr)
    if job.out:  # FP8 takes at least a byte for each weight of the layers, and a mask alone makes nothing smaller
        fewest = sum(stored_weight(layer).numel() for layer in layers.values()) if job.recipe.fp8 else bytes_dense
        check_space(job.out, fewest)
    elif job.recipe.method == "admm" or job.recovers:
        print("no --out: the figures are printed, the compressed model is not kept")


def _read_text(job: Job, model: nn.Module, tokenizer: Any) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None]:
    """Windows to calibrate on, and those to train on and to watch; None for what is not needed."""
    ids = training = None
    if job.recovers:
        training = recovery_text(model, tokenizer, job.rest.text, job.rest.seed)
        check_windows(training[0])
    if job.recipe.needs_inputs:
        ids = _windows(job, model, tokenizer, job.rest.tokens)
    return ids, training


def _windows(job: Job, model: nn.Module, tokenizer: Any, tokens: int | None) -> Tensor:
    limit = longest_window(model)
    return calibration_text(tokenizer, job.recipe.method, tokens, job.rest.text, job.rest.seed, limit)


def _allocate(job: Job, model: nn.Module, tokenizer: Any) -> dict[str, float]:
    """The sparsity of each layer; prints why."""
    text = _windows(job, model, tokenizer, min(job.rest.tokens or ALLOCATION_TOKENS, ALLOCATION_TOKENS))
    rest = job.rest
    allocation = allocate(model, text, job.recipe.share, include=rest.include, exclude=rest.exclude)
    print(allocation)
    return allocation.sparsity


def _recover(
    job: Job, recovering: Callable, result: Compressed, model: nn.Module, ids: Tensor, watch: Tensor, begin: float
) -> Compressed:
    """Recovery; with `--out`, what is needed to go on lies beside it meanwhile."""
    left = from_first(recovery_minutes(result.recipe.share, perf_counter() - begin))
    time = job.rest.recovery or {"minutes": left}
    state = job.state if job.out else None
    try:
        options: dict[str, Any] = {"seed": job.rest.seed, "batch": ceil(BATCH / world()) * world()} | time
        return recovering(result, model, ids, **options, state=state, watch=watch, report=print)
    except KeyboardInterrupt:
        kept = state is not None and state.exists()
        raise KeyboardInterrupt(f"the same command goes on from {state}" if kept else "") from None


def _report(job: Job, about: dict, result: Compressed, bytes_dense: int, stages: Stages) -> None:
    """Print the figures, and write them where that was asked for."""
    size = stored_bytes(result.model)
    print(f"sparsity {result.sparsity:.4f}   calibration tokens {result.tokens}")
    print(f"weights on disk {size / 1e6:.1f} MB, dense {bytes_dense / 1e6:.1f} MB")
    print("seconds " + ", ".join(f"{stage} {value:.2f}" for stage, value in stages.seconds.items()))
    if job.out:
        print(f"saved to {job.out}")
    if job.json and first():
        figures = {
            "sparsity": result.sparsity,
            "calibration_tokens": result.tokens,
            "recovery_steps": result.steps,
            "layers": result.layers,
            "bytes_dense": bytes_dense,
            "bytes": size,
            "seconds": stages.seconds,
            "peak_rss": peak_rss(),
        }
        write_json(job.json, about | figures)
