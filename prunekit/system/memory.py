"""Memory: what a model will need, and what this process has taken."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from ..compression.recipe import Recipe
from ..errors import PrunekitError
from ..storage.weight_files import weight_files

TRAINED = 25  # bytes for each weight in recovery, those of the dense model included


def memory_limit(groups: Path = Path("/sys/fs/cgroup"), mine: Path = Path("/proc/self/cgroup")) -> float:
    """The smallest limit that control groups (version 2; of a container, of a job) set this process, in bytes.

    Args:
        groups: where the groups are.
        mine: the file that names the group of this process.

    Returns:
        Bytes; infinity where there is no limit.
    """
    least = math.inf
    with suppress(OSError):
        group = groups / mine.read_text().rpartition("::")[2].strip().lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):  # no such file, or "max"
                least = min(least, int((folder / "memory.max").read_text()))
    return least


def memory_of(device: torch.device) -> float:
    """The memory of a GPU, or what this process may use of the machine's, in bytes."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(min(psutil.virtual_memory().total, memory_limit()))


def memory_free(device: torch.device) -> float:
    """What is free of the memory of a GPU, or of what this process may use of the machine's, in bytes."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    own = psutil.Process().memory_info().rss
    return max(0.0, float(min(psutil.virtual_memory().available, memory_limit() - own)))


def more_memory(shapes: Sequence[tuple[int, int]], itemsize: int, recipe: Recipe, recovers: bool) -> int:
    """Predicted: what compressing a model takes beside the model itself, in bytes.

    New weights take one byte with FP8, else what the old ones take; channels are reordered in one more copy; ADMM holds
    four float32 matrices ``[in, in]`` and seven ``[out, in]`` of one layer.

    Args:
        shapes: ``(out, in)`` of each layer that is to be compressed.
        itemsize: bytes of each weight in the dense model.
        recipe: what to do.
        recovers: whether `recover` trains the result, in `TRAINED` bytes for each weight.

    Returns:
        Bytes.
    """
    weights = sum(rows * columns for rows, columns in shapes)
    taken = weights * ((1 if recipe.fp8 else itemsize) + itemsize * recipe.permute)
    if recipe.method == "admm":
        taken += max(4 * (4 * columns + 7 * rows) * columns for rows, columns in shapes)
    return max(taken, weights * (TRAINED - itemsize) if recovers else 0)


def check_memory(folder: Path, dtype: str, device: str) -> None:
    """Refuse a model that cannot fit, before the machine begins to swap.

    Args:
        folder: of the model, with its `config.json`.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own.
        device: where it is to go; only ``cpu`` is looked at.

    Raises:
        PrunekitError: the weights take more than is free.
    """
    try:
        stored = json.loads((folder / "config.json").read_text("utf-8"))
        needed = sum(file.stat().st_size for file in weight_files(folder))
    except (OSError, ValueError, RecursionError):  # opening it will tell what is wrong
        return
    if not isinstance(stored, dict):
        return
    quantized = "quantization_config" in stored
    if dtype != "auto" and not (quantized and (folder / "prunekit.json").is_file()):  # whose FP8 stays, others' not
        texts = stored.get("text_config")
        places = [stored, texts] if isinstance(texts, dict) else [stored]
        named = [place[key] for place in places for key in ("dtype", "torch_dtype") if place.get(key)]
        width = 4 if not named or named[0] == "float32" else 2
        width = 1 if quantized else width
        needed *= getattr(torch, dtype).itemsize / width
    if torch.device(device).type == "cpu" and needed > (available := memory_free(torch.device(device))):
        raise PrunekitError(
            f"the model in {folder} needs {needed / 1e9:.1f} GB in {dtype}, but {available / 1e9:.1f} GB are free: "
            "use --dtype bfloat16, a smaller model, or a machine with more memory."
        )


def peak_rss() -> int:
    """Largest resident memory of this process so far, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if psutil.MACOS else peak * 1024
