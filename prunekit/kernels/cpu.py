"""Score, select and cast in one pass over the weights on the CPU, with numba.

Each row is read from memory once; what follows happens in a buffer of one row that stays in the first-level
cache. The results equal those of the plain functions in `prunekit.ewma`, `prunekit.patterns` and
`prunekit.fp8` bit for bit: the same float32 operations in the same order.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from ..errors import PrunekitError
from ..ewma import BLOCK, HIGH, LOW, RATE, gaussian_share, step_tables
from ..fp8 import BLOCK as FP8_BLOCK
from ..fp8 import E4M3, E5M2, Format
from ..patterns import check_target

_LOW, _HIGH = np.float32(LOW), np.float32(HIGH)
_ROUND = np.float32(1.5 * 2**23)  # adding and subtracting it rounds to an integer, halves to even
_TINY = np.float32(np.finfo(np.float32).tiny)
_jit = njit(error_model="numpy", cache=True)
_parallel = njit(parallel=True, error_model="numpy", cache=True)


@_jit
def _scores(w, f, L):
    for j in range(w.size):
        L[j] = w[j] * w[j] * f[j]


@_jit
def _bits(x):
    return np.float32(x).view(np.int32)


@_jit
def _power_of_two(exponent):
    return np.int32((exponent + 127) << 23).view(np.float32)


@_jit
def _round_to_fp8(y, mantissa_bits, min_exponent):
    """Nearest FP8 value of y >= 0 (already saturated), and its code: `fp8.encode`, one number at a time."""
    exponent = np.int32(max((_bits(y) >> 23) - 127, min_exponent))
    steps = (y * _power_of_two(mantissa_bits - exponent) + _ROUND) - _ROUND
    code = np.int32(((exponent - min_exponent) << mantissa_bits) + np.int32(steps))
    return steps * _power_of_two(exponent - mantissa_bits), code


@_jit
def _top(w):
    """Largest |w|, found on the bits: as integers, floats of one sign keep their order."""
    bits = w.view(np.int32)
    top = np.int32(0)
    for j in range(bits.size):
        top = np.int32(max(top, bits[j] & 0x7FFFFFFF))
    return np.int32(top).view(np.float32)


@_jit
def _scale(top, fmt_max):
    return max(top / fmt_max, _TINY) if top > 0 else np.float32(1)


@_jit
def _keep_scores(w, f, L, scale, width, fmt_max, mantissa_bits, min_exponent):
    for b in range(scale.size):
        s = scale[b]
        wb, fb, Lb = (
            w[b * width : (b + 1) * width],
            f[b * width : (b + 1) * width],
            L[b * width : (b + 1) * width],
        )
        for j in range(wb.size):
            y = min(abs(wb[j]) / s, fmt_max)
            value, _ = _round_to_fp8(y, mantissa_bits, min_exponent)
            error = abs(wb[j]) - value * s
            Lb[j] = (wb[j] * wb[j] - error * error) * fb[j]


@_jit
def _below(x, q):
    hits = np.int32(0)
    for k in range(x.size):
        hits += np.int32(x[k] < q)
    return hits


@_jit
def _select_quantile(L, share, warmup, decision, keep):
    for j in range(L.size):
        L[j] = min(max(L[j], _LOW), _HIGH)
    block = decision.shape[1] - 1
    first = L[:block]
    q = np.float32(0)
    for k in range(first.size):
        q += first[k]
    q *= share
    step = 0
    while step < warmup.shape[0]:
        for j in range(0, L.size, block):
            q *= warmup[step, _below(L[j : j + block], q)]
            step += 1
    for b in range(decision.shape[0]):
        x = L[b * block : (b + 1) * block]
        y = keep[b * block : (b + 1) * block]
        for k in range(x.size):
            y[k] = x[k] >= q
        q *= decision[b, _below(x, q)]


@_jit
def _select_nm(L, n, m, keep):
    for j in range(0, L.size, m):
        for k in range(m):
            beaten_by = 0
            for rival in range(m):
                r = L[j + rival]
                beaten_by += (r > L[j + k]) or (r == L[j + k] and rival < k)
            keep[j + k] = beaten_by < n


@_jit
def _cast(w, keep, scale, width, fmt_max, mantissa_bits, min_exponent, codes):
    for b in range(scale.size):
        s = scale[b]
        wb, kb, cb = (
            w[b * width : (b + 1) * width],
            keep[b * width : (b + 1) * width],
            codes[b * width : (b + 1) * width],
        )
        for j in range(wb.size):
            _, code = _round_to_fp8(min(abs(wb[j]) / s, fmt_max), mantissa_bits, min_exponent)
            sign = (_bits(wb[j]) >> 24) & 0x80
            cb[j] = np.uint8(code | sign) if kb[j] else np.uint8(0)


@_parallel
def _select_pass(W, f, n, m, share, warmup, decision, joint_scale, height, width, fp8, keep):
    for r in prange(W.shape[0]):
        L = np.empty(W.shape[1], np.float32)
        if joint_scale.size > 0:
            _keep_scores(W[r], f, L, joint_scale[r // height], width, fp8[0], fp8[1], fp8[2])
        else:
            _scores(W[r], f, L)
        if m > 0:
            _select_nm(L, n, m, keep[r])
        else:
            _select_quantile(L, share, warmup, decision, keep[r])


@_parallel
def _cast_pass(W, keep, scale, height, width, fp8, codes):
    for r in prange(W.shape[0]):
        _cast(W[r], keep[r], scale[r // height], width, fp8[0], fp8[1], fp8[2], codes[r])


@_parallel
def _uncast_pass(codes, scale, height, width, shift, power, out):
    for r in prange(codes.shape[0]):
        for b in range(scale.shape[1]):
            s = scale[r // height, b]
            cb, ob = codes[r, b * width : (b + 1) * width], out[r, b * width : (b + 1) * width]
            for j in range(cb.size):
                c = np.int32(cb[j])
                # Exponent and mantissa moved to where float32 has them; the power makes up for the bias.
                bits = np.int32(((c & 0x80) << 24) | ((c & 0x7F) << shift))
                ob[j] = (bits.view(np.float32) * power) * s


@_parallel
def _joint_pass(W, f, n, m, share, warmup, decision, fp8, keep, codes, scale):
    for r in prange(W.shape[0]):
        w = W[r]
        L = np.empty(w.size, np.float32)
        scale[r, 0] = _scale(_top(w), fp8[0])
        _keep_scores(w, f, L, scale[r], w.size, fp8[0], fp8[1], fp8[2])
        if m > 0:
            _select_nm(L, n, m, keep[r])
        else:
            _select_quantile(L, share, warmup, decision, keep[r])
        for j in range(w.size):
            L[j] = w[j] if keep[r, j] else np.float32(0)
        scale[r, 0] = _scale(_top(L), fp8[0])
        _cast(w, keep[r], scale[r], w.size, fp8[0], fp8[1], fp8[2], codes[r])


def _use_threads() -> None:
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


def _arguments(W: Tensor, f: Tensor, sparsity: float | None, pattern: str | None, rate: float, block: int):
    """Weights and factors as float32 arrays, and the numbers that steer the selection."""
    _use_threads()
    _check(f, "f", (W.shape[1],))
    arrays = [t.detach().float().contiguous().numpy() for t in (W, f)]
    none = np.empty((0, block + 1), np.float32)
    n, m = check_target(sparsity, pattern, W.shape[1])
    if m:
        return *arrays, n, m, np.float32(0), none, none
    warmup, decision = step_tables(W.shape[1], float(sparsity), rate, block)
    share = np.float32(gaussian_share(float(sparsity)) / min(block, W.shape[1]))
    return *arrays, 0, 0, share, warmup.numpy(), decision.numpy()


def _check(tensor: Tensor, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> None:
    """The kernels trust sizes: refuse what would make them read or write beyond an array."""
    if tuple(tensor.shape) != tuple(shape) or (dtype is not None and tensor.dtype != dtype):
        raise PrunekitError(
            f"{name} is {tensor.dtype} {list(tensor.shape)}: expected {dtype or 'float'} {list(shape)}."
        )


def _constants(fmt: Format):
    return np.float32(fmt.max), np.int32(fmt.mantissa_bits), np.int32(fmt.min_exponent)


def _blocks(scale: Tensor, shape: torch.Size) -> tuple[int, int]:
    """Height and width of the weights that share one scale."""
    rows, columns = shape
    if scale.shape not in ((1, 1), (rows, 1)):
        _check(scale, "scale", (-(-rows // FP8_BLOCK), -(-columns // FP8_BLOCK)))
    if scale.shape == (1, 1):
        return rows, columns
    return (1, columns) if scale.shape == (rows, 1) else (FP8_BLOCK, FP8_BLOCK)


def select(
    W: Tensor,
    f: Tensor,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    rate: float = RATE,
    block: int = BLOCK,
    joint: tuple[Format, Tensor] | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Score and select in one pass: `ewma.quantile_mask` or `patterns.nm_mask` of ``W^2 f``.

    Args:
        W: weight ``[out, in]`` on the CPU, float32, bfloat16 or float16 (the last two are widened first).
        f: column factors ``[in]``, see `scores.column_factors`.
        sparsity: share to prune per row, in ``[0, 1)``; or else
        pattern: ``"N:M"``.
        rate: step of the threshold, see `ewma.quantile_mask`.
        block: weights compared with one threshold.
        joint: an FP8 format and scales (`fp8.scales`) with which to weigh the casting error in, as
            `scores.keep_score` does.
        out: bool ``[out, in]`` to write the mask into.

    Returns:
        bool ``[out, in]``, True where a weight is kept.

    Raises:
        PrunekitError: bad sparsity or pattern, a width that the pattern does not divide, or a size that is off.
    """
    fmt, scale = joint or (E4M3, torch.empty(0, 0))
    height, width = _blocks(scale, W.shape) if joint else (1, W.shape[1])
    keep = torch.empty(W.shape, dtype=torch.bool) if out is None else out
    _check(keep, "out", W.shape, torch.bool)
    arguments = _arguments(W, f, sparsity, pattern, rate, block)
    _select_pass(*arguments, scale.numpy(), height, width, _constants(fmt), keep.numpy())
    return keep


