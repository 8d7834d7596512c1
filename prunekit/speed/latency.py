"""A latency model for one linear layer on a GPU, dense and with a 2:4 weight: `predict`.

    latency = launch + max(tensor cores, memory), but never below what the host needs to issue a kernel

1. **Tensor cores.** The output `[M, N]` is cut into tiles; each multiprocessor works on one tile at a time,
   so time moves in whole *waves* of tiles. Big tiles re-read their operands less often, small ones fill the
   last wave better: a library tries them all, and so does `_tensor_core_us`. If there are too few tiles to go
   round, a dense kernel may also *split K* among several multiprocessors and add up their partial sums.
2. **Memory.** Weight, input and output cross the memory bus once; what fits in the L2 cache is still there
   from the launch before (benchmarks, and small models, repeat on the same buffers). A 2:4 weight is half the
   elements plus 2 bits of position for each one kept: `N K / 8` bytes, whatever the format.
3. **Clock.** Data-centre cards meet their power limit long before their data-sheet rate (`Gpu.burst`), and
   the longer a kernel runs the further the regulator turns them down. GeForce cards, whose tensor cores run
   at half rate when they accumulate in FP32, hardly do: an RTX 5080 keeps 7 % above its boost clock.

Where the constants come from is said beside each. Those called *fitted* were fitted to the published RTX 4090
and RTX 5080 rows. No constant was fitted to the H100 rows (`prunekit.speed.accuracy` tests on them, and can fit
the other way round), but they were looked at while the terms were chosen, and the time a server takes to start
its smallest kernel is theirs.

What is left unexplained: with 64 tokens the gain of 2:4 is off by 9 to 29 % in the median, since which kernel a
library has there is chance; with fewer nothing was published, and what 2:4 gains with one token rests on how
cuSPARSELt walks along K (`sparse_clocks`), which kernels made for one token need not do. On the RTX 5080 cuBLASLt
has no good BF16 kernel for some shapes with up to 256 tokens (64 x 16384 x 3072 takes 283 microseconds, where
memory needs 105). 37888 x 3584 in BF16 gains less from 2:4 than its neighbours on both. Why 2:4 in FP8 stops at
1.75 times dense on compute capability 12.x is not known either: `sparse_fp8_12` only says so. And those cards' FP8
rates are those of kernels with one scale a tensor, which accumulate in FP32 at half rate; with a scale for each
block of 32 (MXFP8) the same tensor cores are not halved (600 TFLOPS on an RTX 5090:
github.com/NVIDIA/CUDALibrarySamples, issue 283).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from operator import index

from ..errors import PrunekitError
from .devices import Gpu, check_dtype, find_gpu

# Rows (tokens) x columns (outputs) of an output tile, and the shares that K may be split into.
TILES = ((64, 64), (64, 128), (128, 64), (128, 128), (128, 256), (256, 128))
SPLITS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Constants:
    """Everything in the model that is neither a shape nor a data-sheet figure."""

    # Fitted: a kernel's start, its first loads and its last stores, in microseconds.
    launch_us: float = 3.3
    # Fitted: what a tile loses by its edges, eff ~ 1 / (1 + edge (1/rows + 1/columns)). A 2:4 kernel eats its
    # operands twice as fast and loses far more, in proportion to how hungry the tensor cores are
    # (`Gpu.feed_ratio`).
    dense_edge: float = 3.0
    sparse_edge: float = 20.0
    # Fitted: filling and draining a 2:4 kernel's pipeline costs every tile as much as this many more columns
    # of K.
    sparse_fill: float = 220.0
    # Fitted: where FP32 accumulation halves the rate (GeForce before 12.x) the power limit costs a dense product a
    # little, and a 2:4 product, which moves half the weight, nothing.
    sparse_half_rate: float = 1.05
    # Fitted: on GeForce cards of compute capability 12.x a 2:4 tile loses no more by its edges than a dense one, and
    # reaches twice the dense rate in 16 bits, but only this share of it in FP8.
    sparse_fp8_12: float = 0.91
    # Fitted: share of the data-sheet bandwidth that a product gets; the L2 cache is taken as 3 times as fast.
    dram_share: float = 0.88
    l2_speed: float = 3.0
    # Fitted: splitting K starts a second step that adds up the parts.
    split_us: float = 3.0
    # Fitted: hits fade out until the buffers are this many times the cache.
    l2_fade: float = 1.25
    # Fitted: a 2:4 kernel does not split K, and no tile walks along it faster than a column in so many clocks, however
    # few tokens there are; the FP8 kernels of the H100 and all of the B200, another kind of instruction, do. The
    # GeForce cards' FP8 rows would take 7.5 to 9.5; the H100's BF16 rows, which want 9, were looked at.
    sparse_clocks: float = 8.8
    # A small kernel waits for the host: published at M = N = K = 64 are 9.4 to 11.3 us on the RTX 4090's desktop, 4.5
    # to 5.8 on the H100's server, and 2.1 to 4.1 on the RTX 5080's desktop, which also stands for others of its time.
    desktop_issue_us: float = 9.8
    server_issue_us: float = 4.6
    desktop_12_issue_us: float = 3.3
    # Full-rate tensor cores cannot be fed twice as fast: a 2:4 product gets this share of twice the dense
    # rate. An A100 held at one clock reached 484 TFLOPS against 302 dense (github.com/NVIDIA/cutlass, issue
    # 408).
    sparse_full_rate: float = 0.81
    # Under a power limit FP8 is not quite twice as fast as BF16: 1.9 times (github.com/pytorch/FBGEMM, pull
    # 2546).
    fp8_power: float = 0.95
    # The regulator: beyond 150 us per kernel (25 + 50 launches: 10 ms) a power-limited card slows as a power of the
    # time, the more so the further `Gpu.burst` lies below the 0.95 of a card that power does not limit: t^0.06 on the
    # H100 PCIe. Chosen between published curves over size (H100 SXM, A100 PCIe, B200: the sources in `devices`; an
    # A100 SXM still does 268 TFLOPS in a product of 2 ms) and the H100 rows.
    throttle_from_us: float = 150.0
    throttle_power: float = 0.207
    unlimited: float = 0.95


CONSTANTS = Constants()


@dataclass(frozen=True)
class Prediction:
    """Predicted latencies in microseconds; the 2:4 figures are None where no kernel multiplies a 2:4 weight.

    `bound` and `sparse24_bound` say what sets the time: "launch", "memory", "cache" or "tensor cores".
    """

    dense_us: float
    sparse24_us: float | None
    speedup: float | None
    bound: str
    sparse24_bound: str | None


def predict(
    gpu: Gpu | str,
    dtype: str,
    M: int,
    N: int,
    K: int,
    *,
    cold: bool = False,
    weight_only: bool = False,
    c: Constants = CONSTANTS,
) -> Prediction:
    """Latency of `[M, K] @ [N, K].T` by a tuned library, dense and with a 2:4 weight.

    Args:
        gpu: a card of `prunekit.speed.devices`, or its name.
        dtype: "fp8" (E4M3, BF16 output), "bf16" or "fp16".
        M: tokens.
        N: outputs.
        K: inputs. 2:4 keeps two of every four weights along K, so K must divide by 4 where the card has 2:4.
        cold: the weight comes from memory, as in a model that is larger than the cache; otherwise the same product is
            repeated, as the published benchmarks do, and a small weight is still in the cache.
        weight_only: an FP8 weight meets 16-bit inputs in 16-bit arithmetic; no 2:4. So it is by itself on cards without
            FP8 tensor cores, with up to `devices.FEW_TOKENS` tokens.
        c: the model's constants.

    Returns:
        Latencies in microseconds, the speed-up, and what sets the times.

    Raises:
        PrunekitError: unknown card, a format that the card lacks, or an impossible shape.
    """
    gpu = find_gpu(gpu)
    check_sizes(M, N, K, gpu.sparse24)
    dtype = dtype.lower() if weight_only else check_dtype(gpu, dtype, M)
    weight_only = dtype == "fp8" and (weight_only or gpu.fp8 is None)
    dense, bound = _latency(_Product(gpu, dtype, M, N, K, False, cold, weight_only), c)
    if not gpu.sparse24 or weight_only:
        return Prediction(dense, None, None, bound, None)
    # Sparse kernels take K in steps of 32 bytes; a shorter last step is padded.
    step = 32 if dtype == "fp8" else 16
    padded = ceil(K / step) * step
    sparse, sparse_bound = _latency(_Product(gpu, dtype, M, N, padded, True, cold), c)
    return Prediction(dense, sparse, dense / sparse, bound, sparse_bound)


def check_sizes(M: int, N: int, K: int, sparse24: bool = True) -> None:
    """Refuse sizes that no layer can have.

    Args:
        M: tokens.
        N: outputs.
        K: inputs.
        sparse24: whether the shape must suit 2:4 as well.

    Raises:
        PrunekitError: a size is no whole number of 1 to 2^31 - 1, or K does not divide by 4 for 2:4.
    """
    for name, value in (("M", M), ("N", N), ("K", K)):
        try:
            valid = 1 <= index(value) < 2**31
        except TypeError:
            valid = False
        if not valid:
            raise PrunekitError(f"{name} is {value}, but a layer's sizes are whole numbers from 1 to {2**31 - 1}.")
    if sparse24 and K % 4:
        raise PrunekitError(f"K is {K}, but 2:4 keeps two of every four weights along K: K must divide by 4.")


@dataclass(frozen=True)
class _Product:
    """One product on one card, dense or with a 2:4 weight, its weight in the cache or not."""

    gpu: Gpu
    dtype: str
    M: int
    N: int
    K: int
    sparse: bool
    cold: bool
    weight_only: bool = False


def _latency(p: _Product, c: Constants) -> tuple[float, str]:
    """Microseconds, and what sets them."""
    tensor = _tensor_core_us(p, c)
    memory, hit = _memory_us(p, c)
    core = max(tensor, memory)
    desktop = c.desktop_12_issue_us if p.gpu.capability >= (12, 0) else c.desktop_issue_us
    issue = c.server_issue_us if p.gpu.server else desktop
    if c.launch_us + core < issue or core < c.launch_us:
        bound = "launch"
    elif memory >= tensor:
        bound = "cache" if hit > 0.5 else "memory"
    else:
        bound = "tensor cores"
    return max(c.launch_us + core, issue), bound


def _memory_us(p: _Product, c: Constants) -> tuple[float, float]:
    """Microseconds to move the operands once, and the share of the weight that the L2 cache still holds."""
    gpu, size = p.gpu, 1 if p.dtype == "fp8" else 2
    weight = p.N * p.K * size * 0.5 + p.N * p.K / 8 if p.sparse else p.N * p.K * size
    rest = p.M * p.K * (2 if p.weight_only else size) + p.M * p.N * 2
    # Two-part caches keep shared data twice, so hits begin to fade at half the size.
    full, gone = gpu.l2_mb * 1e6 / gpu.l2_parts, gpu.l2_mb * 1e6 * c.l2_fade
    hit = min(1.0, max(0.0, (gone - weight - rest) / (gone - full)))
    weight_hit = 0.0 if p.cold else hit
    cached = rest * hit + weight * weight_hit
    bandwidth = gpu.bandwidth_gbs * 1e3
    us = (weight + rest - cached) / (bandwidth * c.dram_share) + cached / (bandwidth * c.l2_speed)
    return us, weight_hit


def _tensor_core_us(p: _Product, c: Constants) -> float:
    """Microseconds of the best tile and split: waves x (work of a tile / rate of a multiprocessor)."""
    gpu, rate = p.gpu, _rate(p, c)
    edge, fill = c.dense_edge, 0.0
    splits: tuple[int, ...] = SPLITS
    if p.sparse:
        fill, splits = c.sparse_fill, (1,)
        if not _half_rate_12(gpu):
            edge = c.sparse_edge * max(1.0, gpu.feed_ratio)
    best = float("inf")
    for rows, columns in TILES:
        rows = min(rows, 16 * ceil(p.M / 16))  # few tokens: libraries have thinner tiles, in steps of 16
        # Relative to the largest tile: that one reaches the full rate.
        efficiency = min(1.0, (1 + edge * 3 / 256) / (1 + edge * (1 / rows + 1 / columns)))
        tile_us = 2 * rows * columns * (p.K + fill) / (rate * efficiency / gpu.sms)
        tiles = ceil(p.M / rows) * ceil(p.N / columns)
        for split in splits:
            us = ceil(tiles * split / gpu.sms) * tile_us / split
            if split > 1:  # FP32 partial sums, written and read again through the cache
                us += c.split_us + 2 * split * p.M * p.N * 4 / (gpu.bandwidth_gbs * 1e3 * c.l2_speed)
            best = min(best, us)
    if p.sparse and gpu.capability[0] not in ((9, 10) if p.dtype == "fp8" else (10,)):
        best = max(best, p.K * c.sparse_clocks / gpu.boost_mhz)
    lacking = max(0.0, c.unlimited - gpu.burst)
    return best * max(1.0, best / c.throttle_from_us) ** (c.throttle_power * lacking)


def _rate(p: _Product, c: Constants) -> float:
    """Floating-point operations a microsecond of the whole card on its largest tile (zeros count for 2:4)."""
    gpu, dtype = p.gpu, p.dtype
    if p.weight_only:
        dtype = "bf16" if gpu.bf16 else "fp16"
    rate = getattr(gpu, dtype) * 1e6 * gpu.burst
    if dtype == "fp8" and gpu.burst < 0.9:
        rate *= c.fp8_power
    if not p.sparse:
        return rate
    if _half_rate_12(gpu):
        return 2 * rate * (c.sparse_fp8_12 if dtype == "fp8" else 1.0)
    return 2 * rate * (c.sparse_half_rate if gpu.feed_ratio < 1.5 else c.sparse_full_rate)


def _half_rate_12(gpu: Gpu) -> bool:
    """A GeForce card of compute capability 12.x."""
    return gpu.capability >= (12, 0) and gpu.feed_ratio < 1.5
