"""What each method keeps of a model: `prunekit bench quality`, row by row into a file that tables are made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import Tensor, nn

from ..calibration.corpus import corpus
from ..calibration.windows import RECOVERY_TEXTS, TEXT, calibration_text, recovery_text
from ..compression.compress import compress
from ..compression.layer import warm_up
from ..compression.presets import PRESETS
from ..compression.recipe import Options, Recipe
from ..errors import PrunekitError
from ..evaluation.evaluate import evaluate_all
from ..model.activations import with_cast_inputs
from ..recovery.budget import recovery_minutes
from ..recovery.recover import recover
from ..storage.load import load
from ..system.files import write_json
from ..system.machine import fast_bfloat16, machine, versions
from .measured import measured, rounded_range
from .protocol import print_protocol

PATTERNS: dict[str, Options] = {
    "20 %": {"sparsity": 0.2},
    "50 %": {"sparsity": 0.5},
    "50 % + FP8": {"sparsity": 0.5, "fp8": "e4m3"},
    "2:4 + FP8": {"pattern": "2:4", "fp8": "e4m3"},
}
# By name: options of `compress`, whether recovery follows, and the text for both.
METHODS: dict[str, tuple[Options, bool, str | Sequence[str]]] = {
    "magnitude": ({"method": "magnitude"}, False, TEXT),
    "EWMA, magnitude": ({"metric": "magnitude"}, False, TEXT),
    "EWMA, rank-one": ({"metric": "rank-one"}, False, TEXT),
    "EWMA": ({}, False, TEXT),
    "wanda": ({"method": "wanda"}, False, TEXT),
    "sparsegpt": ({"method": "sparsegpt"}, False, TEXT),
}
METHODS |= {
    name: (
        {"method": p.method, "compensate": p.compensates, "permute": p.permutes},
        p.recovers,
        RECOVERY_TEXTS if p.recovers else TEXT,
    )
    for name, p in PRESETS.items()
    if not p.block_steps  # which go from a folder to a folder
}
METHODS["best, Wikipedia alone"] = (*METHODS["best"][:2], TEXT)
# To judge by: split and tokens; no method sees news, so the larger of its splits serves.
TEXTS: dict[str, list[Any]] = {
    "wikipedia": ["test", 32_768],
    "news": ["train", 16_384],
}
CONTEXT = 512
BEGIN, END = "<!-- quality: begin -->", "<!-- quality: end -->"


def quality(path: Path, only: Sequence[str] = (), seeds: Sequence[int] = (0,), model_name: str = "embedded") -> dict:
    """Compress by each method and pattern, and judge on articles and news that no method has seen.

    Args:
        path: a JSON file, written after each row. Rows that it holds already stay if nothing measures them anew, on a
            CPU of the same kind: one that is fast in bfloat16 (`machine.fast_bfloat16`), or one that is not.
        only: names from `METHODS` and `PATTERNS`; without one of either all of them. All take two hours on two
            cores.
        seeds: of the calibration text and its order; one row for each.
        model_name: as in `load.load`.

    Returns:
        What the file holds: ``protocol``, ``dense`` by text, and ``rows``, with processor and versions of each run.

    Raises:
        PrunekitError: an unknown method or pattern, or the file is not a table of this protocol.
    """
    for name in only:
        if name not in METHODS | PATTERNS:
            raise PrunekitError(f"unknown method or pattern {name!r}: expected one of {', '.join(METHODS | PATTERNS)}.")
    methods, patterns = ([name for name in only if name in known] or list(known) for known in (METHODS, PATTERNS))
    protocol = {"model": model_name, "texts": TEXTS, "context": CONTEXT}
    earlier: dict = read(path) if path.exists() else {"protocol": protocol, "rows": []}
    if earlier["protocol"] != protocol:
        raise PrunekitError(f"{path} holds figures of another protocol: give another file.")
    rows = earlier["rows"]
    model, tokenizer = load(model_name, device="cpu")
    texts = {name: corpus(tokenizer, name, split, tokens, CONTEXT) for name, (split, tokens) in TEXTS.items()}
    sizes = " and ".join(f"{ids.numel()} tokens of {name}" for name, ids in texts.items())
    print_protocol(model_name, f"judged on {sizes} that no method has seen, windows of {CONTEXT}")
    dense = {name: evaluate_all({"dense": model}, ids)["dense"] for name, ids in texts.items()}
    for method in methods:
        for pattern in patterns:
            for seed in seeds:
                row: dict = {"method": method, "pattern": pattern, "seed": seed}
                row |= {"processor": machine()["processor"], "bfloat16": fast_bfloat16(), "versions": versions()}
                row |= _row(model, tokenizer, method, pattern, seed, texts, dense)
                rows = [r for r in rows if _key(r) != _key(row)] + [row]
                table = {"protocol": protocol, "dense": dense, "rows": sorted(rows, key=_key)}
                write_json(path, table)
                news = row["texts"]["news"]["retention"]
                print(
                    f"  {method:<16} {pattern:<10} seed {seed}  {row['seconds']:7.1f} s  "
                    f"perplexity {row['texts']['wikipedia']['perplexity']:8.2f}  "
                    f"retention {row['texts']['wikipedia']['retention']:.4f}, news {news:.4f}"
                )
    return table


def read(path: Path) -> dict:
    """The table that `quality` wrote.

    Raises:
        PrunekitError: the file is no such table, or of another version.
    """
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        table = None
    known = isinstance(table, dict) and {"protocol", "dense", "rows"} <= table.keys()
    if not known or not isinstance(table["rows"], list) or not all(map(_is_row, table["rows"])):
        raise PrunekitError(f"{path} is no table of quality: give a new file, or one that this command wrote.")
    return table


def _is_row(row: object) -> bool:
    keys = {"method", "pattern", "seed", "bfloat16", "versions", "seconds", "steps", "texts"}
    if not (isinstance(row, dict) and keys <= row.keys() and isinstance(row["seed"], int)):
        return False
    return row["method"] in list(METHODS) and row["pattern"] in list(PATTERNS)


def _key(row: dict) -> tuple[int, int, bool, int]:
    return list(METHODS).index(row["method"]), row["seed"], not row["bfloat16"], list(PATTERNS).index(row["pattern"])


def _row(
    model: nn.Module, tokenizer: Any, method: str, pattern: str, seed: int, texts: dict[str, Tensor], dense: dict
) -> dict:
    """Compress once, and judge."""
    options, recovers, text = METHODS[method]
    options = options | PATTERNS[pattern]
    options["permute"] = options.get("permute", False) and "pattern" in options
    recipe = Recipe(**options)
    warm_up(recipe)
    begin = perf_counter()
    ids = calibration_text(tokenizer, recipe.method, None, text, seed) if recipe.needs_inputs else None
    result = compress(model, ids, **options)
    if recovers:
        train, watch = recovery_text(model, tokenizer, text, seed)
        minutes = recovery_minutes(recipe.share, perf_counter() - begin)
        result = recover(result, model, train, minutes=minutes, seed=seed, watch=watch, report=print)
    seconds = perf_counter() - begin
    about: dict = {"seconds": seconds, "tokens": result.tokens, "steps": result.steps, "sparsity": result.sparsity}
    about["texts"] = _judged(result.model, texts, dense)
    if recipe.fp8:
        about["inputs cast"] = _judged(with_cast_inputs(result.model), texts, dense)
    return about


def _judged(model: nn.Module, texts: dict[str, Tensor], dense: dict) -> dict[str, dict[str, float]]:
    """What `evaluate` gives on each text, and the retention."""
    figures = {name: evaluate_all({"it": model}, ids)["it"] for name, ids in texts.items()}
    return {name: found | {"retention": found["top1"] / dense[name]["top1"]} for name, found in figures.items()}


def markdown(table: dict) -> str:
    """The table of RESULTS.md: a line for each method, of each pattern perplexity, and retention on both texts."""
    runs: dict[tuple, dict[str, dict]] = {}  # rows by pattern, of each line
    for row in sorted(table["rows"], key=_key):
        runs.setdefault((row["method"], row["seed"], row["bfloat16"]), {})[row["pattern"]] = row
    head = "| method | seconds | steps | " + " | ".join(PATTERNS) + " |"
    lines = [head, "|---" * (3 + len(PATTERNS)) + "|"]
    for (method, seed, bfloat16), rows in runs.items():
        label = method + (f", seed {seed}" if seed else "") + ("" if bfloat16 else ", no bfloat16")
        seconds = [row["seconds"] for row in rows.values()]
        steps = ", ".join(str(rows[pattern]["steps"]) if pattern in rows else "-" for pattern in PATTERNS)
        trained = any(row["steps"] for row in rows.values())
        lines.append(_line(label, rounded_range(min(seconds), max(seconds)), steps if trained else "", rows, "texts"))
        if any("inputs cast" in row for row in rows.values()):
            lines.append(_line(f"{label}, W8A8", "", "", rows, "inputs cast"))
    return "\n".join(lines)


def _line(label: str, took: str, steps: str, rows: dict[str, dict], judged: str) -> str:
    """A line of the table: of each pattern perplexity, and retention on both texts, where it was judged so."""
    cells = [label, took, steps]
    for pattern in PATTERNS:
        if figures := rows.get(pattern, {}).get(judged):
            wiki, news = (figures[text] for text in TEXTS)
            cells.append(f"{wiki['perplexity']:.1f}, {wiki['retention']:.1%}, {news['retention']:.1%}")
        else:
            cells.append("-")
    return f"| {' | '.join(cells)} |"


def with_table(page: str, table: dict) -> str:
    """notebooks/RESULTS.md with the table between its two marks made anew."""
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n{markdown(table)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    place = Path("notebooks/RESULTS.md")
    place.write_text(with_table(place.read_text("utf-8"), measured()), "utf-8")
