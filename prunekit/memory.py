"""Memory: what a model will need, and what this process has taken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from .errors import PrunekitError


def _weight_bytes(folder: Path) -> int:
    """Size of the weights that transformers reads from a folder; others may lie beside them."""
    index = folder / "model.safetensors.index.json"
    files = set(json.loads(index.read_text("utf-8"))["weight_map"].values()) if index.is_file() else ()
    paths = [folder / name for name in files] or list(folder.glob("model.safetensors"))
    return sum(path.stat().st_size for path in paths)


def _available() -> int:
    """Free memory in bytes: the machine's, or all that a container may use (control groups, version 2) if less."""
    with open("/proc/meminfo") as lines:
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    try:
        return min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return free


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
        available = _available()
        stored = json.loads((folder / "config.json").read_text("utf-8"))
        needed = _weight_bytes(folder)
    except (OSError, ValueError, LookupError, AttributeError, StopIteration):  # opening it will tell what is wrong
        return
    if not isinstance(stored, dict):
        return
    if dtype != "auto" and "quantization_config" not in stored:  # FP8 stays FP8
        width = 4 if (stored.get("dtype") or stored.get("torch_dtype")) in (None, "float32") else 2
        needed *= getattr(torch, dtype).itemsize / width
    if device == "cpu" and needed > available:
        raise PrunekitError(
            f"the model in {folder} needs {needed / 1e9:.1f} GB in {dtype}, but {available / 1e9:.1f} GB are free: "
            "use --dtype bfloat16, a smaller model, or a machine with more memory."
        )


def peak_rss() -> int:
    """Largest resident memory of this process so far, in bytes (0 where the system does not tell)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else peak * 1024
