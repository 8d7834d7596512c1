"""What learners do wrong in notebook 05."""

import math
from collections.abc import Callable
from statistics import mean, median

from ..checks.speed import intensity, judge, model_gain, tokens_per_second, waves
from .mistake import Mistake, gives


def _judged(hint: str, number: Callable, verdict: Callable = judge) -> Mistake:
    """Exercise 5.1 with another number, or with the verdict on other times."""

    def explains(args: tuple, out) -> bool:
        want, word = number(*args), verdict(*args)[1]
        return math.isclose(float(out[0]), want, rel_tol=2e-6) and str(out[1]) == word

    return Mistake(hint, explains)


def _ratio(base: list[float], other: list[float]) -> float:
    return judge(base, other)[0]


def _ratios(base: list[float], other: list[float]) -> list[float]:
    return sorted(b / o for b, o in zip(base, other))


def _share(least: Callable[[int], float]) -> Callable:
    """A verdict with another number of rounds that are needed."""

    def verdict(base: list[float], other: list[float]) -> tuple[float, str]:
        wins, losses = (sum(s * b > s * o for b, o in zip(base, other)) for s in (1, -1))
        needed = least(len(base))
        return 0.0, "faster" if wins >= needed else "slower" if losses >= needed else "cannot tell"

    return verdict


