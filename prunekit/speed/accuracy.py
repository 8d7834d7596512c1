"""How far the latency model is off: medians against the published rows, and the fit of its constants.

`python -m prunekit.speed.accuracy` prints the table, and below it how far `whole` is off the published
throughputs of whole models; with `--fit` it also fits the constants to the GeForce cards, tests them on the H100,
and the other way round (two minutes of one core).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from .devices import find_gpu
from .latency import CONSTANTS, Constants, predict
from .published import Row, published_rows
from .whole import accuracy as whole

FITTED = (
    "launch_us",
    "dense_edge",
    "sparse_edge",
    "sparse_fill",
    "sparse_half_rate",
    "sparse_fp8_12",
    "sparse_clocks",
    "dram_share",
    "l2_speed",
    "split_us",
    "l2_fade",
)
FITTED_ON = ("RTX4090", "RTX5080")


@dataclass(frozen=True)
class Accuracy:
    """Median absolute relative errors over `rows` published rows of one card and one format."""

    gpu: str
    dtype: str
    rows: int
    dense: float
    sparse24: float
    speedup: float


def relative_errors(row: Row, c: Constants = CONSTANTS) -> tuple[float, float, float]:
    """Signed relative errors of the dense latency, the 2:4 latency and the speed-up, prediction over measurement.

    Args:
        row: a published row.
        c: the model's constants.
    """
    p = predict(find_gpu(row.gpu), row.dtype, row.M, row.N, row.K, c=c)
    assert p.sparse24_us is not None and p.speedup is not None  # the published cards have 2:4
    return p.dense_us / row.dense_us - 1, p.sparse24_us / row.sparse24_us - 1, p.speedup / row.speedup - 1


def accuracy(gpu: str, dtype: str, c: Constants = CONSTANTS) -> Accuracy:
    """Median absolute relative errors on the published rows of one card and one format.

    Args:
        gpu: the card; this and the next as `published_rows` takes them.
        dtype: "fp8", "bf16" or "fp16".
        c: the model's constants.

    Raises:
        PrunekitError: unknown card.
    """
    rows = published_rows(gpu, dtype)
    columns = zip(*(relative_errors(row, c) for row in rows))
    return Accuracy(gpu, dtype, len(rows), *(median(abs(e) for e in column) for column in columns))


def accuracy_table(c: Constants = CONSTANTS) -> list[Accuracy]:
    """`accuracy` for every card and format that has been published."""
    pairs = dict.fromkeys((row.gpu, row.dtype) for row in published_rows())
    return [accuracy(gpu, dtype, c) for gpu, dtype in pairs]


def fit(gpus: str | Sequence[str], c: Constants = CONSTANTS, rounds: int = 6) -> Constants:
    """Constants fitted to some cards' rows: one at a time, up and down by a shrinking step, for some rounds.

    The loss is the mean of the three absolute errors, each cut off at 10 % so that rows which no model of
    this size explains do not steer it; the speed-up counts twice.

    Args:
        gpus: the card or cards whose FP8 and BF16 rows are fitted, as `published_rows` takes them.
        c: where the fit begins.
        rounds: how often every constant of `FITTED` is tried.

    Raises:
        PrunekitError: unknown card.
    """
    names = (gpus,) if isinstance(gpus, str) else gpus
    rows = [row for gpu in names for dtype in ("fp8", "bf16") for row in published_rows(gpu, dtype)]

    def loss(c: Constants) -> float:
        cut = ([min(abs(e), 0.1) for e in relative_errors(row, c)] for row in rows)
        return sum(dense + sparse + 2 * speedup for dense, sparse, speedup in cut)

    best, step = loss(c), 0.3
    for _ in range(rounds):
        for name in FITTED:
            for factor in (1 + step, 1 / (1 + step)):
                trial = replace(c, **{name: getattr(c, name) * factor})
                if (new := loss(trial)) < best:
                    c, best = trial, new
        step /= 1.6
    return c


def format_table(table: list[Accuracy], fitted: Sequence[str] = FITTED_ON) -> str:
    """The table as text, with a column that says which rows were fitted."""
    lines = ["gpu      dtype  rows  dense  2:4    speed-up"]
    for a in table:
        use = "fitted on this card" if a.gpu in fitted else "not fitted, but looked at"
        errors = f"{a.dense:5.1%}  {a.sparse24:5.1%}  {a.speedup:5.1%}"
        lines.append(f"{a.gpu:8} {a.dtype:5} {a.rows:5}  {errors}    {use}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Print the tables, and with --fit what fits give."""
    parser = argparse.ArgumentParser(description="median absolute relative errors of the latency model")
    parser.add_argument("--fit", action="store_true", help="fit on each card and test on both")
    fits = parser.parse_args(argv).fit
    print(format_table(accuracy_table()))
    print(f"\nwhole models, FP8, against published throughputs\n{whole.format_regimes()}")
    if fits:
        for gpus in (FITTED_ON, ("H100",)):
            c = fit(gpus)
            values = ", ".join(f"{name} {getattr(c, name):.3g}" for name in FITTED)
            print(f"\nfitted on {' and '.join(gpus)}: {values}")
            print(format_table(accuracy_table(c), gpus))
        server = whole.fit(whole.FITTED_ON)
        values = ", ".join(f"{name} {getattr(server, name):.3g}" for name in whole.FITTED)
        print(f"\nwhole models, fitted on {whole.FITTED_ON}: {values}\n{whole.format_regimes(server=server)}")


if __name__ == "__main__":
    main()
