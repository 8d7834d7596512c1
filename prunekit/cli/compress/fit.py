"""`prunekit fit`: what compressing a model would take here, and what would fit."""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from ...compression.fit.memory import Sizes, disk, streamed_memory, whole_memory
from ...compression.fit.seconds import Rates, measured_rates, seconds
from ...compression.presets import PRESETS
from ...compression.recipe import Recipe
from ...model.modes import bfloat16_pays
from ...recovery.budget import LIMIT
from ...recovery.recover import copies_teacher
from ...speed.devices import Gpu, find_gpu
from ...storage.streamed.skeletons import local_folder, open_skeleton
from ...storage.weight_files import weight_files
from ...system.memory import memory_free


def run_fit(a: argparse.Namespace) -> None:
    """`prunekit fit`."""
    gpu = find_gpu(a.gpu) if a.gpu else None
    base = Recipe(a.sparsity if a.sparsity or a.pattern else 0.5, a.pattern, fp8=None if a.fp8 == "none" else a.fp8)
    folder = local_folder(a.model)
    skeleton = open_skeleton(folder, a.dtype or "float32")
    sizes, dense = Sizes.of(skeleton), sum(path.stat().st_size for path in weight_files(folder))
    pays = bfloat16_pays(torch.nn.Linear(1, 1, dtype=skeleton.dtype))
    copied = copies_teacher(skeleton.dtype, torch.device("cpu"))
    free, itemsize = memory_free(torch.device("cpu")), skeleton.dtype.itemsize
    print(f"{sizes.total / 1e9:.2f} billion numbers in {sizes.blocks} blocks, {dense / 1e9:.2f} GB; free here")
    print(f"{free / 1e9:.1f} GB. Predicted, from rates measured here just now; of recovery the time that it is given:")
    print(f"{'preset':<10}{'':<10}{'memory':>10}{'disk':>10}{'time':>10}" + (f"{gpu.name:>20}" if gpu else ""))
    fitting, narrow = [], []
    rates: dict[Recipe, Rates] = {}
    for name, preset in PRESETS.items():
        permutes = preset.permutes and base.pattern is not None
        recipe = replace(base, method=preset.method, compensate=preset.compensates, permute=permutes)
        steps = preset.block_steps
        if recipe not in rates:
            rates[recipe] = measured_rates(recipe, pays)
        time = 60 * LIMIT if preset.recovers else seconds(sizes, recipe, rates[recipe], dense, steps)
        if not steps:
            taken = whole_memory(sizes, itemsize, recipe, preset.recovers, copied)
            fitting += [name] * (taken <= free)
            narrow += [name] * (taken > free >= whole_memory(sizes, 2, recipe, preset.recovers))
            cells = _cells(taken, disk(sizes, recipe, False), time, free)
            cells += _on(gpu, whole_memory(sizes, 2, recipe, preset.recovers, base=0))
            print(f"{name:<10}{'whole':<10}{cells}")
        if preset.recovers:
            print(f"{name:<10}{'streamed':<10}recovery needs the whole model")
            continue
        taken = streamed_memory(sizes, itemsize, recipe, pays, trains=bool(steps))
        fitting += [f"{name} --stream"] * (taken <= free)
        cells = _cells(taken, disk(sizes, recipe, True, steps), time, free)
        cells += _on(gpu, streamed_memory(sizes, 2, recipe, False, base=0, trains=bool(steps)))
        print(f"{name:<10}{'streamed':<10}{cells}")
    print(
        f"fits here: {', '.join(fitting) or 'nothing'}"
        + f"; with --dtype bfloat16 also {', '.join(narrow)}" * bool(narrow)
    )


def _cells(memory: int, written: int, time: float, free: float) -> str:
    """Memory, disk and time."""
    fits = "" if memory <= free else "  too much memory"
    return f"{memory / 1e9:>7.2f} GB{written / 1e9:>7.2f} GB{time / 60:>6.1f} min{fits}"


def _on(gpu: Gpu | None, memory: int) -> str:
    """The memory on a card, where one is asked for."""
    if gpu is None:
        return ""
    return f"{memory / 1e9:>10.2f} GB, {'fits' if memory < gpu.memory_gb * 2**30 else 'too much'}"
