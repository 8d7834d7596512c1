"""Do the job block by block, where the model does not fit in memory, or where that is asked for."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from torch import nn

from ...compression.fit.memory import Sizes, disk, streamed_memory
from ...compression.result import Written
from ...errors import PrunekitError
from ...model.linear import linear_layers
from ...model.modes import bfloat16_pays
from ...storage.load import check_memory, chosen_device, locate
from ...storage.streamed.folder import compress_folder
from ...storage.streamed.partial import Partial
from ...storage.streamed.skeletons import local_folder, open_skeleton
from ...storage.weight_files import weight_files
from ...system.files import check_space, write_json
from ...system.freed import give_back_freed_memory
from ...system.memory import peak_rss
from ...system.parallel import first
from .forecast import describe, describe_others
from .job import Job


def must_stream(job: Job, a: argparse.Namespace) -> bool:
    """Whether the model does not fit in memory as a whole, and the job can be done block by block; says so.

    Args:
        job: what to do.
        a: the options.
    """
    if not job.out or _hindrance(job) or (device := chosen_device(a.device)).startswith("cuda"):
        return False
    source = locate(a.model)
    if not os.path.isdir(source):
        return False
    try:
        check_memory(Path(source), a.dtype or "float32", device)
    except PrunekitError as error:
        print(f"block by block (--stream), since {error}")
        return True
    return False


def run_streamed(job: Job, a: argparse.Namespace) -> None:
    """`prunekit compress --stream`.

    Raises:
        PrunekitError: the job needs the whole model, or as `compress_folder`.
    """
    if hindrance := _hindrance(job):
        raise PrunekitError(f"--stream has one block of the model in memory: {hindrance}.")
    if not job.out:
        raise PrunekitError("--stream writes block after block into a folder: add --out DIR.")
    give_back_freed_memory()
    _foresee(job, a)
    begin = perf_counter()
    try:
        written = compress_folder(
            a.model,
            job.out,
            job.recipe,
            given=job.rest,
            activations=job.activations,
            dtype=a.dtype,
            device=a.device,
            command=a.words,
            trains=job.trains,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the same command goes on from {job.out}.partial") from None
    _report(job, a, written, perf_counter() - begin)


def _foresee(job: Job, a: argparse.Namespace) -> None:
    """Say what is ahead, and refuse a disk that is too small."""
    device = chosen_device(a.device)
    on_cpu = device.startswith("cpu")
    skeleton = open_skeleton(local_folder(a.model), a.dtype or ("float32" if on_cpu else "auto"), device)
    layers = linear_layers(skeleton.model, job.rest.include, job.rest.exclude)
    print(describe(layers))
    for line in describe_others(skeleton.model, layers):
        print(line)
    if job.reads:
        print(f"calibration text: {' and '.join(job.rest.text)}")
    sizes = Sizes.of(skeleton)
    pays = on_cpu and bfloat16_pays(nn.Linear(1, 1, dtype=skeleton.dtype))
    memory = streamed_memory(sizes, skeleton.dtype.itemsize, job.recipe, pays, trains=job.trains is not None)
    needed = disk(sizes, job.recipe, streamed=True, steps=job.trains.block_steps if job.trains else 0)
    takes = f"{memory / 1e9:.2f} GB of memory, {needed / 1e9:.1f} GB of disk"
    print(f"{sizes.blocks} blocks, one at a time: {takes} (predicted)")
    if not Partial(job.out or Path()).folder.exists():  # else some of it is there
        check_space(job.out or Path(), needed)


def _hindrance(job: Job) -> str:
    """What of a job needs the whole model, with what to do about it; nothing where it can be streamed."""
    if job.recovers:
        return "leave out recovery (--preset balanced or fast), or train block by block (--preset blockwise)"
    return "leave out --allocate" if job.allocates else ""


def _report(job: Job, a: argparse.Namespace, written: Written, seconds: float) -> None:
    """Print the figures, and write them where that was asked for."""
    size, dense = (sum(path.stat().st_size for path in weight_files(Path(f))) for f in (written.out, locate(a.model)))
    print(f"sparsity {written.sparsity:.4f}   calibration tokens {written.tokens}")
    print(f"weights on disk {size / 1e6:.1f} MB, dense {dense / 1e6:.1f} MB")
    print(f"seconds {seconds:.2f}   peak memory {peak_rss() / 1e9:.2f} GB")
    print(f"saved to {written.out}")
    if job.json and first():
        figures = {
            "model": a.model,
            "recipe": asdict(job.recipe),
            "calibration_text": [*job.rest.text] if job.reads else [],
            "sparsity": written.sparsity,
            "calibration_tokens": written.tokens,
            "layers": written.layers,
            "bytes_dense": dense,
            "bytes": size,
            "seconds": {"stream": seconds},
            "peak_rss": peak_rss(),
        }
        write_json(job.json, figures)
