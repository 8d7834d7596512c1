"""Points of the trade-off: what a compressed model takes and what it keeps; tables of them, and the front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean, stdev
from time import process_time
from typing import TypeVar

from torch import Tensor, nn

from ...compression.result import Compressed
from ...evaluation.answers import Answers, judge, retention
from ...model.fp8_linear import Fp8Linear
from ...model.linear import linear_layers, zeros_in
from ...storage.tensors import narrow, stored_bytes
from ..tables import table as show

CLAIMS = {0.2: 0.994, 0.5: 0.9157}  # as reported: retention by sparsity, a blog summary of arXiv 2501.16376
NAMES = {"ewma": "EWMA", "magnitude": "magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT"}


Made = TypeVar("Made")


def timed(call: Callable[[], Made]) -> tuple[Made, float]:
    """What a call returns, and the seconds that processors worked for it, summed over threads.

    Other programs on a busy machine do not count, as they would in seconds of a clock.
    """
    begin = process_time()
    made = call()
    return made, process_time() - begin


def packed_bytes(model: nn.Module) -> int:
    """Size of the weights if zeros took one bit each: a bit for every weight, and the survivors. A prediction.

    Layers where that would not save anything count as they are. prunekit does not write such files.
    """
    total = stored_bytes(model)
    for module in linear_layers(model).values():
        stored = module.weight if isinstance(module, Fp8Linear) else narrow(module.weight)
        total -= max(0, zeros_in(stored) * stored.element_size() - stored.numel() // 8)
    return total


def point(method: str, model: nn.Module, found: Answers, dense: Answers, **about: object) -> dict:
    """One point of the trade-off: what a model is, what it takes and what it keeps.

    Args:
        method: its name.
        model: the model.
        found: its answers.
        dense: the dense model's answers.
        about: ``pattern`` ("50 %", "2:4", "dense"), ``sparsity``, ``fp8`` (bool), ``tokens``, ``seconds``.
    """
    kept, margin = retention(found, dense)
    about = {"pattern": "dense", "sparsity": 0.0, "fp8": False, "tokens": 0, "seconds": 0.0} | about
    sizes = {"bytes": stored_bytes(model), "packed": packed_bytes(model)}
    windows = {"hits": found.hits.sum(1).tolist(), "nll": found.nll.double().mean(1).tolist()}
    judged = {"retention": kept, "margin": margin, "perplexity": found.perplexity} | windows
    return {"method": method, **about, **sizes, **judged}


def measure(result: Compressed, ids: Tensor, dense: Answers, method: str | None = None) -> dict:
    """Judge what `prunekit.compression.compress` returned and make a `point` of it.

    Args:
        result: what it returned.
        ids: int64 ``[windows, context]``, text to judge on.
        dense: the dense model's answers on it.
        method: the point's name; default as in `NAMES`, or "FP8 alone".
    """
    recipe = result.recipe
    share = "dense" if recipe.sparsity == 0 else f"{recipe.sparsity or 0:.0%}".replace("%", " %")
    about = {
        "pattern": recipe.pattern or share,
        "sparsity": result.sparsity,
        "fp8": recipe.fp8 is not None,
        "tokens": result.tokens,
        "seconds": sum(result.seconds.values()),
    }
    method = method or ("FP8 alone" if recipe.sparsity == 0 else NAMES[recipe.method])
    return point(method, result.model, judge(result.model, ids), dense, **about)


def table(points: Sequence[dict], caption: str) -> None:
    """Show points, one a line: the retention with twice its standard error, the perplexity beside it."""
    head = ("method", "pruned", "FP8", "retention", "perplexity", "MB on disk", "MB packed", "tokens", "seconds")
    rows = [
        (
            *(p["method"], p["pattern"], "yes" if p["fp8"] else "no"),
            f"{p['retention']:.1%} ± {p['margin']:.1%}",
            *(f"{p['perplexity']:.1f}", f"{p['bytes'] / 1e6:.0f}", f"{p['packed'] / 1e6:.0f}"),
            *(f"{p['tokens']:,}", f"{p['seconds']:.1f}"),
        )
        for p in points
    ]
    show(head, rows, caption)


def pareto(cost: Sequence[float], quality: Sequence[float]) -> list[bool]:
    """Which points no other beats: as cheap and as good, and better in one of the two (quality: more is better)."""
    pairs = list(zip(cost, quality))
    return [not any(c <= a and q >= b and (c, q) != (a, b) for c, q in pairs) for a, b in pairs]


def find(points: Sequence[dict], method: str, pattern: str, fp8: bool = True) -> dict:
    """The first point of that method (its whole name) and pattern."""
    return next(p for p in points if (p["method"], p["pattern"], p["fp8"]) == (method, pattern, fp8))


def lead(one: dict, other: dict, quality: str = "retention") -> tuple[float, float]:
    """By how much one point is better than another on the same tokens, and twice the standard error of that.

    Args:
        one: a `point`.
        other: a `point` that was judged on the same windows.
        quality: "retention", a difference of hits for each window, or "perplexity", of log-perplexity.

    Returns:
        The lead, positive where `one` is better, and its margin; a lead within its margin says nothing.
    """
    hits = quality == "retention"
    pairs = zip(one["hits"], other["hits"]) if hits else zip(other["nll"], one["nll"])
    gaps = [a - b for a, b in pairs]
    return mean(gaps), 2 * (stdev(gaps) if len(gaps) > 1 else 0.0) / len(gaps) ** 0.5


def standing(points: Sequence[dict], cost: Sequence[float], quality: str = "retention") -> list[str]:
    """Where each point stands in the trade-off: "front", "beaten" or "cannot tell".

    A point is beaten if one that costs no more leads by more than the margin of the pair. It is on the front if it
    leads all that cost no more by more than the margin. Of the rest this text cannot tell.

    Args:
        points: as `point` makes them, all judged on the same windows.
        cost: of each, in any unit.
        quality: as in `lead`.
    """
    found = []
    for i, p in enumerate(points):
        leads = [lead(p, q, quality) for j, q in enumerate(points) if j != i and cost[j] <= cost[i]]
        beaten = any(gap < -margin for gap, margin in leads)
        ahead = all(gap > margin for gap, margin in leads)
        found.append("beaten" if beaten else "front" if ahead else "cannot tell")
    return found
