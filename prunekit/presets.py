"""Three ways to spend time on a model: seconds, a minute, twenty minutes."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import PrunekitError


@dataclass(frozen=True)
class Preset:
    """How to prune, and how long to recover.

    Attributes:
        method: as in `compress.compress`.
        minutes: of recovery (`recover.recover`), or None for no recovery.
    """

    method: str
    minutes: float | None = None


PRESETS = {"fast": Preset("ewma"), "balanced": Preset("admm"), "best": Preset("admm", 16.0)}


def preset_named(name: str) -> Preset:
    """`PRESETS` by name.

    Raises:
        PrunekitError: there is none of that name.
    """
    if name not in PRESETS:
        raise PrunekitError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]
