"""`prunekit bench`: which benchmark, with which options."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import PrunekitError


def run_bench(a: argparse.Namespace) -> None:
    """`prunekit bench`."""
    from ..system.files import write_json

    takes = {"quality": {"model", "only", "seed"}, "neurons": {"model", "share"}, "gpu": set()}.get(a.what, {"model"})
    for option in ("model", "only", "seed", "share"):
        if getattr(a, option) and option not in takes:
            raise PrunekitError(f"bench {a.what} has no use for --{option}: leave it out.")
    model = a.model or "embedded"
    if a.what == "gpu":
        from ..bench.gpu import bench_gpu

        result = bench_gpu()
    elif a.what == "neurons":
        from ..bench.neurons import neurons
        from ..method.targets import check_sparsity

        result = neurons(check_sparsity(a.share or "0.3", "--share"), model)
    elif a.what == "quality":
        from ..bench.quality import quality

        if not a.json:
            raise PrunekitError("bench quality writes its table row by row: give it --json FILE.")
        quality(Path(a.json), a.only, a.seed or [0], model)
        return
    elif a.what == "select":
        from ..bench.selection import select

        result = select(model)
    else:
        from ..bench.pipeline import pipeline

        result = pipeline(model)
    if a.json:
        write_json(Path(a.json), result)
