"""`prunekit predict`: predicted latency of a model's layers on a GPU; `throughput` has the whole model."""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import PrunekitError
from ..speed.accuracy import FITTED_ON, accuracy_table
from ..speed.devices import Gpu, find_gpu
from ..speed.latency import Prediction, check_dtype, predict
from ..speed.published import published_rows
from ..speed.shapes import Layer, ShapeRow, config_layers, exceeds_cache, model_config, read_shapes
from ..speed.whole.model import built_in_config
from ..system.files import check_writable_file, write_text
from . import throughput
from .parser import BATCH


@dataclass(frozen=True)
class _Line:
    """One predicted product: where it comes from, and the columns that its CSV row starts with."""

    label: str
    count: int
    M: int
    N: int
    K: int
    columns: Mapping[str, object]
    prediction: Prediction


def run_predict(args: argparse.Namespace) -> None:
    """`prunekit predict`: print the tables, and write the CSV file if one was asked for.

    Args:
        args: the options, parsed.

    Raises:
        PrunekitError: bad card, format, model, batch, prompt or shapes file, or a CSV file that cannot be written.
    """
    if args.csv:
        check_writable_file(Path(args.csv))
    gpu = find_gpu(args.gpu)
    if args.shapes and (args.prompt or args.host_us):
        raise PrunekitError("--prompt and --host-us go with --model: a file of shapes is no model.")
    host = throughput.parse_host(args.host_us)
    if args.prompt:
        batches = _parse_batch(args.batch or throughput.BATCH)
        printed, table = throughput.report_prompt(gpu, args.dtype, args.model or "embedded", args.prompt, batches, host)
        if args.csv:
            write_text(Path(args.csv), table)
        print("\n".join([printed, *([f"Written to {args.csv}."] if args.csv else [])]))
        return
    dtype = check_dtype(gpu, args.dtype or gpu.dtypes[0], tokens=1)
    if args.shapes:
        if args.batch:
            raise PrunekitError("--batch goes with --model; a shapes file brings its own M.")
        header, rows = read_shapes(args.shapes, gpu.sparse24)
        assumed = "each product repeated on the same buffers"
        groups = [("all rows", [_shape_line(gpu, dtype, row) for row in rows])]
    else:
        header = ["layer", "count", "M", "N", "K"]
        name = args.model or "embedded"
        config = (not Path(name).exists() and built_in_config(name)) or model_config(name)
        layers = config_layers(config)
        cold = exceeds_cache(gpu, dtype, layers)
        where = "come from memory each time" if cold else "stay in the cache"
        assumed = f"one layer a line, totals count them all, weights {where}"
        groups = [
            (f"all layers, M = {M}", [_layer_line(gpu, dtype, M, layer, cold) for layer in layers])
            for M in _parse_batch(args.batch or BATCH)
        ]
    lines = [line for _, group in groups for line in group]
    if args.csv:
        _write_csv(args.csv, header, lines)
    text = _report(gpu, dtype, assumed, groups)
    if not args.shapes:
        batches = [batch for batch in _parse_batch(args.batch or throughput.BATCH) if batch <= throughput.MOST]
        text += throughput.report_config(gpu, args.dtype, name, config, batches or [throughput.MOST], host)
    print("\n".join(text))
    if args.csv:
        print(f"Written to {args.csv}.")


def _shape_line(gpu: Gpu, dtype: str, row: ShapeRow) -> _Line:
    prediction = predict(gpu, dtype, row.M, row.N, row.K)
    return _Line(f"line {row.line}", 1, row.M, row.N, row.K, row.columns, prediction)


def _layer_line(gpu: Gpu, dtype: str, M: int, layer: Layer, cold: bool) -> _Line:
    columns = {"layer": layer.name, "count": layer.count, "M": M, "N": layer.N, "K": layer.K}
    prediction = predict(gpu, dtype, M, layer.N, layer.K, cold=cold)
    return _Line(layer.name, layer.count, M, layer.N, layer.K, columns, prediction)


