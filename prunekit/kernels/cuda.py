"""Score, select and cast in one pass over the weights on a GPU: the kernel of `triton_kernel` behind checked arguments.

The functions are those of `cpu`. Masks, codes and scales equal those of the plain functions on the CPU bit for
bit (on a GPU torch itself divides by a constant less exactly). Needs triton and compute capability 8.0;
untested on a GPU, tested in Triton's interpreter.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
from torch import Tensor

from ..method.compensation import compensate
from ..method.ewma import BLOCK, gaussian_share, step_tables
from ..method.fp8 import E4M3, Format, scale_blocks, scales
from ..method.one_pass import cast_kept
from ..method.targets import check_sparsity, check_target
from .arguments import check_size, results
from .triton_kernel import fused_pass

PLACES = 1024  # weights of a tile, over all of its rows: 8 for each of a program's 128 threads
NM_TILE = 256  # places along a row where nothing waits for a threshold
CACHE_SHARE = 0.75  # of the L2 cache that the rows in work may take, so that later sweeps find them there


def select(
    W: Tensor,
    f: Tensor,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    joint: tuple[Format, Tensor] | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`one_pass.select` in one launch, on the device of `W`; the arguments are described there.

    Args beside those: `out`, bool ``[out, in]``, contiguous, to write the mask into.
    """
    keep = torch.empty(W.shape, dtype=torch.bool, device=W.device) if out is None else out
    check_size(keep, "out", W.shape, torch.bool, contiguous=True)
    _launch(W, f, sparsity, pattern, joint, joint[0] if joint else E4M3, (keep, None, None))
    return keep


def select_cast(
    W: Tensor,
    f: Tensor,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    fmt: Format = E4M3,
    out: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`one_pass.select_cast` in one launch; the arguments are described there.

    Args beside those: `out`, the three tensors of the result, contiguous, to write into.
    """
    out = results(W, fmt, out, contiguous=True)
    _launch(W, f, sparsity, pattern, None, fmt, out)
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
    """`one_pass.select_compensate_cast`, of which only the selection is fused."""
    keep = select(W, f, sparsity=sparsity, pattern=pattern, joint=(fmt, scales(W, fmt)))
    return cast_kept(compensate(W, keep, X, Z), keep, fmt)


def _launch(
    W: Tensor,
    f: Tensor,
    sparsity: float | None,
    pattern: str | None,
    joint: tuple[Format, Tensor] | None,
    fmt: Format,
    out: tuple[Tensor, Tensor | None, Tensor | None],
) -> None:
    """Choose tile and grid, and start the kernel."""
    rows, columns = W.shape
    check_size(f, "f", (columns,))
    n, m = check_target(sparsity, pattern, columns)
    if not W.numel():
        return
    W = W.detach().contiguous()
    W = W if W.dtype in (torch.float32, torch.bfloat16, torch.float16) else W.float()
    f = f.detach().float().contiguous()
    keep, codes, scale = out
    share, sweeps, warmup, decision = 0.0, 0, f, f
    if not m:
        pruned = check_sparsity(sparsity)
        warmup, decision = _tables(columns, pruned, W.device)
        share, sweeps = gaussian_share(pruned) / min(BLOCK, columns), len(warmup) // len(decision)
    given, height, width = (joint[1].contiguous(), *scale_blocks(joint[1], W.shape)) if joint else (f, 1, columns)

    places = triton.next_power_of_2(m or BLOCK)
    tile = max(NM_TILE, places) if m else places
    height_of_tile = max(1, PLACES // tile)
    with torch.cuda.device_of(W):  # Triton launches on the current device
        fused_pass[(_programs(W, height_of_tile),)](
            W,
            f,
            given,
            keep.view(torch.uint8),
            keep.view(torch.uint8) if codes is None else codes.view(torch.uint8),
            f if scale is None else scale,
            warmup,
            decision,
            rows,
            columns,
            sweeps,
            share,
            height,
            width,
            given.shape[-1],
            N=n,
            M=m or BLOCK,
            MP=places,
            TILE=tile,
            ROWS=height_of_tile,
            JOINT=codes is not None or joint is not None,
            CAST=codes is not None,
            FMA=W.is_cuda,
            MAX=fmt.max,
            MANTISSA=fmt.mantissa_bits,
            LOWEST=fmt.min_exponent,
            num_warps=4,
            enable_fp_fusion=False,
        )


@lru_cache(64)
def _tables(columns: int, sparsity: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """`step_tables` on a device: copying them there would make each call wait."""
    warmup, decision = step_tables(columns, sparsity)
    return warmup.to(device), decision.to(device)


def _programs(W: Tensor, height: int) -> int:
    """How many programs share the rows: enough for every multiprocessor, few enough for the cache."""
    groups = -(-W.shape[0] // height)
    if not W.is_cuda:  # the interpreter
        return groups
    device = torch.cuda.get_device_properties(W.device)
    fit = int(CACHE_SHARE * device.L2_cache_size) // (height * W.shape[1] * W.element_size())
    return min(groups, max(fit, device.multi_processor_count))
