"""Memory: what there is of it, and what this process has taken."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import psutil
import torch


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
        for folder in (each for each in (group, *group.parents) if each.is_relative_to(groups)):
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


def peak_rss() -> int:
    """Largest resident memory of this process so far, in bytes."""
    try:  # not getrusage, which counts what the process that started this one held then
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if psutil.MACOS else peak * 1024