JUDGE = (
    _judged(
        "the ratio is upside down: base over other says how many times faster other is",
        lambda base, other: _ratio(other, base),
    ),
    _judged(
        "the median of an even count is the mean of the middle two, not the upper one",
        lambda base, other: _ratios(base, other)[len(base) // 2],
    ),
    _judged(
        "the median of an even count is the mean of the middle two (torch.median takes the lower)",
        lambda base, other: _ratios(base, other)[(len(base) - 1) // 2],
    ),
    _judged(
        "the fastest rounds are luck, and not the same round: divide round by round",
        lambda base, other: min(base) / min(other),
    ),
    _judged("a mean of the ratios lets one bad round decide: take their median", lambda *args: mean(_ratios(*args))),
    _judged(
        "divide round by round, then take the median: so a slow spell cancels",
        lambda base, other: median(base) / median(other),
    ),
    _judged(
        "a ratio of sums or means lets the slowest round decide: divide round by round",
        lambda base, other: sum(base) / sum(other),
    ),
    _judged("'faster' says that other takes less time than base", _ratio, lambda base, other: judge(other, base)),
    _judged("more than half of the rounds is not enough", _ratio, _share(lambda rounds: (rounds + 1) / 2)),
    _judged("exactly three quarters of the rounds are enough", _ratio, _share(lambda rounds: 3 * rounds // 4 + 1)),
)


def _per_byte(M: int, N: int, K: int, weight: float, x: float, y: float) -> float:
    return 2 * M * N * K / (x * M * K + N * K * weight + y * M * N)


def _width(bytes_in: int, sparse24: bool, positions: float = 1 / 8) -> float:
    """Bytes of the weight, for each number that it would have if it were dense."""
    return bytes_in / 2 + positions if sparse24 else bytes_in


INTENSITY = (
    gives("one multiplication and one addition for each pair: 2 M N K operations", lambda *args: intensity(*args) / 2),
    gives(
        "the output crosses the memory bus too: M N numbers of bytes_out each",
        lambda M, N, K, x, y, sparse: _per_byte(M, N, K, _width(x, sparse), x, 0),
        rtol=2e-6,
    ),
    gives(
        "the input crosses the memory bus too: M K numbers of bytes_in each",
        lambda M, N, K, x, y, sparse: _per_byte(M, N, K, _width(x, sparse), 0, y),
        rtol=2e-6,
    ),
    gives(
        "the output has a width of its own: bytes_out",
        lambda M, N, K, x, y, sparse: _per_byte(M, N, K, _width(x, sparse), x, x),
        rtol=2e-6,
    ),
    gives(
        "a 2:4 weight also stores where its numbers belong: 2 bits for each one kept",
        lambda M, N, K, x, y, sparse: _per_byte(M, N, K, _width(x, sparse, 0), x, y),
        rtol=2e-6,
    ),
    gives(
        "2 bits for each number kept, and half are kept: N K / 8 bytes",
        lambda M, N, K, x, y, sparse: _per_byte(M, N, K, _width(x, sparse, 1 / 4), x, y),
        rtol=2e-6,
    ),
    gives("a 2:4 weight stores half the numbers", lambda *args: intensity(*args[:5], False), rtol=2e-6),
    gives(
        "count the operations as for the dense product, so that both can be compared",
        lambda *args: intensity(*args) / (2 if args[5] else 1),
        rtol=2e-6,
    ),
    gives("the input is [M, K] and the output [M, N]", lambda M, N, K, *rest: intensity(M, K, N, *rest), rtol=2e-6),
    gives("this is bytes per operation: turn it over", lambda *args: 1 / intensity(*args), rtol=2e-6),
)


def _tiles(M: int, N: int, rows: int, columns: int) -> int:
    return -(-M // rows) * -(-N // columns)


WAVES = (
    gives(
        "tiles over the edge are not all useful: count useful outputs, M N, and not tiles",
        lambda M, N, rows, columns, sms: (
            waves(M, N, rows, columns, sms)[0],
            _tiles(M, N, rows, columns) / (waves(M, N, rows, columns, sms)[0] * sms),
        ),
        rtol=2e-6,
    ),
    gives(
        "multiprocessors that have nothing to do in the last wave are waste, too",
        lambda M, N, rows, columns, sms: (
            waves(M, N, rows, columns, sms)[0],
            M * N / (_tiles(M, N, rows, columns) * rows * columns),
        ),
        rtol=2e-6,
    ),
    gives("rows go with M, columns with N", lambda M, N, *rest: waves(N, M, *rest), rtol=2e-6),
    gives(
        "the efficiency is useful outputs over those that could be computed, and not the other way round",
        lambda *args: (waves(*args)[0], 1 / waves(*args)[1]),
        rtol=2e-6,
    ),
)


def _most(us: list[float], gains: list[float]) -> float:
    return model_gain(us, gains)[1]


MODEL_GAIN = (
    gives("gains cannot be averaged: add up the times", lambda us, gains: (mean(gains), _most(us, gains)), rtol=2e-6),
    gives(
        "a mean of gains, weighted by time, is not the step's: add up what each part takes afterwards",
        lambda us, gains: (sum(t * g for t, g in zip(us, gains)) / sum(us), _most(us, gains)),
        rtol=2e-6,
    ),
    gives(
        "this is the time after over the time before: turn it over",
        lambda us, gains: (1 / model_gain(us, gains)[0], _most(us, gains)),
        rtol=2e-6,
    ),
    gives(
        "only the first part gains here: the others have gains of their own",
        lambda us, gains: (sum(us) / (us[0] / gains[0] + sum(us[1:])), _most(us, gains)),
        rtol=2e-6,
    ),
    gives(
        "for the most the other parts take what they take afterwards",
        lambda us, gains: (model_gain(us, gains)[0], sum(us) / sum(us[1:]) if sum(us[1:]) else math.inf),
        rtol=2e-6,
    ),
)


def _without(**change: float) -> Callable:
    """Exercise 5.6 with another launch or rest."""

    def wrong(M, layers, peak, bandwidth, sms, launch, rest):
        kept = {"launch": launch, "rest": rest} | change
        return tokens_per_second(M, layers, peak, bandwidth, sms, kept["launch"], kept["rest"])

    return wrong


TOKENS = (
    gives("each layer has a launch of its own", _without(launch=0.0), rtol=2e-6),
    gives("the rest of the step takes time, too", _without(rest=0.0), rtol=2e-6),
    gives(
        "a step gives M tokens, and not one",
        lambda M, *others: [value / M for value in tokens_per_second(M, *others)],
        rtol=2e-6,
    ),
    gives("dense comes first, then 2:4", lambda *args: tokens_per_second(*args)[::-1], rtol=2e-6),
    gives(
        "a layer is a pair (N, K), outputs first",
        lambda M, layers, *others: tokens_per_second(M, [(K, N) for N, K in layers], *others),
        rtol=2e-6,
    ),
)


MISTAKES = {"5.1": JUDGE, "5.2": INTENSITY, "5.3": WAVES, "5.4": MODEL_GAIN, "5.6": TOKENS}
