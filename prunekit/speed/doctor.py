"""What this machine can run, found out by running it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..errors import first_line
from ..system.machine import cpu_name, cpuinfo

VECTOR_FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimdhp",
    "sve",
    "sve2",
    "i8mm",
    "bf16",
)


def examine() -> dict:
    """Everything the doctor finds: `torch`, `gpu` (None without a usable one), `cpu`, `summary`; takes 1 to 2 s."""
    import torch

    gpu = _gpu(torch) if torch.cuda.is_available() else None
    driver_gpus = _nvidia_smi("name")
    report = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpu": gpu,
        "unusable_gpu": None if gpu else driver_gpus,
        "cpu": _cpu(torch),
    }
    return {**report, "summary": summarise(report)}


def summarise(report: dict) -> str:
    """One sentence: what the course does live on such a machine, and what it shows from published figures."""
    gpu = report["gpu"]
    if gpu is None:
        why = " (there is a GPU, but this torch cannot use it)" if report["unusable_gpu"] else ""
        return (
            f"No usable GPU{why}: pruning, FP8 arithmetic, perplexity and the speed-up of removing neurons "
            "run live on this CPU; GPU speed is shown from published RTX 4090, RTX 5080 and H100 figures and from "
            "predictions."
        )
    kinds = {"2:4": "sparse24", "FP8": "fp8"}
    works = [label for label, key in kinds.items() if gpu[key]["works"]]
    fails = [label for label in kinds if label not in works]
    shown = f"; what needs {' or '.join(fails)} is shown from published figures and predictions" if fails else ""
    measured = ", ".join(["dense FP16", *works])
    return f"The course runs here, with {measured} products measured live on the {gpu['name']}{shown}."


def _gpu(torch: ModuleType) -> dict:
    device = torch.device("cuda", torch.cuda.current_device())
    properties = torch.cuda.get_device_properties(device)
    drivers = _nvidia_smi("driver_version")
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "multiprocessors": properties.multi_processor_count,
        "driver": drivers[0] if drivers else None,
        "bf16": _bf16_check(torch, device, properties.major >= 8),
        "sparse24": _attempt(lambda: _sparse_product(torch, device)),
        "fp8": _attempt(lambda: _fp8_product(torch, device)),
    }


def _bf16_check(torch: ModuleType, device: object, tensor_cores: bool) -> dict:
    check = _attempt(lambda: _bf16_product(torch, device))
    if check["works"] and not tensor_cores:
        check["detail"] = "computes, but without tensor cores (they need compute capability 8.0): slow"
    return check


def _attempt(product: Callable[[], Any]) -> dict:
    """Run a tiny product: whether it works, and if not, why not in one line."""
    try:
        error = float(product())
    except Exception as problem:  # any failure of a driver, a library or a kernel is the answer looked for
        return {"works": False, "detail": first_line(problem)[:160]}
    if not error < 0.1:
        return {"works": False, "detail": f"ran, but the result is wrong by {error:.0%}"}
    return {"works": True, "detail": "computes correctly"}


def _relative_error(torch, result, reference):
    return (result.float() - reference).norm() / reference.norm()


def _bf16_product(torch, device):
    a = torch.randn(128, 128, device=device)
    half = a.bfloat16()
    return _relative_error(torch, half @ half.T, half.float() @ half.float().T)


def _sparse_product(torch, device):
    from torch.sparse import to_sparse_semi_structured

    weight = torch.randn(128, 128, device=device).half() * torch.tensor([1, 0, 1, 0], device=device).repeat(32)
    x = torch.randn(128, 128, device=device).half()
    result = torch.nn.functional.linear(x, to_sparse_semi_structured(weight))
    return _relative_error(torch, result, x.float() @ weight.float().T)


def _fp8_product(torch, device):
    from .tensor_core_layers import scaled_mm

    a, b = (torch.randn(64, 64, device=device).clamp(-4, 4).to(torch.float8_e4m3fn) for _ in range(2))
    one = torch.ones((), device=device)
    return _relative_error(torch, scaled_mm(a, b.t(), one, one), a.float() @ b.float().T)


def _cpu(torch: ModuleType) -> dict:
    device = torch.device("cpu")
    return {
        "name": cpu_name(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "vectors": _vector_features(torch),
        "bandwidth_gbs": round(copy_bandwidth(), 1),
        "bf16": _attempt(lambda: _bf16_product(torch, device)),
        "sparse24": {"works": False, "detail": "2:4 kernels exist for GPUs only"},
        "fp8": _attempt(lambda: _fp8_product(torch, device)),
    }


def copy_bandwidth(megabytes: int = 128, seconds: float = 0.5) -> float:
    """Measured memory bandwidth of one thread in GB/s: bytes read plus bytes written by the fastest copy.

    Args:
        megabytes: size of what is copied, MB (10^6 bytes).
        seconds: how long copies are repeated.
    """
    import numpy as np

    source = np.ones(megabytes * 125_000)
    target = np.empty_like(source)
    np.copyto(target, source)  # the first copy pays for mapping the pages
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best / 1e9


def _vector_features(torch: ModuleType) -> list[str]:
    flags = set(cpuinfo("flags", "Features").split())
    return [f for f in VECTOR_FLAGS if f in flags] or [torch.backends.cpu.get_cpu_capability().lower()]


def _nvidia_smi(field: str) -> list[str]:
    """One field of every GPU that the driver knows; empty without a driver."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def describe(report: dict) -> list[str]:
    """The report as lines of text."""
    gpu, cpu = report["gpu"], report["cpu"]
    lines = [f"torch {report['torch']}, built for " + (f"CUDA {report['cuda']}" if report["cuda"] else "the CPU only")]
    if gpu:
        lines.append(
            f"GPU   {gpu['name']}, compute capability {gpu['capability']}, {gpu['memory_gb']} GB, "
            f"{gpu['multiprocessors']} multiprocessors, driver {gpu['driver'] or 'unknown'}"
        )
        lines += _checks(gpu)
    elif report["unusable_gpu"]:
        lines.append(f"GPU   {', '.join(report['unusable_gpu'])}: the driver sees it, this torch cannot use it")
    else:
        lines.append("GPU   none")
    lines.append(
        f"CPU   {cpu['name']}, {cpu['threads']} threads (torch uses {cpu['torch_threads']}), "
        f"vectors: {', '.join(cpu['vectors'])}"
    )
    lines.append(f"      memory bandwidth {cpu['bandwidth_gbs']} GB/s (measured, one thread copying)")
    return [*lines, *_checks(cpu), report["summary"]]


def _checks(part: dict) -> list[str]:
    labels = (("bf16", "bf16"), ("2:4", "sparse24"), ("FP8", "fp8"))
    return [
        f"      {label:4}  {'yes' if part[key]['works'] else 'no '}  {part[key]['detail']}" for label, key in labels
    ]
