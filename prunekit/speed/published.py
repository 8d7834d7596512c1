"""Published measurements: 1,286 matrix products, dense and 2:4, on an RTX 4090, an RTX 5080 and an H100 PCIe.

The file `gemm_latency.csv` beside this module was measured by the authors of SlideSparse (arXiv 2603.05232;
repository bcacdwk/vllmbench, commit 92a8ca49, Apache-2.0) and is carried here with this citation, unchanged.
`dense_us` is cuBLASLt's best algorithm and `sparse24_us` cuSPARSELt's best for a 2:4 weight of the same
shape, both in microseconds; `M` tokens meet a weight `[N, K]`; FP8 is E4M3 with BF16 output. CUDA 12.9, torch
2.9, 25 launches of warm-up, 50 timed. `model` says whose layer the shape is (SQUARE: M = N = K). In five rows
(H100, FP16) `sparse24_us` is 0, which is no time: `published_rows` skips them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from .devices import find_gpu

CITATION = "published: SlideSparse authors, arXiv 2603.05232"  # for figures


@dataclass(frozen=True)
class Row:
    """One measured product: latencies in microseconds, `gpu` as `find_gpu` understands it, `dtype` in lower case."""

    gpu: str
    dtype: str
    model: str
    M: int
    N: int
    K: int
    dense_us: float
    sparse24_us: float

    @property
    def speedup(self) -> float:
        """How many times faster the 2:4 weight is."""
        return self.dense_us / self.sparse24_us


@cache
def _all_rows() -> tuple[Row, ...]:
    """Every row of the file, those that say 0 too."""
    text = resources.files(__package__).joinpath("gemm_latency.csv").read_text(encoding="utf-8")
    return tuple(
        Row(
            r["gpu"],
            r["dtype"].lower(),
            r["model"],
            int(r["M"]),
            int(r["N"]),
            int(r["K"]),
            float(r["dense_us"]),
            float(r["sparse24_us"]),
        )
        for r in csv.DictReader(text.splitlines())
    )


def published_rows(gpu: str | None = None, dtype: str | None = None) -> list[Row]:
    """The published rows, all of them or those of one card and one format.

    The five rows whose 2:4 time is 0 are left out, so that 1,281 come back.

    Args:
        gpu: "RTX4090", "RTX5080" or "H100" (the PCIe card), in any spelling that `find_gpu` takes; default all.
        dtype: "fp8", "bf16" or "fp16"; default all.

    Returns:
        The rows in the order of the file.

    Raises:
        PrunekitError: unknown card.
    """
    wanted = find_gpu(gpu).name if gpu else None
    return [
        row
        for row in _all_rows()
        if min(row.dense_us, row.sparse24_us) > 0
        and (wanted is None or find_gpu(row.gpu).name == wanted)
        and (dtype is None or row.dtype == dtype.lower())
    ]