def cast(W: Tensor, keep: Tensor, scale: Tensor, fmt: Format = E4M3) -> Tensor:
    """`fp8.cast` in one pass: codes of `fmt.dtype`, ``[out, in]``, zero where `keep` is False."""
    _use_threads()
    _check(keep, "keep", W.shape, torch.bool)
    codes = torch.empty(W.shape, dtype=torch.uint8)
    height, width = _blocks(scale, W.shape)
    w = W.detach().float().contiguous().numpy()
    _cast_pass(w, keep.numpy(), scale.numpy(), height, width, _constants(fmt), codes.numpy())
    return codes.view(fmt.dtype)


def uncast(codes: Tensor, scale: Tensor) -> Tensor:
    """`fp8.uncast` in one pass: float32 ``[out, in]``. Codes for NaN and infinity, never written, are not known."""
    _use_threads()
    fmt = E4M3 if codes.dtype == E4M3.dtype else E5M2
    out = torch.empty(codes.shape)
    height, width = _blocks(scale, codes.shape)
    power, shift = np.float32(2.0 ** (127 - fmt.bias)), np.int32(23 - fmt.mantissa_bits)
    _uncast_pass(codes.view(torch.uint8).numpy(), scale.numpy(), height, width, shift, power, out.numpy())
    return out