def _parse_batch(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    bad = [part for part in parts if not re.fullmatch(r"0*[1-9][0-9]{0,8}", part)]
    if bad:
        raise PrunekitError(f"--batch takes whole numbers of at least 1 with commas between them, not {bad[0]!r}.")
    return list(dict.fromkeys(int(part) for part in parts))


def _report(gpu: Gpu, dtype: str, assumed: str, groups: Iterable[tuple[str, list[_Line]]]) -> list[str]:
    """The table and the notes under it, as lines of text."""
    table = [("", "count", "M", "N", "K", "dense us", "2:4 us", "speed-up", "bound by")]
    for title, lines in groups:
        table += [
            (
                x.label,
                str(x.count),
                str(x.M),
                str(x.N),
                str(x.K),
                *_figures(x.prediction),
                _bounds(x.prediction),
            )
            for x in lines
        ]
        dense = sum(x.count * x.prediction.dense_us for x in lines)
        times = [x.count * us for x in lines if (us := x.prediction.sparse24_us) is not None]
        sparse = sum(times) if times else None
        total = Prediction(dense, sparse, dense / sparse if sparse else None, "", None)
        table.append((title, str(sum(x.count for x in lines)), "", "", "", *_figures(total), ""))
    widths = [max(len(row[i]) for row in table) for i in range(9)]
    text = [f"Predicted latency on {gpu.name}, {dtype}: {assumed}"]
    for row in table:
        cells = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 8)), row[8]]
        text.append("  ".join(cells).rstrip())
    if not gpu.sparse24:
        text.append(f"{gpu.name} has no 2:4 tensor cores (they need compute capability 8.0): those columns are empty.")
    elif dtype not in gpu.dtypes:
        text.append(f"{gpu.name} has no {dtype} tensor cores: a weight-only kernel, for which there is no 2:4.")
    text.append(_error_note(dtype))
    return text + _unchecked(gpu, dtype, [line for _, lines in groups for line in lines])


def _unchecked(gpu: Gpu, dtype: str, lines: list[_Line]) -> list[str]:
    """Sentences on what no published row can check."""
    rows = published_rows(dtype=dtype)
    most = {size: max(getattr(row, size) for row in rows) for size in ("M", "N", "K")}
    notes = []
    if any(line.M < 64 for line in lines):
        notes.append("Below 64 tokens nothing was published to check the model against.")
    if any(getattr(line, size) > most[size] for line in lines for size in most):
        sizes = ", ".join(f"{size} {most[size]}" for size in most)
        notes.append(f"Beyond {sizes} nothing was published to check the model against.")
    if gpu not in {find_gpu(name) for name in {row.gpu for row in rows}}:
        notes.append(f"No {dtype} row of {gpu.name} was published: its rates are from {gpu.source}.")
    return notes


def _figures(p: Prediction) -> tuple[str, str, str]:
    if p.sparse24_us is None:
        return f"{p.dense_us:.1f}", "-", "-"
    return f"{p.dense_us:.1f}", f"{p.sparse24_us:.1f}", f"{p.speedup:.2f}x"


def _bounds(p: Prediction) -> str:
    if p.sparse24_bound in (None, p.bound):
        return p.bound
    return f"{p.bound} (2:4: {p.sparse24_bound})"


def _error_note(dtype: str) -> str:
    """One sentence on how far off the model is where it can be checked."""
    parts = [
        f"{find_gpu(a.gpu).name} ({'fitted on it' if a.gpu in FITTED_ON else 'not fitted, but looked at'}) "
        f"{a.dense:.0%} dense, {a.sparse24:.0%} 2:4, {a.speedup:.0%} speed-up"
        for a in accuracy_table()
        if a.dtype == dtype
    ]
    return f"Predicted, not measured; median error against published {dtype} rows: {'; '.join(parts)}."


def _write_csv(path: str, header: list[str], lines: list[_Line]) -> None:
    """The columns of `header`, then the three predicted ones."""
    new = ["dense_us", "sparse24_us", "speedup"]
    header = [column for column in header if column not in new] + new
    file = io.StringIO()
    writer = csv.DictWriter(file, header, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        p = line.prediction
        values = (p.dense_us, p.sparse24_us, p.speedup)
        texts = ("" if v is None else f"{v:.{digits}f}" for v, digits in zip(values, (3, 3, 4)))
        writer.writerow({**line.columns, **dict(zip(new, texts))})
    write_text(Path(path), file.getvalue())
