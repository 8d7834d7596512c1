"""prunekit.json: what a folder that `save.save` wrote tells of itself, and how to make it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from ..compression.recipe import Provenance, Recipe
from ..compression.result import Compressed, Written
from ..errors import PrunekitError, check_count, first_line

NAME = "prunekit.json"
RECOVERY = {"steps", "minutes", "rate", "batch", "text_share", "seed"}  # options of `recover.recover` that are kept
BLOCKS = {"block_steps", "rate"}  # those of `blocks.BlockTraining`


def write_about(
    folder: Path,
    compressed: Compressed | Written,
    fp8_layers: list[str],
    activations: str,
    experts: Sequence[str] = (),
) -> None:
    """Write prunekit.json.

    Args:
        folder: of the checkpoint.
        compressed: what it holds.
        fp8_layers: names of the layers that hold FP8 codes.
        activations: as in `save.save`.
        experts: names of the modules whose experts lie there one by one (`experts.Experts`).
    """
    about = {
        "version": 1,
        "recipe": asdict(compressed.recipe),
        "provenance": asdict(compressed.provenance),
        "activations": activations,
        "sparsity": compressed.sparsity,
        "calibration_tokens": compressed.tokens,
        "fp8_layers": fp8_layers,
    } | ({"experts": list(experts)} if experts else {})
    (folder / NAME).write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def read_about(folder: Path) -> dict:
    """What prunekit.json of a folder says.

    Raises:
        PrunekitError: a later prunekit wrote it. What is wrong otherwise raises whatever it raises.
    """
    if not (folder / NAME).is_file():  # but a pipe or a device, which has no end
        raise ValueError(f"{NAME} is not a file")
    about = json.loads((folder / NAME).read_text("utf-8"))
    if about["version"] != 1:
        raise PrunekitError(f"{folder} was written by a later prunekit: upgrade, or compress the model again.")
    return about


def read_recipe(path: Path) -> tuple[Recipe, Provenance, str]:
    """What is needed to make a folder again: recipe, provenance, and `activations` as in `save.save`.

    Args:
        path: of a prunekit.json, or of the folder that it lies in. Where an earlier prunekit wrote no provenance, there
            is an empty one.

    Raises:
        PrunekitError: there is no such file, or it is damaged.
    """
    path = path / NAME if path.is_dir() else path
    try:
        about = json.loads(path.read_text("utf-8"))
        values = about["recipe"]
        if not all(isinstance(values[name], bool) for name in ("compensate", "permute")):
            raise ValueError("compensate and permute are true or false")
        return Recipe(**values), _provenance(about.get("provenance", {})), str(about.get("activations", "none"))
    except OSError as error:
        raise PrunekitError(f"cannot read {path} ({error.strerror}): give a prunekit.json, or its folder.") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PrunekitError(
            f"{path} holds no recipe ({first_line(error).rstrip('.')}): give a prunekit.json that prunekit wrote."
        ) from None


def _provenance(values: dict) -> Provenance:
    """The same, each value checked.

    Raises:
        ValueError: a name is unknown, or a value is not of its kind.
    """
    if unknown := values.keys() - {field.name for field in fields(Provenance)}:
        raise ValueError(f"unknown {min(unknown)}")
    made: dict = {}
    for name in ("include", "exclude", "text"):
        made[name] = tuple(values.get(name, ()))
        if not (isinstance(values.get(name, []), list) and all(isinstance(each, str) for each in made[name])):
            raise ValueError(f"{name} is no list of names")
    recovery = BLOCKS if "block_steps" in (values.get("recovery") or ()) else RECOVERY
    for name, known in (("budget", None), ("recovery", recovery)):
        made[name] = values.get(name)
        if made[name] is not None and not all(_is_number(each, key) for key, each in made[name].items()):
            raise ValueError(f"{name} holds something else than numbers")
        if made[name] is not None and known is not None and made[name].keys() - known:
            raise ValueError(f"{name} has options that there are not")
    seed, tokens = values.get("seed", 0), values.get("tokens")
    if not isinstance(seed, int):
        raise ValueError("seed is no whole number")
    return Provenance(**made, seed=seed, tokens=None if tokens is None else check_count(tokens, "tokens"))


def _is_number(value: object, key: str) -> bool:
    either = key in ("steps", "minutes")  # of which the other is none
    return (either and value is None) or (isinstance(value, (int, float)) and not isinstance(value, bool))