def select_cast(
    W: Tensor,
    f: Tensor,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    fmt: Format = E4M3,
    rate: float = RATE,
    block: int = BLOCK,
    out: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Score, select and cast each row in one sweep, with one scale for each row.

    The score weighs pruning against casting (`scores.keep_score`), with a provisional scale from the whole
    row; the final scale comes from the survivors.

    Args:
        W: weight ``[out, in]``; this and the next five as in `select`.
        f: column factors ``[in]``.
        sparsity: share to prune per row; or else
        pattern: ``"N:M"``.
        rate: step of the threshold.
        block: weights compared with one threshold.
        fmt: `fp8.E4M3` or `fp8.E5M2`.
        out: the three tensors of the result, to write into.

    Returns:
        (keep, codes, scale): bool ``[out, in]``, `fmt.dtype` ``[out, in]``, float32 ``[out, 1]``.

    Raises:
        PrunekitError: as `select`.
    """
    if out is None:
        rows = W.shape[0]
        out = (
            torch.empty(W.shape, dtype=torch.bool),
            torch.empty(W.shape, dtype=fmt.dtype),
            torch.empty(rows, 1),
        )
    keep, codes, scale = out
    _check(keep, "out[0]", W.shape, torch.bool)
    _check(codes, "out[1]", W.shape, fmt.dtype)
    _check(scale, "out[2]", (W.shape[0], 1), torch.float32)
    arguments = _arguments(W, f, sparsity, pattern, rate, block)
    _joint_pass(*arguments, _constants(fmt), keep.numpy(), codes.view(torch.uint8).numpy(), scale.numpy())
    return out
