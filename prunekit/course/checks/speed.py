"""What the exercises of notebook 05 ask for: judge a benchmark, count operations and waves, predict a step."""

import math
from collections.abc import Sequence
from statistics import median

import torch

from ..printing import numbers
from .exercise import Exercise, whole

VERDICTS = ("faster", "slower", "cannot tell")


def _number(value) -> float | None:
    """`value` as a float if it is one number, in whatever type; else None."""
    found = None if isinstance(value, bool) else numbers(value)
    return found.item() if found is not None and found.numel() == 1 else None


def _pair(out) -> tuple | None:
    """`out` as two things, or None."""
    try:
        return tuple(out) if not isinstance(out, str) and len(out) == 2 else None
    except TypeError:
        return None


def _close(value, right: float) -> bool:
    number = _number(value)
    return number is not None and math.isclose(number, right, rel_tol=2e-6)


# 5.1 -----------------------------------------------------------------------------------------------------------------


def judge(base: Sequence[float], other: Sequence[float]) -> tuple[float, str]:
    """The median of the ratios base / other, and whether three quarters of the rounds agree."""
    rounds = len(base)
    faster = sum(b > o for b, o in zip(base, other))
    slower = sum(b < o for b, o in zip(base, other))
    verdict = "faster" if 4 * faster >= 3 * rounds else "slower" if 4 * slower >= 3 * rounds else "cannot tell"
    return median(b / o for b, o in zip(base, other)), verdict


def _rounds(size: int, rng: torch.Generator) -> tuple[list[float], list[float]]:
    """Timings in turn: one of them faster, slower or equal, a slow spell of the machine, single bad rounds, ties."""
    size += whole(rng, 0, 1) * (size > 1)
    drift = [whole(rng, 1, 4) for _ in range(size)]
    gain = (10, 10, 11, 15, 7, 20)[whole(rng, 0, 5)]
    base = [float(d * gain) for d in drift]
    other = [float(10 * d + whole(rng, -1, 1) * whole(rng, 0, 3)) for d in drift]
    if size > 2 and whole(rng, 0, 1):  # one round in which somebody else used the machine
        (base if whole(rng, 0, 1) else other)[whole(rng, 0, size - 1)] *= 8
    if size > 2 and whole(rng, 0, 1):  # seconds of a kernel, which differ little, and some not at all
        other = [b * (1 + whole(rng, -1, 1) * 10.0 ** -whole(rng, 2, 5)) for b in base]
        base, other = ([value * 1e-6 for value in values] for values in (base, other))
    return base, other


