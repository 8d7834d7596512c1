"""What the exercises of notebook 05 ask for: judge a benchmark, count operations per byte, count waves."""

import math
from collections.abc import Sequence
from statistics import median

import torch

from .exercise import Exercise, likely, whole

MEDIAN = "the number should be the median of base[i] / other[i] (of an even count: the mean of the middle two)"
VERDICTS = ("faster", "slower", "cannot tell")


def _number(value) -> float | None:
    """`value` as a float if it is one number, in whatever type; else None."""
    if isinstance(value, str | bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _pair(out) -> tuple | None:
    """`out` as two things, or None."""
    try:
        return tuple(out) if not isinstance(out, str) and len(out) == 2 else None
    except TypeError:
        return None


def _close(value, right: float) -> bool:
    number = _number(value)
    return number is not None and math.isclose(number, right, rel_tol=1e-4, abs_tol=1e-9)


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
    drift = [whole(rng, 1, 4) for _ in range(size)]
    gain = (10, 10, 11, 15, 7, 20)[whole(rng, 0, 5)]
    base = [float(d * gain) for d in drift]
    other = [float(10 * d + whole(rng, -1, 1) * whole(rng, 0, 3)) for d in drift]
    if size > 2 and whole(rng, 0, 1):  # one round in which somebody else used the machine
        (base if whole(rng, 0, 1) else other)[whole(rng, 0, size - 1)] *= 8
    return base, other


def _verify_judge(args: tuple, out) -> str | None:
    base, other = args
    right, verdict = judge(base, other)
    pair = _pair(out)
    if pair is None or _number(pair[0]) is None or pair[1] not in VERDICTS:
        return "return two things: a number and one of 'faster', 'slower', 'cannot tell'"
    if not _close(pair[0], right):
        ratios = sorted(b / o for b, o in zip(base, other))
        middle, n = len(base) // 2, len(base)
        mistakes = (
            ("the ratio is upside down: base over other says how many times faster other is", 1 / right),
            ("the median of an even count is the mean of the middle two", ratios[middle]),
            (
                "the median of an even count is the mean of the middle two (torch.median takes the lower)",
                ratios[middle - 1] if n % 2 == 0 else None,
            ),
            ("the fastest rounds are luck, and not the same round: divide round by round", min(base) / min(other)),
            ("a mean of the ratios lets one bad round decide: take their median", sum(ratios) / n),
            ("divide round by round, then take the median: so a slow spell cancels", median(base) / median(other)),
            ("a ratio of sums or means lets the slowest round decide: divide round by round", sum(base) / sum(other)),
        )
        return likely(_number(pair[0]), mistakes) or MEDIAN
    if pair[1] == verdict:
        return None
    if "cannot tell" in (verdict, pair[1]):
        return (
            "'faster' needs other to win at least three quarters of the rounds, 'slower' to lose them; ties are neither"
        )
    return "'faster' says that other takes less time than base"


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


def _verify_intensity(args: tuple, out) -> str | None:
    M, N, K, bytes_in, bytes_out, sparse24 = args
    right = intensity(*args)
    value = _number(out)
    if value is None:
        return "return one number, operations per byte"
    if _close(value, right):
        return None
    flops, x, y = 2 * M * N * K, M * K * bytes_in, M * N * bytes_out
    dense, positions = N * K * bytes_in, N * K / 8
    weight = dense / 2 + positions if sparse24 else dense
    only24 = (
        ("a 2:4 weight stores half the numbers", flops / (x + dense + y)),
        ("a 2:4 weight also stores where its numbers belong: 2 bits for each one kept", flops / (x + dense / 2 + y)),
        ("2 bits for each number kept, and half are kept: N K / 8 bytes", flops / (x + dense / 2 + 2 * positions + y)),
        ("count the operations as for the dense product, so that both can be compared", right / 2),
        ("do not round up to whole bytes", flops / (x + dense / 2 + math.ceil(positions) + y)),
    )
    mistakes = (
        ("one multiplication and one addition for each pair: 2 M N K operations", None if sparse24 else right / 2),
        ("the output crosses the memory bus too: M N numbers of bytes_out each", flops / (x + weight)),
        ("the input crosses the memory bus too: M K numbers of bytes_in each", flops / (weight + y)),
        ("the output has a width of its own: bytes_out", flops / (x + weight + M * N * bytes_in)),
        ("the input is [M, K] and the output [M, N]", intensity(M, K, N, bytes_in, bytes_out, sparse24)),
        ("this is bytes per operation: turn it over", 1 / right),
    )
    kind = "2:4" if sparse24 else "dense"
    total = f"{flops} operations, and {x + weight + y:g} bytes: input, weight and output once each"
    return likely(value, only24 * sparse24 + mistakes) or f"for this {kind} weight there are {total}"


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


def _verify_waves(args: tuple, out) -> str | None:
    M, N, rows, columns, sms = args
    count, share = waves(*args)
    pair = _pair(out)
    if pair is None or _number(pair[0]) is None or _number(pair[1]) is None:
        return "return two numbers: the number of waves and the efficiency"
    tiles = -(-M // rows) * -(-N // columns)
    grid = f"{-(-M // rows)} x {-(-N // columns)} = {tiles} tiles (rows go with M, columns with N)"
    if not _close(pair[0], count):
        value = float(pair[0])
        if _close(value, tiles):
            return "this is the number of tiles: one wave does as many tiles as there are multiprocessors"
        if value != int(value) or _close(value, tiles // sms):
            return "a wave that has begun takes as long as a full one: round up to a whole number"
        if value < count:
            return f"a tile that sticks out over the edge is a whole tile: {grid}"
        return f"there are {grid}, and each of the {sms} multiprocessors does one a wave"
    if not _close(pair[1], share):
        if _close(pair[1], tiles / (count * sms)):
            return "tiles over the edge are not all useful: count useful outputs, M N, and not tiles"
        if _close(pair[1], M * N / (tiles * rows * columns)):
            return "multiprocessors that have nothing to do in the last wave are waste, too"
        if _number(pair[1]) > 1 + 1e-9:
            return "an efficiency is at most 1: useful outputs over those that all waves could compute"
        return f"{count} waves of {sms} tiles could compute {count * sms * rows * columns} outputs; {M * N} are useful"
    return None


EXERCISES = {
    "5.1": Exercise(_rounds, _verify_judge, ("base", "other"), judge),
    "5.2": Exercise(_layer, _verify_intensity, ("M", "N", "K", "bytes_in", "bytes_out", "sparse24"), intensity),
    "5.3": Exercise(_grid, _verify_waves, ("M", "N", "rows", "columns", "sms"), waves),
}
