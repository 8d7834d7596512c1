"""The same maths as one fused pass: on the CPU by numba, on a GPU by Triton."""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib import import_module
from types import ModuleType


def fused_for(device) -> ModuleType | None:
    """The module whose `select`, `cast` and `select_cast` run on a device, or None: use the plain functions.

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

    try:
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            raise RuntimeError(f"compute capability is {major}.{minor}, and it takes 8.0")
        cuda = import_module(".cuda", __name__)
        W = torch.arange(1.0, 9.0, device=device).reshape(2, 4)
        keep, codes, _ = cuda.select_cast(W, torch.ones(4, device=device), pattern="2:4")
        if keep.tolist() != [[False, False, True, True]] * 2 or not torch.equal(codes.float() != 0, keep):
            raise RuntimeError("it computes wrongly")
    except Exception as problem:  # no triton, no compiler, a driver that is too old: the plain functions do
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        warnings.warn(f"the fused Triton pass cannot run here, so the plain functions do: {reason}.", stacklevel=2)
        return None
    return cuda
