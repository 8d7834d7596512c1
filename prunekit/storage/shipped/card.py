"""The model card of a folder that prunekit wrote: what was done, with which text and versions, and by which command.

Nothing in it depends on the clock or on where files lie, so that the same work writes the same card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ...compression.recipe import Provenance, Recipe
from ...compression.result import Compressed, Written
from ...errors import PrunekitError
from ...system.files import write_text
from ...system.machine import versions
from .hashes import renew_hash
from .origin import Origin

NAME = "README.md"
BEGIN, END = "<!-- measurements: begin -->", "<!-- measurements: end -->"
_STANDS_ON = ("prunekit", "torch", "transformers", "compressed-tensors")
_INPUTS = {
    None: "No server knows this as FP8: it is written as wider numbers, which prunekit opens as FP8.",
    "none": "Servers leave the layers' inputs in 16 bits (W8A16).",
    "dynamic": "Servers cast the layers' inputs to FP8, too, for each token (W8A8).",
}
Measurements = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def write_card(
    folder: Path,
    made: Compressed | Written,
    origin: Origin,
    activations: str | None,
    measurements: Measurements = (),
) -> None:
    """Write the card.

    Args:
        folder: of the checkpoint.
        made: what it holds.
        origin: of what model, by what command.
        activations: as in `save.save`; None where the config tells servers of no FP8 layers.
        measurements: what `evaluate` gives, or several such, with anything that says how it was measured.
    """
    recipe = made.recipe
    front = {
        "base_model": origin.model,
        "library_name": "transformers",
        "license": origin.license,
        "pipeline_tag": "text-generation",
        "tags": ["prunekit", *_tags(recipe, activations is not None)],
    }
    parts = [
        f"---\n{_yaml({key: value for key, value in front.items() if value})}---",
        f"# {origin.name}, {_title(recipe)}",
        _done(made, activations),
        "## How",
        _table([{"option": name, "value": value} for name, value in _options(recipe, made.provenance, made.tokens)]),
        _how(recipe, origin),
        "With " + ", ".join(f"{name} {versions()[name]}" for name in _STANDS_ON) + ".",
        "## Measurements",
        _measured(measurements),
    ]
    (folder / NAME).write_text("\n\n".join(parts) + "\n", "utf-8")


def check_card(folder: Path) -> tuple[str, str]:
    """What stands before and after the measurements in the card of a folder.

    Raises:
        PrunekitError: the folder has no card that prunekit wrote.
    """
    path = folder / NAME
    try:
        before, begin, rest = path.read_text("utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
    except (OSError, ValueError):
        begin = end = ""
    if not (begin and end):
        raise PrunekitError(f"{path} is no model card with a place for figures: give a folder that compress wrote.")
    return before, after


def measure(folder: Path, measurements: Measurements) -> None:
    """Put a table of measurements into the card of a folder, in the place of what stands there.

    Args:
        folder: that was saved.
        measurements: as in `write_card`.

    Raises:
        PrunekitError: as `check_card`.
    """
    before, after = check_card(folder)
    write_text(folder / NAME, before + _measured(measurements) + after)
    renew_hash(folder / NAME)


def _yaml(values: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(values, sort_keys=True, allow_unicode=True)


def _tags(recipe: Recipe, described: bool) -> list[str]:
    """Among them whether it is in the format of compressed-tensors."""
    found = ["pruned"] * recipe.prunes + ["fp8"] * (recipe.fp8 is not None) + ["compressed-tensors"] * described
    return found + ([recipe.pattern] if recipe.pattern else [])


def _title(recipe: Recipe) -> str:
    pruned = recipe.pattern or (f"{recipe.share:.0%} pruned" if recipe.prunes else "")
    return " and ".join([pruned] * bool(pruned) + ["FP8"] * (recipe.fp8 is not None)) or "as it was"


def _done(made: Compressed | Written, activations: str | None) -> str:
    """In sentences, what the folder holds, and what was left out."""
    recipe, found = made.recipe, []
    where = f"{len(made.layers)} linear layers"
    if recipe.prunes:
        kept = f", at most {recipe.pattern.replace(':', ' of every ')} neighbours kept" if recipe.pattern else ""
        found.append(f"{made.sparsity:.2%} of the weights of {where} are zero{kept}; they are stored as zeros.")
    if recipe.fp8:
        scales = f"one scale for each {recipe.granularity}"
        found.append(f"What stays in {where} is FP8 ({recipe.fp8.upper()}), with {scales}. {_INPUTS[activations]}")
    lines = []
    for reason in dict.fromkeys(made.left_out.values()):
        names = [re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name, why in made.left_out.items() if why == reason]
        lines.append(f"- Left out, {reason}: {', '.join(f'`{name}`' for name in dict.fromkeys(names))}")
    return "\n\n".join(filter(None, (" ".join(found), "\n".join(lines))))


def _options(recipe: Recipe, given: Provenance, tokens: int) -> list[tuple[str, Any]]:
    """What was asked for beyond the defaults, and the text that was read."""
    usual = {field.name: field.default for field in fields(Recipe)}
    asked = [(name, value) for name, value in asdict(recipe).items() if name == "method" or value != usual[name]]
    asked += [(name, ", ".join(value)) for name in ("include", "exclude") if (value := getattr(given, name))]
    asked += [("budget", "a sparsity for each layer, in prunekit.json")] * (given.budget is not None)
    if tokens:
        asked.append(("calibration text", " and ".join(Path(name).name for name in given.text) or "given as tokens"))
        asked += [("calibration tokens", tokens), ("seed", given.seed)]
    if given.recovery is not None:
        asked += [(f"recovery, {name}", value) for name, value in given.recovery.items() if value is not None]
    return asked


def _how(recipe: Recipe, origin: Origin) -> str:
    """The command, or the call in Python."""
    if origin.command:
        return f"```\n{origin.command}\n```"
    usual = {field.name: field.default for field in fields(Recipe)}
    asked = ", ".join(f"{name}={value!r}" for name, value in asdict(recipe).items() if value != usual[name])
    return f"```python\npk.compress(model, ids, {asked})\n```"


def _measured(measurements: Measurements) -> str:
    rows = [measurements] if isinstance(measurements, Mapping) else list(measurements)
    table = _table(rows) if rows else "None were made when it was saved."
    return f"{BEGIN}\n{table}\n{END}"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table in Markdown; columns in the order in which they first occur."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    lines = ["| " + " | ".join(map(_cell, line)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "---|" * len(columns), *lines[1:]])


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