def _shares() -> list[tuple]:
    """Every number of wins, losses and ties in up to 12 rounds that is near to three quarters."""
    found = []
    for rounds in (2, 3, 4, 5, 6, 7, 8, 10, 12):
        needed, step, unit = -(-3 * rounds // 4), (0.01, 3e-5)[rounds % 2], (1.0, 2e-5)[rounds > 5]
        for wins in (needed, needed - 1):
            for lost in (0.0, 0.4 * step):  # the others are ties, or just lost
                factors = [1.0 - step * (i + 1) for i in range(wins)] + [1.0 + lost] * (rounds - wins)
                base, other = [unit] * rounds, [unit * factor for factor in factors]
                found += [(base, other), (other, base)]
    return found


def _verify_judge(args: tuple, out) -> str | None:
    base, other = args
    right, verdict = judge(base, other)
    pair = _pair(out)
    if pair is None or _number(pair[0]) is None or not isinstance(pair[1], str) or str(pair[1]) not in VERDICTS:
        return "return two things: a number and one of 'faster', 'slower', 'cannot tell'"
    if not _close(pair[0], right):
        return (
            f"the number should be the median of base[i] / other[i] (of an even count, the mean of the middle two), "
            f"{right:.8g}, not {_number(pair[0]):.8g}"
        )
    if str(pair[1]) == verdict:
        return None
    wins, losses = sum(b > o for b, o in zip(base, other)), sum(b < o for b, o in zip(base, other))
    return f"other wins {wins} rounds and loses {losses} of {len(base)}; {verdict!r} by three quarters"


# 5.2 -----------------------------------------------------------------------------------------------------------------


def intensity(M: int, N: int, K: int, bytes_in: int, bytes_out: int, sparse24: bool) -> float:
    """Operations per byte moved, zeros of a 2:4 weight counted as operations."""
    weight = N * K * bytes_in / 2 + N * K / 8 if sparse24 else N * K * bytes_in
    return 2 * M * N * K / (M * K * bytes_in + weight + M * N * bytes_out)


def _layer(size: int, rng: torch.Generator) -> tuple[int, int, int, int, int, bool]:
    """Different sizes, so that a swapped axis shows; K divides by 4."""
    M, N, K = whole(rng, 1, 2 * size), whole(rng, 1, 3 * size), 4 * whole(rng, 1, size + 1)
    if size > 4:
        M, N, K = M ** whole(rng, 1, 3), 64 * N, 64 * K
    bytes_in = (1, 2, 4)[whole(rng, 0, 2)]
    return M, N, K, bytes_in, (2, 4)[whole(rng, 0, 1)], bool(whole(rng, 0, 1))


def _layers() -> list[tuple]:
    """One token, many tokens, and a weight whose positions fill no whole bytes."""
    return [
        (1, 3, 4, 2, 2, True),
        (1, 14336, 4096, 1, 2, True),
        (4096, 14336, 4096, 2, 4, False),
        (7, 5, 12, 4, 1, True),
    ]


def _verify_intensity(args: tuple, out) -> str | None:
    M, N, K, bytes_in, bytes_out, sparse24 = args
    value = _number(out)
    if value is None:
        return "return one number, operations per byte"
    if _close(value, intensity(*args)):
        return None
    x, y, dense = M * K * bytes_in, M * N * bytes_out, N * K * bytes_in
    weight = f"{dense / 2:g} of the weight and {N * K / 8:g} of positions" if sparse24 else f"{dense} of the weight"
    kind = "2:4" if sparse24 else "dense"
    moved = f"bytes: {x} of the input, {weight}, {y} of the output"
    return f"for this {kind} weight there are {2 * M * N * K} operations, and {moved}"


# 5.3 -----------------------------------------------------------------------------------------------------------------


def waves(M: int, N: int, rows: int, columns: int, sms: int) -> tuple[int, float]:
    """Whole waves of tiles, and the useful share of what they could compute."""
    tiles = -(-M // rows) * -(-N // columns)
    count = -(-tiles // sms)
    return count, M * N / (count * sms * rows * columns)


def _grid(size: int, rng: torch.Generator) -> tuple[int, int, int, int, int]:
    """Outputs that fit whole tiles and whole waves, or miss them by one; tiles that are not square."""
    rows, columns, sms = whole(rng, 1, size + 1), whole(rng, 1, size + 2), whole(rng, 1, size)
    if size > 4:
        rows, columns, sms = 16 * rows, 16 * columns, 8 * sms
    M = max(1, rows * whole(rng, 1, size + 1) + whole(rng, -1, 1))
    N = max(1, columns * whole(rng, 1, 2 * size) + whole(rng, -1, 1))
    return M, N, rows, columns, sms


def _grids() -> list[tuple]:
    """Whole tiles and whole waves, one output more, and a layer on a real card."""
    whole_waves = [(4, 6, 2, 3, 2), (5, 6, 2, 3, 2), (4, 7, 2, 3, 2), (6, 4, 2, 3, 4)]
    return [
        *whole_waves,
        (1, 14336, 64, 256, 128),
        (4096, 14336, 64, 64, 16),
        (4096, 14336, 128, 256, 132),
        (128 * 132, 256, 128, 256, 132),
    ]


def _verify_waves(args: tuple, out) -> str | None:
    M, N, rows, columns, sms = args
    count, share = waves(*args)
    pair = _pair(out)
    if pair is None or _number(pair[0]) is None or _number(pair[1]) is None:
        return "return two numbers: the number of waves and the efficiency"
    tiles = -(-M // rows) * -(-N // columns)
    if _number(pair[0]) != count:
        return (
            f"there are {-(-M // rows)} x {-(-N // columns)} = {tiles} tiles (rows go with M, columns with N), {sms} "
            f"of them in a wave: {count} waves, whole ones"
        )
    if not _close(pair[1], share):
        return f"{count} waves of {sms} tiles could compute {count * sms * rows * columns} outputs; {M * N} are useful"
    return None


# 5.4 -----------------------------------------------------------------------------------------------------------------


def model_gain(us: Sequence[float], gains: Sequence[float]) -> tuple[float, float]:
    """How many times as fast a step becomes, and what it would be if the first part took no time."""
    after = [t / gain for t, gain in zip(us, gains)]
    left = sum(after[1:])
    return sum(us) / sum(after), sum(us) / left if left else math.inf


def _parts(size: int, rng: torch.Generator) -> tuple[list[float], list[float]]:
    """Parts of a step, some hardly worth a word, of which some gain, some lose and most stay as they are."""
    us = [float(whole(rng, 1, 9)) * 10.0 ** whole(rng, 0, size - 1) for _ in range(size)]
    gains = [(1.0, 2.0, 1.5, 0.8, 1.0)[whole(rng, 0, 4)] for _ in us]
    return us, [2.0, *gains[1:]]


def _steps() -> list[tuple]:
    """A part alone, a part that becomes slower, one that takes no time, and a step of a real model."""
    alone, zero = ([8.0], [2.0]), ([0.0, 4.0], [3.0, 1.0])
    return [
        *(alone, zero, ([8.0, 2.0], [2.0, 1.0]), ([6.0, 4.0], [0.5, 1.0]), ([3.0, 0.0, 1.0], [4.0, 2.0, 2.0])),
        ([167950.6, 24722.5, 52002.5, 5894.9, 1233.5], [1.96, 1.0, 1.0, 1.0, 1.0]),
        ([1e-3, 2e-6, 5e6], [1000.0, 1.0, 1.02]),
    ]


def _verify_model_gain(args: tuple, out) -> str | None:
    us, gains = args
    gain, most = model_gain(us, gains)
    pair = _pair(out)
    if pair is None or _number(pair[0]) is None or _number(pair[1]) is None:
        return "return two numbers: the step's gain, and what it would be if the first part took no time"
    if not _close(pair[0], gain):
        return f"the step takes {sum(us):g} before and {sum(us) / gain:g} after: each part's time over its own gain"
    left = f"the step then takes {sum(us) / most:g}; before, with its first part, it took {sum(us):g}"
    return None if _close(pair[1], most) else left


# 5.6 -----------------------------------------------------------------------------------------------------------------


def tokens_per_second(
    M: int, layers: Sequence[tuple[int, int]], peak: float, bandwidth: float, sms: int, launch: float, rest: float
) -> tuple[float, float]:
    """Tokens a second of a step with FP8 layers, dense and 2:4, by roofline, waves and launch."""
    times = [rest, rest]
    for N, K in layers:
        moved = M * K + 2 * M * N
        for kind, (work, weight) in enumerate(((1, N * K), (0.5, N * K / 2 + N * K / 8))):
            arithmetic = work * 2 * M * N * K / peak / waves(M, N, 128, 128, sms)[1]
            times[kind] += launch + max(arithmetic, (moved + weight) / bandwidth)
    dense, sparse = (M / us * 1e6 for us in times)
    return dense, sparse


def _card(size: int, rng: torch.Generator) -> tuple:
    """Layers and cards of which memory, arithmetic or the launch decides."""
    layers = [(64 * whole(rng, 1, 4**size), 32 * whole(rng, 1, 4**size)) for _ in range(whole(rng, 1, size))]
    M = (1, 64, 100, 128, 2048)[whole(rng, 0, min(4, size))]
    peak, bandwidth = 1e6 * whole(rng, 1, 400), 1e3 * whole(rng, 1, 2000)
    return M, layers, peak, bandwidth, whole(rng, 1, 8 * size), float(whole(rng, 0, 9)), float(whole(rng, 0, 500))


def _cards() -> list[tuple]:
    """Two numbers that can be followed by hand, whole tiles and one more, and a 7B model's layers on a real card."""
    block = [(4608, 3584), (3584, 3584), (37888, 3584), (3584, 18944)]
    return [
        (1, [(4, 4)], 1e9, 4.0, 1, 0.0, 0.0),
        (128, [(128, 64)], 1e6, 1e9, 1, 2.0, 1.0),
        (129, [(128, 64)], 1e6, 1e9, 2, 2.0, 1.0),
        (64, [(64, 64), (64, 64)], 3.3e8, 1e6, 128, 3.3, 20.0),
        *((M, block, 3.304e8, 1.008e6, 128, 3.3, 100.0) for M in (1, 64, 4096)),
    ]


def _verify_tokens(args: tuple, out) -> str | None:
    M, layers, peak, bandwidth, sms, *_ = args
    right, pair = tokens_per_second(*args), _pair(out)
    if pair is None or _number(pair[0]) is None or _number(pair[1]) is None:
        return "return two numbers: tokens a second dense, and with 2:4 weights"
    N, K = layers[0]
    arithmetic, others = 2 * M * N * K / peak / waves(M, N, 128, 128, sms)[1], M * K + 2 * M * N
    kinds = ("dense", arithmetic, others + N * K), ("with 2:4", arithmetic / 2, others + N * K * 5 / 8)
    for got, want, (kind, busy, moved) in zip(pair, right, kinds):
        if not _close(got, want):
            first = f"of the first layer arithmetic takes {busy:g} and memory {moved / bandwidth:g}"
            return f"{kind}, the step takes {M / want * 1e6:g} us; {first}"
    return None


EXERCISES = {
    "5.1": Exercise(_rounds, _verify_judge, ("base", "other"), judge, _shares),
    "5.2": Exercise(
        _layer, _verify_intensity, ("M", "N", "K", "bytes_in", "bytes_out", "sparse24"), intensity, _layers
    ),
    "5.3": Exercise(_grid, _verify_waves, ("M", "N", "rows", "columns", "sms"), waves, _grids),
    "5.4": Exercise(_parts, _verify_model_gain, ("us", "gains"), model_gain, _steps),
    "5.6": Exercise(
        _card,
        _verify_tokens,
        ("M", "layers", "peak", "bandwidth", "sms", "launch", "rest"),
        tokens_per_second,
        _cards,
    ),
}
