"""Score, select and cast in one pass over the weights on the CPU: `numba_loops` behind checked arguments.

The results equal those of the plain functions in `method`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..method.ewma import BLOCK, gaussian_share, step_tables
from ..method.fp8 import E4M3, E5M2, Format, scale_blocks
from ..method.targets import check_sparsity, check_target
from ..system.machine import fast_bfloat16
from . import numba_loops
from .arguments import check_size, results

_POOL: ThreadPoolExecutor


def _start_pool() -> None:
    """Threads that share the rows. They do not survive a fork, so that a child process starts its own."""
    global _POOL
    _POOL = ThreadPoolExecutor(max_workers=os.cpu_count())


_start_pool()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_start_pool)


def _spread(run: Callable[..., None], count: int, *arguments: object) -> None:
    """Let each thread run its share of `count` rows or groups.

    Not numba's own `prange`: its OpenMP layer brings a second OpenMP runtime into the process, beside torch's,
    and torch's products then take ten times as long; its work queue is slow to start and takes one caller only.
    """
    threads = max(1, min(torch.get_num_threads(), count))
    bounds = [count * i // threads for i in range(threads + 1)]
    others = [_POOL.submit(run, b, e, *arguments) for b, e in pairwise(bounds[1:])]
    run(bounds[0], bounds[1], *arguments)
    for other in others:
        other.result()


def _groups(W: Tensor) -> int:
    return -(-W.shape[0] // numba_loops.GROUP)


def _arguments(W: Tensor, f: Tensor, sparsity: float | None, pattern: str | None) -> tuple[Any, ...]:
    """Weights and factors as float32 arrays, and the numbers that steer the selection."""
    check_size(f, "f", (W.shape[1],))
    arrays = [t.detach().float().contiguous().numpy() for t in (W, f)]
    none = np.empty((0, BLOCK + 1), np.float32)
    n, m = check_target(sparsity, pattern, W.shape[1])
    if m or not W.shape[1]:  # without columns there is nothing to track
        return *arrays, max(n, 1), max(m, 1), np.float32(0), none, none
    pruned = check_sparsity(sparsity)
    warmup, decision = step_tables(W.shape[1], pruned)
    share = np.float32(gaussian_share(pruned) / min(BLOCK, W.shape[1]))
    return *arrays, 0, 0, share, warmup.numpy(), decision.numpy()


def _constants(fmt: Format) -> tuple[np.float32, np.int32, np.int32]:
    return np.float32(fmt.max), np.int32(fmt.mantissa_bits), np.int32(fmt.min_exponent)


def select(
    W: Tensor,
    f: Tensor,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    joint: tuple[Format, Tensor] | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`one_pass.select` in one pass over a weight on the CPU; the arguments are described there.

    Args beside those: `out`, bool ``[out, in]``, to write the mask into.
    """
    fmt, scale = joint or (E4M3, torch.empty(0, 0))
    scale = scale.detach()
    height, width = scale_blocks(scale, W.shape) if joint else (1, W.shape[1])
    keep = torch.empty(W.shape, dtype=torch.bool) if out is None else out
    check_size(keep, "out", W.shape, torch.bool)
    arguments = _arguments(W, f, sparsity, pattern)
    _spread(
        numba_loops.select_pass, _groups(W), *arguments, scale.numpy(), height, width, _constants(fmt), keep.numpy()
    )
    return keep


def cast(W: Tensor, keep: Tensor, scale: Tensor, fmt: Format = E4M3) -> Tensor:
    """`fp8.cast` in one pass: codes of `fmt.dtype`, ``[out, in]``, zero where `keep` is False."""
    check_size(keep, "keep", W.shape, torch.bool)
    codes, scale = torch.empty(W.shape, dtype=torch.uint8), scale.detach()
    height, width = scale_blocks(scale, W.shape)
    w = W.detach().float().contiguous().numpy()
    _spread(
        numba_loops.cast_pass, len(W), w, keep.numpy(), scale.numpy(), height, width, _constants(fmt), codes.numpy()
    )
    return codes.view(fmt.dtype)


def uncast(codes: Tensor, scale: Tensor) -> Tensor:
    """`fp8.uncast` in one pass: float32 ``[out, in]``. Codes for NaN and infinity, never written, are not known."""
    fmt = E4M3 if codes.dtype == E4M3.dtype else E5M2
    out, scale = torch.empty(codes.shape), scale.detach()
    height, width = scale_blocks(scale, codes.shape)
    power, shift = np.float32(2.0 ** (127 - fmt.bias)), np.int32(23 - fmt.mantissa_bits)
    _spread(
        numba_loops.uncast_pass,
        len(codes),
        codes.view(torch.uint8).numpy(),
        scale.numpy(),
        height,
        width,
        shift,
        power,
        out.numpy(),
    )
    return out


def round_trip(W: Tensor, fmt: Format = E4M3) -> Tensor:
    """`fp8.uncast` of `fp8.cast`, with `fp8.scales` of each row, in one pass: float32 ``[out, in]``."""
    out = torch.empty(W.shape)
    _spread(numba_loops.round_trip_pass, len(W), W.detach().float().contiguous().numpy(), _constants(fmt), out.numpy())
    return out


def select_cast(
    W: Tensor,
    f: Tensor,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    fmt: Format = E4M3,
    out: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`one_pass.select_cast` in one sweep over each row; the arguments are described there.

    Args beside those: `out`, the three tensors of the result, to write into.
    """
    keep, codes, scale = out = results(W, fmt, out)
    arguments = _arguments(W, f, sparsity, pattern)
    _spread(
        numba_loops.joint_pass,
        _groups(W),
        *arguments,
        _constants(fmt),
        keep.numpy(),
        codes.view(torch.uint8).numpy(),
        scale.numpy(),
    )
    return out


def select_compensate_cast(
    W: Tensor,
    f: Tensor,
    X: Tensor,
    Z: Tensor,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    fmt: Format = E4M3,
) -> tuple[Tensor, Tensor, Tensor]:
    """`one_pass.select_compensate_cast`; the arguments are described there.

    What is pruned and the change of the other weights are held in bfloat16, fine enough beside an FP8 cast.
    """
    for name, sampled in (("X", X), ("Z", Z)):
        check_size(sampled, name, (len(X), W.shape[1]))
    keep, codes, scale = results(W, fmt, None)
    pruned = torch.empty(W.shape, dtype=torch.bfloat16)
    weights, *steering = _arguments(W, f, sparsity, pattern)
    bits = pruned.view(torch.uint16).numpy()
    _spread(numba_loops.select_pruned_pass, _groups(W), weights, *steering, _constants(fmt), keep.numpy(), bits)
    # Where bfloat16 is not fast, products in it take 2 to 50 times as long.
    dtype = torch.bfloat16 if fast_bfloat16() else torch.float32
    change = ((pruned.to(dtype) @ X.to(dtype).T) @ Z.to(dtype)).bfloat16()
    _spread(
        numba_loops.cast_changed_pass,
        len(W),
        weights,
        change.view(torch.uint16).numpy(),
        keep.numpy(),
        _constants(fmt),
        codes.view(torch.uint8).numpy(),
        scale.numpy(),
    )
    return keep, codes, scale
