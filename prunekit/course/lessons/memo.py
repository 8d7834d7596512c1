"""The one-page go or no-go memo: numbers with their margins, limits set beforehand, and a decision by rule."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...errors import PrunekitError
from ...evaluation.answers import Answers
from ...evaluation.tasks.compare import Compared
from ...model.checks import check_text
from ...model.modes import device_of, without_dropout

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
RESAMPLES = 1000
CONFIDENCE = 0.95


def width(count: int, confidence: float = CONFIDENCE) -> float:
    """How many standard errors to each side let `count` intervals all hold their true values (Bonferroni).

    Each may miss ``(1 - confidence) / count`` of the time, however they depend on each other. Errors count as normal.

    Args:
        count: intervals, one or more.
        confidence: how often all of them hold, between 0 and 1.
    """
    return NormalDist().inv_cdf(1 - (1 - confidence) / count / 2)


@dataclass(frozen=True)
class Criterion:
    """One number, its margin, and the limit that was set for it.

    Attributes:
        name: what was measured.
        on: on which text; empty if on none.
        value: the number.
        margin: to each side of it; 0 for what was counted.
        limit: the limit.
        at_least: whether the number must be at least the limit, or at most.
    """

    name: str
    on: str
    value: float
    margin: float
    limit: float
    at_least: bool

    @property
    def word(self) -> str:
        """``at least`` or ``at most``."""
        return "at least" if self.at_least else "at most"

    @property
    def state(self) -> str:
        """``passed`` or ``failed`` if all of ``value +- margin`` lies on one side of the limit, else ``open``."""
        sign = 1 if self.at_least else -1
        best = sign * (self.value - self.limit) + self.margin
        worst = sign * (self.value - self.limit) - self.margin
        return "passed" if worst >= 0 else "failed" if best < 0 else "open"


def decide(criteria: Sequence[Criterion]) -> str:
    """``no-go`` if any criterion failed, else ``open`` if any is open, else ``go``."""
    states = {criterion.state for criterion in criteria}
    return "no-go" if "failed" in states else "open" if "open" in states else "go"


def recommend(candidates: Mapping[str, Sequence[Criterion]]) -> tuple[str, str]:
    """The decision over several candidates.

    Args:
        candidates: criteria by candidate, the preferred ones first.

    Returns:
        ("go", name of the first candidate that passes all), or else ("open", name of the first that is open), or else
        ("no-go", "").
    """
    decisions = {name: decide(criteria) for name, criteria in candidates.items()}
    for wanted in ("go", "open"):
        for name, decision in decisions.items():
            if decision == wanted:
                return wanted, name
    return "no-go", ""


@torch.inference_mode()
def answers(model: nn.Module, ids: Tensor, batch: int = 8) -> Answers:
    """What a model says about every token but the first of each window, in the precision in which it is served.

    Args:
        model: a causal language model, on any device.
        ids: int64 ``[windows, context]``.
        batch: windows at once.

    Returns:
        Its answers, on the CPU; they are all that is needed of the dense model later on.

    Raises:
        PrunekitError: windows of fewer than two tokens, or more than the model takes.
    """
    check_text(model, ids, least=2)
    nll, hits = [], []
    with without_dropout(model):
        for window in ids.to(device_of(model)).split(batch):
            logits, target = model(window, use_cache=False).logits[:, :-1].float(), window[:, 1:]
            nll.append(cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target).cpu())
            hits.append((logits.argmax(-1) == target).cpu())
    return Answers(torch.cat(nll), torch.cat(hits))


def compare(found: Answers, dense: Answers, seed: int = 0) -> dict[str, tuple[float, float]]:
    """What a compressed model keeps of the dense one, each number with its standard error.

    Tokens of a window depend on each other: errors come from drawing windows (bootstrap), the same for both models.

    Args:
        found: the compressed model's answers, on two windows or more.
        dense: the dense model's, on the same tokens.
        seed: of the bootstrap.

    Returns:
        (value, standard error) of ``retention`` and of ``perplexity ratio``, compressed over dense; NaN where the dense
        model is hardly ever right, and a criterion with it stays open.

    Raises:
        PrunekitError: fewer than two windows, or answers to different texts.
    """
    windows = len(dense.hits)
    if windows < 2 or found.hits.shape != dense.hits.shape:
        raise PrunekitError("comparing needs answers of both models on the same windows, two or more.")
    draws = torch.randint(windows, (RESAMPLES, windows), generator=torch.Generator().manual_seed(seed))
    unbiased = math.sqrt(windows / (windows - 1))  # the bootstrap's variance is that of a sample, too small by this

    def with_error(function, *columns: Tensor) -> tuple[float, float]:
        value = function(*(c.mean() for c in columns)).item()
        return value, unbiased * function(*(c[draws].mean(1) for c in columns)).std().item()

    hits, dense_hits = (a.hits.double().mean(1) for a in (found, dense))
    gap = (found.nll.double() - dense.nll.double()).mean(1)
    return {
        "retention": with_error(lambda h, d: h / d, hits, dense_hits),
        "perplexity ratio": with_error(torch.exp, gap),
    }


def criteria(
    found: Mapping[str, Mapping[str, tuple[float, float]]],
    share: float,
    limits: Mapping[str, float],
    tasks: Sequence[Compared] = (),
) -> list[Criterion]:
    """A candidate's numbers beside their limits, with margins that hold for all of them at once.

    Args:
        found: what `compare` found, by text.
        share: stored bytes over the dense model's.
        limits: ``retention`` (at least), ``perplexity ratio`` and ``bytes`` (at most); and by the name of a task how
            much above chance (at least) is to be kept of it.
        tasks: what `pk.compare_tasks` gave, beside the dense model; only the first metric of a task that has a limit
            counts.

    Raises:
        PrunekitError: a task has a limit and was not done, or not beside the dense model, or has no choices.
    """
    kept = {row.model.task: row.kept for row in reversed(tasks) if row.kept is not None}
    named = [name for name in limits if name not in ("retention", "perplexity ratio", "bytes")]
    if missing := [name for name in named if name not in kept]:
        raise PrunekitError(f"a limit names the task {missing[0]}, of which no retention above chance was given.")
    errors = width(2 * len(found) + len(named) + 1)
    rows = []
    for key, at_least in (("retention", True), ("perplexity ratio", False)):
        for text, numbers in found.items():
            value, error = numbers[key]
            rows.append(Criterion(key, text, value, errors * error, limits[key], at_least))
    for name in named:
        value, error = kept[name]
        rows.append(Criterion("above chance", name, value, errors * error, limits[name], True))
    return [*rows, Criterion("bytes over dense", "", share, 0.0, limits["bytes"], False)]


def weight_bytes(shapes: Sequence[tuple[int, int]], dtype: str) -> int:
    """Bytes of some weights in a dtype; FP8 ones with a float32 scale for each row.

    Args:
        shapes: ``(out, in)`` of each weight.
        dtype: one of `BYTES`.

    Raises:
        PrunekitError: the dtype is unknown.
    """
    if dtype not in BYTES:
        raise PrunekitError(f"unknown dtype {dtype!r}: expected one of {', '.join(BYTES)}.")
    scale = 4 if dtype.startswith("float8") else 0
    return sum(rows * columns * BYTES[dtype] + rows * scale for rows, columns in shapes)


def retention_error(dense: Tensor, hits: Tensor) -> tuple[float, float]:
    """Retention and its standard error from paired hits, bool ``[tokens]``, as if tokens were independent.

    With ``r = sum(hits) / sum(dense)`` the residuals ``hits - r dense`` have mean 0; the error is their standard
    deviation over ``mean(dense) sqrt(tokens)`` (the usual one of a ratio, to first order).
    """
    d, h = dense.double(), hits.double()
    r = (h.sum() / d.sum()).item()
    spread = (h - r * d).square().mean().sqrt().item()
    return r, spread / (d.mean().item() * math.sqrt(len(d)))


def rows_of(criteria: Sequence[Criterion]) -> list[tuple[str, ...]]:
    """The criteria as rows of a table: name, value with margin, limit, state."""
    return [
        (
            f"{c.name}, {c.on}" if c.on else c.name,
            f"{c.value:.3f} ± {c.margin:.3f}" if c.margin else f"{c.value:.3f}, counted",
            f"{c.word} {c.limit:g}",
            c.state,
        )
        for c in criteria
    ]


def write_memo(
    path: str | Path,
    model: str,
    candidates: Mapping[str, Sequence[Criterion]],
    facts: Mapping[str, str],
    untested: Sequence[str],
) -> str:
    """Write the memo as Markdown; everything in it comes from the arguments.

    Args:
        path: the file; its folder must exist.
        model: what the model is called.
        candidates: criteria by candidate, the preferred ones first.
        facts: headings and sentences: recipe, protocol, sizes, machine ...
        untested: what this run does not say.

    Returns:
        The text that was written.
    """
    decision, name = recommend(candidates)
    titles = {"go": f"go, with {name}", "open": f"open: {name} needs more tokens to be judged", "no-go": "no-go"}
    lines = [f"# Memo: {model}: {titles[decision]}", ""]
    lines += ["The rules were set before the run. A number passes or fails if all of it, margin included, lies on one"]
    lines += ["side of its limit. One failure is a no-go; else one open number leaves it open. The margins of a"]
    lines += [f"candidate hold all at once with a confidence of {CONFIDENCE:.0%}."]
    for candidate, rows in candidates.items():
        lines += [
            "",
            f"## {candidate}: {decide(rows)}",
            "",
            "| criterion | value | limit | state |",
            "|---|---|---|---|",
        ]
        lines += [f"| {' | '.join(row)} |" for row in rows_of(rows)]
    for heading, sentence in facts.items():
        lines += ["", f"**{heading}.** {sentence}"]
    lines += ["", "**Not tested.** " + "; ".join(untested) + "."]
    text = "\n".join(lines) + "\n"
    Path(path).write_text(text, "utf-8")
    return text
