"""The same maths as one fused pass: on the CPU by numba, on a GPU by Triton."""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib import import_module
from types import ModuleType


def fused_for(device) -> ModuleType | None:
    """The module whose `select` and `select_cast` run on a device, or None: use the plain functions.

    On a GPU that takes triton, compute capability 8.0 or newer and a kernel that compiles; where one of them is
    missing, a warning says so once.

    Args:
        device: a torch.device.
    """
    if device.type == "cpu":
        return import_module(".cpu", __name__)
    return _triton_for(device) if device.type == "cuda" else None


@lru_cache
def _triton_for(device) -> ModuleType | None:
    """`kernels.cuda` if it computes rightly on a small weight there."""
    import torch

    from ..errors import first_line
    from ..method.fp8 import E4M3

    try:
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            raise RuntimeError(f"compute capability is {major}.{minor}, and it takes 8.0")
        cuda = import_module(".cuda", __name__)
        W, f = torch.arange(1.0, 257.0).reshape(2, 128), torch.ones(128)
        for target in ({"pattern": "2:4"}, {"sparsity": 0.5}):
            ours = cuda.select_cast(W.to(device), f.to(device), **target)
            theirs = import_module(".cpu", __name__).select_cast(W, f, **target)
            joint = (E4M3, theirs[2])  # what a compensated layer is selected with
            ours += (cuda.select(W.to(device), f.to(device), **target, joint=(E4M3, theirs[2].to(device))),)
            theirs += (import_module(".cpu", __name__).select(W, f, **target, joint=joint),)
            if not all(torch.equal(a.cpu().view(torch.uint8), b.view(torch.uint8)) for a, b in zip(ours, theirs)):
                raise RuntimeError("it computes wrongly")
    except Exception as problem:  # no triton, no compiler, a driver that is too old: the plain functions do
        reason = first_line(problem)
        warnings.warn(f"the fused Triton pass cannot run here, so the plain functions do: {reason}.", stacklevel=2)
        return None
    return cuda
