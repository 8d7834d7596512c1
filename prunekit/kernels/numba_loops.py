"""The loops of the fused CPU pass, compiled by numba: the pseudocode is the code.

A pass reads each row from memory once; what follows happens in a buffer of a few rows that stays in the cache.
Every operation is float32 and in the order of the plain functions, so that results agree bit for bit.
`cpu.py` calls the passes with arguments that it has checked (nothing here looks at sizes), each thread for
its own range of rows, or of groups of rows. Selection and cast share this file because numba's cache of a pass
notices changes in the file of that pass alone, not in those of the functions that it calls.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit

from ..method.ewma import BLOCK, HIGH, LOW

GROUP = 4  # rows that one thread works on at a time
_LOW, _HIGH = np.float32(LOW), np.float32(HIGH)
_INFINITY = np.float32(np.inf)
_ROUND = np.float32(1.5 * 2**23)  # adding and subtracting it rounds to an integer, halves to even
_TINY = np.float32(np.finfo(np.float32).tiny)


def _jit(function, nogil=False):
    """Compile, and keep the code on disk if there is a folder that may be written."""
    try:
        return njit(function, nogil=nogil, error_model="numpy", cache=True)
    except RuntimeError:
        return njit(function, nogil=nogil, error_model="numpy")


_pass = partial(_jit, nogil=True)


@_jit
def _scores(w, f, L, low, high):
    """`scores.score` of one row, clamped."""
    for j in range(w.size):
        L[j] = min(max(w[j] * w[j] * f[j], low), high)


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
def _top_survivor(w, keep):
    """The same among the weights that are kept."""
    bits = w.view(np.int32)
    top = np.int32(0)
    for j in range(bits.size):
        top = np.int32(max(top, bits[j] & 0x7FFFFFFF if keep[j] else 0))
    return np.int32(top).view(np.float32)


@_jit
def _scale(top, fmt_max):
    return max(top / fmt_max, _TINY) if top > 0 else np.float32(1)


@_jit
def _keep_scores(w, f, L, scale, width, fmt_max, mantissa_bits, min_exponent, low, high):
    """`scores.keep_score` of one row, clamped."""
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
            Lb[j] = min(max((wb[j] * wb[j] - error * error) * fb[j], low), high)


@_jit
def _sum(x):
    """Sum of one block, by adding halves: the order of `ewma.start_threshold`."""
    half = np.empty(BLOCK // 2, np.float32)
    for k in range(BLOCK // 2):
        half[k] = x[k] + x[BLOCK // 2 + k]
    width = BLOCK // 4
    while width > 0:
        for k in range(width):
            half[k] += half[width + k]
        width //= 2
    return half[0]


@_jit
def _select_quantile(L, columns, share, warmup, decision, keep):
    """`ewma.quantile_mask` for a few rows. They take turns, so that none waits for its threshold to be updated.

    L is ``[rows, blocks, BLOCK]``; beyond `columns` it holds infinity, which no threshold exceeds. Loops over a
    block have a fixed length, for which compilers make much better code.
    """
    rows, blocks, _ = L.shape
    q = np.empty(rows, np.float32)
    for i in range(rows):
        if columns < BLOCK:
            first = np.zeros(BLOCK, np.float32)
            first[:columns] = L[i, 0, :columns]
            q[i] = _sum(first) * share
        else:
            b, total = 0, _sum(L[i, 0])
            while total <= _LOW * np.float32(BLOCK) and (b + 2) * BLOCK <= columns:
                b += 1
                total = _sum(L[i, b])
            q[i] = total * share
    for step in range(warmup.shape[0]):
        for i in range(rows):
            x, threshold, hits = L[i, step % blocks], q[i], np.int32(0)
            for k in range(BLOCK):
                hits += np.int32(x[k] < threshold)
            q[i] *= warmup[step, hits]
    for b in range(blocks):
        for i in range(rows):
            x, threshold, hits = L[i, b], q[i], np.int32(0)
            for k in range(BLOCK):
                hits += np.int32(x[k] < threshold)
            q[i] *= decision[b, hits]
            y = keep[i, b * BLOCK : (b + 1) * BLOCK]
            if y.size == BLOCK:
                for k in range(BLOCK):
                    y[k] = x[k] >= threshold
            else:
                for k in range(y.size):
                    y[k] = x[k] >= threshold


@_jit
def _buffer(rows, columns):
    """Room for the scores of a few rows, in whole blocks: ``[rows, blocks, BLOCK]``, and the same row by row."""
    L = np.empty((rows, (columns + BLOCK - 1) // BLOCK, BLOCK), np.float32)
    return L, L.reshape(rows, -1)


@_jit
def _select(L, flat, n, m, share, warmup, decision, keep):
    columns = keep.shape[1]
    for i in range(flat.shape[0]):
        if m > 0:
            _select_nm(flat[i, :columns], n, m, keep[i])
            continue
        flat[i, columns:] = np.inf
    if m == 0:
        _select_quantile(L, columns, share, warmup, decision, keep)


@_jit
def _select_2_of_4(L, keep):
    """`_select_nm` for 2:4, without a branch: the six comparisons of four neighbours."""
    for j in range(0, L.size, 4):
        a, b, c, d = L[j], L[j + 1], L[j + 2], L[j + 3]
        ab, ac, ad = np.int8(a >= b), np.int8(a >= c), np.int8(a >= d)
        bc, bd, cd = np.int8(b >= c), np.int8(b >= d), np.int8(c >= d)
        keep[j] = ab + ac + ad >= 2
        keep[j + 1] = bc + bd >= ab + 1
        keep[j + 2] = cd >= ac + bc
        keep[j + 3] = ad + bd + cd <= 1


@_jit
def _select_nm(L, n, m, keep):
    if n == 2 and m == 4:
        _select_2_of_4(L, keep)
        return
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


@_pass
def select_pass(begin, end, W, f, n, m, share, warmup, decision, joint_scale, height, width, fp8, keep):
    for group in range(begin, end):
        first, last = group * GROUP, min((group + 1) * GROUP, W.shape[0])
        bounds = (-_INFINITY, _INFINITY) if m > 0 else (_LOW, _HIGH)
        L, flat = _buffer(last - first, W.shape[1])
        for r in range(first, last):
            if joint_scale.size > 0:
                _keep_scores(W[r], f, flat[r - first], joint_scale[r // height], width, fp8[0], fp8[1], fp8[2], *bounds)
            else:
                _scores(W[r], f, flat[r - first], *bounds)
        _select(L, flat, n, m, share, warmup, decision, keep[first:last])


@_pass
def cast_pass(begin, end, W, keep, scale, height, width, fp8, codes):
    for r in range(begin, end):
        _cast(W[r], keep[r], scale[r // height], width, fp8[0], fp8[1], fp8[2], codes[r])


@_pass
def uncast_pass(begin, end, codes, scale, height, width, shift, power, out):
    for r in range(begin, end):
        for b in range(scale.shape[1]):
            s = scale[r // height, b]
            cb, ob = codes[r, b * width : (b + 1) * width], out[r, b * width : (b + 1) * width]
            for j in range(cb.size):
                c = np.int32(cb[j])
                # Exponent and mantissa moved to where float32 has them; the power makes up for the bias.
                bits = np.int32(((c & 0x80) << 24) | ((c & 0x7F) << shift))
                ob[j] = (bits.view(np.float32) * power) * s


@_pass
def round_trip_pass(begin, end, W, fp8, out):
    for r in range(begin, end):
        s = _scale(_top(W[r]), fp8[0])
        w, o = W[r], out[r]
        for j in range(w.size):
            value, _ = _round_to_fp8(min(abs(w[j]) / s, fp8[0]), fp8[1], fp8[2])
            o[j] = value * s if w[j] >= 0 else -value * s


@_jit
def _select_joint(first, last, W, f, n, m, share, warmup, decision, fp8, keep):
    """Score with a provisional scale from each whole row, and select, for a few rows."""
    bounds = (-_INFINITY, _INFINITY) if m > 0 else (_LOW, _HIGH)
    L, flat = _buffer(last - first, W.shape[1])
    scale = np.empty(1, np.float32)
    for r in range(first, last):
        scale[0] = _scale(_top(W[r]), fp8[0])
        _keep_scores(W[r], f, flat[r - first], scale, W.shape[1], fp8[0], fp8[1], fp8[2], *bounds)
    _select(L, flat, n, m, share, warmup, decision, keep[first:last])


@_pass
def select_pruned_pass(begin, end, W, f, n, m, share, warmup, decision, fp8, keep, pruned):
    for group in range(begin, end):
        first, last = group * GROUP, min((group + 1) * GROUP, W.shape[0])
        _select_joint(first, last, W, f, n, m, share, warmup, decision, fp8, keep)
        for r in range(first, last):
            w, k, p = W[r].view(np.int32), keep[r], pruned[r]
            for j in range(w.size):
                # Rounded, the upper half of a float32 is a bfloat16 number.
                upper = np.int32(np.int32(w[j] + 0x8000) >> 16)
                p[j] = np.uint16(np.int32(0) if k[j] else upper)


@_pass
def cast_changed_pass(begin, end, W, change, keep, fp8, codes, scale):
    w = np.empty(W.shape[1], np.float32)
    for r in range(begin, end):
        a, c = W[r], change[r]
        for j in range(w.size):
            w[j] = a[j] + np.int32(np.int32(c[j]) << 16).view(np.float32)
        scale[r, 0] = _scale(_top_survivor(w, keep[r]), fp8[0])
        _cast(w, keep[r], scale[r], w.size, fp8[0], fp8[1], fp8[2], codes[r])


@_pass
def joint_pass(begin, end, W, f, n, m, share, warmup, decision, fp8, keep, codes, scale):
    for group in range(begin, end):
        first, last = group * GROUP, min((group + 1) * GROUP, W.shape[0])
        _select_joint(first, last, W, f, n, m, share, warmup, decision, fp8, keep)
        for r in range(first, last):
            scale[r, 0] = _scale(_top_survivor(W[r], keep[r]), fp8[0])
            _cast(W[r], keep[r], scale[r], W.shape[1], fp8[0], fp8[1], fp8[2], codes[r])
