"""Ways to spend time on a model: seconds, a minute or two, some minutes, twenty minutes."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import PrunekitError


@dataclass(frozen=True)
class Preset:
    """How to prune, and whether to recover.

    Attributes:
        method: as in `compress.compress`.
        compensates: whether the weights that stay make up for the others (`compensation.response`).
        permutes: whether an N:M pattern gets a better order of the channels first (`permute.permute_channels`).
        recovers: whether recovery follows (`recover.recover`).
        block_steps: how many steps each block is trained for, with one block in memory (`blocks.BlockTraining`).
    """

    method: str
    compensates: bool = False
    permutes: bool = False
    recovers: bool = False
    block_steps: int = 0


PRESETS = {
    "fast": Preset("ewma", compensates=True),
    "balanced": Preset("admm", permutes=True),
    "blockwise": Preset("admm", permutes=True, block_steps=64),
    "best": Preset("admm", permutes=True, recovers=True),
}


def preset_named(name: str) -> Preset:
    """`PRESETS` by name.

    Raises:
        PrunekitError: there is none of that name.
    """
    if name not in PRESETS:
        raise PrunekitError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]
