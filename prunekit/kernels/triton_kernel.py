"""The fused GPU pass, one Triton kernel: score, select and cast, for a share of each row and for N:M.

A program works on a few rows at a time and goes along them in tiles. Per tile it computes the scores anew from
the weights rather than storing them, since the first sweep brings a row into the cache and the later ones find
it there: memory sees each weight once. Every operation is float32 and in the order of the plain functions,
without contraction into multiply-adds, and FP8 is rounded by float32 arithmetic, so that the kernel needs no FP8
hardware and agrees with the plain functions bit for bit.

`cuda.py` launches it. It has run in Triton's interpreter on the CPU and been compiled for compute capability
8.0 to 12.0; it is untested on a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..method.ewma import HIGH, LOW
from .triton_fp8 import cast_tile, divide, round_to_fp8, scale_of

_LOW, _HIGH = tl.constexpr(LOW), tl.constexpr(HIGH)
_BEYOND = tl.constexpr(float("inf"))


@triton.jit
def _columns(b, tile, columns, M: tl.constexpr, MP: tl.constexpr, TILE: tl.constexpr):
    """Columns of the b-th tile, and which of its places hold one: groups of M are padded to MP places."""
    column = b * (TILE // MP * M) + (tile if M == MP else tile // MP * M + tile % MP)
    return column, (tile % MP < M) & (column < columns)


@triton.jit
def _scored_tile(
    W, f, given, b, tile, start, in_rows, row, s, r, columns, height, width, given_columns,
    M: tl.constexpr, MP: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr, JOINT: tl.constexpr,
    CAST: tl.constexpr, FMA: tl.constexpr, MAX: tl.constexpr, MANTISSA: tl.constexpr, LOWEST: tl.constexpr,
):  # fmt: skip
    """The b-th tile's weights, scores (`scores.score`, or `scores.keep_score` if JOINT), columns and valid places.

    `s` is the rows' scale and `r` its reciprocal; without CAST a scale is looked up in `given` for each weight.
    """
    column, valid = _columns(b, tile, columns, M, MP, TILE)
    w = tl.load(W + start + column, in_rows & valid, 0.0).to(tl.float32)
    # Spread over the rows, so that it arrives in the layout of the weights.
    factors = tl.load(f + tl.broadcast_to(column, [ROWS, TILE]), in_rows & valid, 0.0)
    if JOINT:
        if not CAST:
            s = tl.load(given + (row // height)[:, None] * given_columns + column // width, in_rows & valid, 1.0)
            r = tl.div_rn(1.0, s)
        a = tl.abs(w)
        value, _ = round_to_fp8(tl.minimum(divide(a, s, r, FMA), MAX), MANTISSA, LOWEST)
        error = a - value * s
        L = (w * w - error * error) * factors
    else:
        L = w * w * factors
    return w, L, column, valid


@triton.jit
def _clamped(L, valid):
    """Scores as the threshold meets them: `ewma.quantile_mask`; where there is no weight, above any threshold."""
    return tl.where(valid, tl.minimum(tl.maximum(L, _LOW), _HIGH), _BEYOND)


@triton.jit
def _sum_by_halves(x, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Sum of each row of ``[ROWS, WIDTH]``, by adding halves: the order of `ewma.start_threshold`."""
    for level in tl.static_range(16):
        if (WIDTH >> level) > 1:
            x = tl.sum(tl.reshape(x, [ROWS, 2, WIDTH >> (level + 1)]), axis=1)
    return tl.reshape(x, [ROWS])


@triton.jit
def _beats(g, place, rival):
    """Whether the rival-th of its group beats each score: it is higher, or equal and further left."""
    r = tl.sum(tl.where(place == rival, g, 0.0), axis=1)[:, None]
    return ((r > g) | ((r == g) & (rival < place))).to(tl.int32)


