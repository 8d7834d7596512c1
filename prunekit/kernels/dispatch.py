"""The fastest pass on a device: numba's on a CPU, Triton's on a GPU, or the plain page that both are tested against."""

from __future__ import annotations

import warnings
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor

from ..errors import first_line
from ..method import one_pass
from ..method.fp8 import E4M3, Format, cast, uncast


def fastest(device: torch.device) -> ModuleType:
    """The module with the fastest `select`, `select_cast` and `select_compensate_cast` that run on a device.

    On a GPU the fused pass takes triton, compute capability 8.0 or newer and a kernel that compiles; where one of
    them is missing, a warning says so once.

    Args:
        device: where the weights are.

    Returns:
        `kernels.cpu`, `kernels.cuda`, or `method.one_pass`.
    """
    if device.type == "cpu":
        from . import cpu

        return cpu
    return _on_gpu(device) if device.type == "cuda" else one_pass


@lru_cache
def _on_gpu(device: torch.device) -> ModuleType:
    """`kernels.cuda` if it computes rightly on a small weight there, else the plain page."""
    try:
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            raise RuntimeError(f"compute capability is {major}.{minor}, and it takes 8.0")
        from . import cpu, cuda

        W, f = torch.arange(1.0, 257.0).reshape(2, 128), torch.ones(128)
        for target in ({"pattern": "2:4"}, {"sparsity": 0.5}):
            ours: tuple[Tensor, ...] = cuda.select_cast(W.to(device), f.to(device), **target)
            theirs: tuple[Tensor, ...] = cpu.select_cast(W, f, **target)
            scale = theirs[2]  # with which a compensated layer is selected
            ours += (cuda.select(W.to(device), f.to(device), **target, joint=(E4M3, scale.to(device))),)
            theirs += (cpu.select(W, f, **target, joint=(E4M3, scale)),)
            if not all(torch.equal(a.cpu().view(torch.uint8), b.view(torch.uint8)) for a, b in zip(ours, theirs)):
                raise RuntimeError("it computes wrongly")
    except Exception as problem:  # no triton, no compiler, a driver that is too old: the plain functions do
        reason = first_line(problem)
        warnings.warn(f"the fused Triton pass cannot run here, so the plain functions do: {reason}.", stacklevel=2)
        return one_pass
    return cuda


def codes_of(W: Tensor, scale: Tensor, fmt: Format, keep: Tensor) -> Tensor:
    """`fp8.cast`, by the fused pass on a CPU: codes of `fmt.dtype`, ``[out, in]``, zero where not kept."""
    if W.device.type == "cpu":
        from . import cpu

        return cpu.cast(W, keep, scale, fmt)
    return cast(W, scale, fmt, keep)


def widen(codes: Tensor, scale: Tensor) -> Tensor:
    """`fp8.uncast`, by the fused pass on a CPU: float32 ``[out, in]``. Codes of NaN or infinity are not known there."""
    if codes.device.type == "cpu":
        from . import cpu

        return cpu.uncast(codes, scale)
    return uncast(codes, scale)
