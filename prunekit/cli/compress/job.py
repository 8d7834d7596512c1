"""What a command line of `prunekit compress` asks for, read and refused before any model is loaded."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...calibration.corpus import check_texts
from ...calibration.windows import RECOVERY_TEXTS, TEXT
from ...compression.presets import preset_named
from ...compression.recipe import Provenance, Recipe
from ...errors import PrunekitError, check_count
from ...recovery.blocks import BlockTraining
from ...recovery.budget import Budget, Plan
from ...recovery.state import check_state
from ...storage.about import read_recipe
from ...storage.streamed.partial import Partial
from ...system.files import check_free, check_writable

# What a recipe file says already, and may not be said beside it.
IN_RECIPE = (
    *("sparsity", "pattern", "metric", "select", "preset", "method", "no_compensate", "no_permute", "fp8"),
    *("granularity", "calibration_tokens", "calibration_text", "seed", "allocate", "recover", "minutes", "steps"),
    *("include", "exclude", "activations", "block_steps"),
)


@dataclass(frozen=True)
class Job:
    """What a command line asks for; all of it that can be refused without a model has been refused.

    Attributes:
        recipe: how to compress.
        rest: what else is needed to repeat it. Its `recovery` is None without recovery, and empty where recovery
            takes what is left of its time.
        allocates: whether the sparsity is spread over the layers first.
        activations: as in `save.save`.
        out: the folder to write, or None.
        json: the file for the figures, or None.
    """

    recipe: Recipe
    rest: Provenance
    allocates: bool
    activations: str
    out: Path | None
    json: Path | None

    @property
    def reads(self) -> bool:
        """Whether any text is read."""
        return self.recipe.needs_inputs or self.rest.recovery is not None or self.allocates

    @property
    def recovers(self) -> bool:
        """Whether recovery of the whole model follows."""
        return self.rest.recovery is not None and self.trains is None

    @property
    def trains(self) -> BlockTraining | None:
        """How blocks are trained, if they are."""
        options: Any = self.rest.recovery
        return BlockTraining(**options) if options and "block_steps" in options else None

    @property
    def state(self) -> Path:
        """Where an interrupted recovery is kept: beside the folder to be written."""
        return Path(f"{self.out}.recovery")


def read_job(a: argparse.Namespace) -> Job:
    """The job that the options ask for.

    Raises:
        PrunekitError: an option is bad, does not go with another, or names a file that cannot be read or written.
    """
    out, json = (Path(path) if path else None for path in (a.out, a.json))
    if a.recipe:
        if given := [name for name in IN_RECIPE if not (getattr(a, name) in (None, []) or getattr(a, name) is False)]:
            option = "--" + given[0].replace("_", "-")
            raise PrunekitError(f"--recipe {a.recipe} says that already: leave out {option}, or --recipe.")
        recipe, rest, activations = read_recipe(Path(a.recipe))
    else:
        recipe, rest, activations = *_recipe(a), a.activations or "none"
    job = Job(recipe, rest, bool(a.allocate), activations, out, json)
    if not rest.text:
        job = replace(job, rest=replace(rest, text=RECOVERY_TEXTS if job.recovers else (TEXT,)))
    _check(job)
    if a.recipe and rest.recovery is not None and not job.trains:
        Plan(**rest.recovery)  # type: ignore[arg-type]  # about.py knows their names and that they are numbers
    if job.out and job.recovers:
        job = _resumed(job)
    if job.reads or a.calibration_text:
        check_texts(job.rest.text)
    return job


def _recipe(a: argparse.Namespace) -> tuple[Recipe, Provenance]:
    """Recipe and the rest, by the options."""
    preset = preset_named(a.preset or "fast")
    method = a.method or preset.method
    recipe = Recipe(
        sparsity=a.sparsity,
        pattern=a.pattern,
        metric=a.metric or "contribution",
        select=a.select or "ewma",
        method=method,
        fp8=None if a.fp8 in (None, "none") else a.fp8,
        granularity=a.granularity or "row",
    )
    compensates = preset.compensates and method == "ewma" and recipe.needs_inputs and not a.no_compensate
    permutes = preset.permutes and recipe.pattern is not None and recipe.needs_inputs and not a.no_permute
    recipe = replace(recipe, compensate=compensates, permute=permutes)
    time = _time(a)
    recovers = a.recover or bool(time) or (preset.recovers and recipe.prunes)
    block_steps = a.block_steps if a.block_steps is not None else preset.block_steps * recipe.prunes or None
    if block_steps is not None:
        if recovers:
            raise PrunekitError(
                "preset blockwise and --block-steps train block by block, recovery the whole model: leave one out."
            )
        recovers, time = True, BlockTraining(check_count(block_steps, "--block-steps")).options
    own = a.calibration_tokens in (None, "auto")
    tokens = None if own else check_count(a.calibration_tokens, "--calibration-tokens")
    return recipe, Provenance(
        tuple(a.include),
        tuple(a.exclude),
        text=tuple(a.calibration_text or ()),
        tokens=tokens,
        seed=a.seed or 0,
        recovery=time if recovers else None,
    )


def _time(a: argparse.Namespace) -> dict:
    """How long to recover, if an option says so: keywords of `recover`."""
    if a.minutes is not None and a.steps is not None:
        raise PrunekitError("give either --minutes or --steps, not both.")
    if a.steps is not None:
        return {"steps": check_count(a.steps, "--steps")}
    if a.minutes is not None and not 0 < a.minutes < 1e6:
        raise PrunekitError(f"--minutes is {a.minutes}: expected a number above 0 and below a million.")
    return {} if a.minutes is None else {"minutes": a.minutes}


def _check(job: Job) -> None:
    """Refuse what does not go together, and places that cannot be written."""
    if job.allocates and not job.recipe.sparsity:
        raise PrunekitError("--allocate needs a --sparsity above 0 to spread; a pattern takes the same of every layer.")
    if job.activations not in ("none", "dynamic"):
        raise PrunekitError(f"unknown --activations {job.activations!r}: expected none or dynamic.")
    if job.activations == "dynamic" and job.recipe.fp8 != "e4m3":
        raise PrunekitError("--activations dynamic belongs to FP8 weights: add --fp8 e4m3, or leave it out.")
    if job.out and job.json:
        out, report = job.out.absolute(), job.json.absolute()
        if out == report or out in report.parents or report in out.parents:
            raise PrunekitError(f"--json {job.json} and --out {job.out} lie within one another: keep them apart.")
    if job.out:
        if not Partial(job.out).finished:
            check_free(job.out)
        check_writable(job.out)


def _resumed(job: Job) -> Job:
    """The same job; where it was interrupted before, for as long as it was given first."""
    if job.state.is_dir():
        raise PrunekitError(f"{job.state} is where an interrupted recovery is kept: move that folder away.")
    time = job.rest.recovery
    plan = {"steps": None, "minutes": None} | time if time else {"steps": None}
    kept = check_state(job.state, {"seed": job.rest.seed, "recipe": asdict(job.recipe)} | plan)
    if not kept or time:
        return job
    minutes = Budget(minutes=kept.get("minutes")).minutes
    print(f"goes on from {job.state}, for the {minutes:.1f} minutes that it was given first")
    return replace(job, rest=replace(job.rest, recovery={"minutes": minutes}))