@triton.jit
def _select_nm(L, valid, N: tl.constexpr, M: tl.constexpr, MP: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr):
    """`masks.nm_mask` of a tile of whole groups."""
    g = tl.reshape(tl.where(valid, L, -_BEYOND), [ROWS * TILE // MP, MP])
    place = tl.arange(0, MP)[None, :]
    beaten_by = tl.zeros([ROWS * TILE // MP, MP], tl.int32)
    if M <= 8:
        for rival in tl.static_range(M):
            beaten_by += _beats(g, place, rival)
    else:
        for rival in range(M):
            beaten_by += _beats(g, place, rival)
    return tl.reshape(beaten_by < N, [ROWS, TILE])


@triton.jit
def _provisional_scale(
    W, tile, start, in_rows, columns, blocks,
    M: tl.constexpr, MP: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr, MAX: tl.constexpr,
):  # fmt: skip
    """Each row's scale from all of its weights, ``[ROWS, 1]``."""
    most = tl.zeros([ROWS, TILE], tl.float32)
    for b in range(blocks):
        column, valid = _columns(b, tile, columns, M, MP, TILE)
        most = tl.maximum(most, tl.abs(tl.load(W + start + column, in_rows & valid, 0.0).to(tl.float32)))
    return scale_of(tl.max(most, axis=1), MAX)[:, None]


@triton.jit
def _start_threshold(
    W, f, given, tile, start, in_rows, row, s, r, columns, height, width, given_columns, share,
    M: tl.constexpr, MP: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr, JOINT: tl.constexpr,
    CAST: tl.constexpr, FMA: tl.constexpr, MAX: tl.constexpr, MANTISSA: tl.constexpr, LOWEST: tl.constexpr,
):  # fmt: skip
    """Where each row's threshold begins: `ewma.start_threshold`, ``[ROWS]``."""
    _, L, _, valid = _scored_tile(
        W, f, given, 0, tile, start, in_rows, row, s, r, columns, height, width, given_columns,
        M, MP, TILE, ROWS, JOINT, CAST, FMA, MAX, MANTISSA, LOWEST,
    )  # fmt: skip
    q = _sum_by_halves(tl.where(valid, _clamped(L, valid), 0.0), ROWS, TILE)
    b = 1
    while (tl.min(q, axis=0) <= _LOW * M) & ((b + 1) * M <= columns):
        _, L, _, valid = _scored_tile(
            W, f, given, b, tile, start, in_rows, row, s, r, columns, height, width, given_columns,
            M, MP, TILE, ROWS, JOINT, CAST, FMA, MAX, MANTISSA, LOWEST,
        )  # fmt: skip
        total = _sum_by_halves(tl.where(valid, _clamped(L, valid), 0.0), ROWS, TILE)
        q = tl.where(q <= _LOW * M, total, q)
        b += 1
    return q * share


@triton.jit
def fused_pass(
    W,  # [rows, columns], float32, bfloat16 or float16
    f,  # float32 [columns]
    given,  # float32 scales, read if JOINT and not CAST: element (row // height, column // width) of each weight
    keep,  # uint8 [rows, columns], out
    codes,  # uint8 [rows, columns], out if CAST
    scale,  # float32 [rows], out if CAST
    warmup,  # float32 [sweeps * blocks, M + 1], read if N == 0: `ewma.step_tables`
    decision,  # float32 [blocks, M + 1], likewise
    rows,
    columns,
    sweeps,
    share,  # the sum of min(M, columns) scores times it is where the threshold begins
    height,
    width,
    given_columns,
    N: tl.constexpr,  # weights kept of every M; 0: track a quantile in blocks of M
    M: tl.constexpr,
    MP: tl.constexpr,  # M rounded up to a power of two
    TILE: tl.constexpr,  # places in a tile: a power of two; MP if N == 0
    ROWS: tl.constexpr,  # rows at a time
    JOINT: tl.constexpr,  # weigh the casting error in
    CAST: tl.constexpr,  # and cast, with one scale for each row
    FMA: tl.constexpr,  # whether tl.fma rounds once, as it does on a GPU
    MAX: tl.constexpr,  # largest FP8 value, bits of its mantissa, exponent of the smallest normal one
    MANTISSA: tl.constexpr,
    LOWEST: tl.constexpr,
):
    tile = tl.arange(0, TILE)[None, :]
    blocks = tl.cdiv(columns, TILE // MP * M)
    for group in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        row = group * ROWS + tl.arange(0, ROWS)
        in_rows = (row < rows)[:, None]
        start = row.to(tl.int64)[:, None] * columns

        # 1. A provisional scale, if there is a cast.
        s = tl.full([ROWS, 1], 1.0, tl.float32)
        r = s
        if CAST:
            s = _provisional_scale(W, tile, start, in_rows, columns, blocks, M, MP, TILE, ROWS, MAX)
            r = tl.div_rn(1.0, s)

        # 2. A threshold, warmed up over some sweeps, if a share is to go.
        if N == 0:
            q = _start_threshold(
                W, f, given, tile, start, in_rows, row, s, r, columns, height, width, given_columns, share,
                M, MP, TILE, ROWS, JOINT, CAST, FMA, MAX, MANTISSA, LOWEST,
            )  # fmt: skip
            for sweep in range(sweeps):
                for b in tl.range(0, blocks, loop_unroll_factor=4):  # lets the loads of four tiles overlap
                    _, L, _, valid = _scored_tile(
                        W, f, given, b, tile, start, in_rows, row, s, r, columns, height, width, given_columns,
                        M, MP, TILE, ROWS, JOINT, CAST, FMA, MAX, MANTISSA, LOWEST,
                    )  # fmt: skip
                    hits = tl.sum((_clamped(L, valid) < q[:, None]).to(tl.int32), axis=1)
                    q *= tl.load(warmup + (sweep * blocks + b) * (M + 1) + hits)

        # 3. The decisions.
        most = tl.zeros([ROWS, TILE], tl.float32)
        for b in range(blocks):
            w, L, column, valid = _scored_tile(
                W, f, given, b, tile, start, in_rows, row, s, r, columns, height, width, given_columns,
                M, MP, TILE, ROWS, JOINT, CAST, FMA, MAX, MANTISSA, LOWEST,
            )  # fmt: skip
            if N == 0:
                L = _clamped(L, valid)
                stays = q[:, None] <= L
                hits = tl.sum((q[:, None] > L).to(tl.int32), axis=1)
                q *= tl.load(decision + b * (M + 1) + hits)
            else:
                stays = _select_nm(L, valid, N, M, MP, TILE, ROWS)
            tl.store(keep + start + column, stays.to(tl.uint8), in_rows & valid)
            most = tl.maximum(most, tl.where(stays, tl.abs(w), 0.0))

        # 4. The cast, with a scale from what stays.
        if CAST:
            s = scale_of(tl.max(most, axis=1), MAX)[:, None]
            tl.store(scale + row[:, None], s, in_rows)
            r = tl.div_rn(1.0, s)
            tl.debug_barrier()  # the mask is read back, perhaps by other threads than have written it
            for b in range(blocks):
                column, valid = _columns(b, tile, columns, M, MP, TILE)
                w = tl.load(W + start + column, in_rows & valid, 0.0).to(tl.float32)
                stays = tl.load(keep + start + column, in_rows & valid, 0) != 0
                code = cast_tile(w, stays, s, r, FMA, MAX, MANTISSA, LOWEST)
                tl.store(codes + start + column, code, in_rows & valid)
