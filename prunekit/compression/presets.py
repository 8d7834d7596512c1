"""Three ways to spend time on a model: seconds, a minute or two, twenty minutes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import PrunekitError


@dataclass(frozen=True)
class Preset:
    """How to prune, and whether to recover.

    Attributes:
        method: as in `compress.compress`.
        compensates: whether the weights that stay make up for the others (`compensate.response`).
        permutes: whether an N:M pattern gets a better order of the channels first (`permute.permute_channels`).
        recovers: whether recovery follows (`recover.recover`).
    """

    method: str
    compensates: bool = False
    permutes: bool = False
    recovers: bool = False


LIMIT = 19.25  # minutes for pruning and recovery together: of twenty, the rest is for loading and saving
PRESETS = {
    "fast": Preset("ewma", compensates=True),
    "balanced": Preset("admm", permutes=True),
    "best": Preset("admm", permutes=True, recovers=True),
}


def recovery_minutes(share: float, spent: float) -> float:
    """How long to recover where half of the weights or more are pruned: what is left of `LIMIT`; else less.

    Args:
        share: of the weights that is pruned.
        spent: seconds until now.

    Returns:
        Minutes, at least one, and for half or more at least five.
    """
    return max(min(2 * share, 1.0) * max(LIMIT - spent / 60, 5.0), 1.0)


def preset_named(name: str) -> Preset:
    """`PRESETS` by name.

    Raises:
        PrunekitError: there is none of that name.
    """
    if name not in PRESETS:
        raise PrunekitError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]


@cache
def measured() -> dict:
    """The table of qualities that comes with prunekit, as `quality.quality` wrote it."""
    return json.loads((Path(__file__).parents[1] / "bench" / "quality.json").read_text("utf-8"))


def measured_rows(pattern: str) -> dict[str, dict]:
    """The rows of `measured` for a pattern, by method: seed 0, on a CPU that is fast in bfloat16."""
    rows = [row for row in measured()["rows"] if row["pattern"] == pattern and row["seed"] == 0 and row["bfloat16"]]
    return {row["method"]: row for row in rows}


def describe_presets() -> str:
    """What each preset buys, in a sentence with the figures of `measured`."""
    tables = [measured_rows(pattern) for pattern in ("20 %", "50 %", "2:4 + FP8")]

    def figures(name: str) -> str:
        return ", ".join(f"{100 * rows[name]['texts']['wikipedia']['retention']:.1f}" for rows in tables)

    return (
        "fast (default): the EWMA pass with compensation, seconds; balanced: ADMM, no training, a minute or two; "
        "best: ADMM and recovery, within 20 minutes. "
        "Percent of the embedded model's top-1 kept at 20 %%, 50 %% and 2:4 with FP8, measured: "
        f"fast {figures('fast')}; balanced {figures('balanced')}; best {figures('best')}"
    )
