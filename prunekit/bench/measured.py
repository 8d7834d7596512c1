"""The table of qualities that comes with prunekit, and what is read from it; no torch."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path


@cache
def measured() -> dict:
    """The table of qualities that comes with prunekit, as `quality.quality` wrote it."""
    return json.loads(Path(__file__).with_name("quality.json").read_text("utf-8"))


def rounded_range(low: float, high: float) -> str:
    """Two numbers, rounded, as "47 to 80", or as one where they are alike."""
    return " to ".join(dict.fromkeys(f"{value:.0f}" for value in (low, high)))


def measured_rows(pattern: str) -> dict[str, dict]:
    """The rows of `measured` for a pattern, by method: seed 0, on a CPU that is fast in bfloat16."""
    rows = [row for row in measured()["rows"] if row["pattern"] == pattern and row["seed"] == 0 and row["bfloat16"]]
    return {row["method"]: row for row in rows}
