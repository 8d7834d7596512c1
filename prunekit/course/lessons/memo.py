"""The one-page go or no-go memo: numbers with their errors, limits set beforehand, and a decision by rule."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import PrunekitError
from ...evaluation.evaluate import evaluate_all

WIDTH = 2.0  # standard errors to each side of a number: about 95 % if errors are normal
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
RESAMPLES = 1000


@dataclass(frozen=True)
class Criterion:
    """One number, its standard error, and the limit that was set for it.

    Attributes:
        name: what was measured, on what.
        value: the number.
        error: its standard error; 0 for what was counted.
        limit: the limit.
        at_least: whether the number must be at least the limit, or at most.
    """

    name: str
    value: float
    error: float
    limit: float
    at_least: bool

    @property
    def word(self) -> str:
        """``at least`` or ``at most``."""
        return "at least" if self.at_least else "at most"

    @property
    def state(self) -> str:
        """``passed`` or ``failed`` if all of ``value +- 2 error`` lies on one side of the limit, else ``open``."""
        sign = 1 if self.at_least else -1
        best = sign * (self.value - self.limit) + WIDTH * self.error
        worst = sign * (self.value - self.limit) - WIDTH * self.error
        return "passed" if worst >= 0 else "failed" if best < 0 else "open"


def decide(criteria: Sequence[Criterion]) -> str:
    """``no-go`` if any criterion failed, else ``open`` if any is open, else ``go``."""
    states = {criterion.state for criterion in criteria}
    return "no-go" if "failed" in states else "open" if "open" in states else "go"


def recommend(candidates: Mapping[str, Sequence[Criterion]]) -> tuple[str, str]:
    """The decision over several candidates.

    Args:
        candidates: criteria by candidate, the most compressed first.

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


def judge(models: Mapping[str, nn.Module], ids: Tensor, seed: int = 0) -> dict[str, dict[str, tuple[float, float]]]:
    """What compressed models keep of the dense one, each number with its standard error.

    Windows are judged one by one. Tokens of one window depend on each other, so errors come from drawing windows
    with replacement (bootstrap), the same ones for the dense and the compressed model.

    Args:
        models: causal language models; one is called ``dense``.
        ids: int64 ``[windows, context]``, two windows or more.
        seed: of the bootstrap.

    Returns:
        For each model but the dense one, (value, standard error) of ``retention``, ``perplexity ratio`` (compressed
        over dense) and ``kl`` (nats per token); and for every model of ``perplexity`` and ``top1``. Where the dense
        model is hardly ever right the error of the retention is NaN, and a criterion with it stays open.

    Raises:
        PrunekitError: fewer than two windows, no model called ``dense``, or as `prunekit.evaluation.evaluate`.
    """
    if len(ids) < 2 or "dense" not in models:
        raise PrunekitError("judging needs two or more windows, and a model called 'dense'.")
    windows = [evaluate_all(models, window) for window in ids.split(1)]
    draws = torch.randint(len(ids), (RESAMPLES, len(ids)), generator=torch.Generator().manual_seed(seed))

    def column(name: str, key: str) -> Tensor:
        return torch.tensor([window[name][key] for window in windows], dtype=torch.float64)

    def with_error(function, *columns: Tensor) -> tuple[float, float]:
        value = function(*(c.mean() for c in columns)).item()
        return value, function(*(c[draws].mean(1) for c in columns)).std().item()

    dense_hits, dense_loss = column("dense", "top1"), column("dense", "perplexity").log()
    results = {}
    for name in models:
        hits, loss = column(name, "top1"), column(name, "perplexity").log()
        results[name] = {"perplexity": with_error(torch.exp, loss), "top1": with_error(lambda h: h, hits)}
        if name != "dense":
            results[name] |= {
                "retention": with_error(lambda h, d: h / d, hits, dense_hits),
                "perplexity ratio": with_error(torch.exp, loss - dense_loss),
                "kl": with_error(lambda k: k, column(name, "kl")),
            }
    return results


def report(quality: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]]) -> str:
    """What `judge` found on some texts, a line for each text and model, each number with two standard errors."""
    lines = []
    for text, judged in quality.items():
        for name, row in judged.items():
            numbers = [f"{key} {value:.3f} ± {WIDTH * error:.3f}" for key, (value, error) in row.items()]
            lines.append("  ".join([f"{text:10}{name:20}", *numbers]))
    return "\n".join(lines)


def candidates(
    quality: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]],
    share: Mapping[str, float],
    limits: Mapping[str, float],
) -> dict[str, list[Criterion]]:
    """The criteria of each candidate: retention and perplexity ratio on each text, and stored bytes.

    Args:
        quality: what `judge` found, by text.
        share: stored bytes over the dense model's, for each candidate.
        limits: ``retention`` (at least), ``perplexity ratio`` and ``bytes`` (at most).
    """
    found = {}
    for name, size in share.items():
        criteria = []
        for key, at_least in (("retention", True), ("perplexity ratio", False)):
            for text, judged in quality.items():
                criteria.append(Criterion(f"{key}, {text}", *judged[name][key], limits[key], at_least))
        found[name] = [*criteria, Criterion("stored bytes over dense", size, 0.0, limits["bytes"], False)]
    return found


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


def table(criteria: Sequence[Criterion]) -> list[str]:
    """The criteria as lines of a Markdown table."""
    lines = ["| criterion | value | 2 standard errors | limit | state |", "|---|---|---|---|---|"]
    for c in criteria:
        error = f"{WIDTH * c.error:.3f}" if c.error else "counted"
        lines.append(f"| {c.name} | {c.value:.3f} | {error} | {c.word} {c.limit:g} | {c.state} |")
    return lines


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
        candidates: criteria by candidate, the most compressed first.
        facts: headings and sentences: recipe, protocol, sizes, machine ...
        untested: what this run does not say.

    Returns:
        The text that was written.
    """
    decision, name = recommend(candidates)
    titles = {
        "go": f"go, with {name}",
        "open": f"open: {name} needs more tokens to be judged",
        "no-go": "no-go",
    }
    lines = [f"# Memo: {model}: {titles[decision]}", ""]
    lines += ["The rules were set before the run. A number passes or fails if all of it, two standard errors to each"]
    lines += ["side, lies on one side of its limit. One failure is a no-go; else one open number leaves it open."]
    for candidate, criteria in candidates.items():
        lines += ["", f"## {candidate}: {decide(criteria)}", "", *table(criteria)]
    for heading, sentence in facts.items():
        lines += ["", f"**{heading}.** {sentence}"]
    lines += ["", "**Not tested.** " + "; ".join(untested) + "."]
    text = "\n".join(lines) + "\n"
    Path(path).write_text(text, "utf-8")
    return text
