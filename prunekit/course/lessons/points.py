"""Points of the trade-off: what a compressed model takes and what it keeps; tables of them, and the front."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...compression.result import Compressed
from ...evaluation.answers import Answers, judge, retention
from ...model.fp8_linear import Fp8Linear
from ...model.linear import linear_layers, zeros_in
from ...storage.tensors import narrow, stored_bytes

CLAIMS = {0.2: 0.994, 0.5: 0.9157}  # published: retention by sparsity, summaries of arXiv 2501.16376, LLaMA-2 class
NAMES = {"ewma": "EWMA", "magnitude": "magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT"}


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
    judged = {"retention": kept, "margin": margin, "perplexity": found.perplexity, "answers": found}
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


def table(points: Sequence[dict]) -> None:
    """Print points, one a line: the retention with twice its standard error, the perplexity beside it."""
    head = ("", "pattern", "FP8", "retention", "2 s.e.", "perplexity", "MB on disk", "tokens", "seconds")
    print("{:<18}{:>8}{:>5}{:>11}{:>9}{:>12}{:>12}{:>8}{:>9}".format(*head))
    for p in points:
        cells = (f"{p['retention']:.1%}", f"+-{p['margin']:.1%}", f"{p['perplexity']:.1f}", f"{p['bytes'] / 1e6:.1f}")
        rest = (str(p["tokens"]), f"{p['seconds']:.2f}")
        print(
            "{:<18}{:>8}{:>5}{:>11}{:>9}{:>12}{:>12}{:>8}{:>9}".format(
                p["method"], p["pattern"], "yes" if p["fp8"] else "no", *cells, *rest
            )
        )


def pareto(cost: Sequence[float], quality: Sequence[float]) -> list[bool]:
    """Which points no other beats: as cheap and as good, and better in one of the two (quality: more is better)."""
    pairs = list(zip(cost, quality))
    return [not any(c <= a and q >= b and (c, q) != (a, b) for c, q in pairs) for a, b in pairs]


def find(points: Sequence[dict], method: str, pattern: str, fp8: bool = True) -> dict:
    """The first point of that method (its whole name) and pattern."""
    return next(p for p in points if (p["method"], p["pattern"], p["fp8"]) == (method, pattern, fp8))


def claims(points: Sequence[dict]) -> None:
    """Print what the paper claims beside what the points say."""
    own, same = find(points, "EWMA, own default", "50 %"), find(points, "EWMA", "50 %")
    rivals = [find(points, name, "50 %") for name in ("Wanda", "SparseGPT")]
    rows = [("", "published (abstracts, summaries)", "measured here")]
    for sparsity, value in CLAIMS.items():
        p = find(points, "EWMA", f"{sparsity:.0%}".replace("%", " %"))
        found = f"{p['retention']:.1%} +-{p['margin']:.1%}, perplexity {p['perplexity']:.1f}"
        rows.append((f"kept at {sparsity:.0%} pruned", f"{value:.2%}", found))
    for label, p in (("the same tokens", same), (f"{own['tokens']} against {same['tokens']:,} tokens", own)):
        times = [rival["seconds"] / p["seconds"] for rival in rivals]
        found = f"Wanda {times[0]:.1f}x, SparseGPT {times[1]:.1f}x"
        rows.append((f"pruning faster, {label}", "12.29x, up to 56.02x (a summary: 43.75x)", found))
    rows.append(("inference faster", "1.50x", "not measured here: see notebook 05"))
    for row in rows:
        print("{:<42}{:<43}{}".format(*row))
