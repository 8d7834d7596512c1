"""One weight, four patterns, one slider: what each loses, stores and costs.

Everything slow (ranks, file sizes, timings on this CPU) happens once, when the explorer is made.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import ipywidgets
import torch
from torch import Tensor
from torch.nn.functional import linear

from ...bench.timing import time_in_turn
from ...compression.neurons import neuron_scores
from ...errors import PrunekitError
from ...method.masks import nm_mask
from ...method.scores import contribution
from ...speed.published import published_rows
from ..figures.masks import WORSE, relative_bars, shades
from ..lessons.clinic import as_csr
from ..lessons.layouts import compressed_rows, file_bytes, pack24
from ..style import COLORS, subplots
from .live import LiveFigure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = tuple(round(0.1 * step, 1) for step in range(10))
PATTERNS = ("dense", "unstructured", "2:4", "neurons")
CROP = (32, 64)  # rows and columns of the picture


class _Weight:
    """Masks, losses, file sizes and times of one weight at every step of the slider."""

    def __init__(self, W: Tensor, E: Tensor, tokens: int, rounds: int) -> None:
        self.W, self.tokens = W.detach().float().cpu(), tokens
        L = contribution(self.W, E.float().cpu())
        self.total = L.sum().clamp_min(torch.finfo(torch.float32).tiny)
        order = L.argsort(dim=1, stable=True)
        self.rank = torch.empty_like(order).scatter_(1, order, torch.arange(W.shape[1]).expand_as(order).clone())
        self.column_rank = neuron_scores(self.W, E.float().cpu()).argsort(stable=True).argsort()
        self.keep24 = nm_mask(L, 2, 4)
        self.L = L
        x = torch.randn(tokens, W.shape[1], generator=torch.Generator().manual_seed(0))
        calls = {("dense", 0.0): partial(linear, x, self.W)}
        calls["2:4", 0.5] = partial(linear, x, self.W * self.keep24)
        for step in STEPS[1:]:
            zeros = self.W * self.mask("unstructured", step)
            columns = self.mask("neurons", step)[0]
            calls["zeros", step] = partial(linear, x, zeros)
            calls["rows", step] = partial(torch.mm, as_csr(zeros), x.T.contiguous())
            calls["neurons", step] = partial(linear, x[:, columns].contiguous(), self.W[:, columns].contiguous())
        timed = time_in_turn(calls, rounds=rounds, warmup=1, sample_s=1e-3)
        least = min(timed["dense", 0.0].samples)  # of few rounds the least is disturbed the least
        self.dense_ms = least * 1e3
        self.time = {key: min(timing.samples) / least for key, timing in timed.items()}
        half = self.W.bfloat16()
        self.bytes = {("dense", 0.0): file_bytes(half), ("2:4", 0.5): file_bytes(pack24(half * self.keep24))}
        for step in STEPS[1:]:
            self.bytes["zeros", step] = file_bytes(half * self.mask("unstructured", step))
            self.bytes["rows", step] = file_bytes(compressed_rows(half * self.mask("unstructured", step)))
            self.bytes["neurons", step] = file_bytes(half[:, self.mask("neurons", step)[0]])

    def mask(self, pattern: str, sparsity: float) -> Tensor:
        """bool ``[out, in]``, True where a weight stays."""
        prune = round(sparsity * self.W.shape[1])
        if pattern == "unstructured":
            return self.rank >= prune
        if pattern == "2:4":
            return self.keep24
        stays = self.column_rank >= (prune if pattern == "neurons" else 0)
        return stays.expand(self.W.shape)

    def forms(self, pattern: str, sparsity: float) -> dict[str, tuple[float, float]]:
        """The ways to store a pattern: by label, bytes and time over the dense ones, both measured."""
        dense_bytes = self.bytes["dense", 0.0]
        if pattern == "2:4":
            zeros = 1.0, self.time["2:4", 0.5]
            return {"zeros stored": zeros, "packed 2:4": (self.bytes["2:4", 0.5] / dense_bytes, float("nan"))}
        if pattern == "dense" or sparsity == 0:
            return {"dense": (1.0, 1.0)}
        kinds = {"zeros": "zeros stored", "rows": "compressed rows"}
        kinds = {"neurons": "columns cut out"} if pattern == "neurons" else kinds
        return {
            label: (self.bytes[kind, sparsity] / dense_bytes, self.time[kind, sparsity])
            for kind, label in kinds.items()
        }


def _published() -> dict[str, float]:
    """2:4 time over dense time on an RTX 4090 for one layer at few and at many tokens: published."""
    rows = [r for r in published_rows("RTX 4090", "fp8") if (r.model, r.N, r.K) == ("Llama3.2-1B", 2048, 8192)]
    ends = min(rows, key=lambda r: r.M), max(rows, key=lambda r: r.M)
    return {f"RTX 4090, {r.M} tokens": r.sparse24_us / r.dense_us for r in ends}


def mask_explorer(
    W: Tensor, E: Tensor, *, sparsity: float = 0.5, pattern: str = "unstructured", tokens: int = 64, rounds: int = 7
) -> LiveFigure:
    """Explore one weight under four patterns: mask, contribution lost, bytes in a file, time.

    Args:
        W: weight ``[out, in]`` whose input columns are neurons, such as a down_proj; 8 divides ``in``, at least 16.
        E: mean square of each input feature, ``[in]``.
        sparsity: what is shown first, a multiple of 0.1 up to 0.9.
        pattern: what is shown first, "dense", "unstructured", "2:4" or "neurons".
        tokens: inputs in the product that is timed on this CPU (random numbers).
        rounds: how often each form is timed, in turn; the least time counts.

    Raises:
        PrunekitError: shapes, pattern or sparsity do not fit.
    """
    if W.ndim != 2 or W.shape[1] % 8 or W.shape[1] < 16 or E.shape != (W.shape[1],):
        raise PrunekitError("the explorer needs W [out, in] with 8 dividing in, at least 16, and E [in].")
    if pattern not in PATTERNS or round(sparsity, 9) not in STEPS:
        raise PrunekitError(f"the pattern is one of {', '.join(PATTERNS)}, the sparsity a multiple of 0.1 up to 0.9.")
    weight, published = _Weight(W, E, tokens, rounds), _published()

    def draw(pattern: str, sparsity: float) -> tuple[Figure, str]:
        sparsity = {"dense": 0.0, "2:4": 0.5}.get(pattern, round(sparsity, 1))
        return _draw(weight, published, pattern, sparsity)

    return LiveFigure(
        draw,
        pattern=ipywidgets.ToggleButtons(options=PATTERNS, value=pattern, description="pattern"),
        sparsity=ipywidgets.FloatSlider(
            value=round(sparsity, 1), min=0, max=STEPS[-1], step=0.1, description="sparsity", readout_format=".1f"
        ),
    )


def _draw(weight: _Weight, published: dict[str, float], pattern: str, sparsity: float) -> tuple[Figure, str]:
    keep, forms = weight.mask(pattern, sparsity), weight.forms(pattern, sparsity)
    lost = (weight.L.masked_fill(keep, 0).sum() / weight.total).item()
    figure, axes = subplots(1, 2, size=(9.0, 3.7))
    figure.set_layout_engine("none")  # the same places at each change, and faster
    axes[0].set_position((0.01, 0.14, 0.37, 0.76))
    axes[1].set_position((0.60, 0.10, 0.37, 0.80))
    crop = slice(CROP[0]), slice(CROP[1])
    axes[0].imshow(shades(weight.W[crop], keep[crop]).numpy(), aspect="auto", interpolation="nearest")
    fixed = " (slider without effect)" if pattern in ("dense", "2:4") else ""
    axes[0].set_title(f"{pattern}: sparsity {sparsity:.1f}{fixed}", fontsize=10)
    axes[0].set(xticks=[], yticks=[])
    axes[0].set_xlabel(
        f"first {min(CROP[0], len(keep))} rows and {min(CROP[1], keep.shape[1])} columns\n"
        "blue: kept, darker where larger; nearly white: pruned",
        fontsize=9,
    )
    rows = [("contribution lost", lost, f"{lost:.1%}", COLORS["cast"])]
    for label, (size, _) in forms.items():
        rows.append((f"file, {label}", size, f"{size:.2f}", ""))
    for label, (_, time) in forms.items():
        if time == time:
            rows.append((f"time, {label}", time, f"{time:.2f} measured", ""))
    if pattern == "2:4":
        rows += [(f"time, {name}", time, f"{time:.2f} published", "") for name, time in published.items()]
    names, values, texts, colors = zip(*rows)
    words = ["larger" if name.startswith("file") else "slower" for name in names]
    relative_bars(axes[1], names, values, texts, word=words, room=2.0)
    axes[1].patches[0].set(facecolor=colors[0], hatch="...")
    axes[1].set_title(
        f"over dense: {weight.bytes['dense', 0.0] / 1e6:.2f} MB, {weight.dense_ms:.2f} ms for {weight.tokens} tokens",
        fontsize=10,
    )
    axes[1].set_ylim(5.6, -0.6)  # room for six bars, whatever the pattern
    said = "; ".join(
        f"{name} {text}{f' ({word})' if value > WORSE else ''}"
        for name, value, text, word in zip(names, values, texts, words)
    )
    return figure, f"Weight under the pattern {pattern} at sparsity {sparsity:.1f}, against dense as 1: {said}."
