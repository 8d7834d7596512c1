"""Three ways to spend time on a model: seconds, a minute, twenty minutes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .errors import PrunekitError


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


PRESETS = {
    "fast": Preset("ewma", compensates=True),
    "balanced": Preset("admm", permutes=True),
    "best": Preset("admm", permutes=True, recovers=True),
}


def recovery_minutes(share: float) -> float:
    """How long to recover where a share of the weights is pruned: 18 minutes for half of them or more, else less."""
    return min(max(36.0 * share, 1.0), 18.0)


def preset_named(name: str) -> Preset:
    """`PRESETS` by name.

    Raises:
        PrunekitError: there is none of that name.
    """
    if name not in PRESETS:
        raise PrunekitError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def measured() -> dict:
    """The table of qualities that comes with prunekit, as `quality.quality` wrote it."""
    return json.loads(Path(__file__).with_name("quality.json").read_text("utf-8"))


def describe_presets() -> str:
    """What each preset buys, in a sentence with the figures of `measured`."""
    kept = {}
    for row in measured()["rows"]:
        if row["seed"] == 0:
            kept[row["method"], row["pattern"]] = row["texts"]["wikipedia"]["retention"]

    def figures(name: str) -> str:
        values = (kept.get((name, pattern)) for pattern in ("20 %", "50 %", "2:4 + FP8"))
        return ", ".join("not measured" if value is None else f"{100 * value:.1f}" for value in values)

    return (
        "fast (default): the EWMA pass with compensation, seconds; balanced: ADMM, no training, a minute; "
        "best: ADMM and recovery, up to 18 minutes. "
        "Percent of the embedded model's top-1 kept at 20 %%, 50 %% and 2:4 with FP8, measured: "
        f"fast {figures('fast')}; balanced {figures('balanced')}; best {figures('best')}"
    )
