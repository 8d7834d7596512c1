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
from ..figures.masks import PALE
from ..lessons.clinic import as_csr
from ..lessons.layouts import compressed_rows, file_bytes, pack24
from ..style import WORSE, bars, slower, subplots
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
        self.speed = {key: least / min(timing.samples) for key, timing in timed.items()}
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
        """The ways to store a pattern: by label, bytes over dense, and how many times as fast, both measured."""
        dense_bytes = self.bytes["dense", 0.0]
        if pattern == "2:4":
            zeros = 1.0, self.speed["2:4", 0.5]
            return {"zeros stored": zeros, "packed 2:4": (self.bytes["2:4", 0.5] / dense_bytes, float("nan"))}
        if pattern == "dense" or sparsity == 0:
            return {"dense": (1.0, 1.0)}
        kinds = {"zeros": "zeros stored", "rows": "CSR"}
        kinds = {"neurons": "columns cut out"} if pattern == "neurons" else kinds
        return {
            label: (self.bytes[kind, sparsity] / dense_bytes, self.speed[kind, sparsity])
            for kind, label in kinds.items()
        }


def _published() -> dict[str, float]:
    """How many times as fast 2:4 is on an RTX 4090, for one layer at few and at many tokens: published."""
    rows = [r for r in published_rows("RTX 4090", "fp8") if (r.model, r.N, r.K) == ("Llama3.2-1B", 2048, 8192)]
    ends = min(rows, key=lambda r: r.M), max(rows, key=lambda r: r.M)
    return {f"RTX 4090, {r.M} tokens": r.speedup for r in ends}


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
    figure, axes = subplots(1, 3, size=(9.0, 3.9))
    figure.set_layout_engine("none")  # the same places at each change, and faster
    for axis, place in zip(axes, ((0.01, 0.14, 0.37, 0.76), (0.62, 0.60, 0.36, 0.30), (0.62, 0.12, 0.36, 0.30))):
        axis.set_position(place)
    crop = slice(CROP[0]), slice(CROP[1])
    axes[0].imshow(_shades(weight.W[crop], keep[crop]).numpy(), aspect="auto", interpolation="nearest")
    fixed = " (slider without effect)" if pattern in ("dense", "2:4") else ""
    axes[0].set_title(f"{pattern}: sparsity {sparsity:.1f}{fixed}", fontsize=10)
    axes[0].set(xticks=[], yticks=[])
    axes[0].set_xlabel(
        f"first {min(CROP[0], len(keep))} rows and {min(CROP[1], keep.shape[1])} columns\n"
        "blue: kept, darker where larger; nearly white: pruned",
        fontsize=9,
    )
    sizes = [("contribution lost", lost, f"{lost:.1%}", "")]
    sizes += [(f"file, {label}", size, f"{size:.2f}", "larger" * (size > WORSE)) for label, (size, _) in forms.items()]
    speeds = [(label, speed, f"{speed:.2f} measured", slower(speed)) for label, (_, speed) in forms.items()]
    speeds = [row for row in speeds if row[1] == row[1]]
    if pattern == "2:4":
        speeds += [(name, speed, f"{speed:.2f} published", slower(speed)) for name, speed in published.items()]
    for axis, rows in zip(axes[1:], (sizes, speeds)):
        bars(axis, *zip(*rows))
        axis.set_ylim(2.6, -0.6)  # room for three bars, whatever the pattern
    axes[1].set_title(f"over dense, {weight.bytes['dense', 0.0] / 1e6:.2f} MB", fontsize=10)
    axes[2].set_title(
        f"times as fast as dense, {weight.dense_ms:.2f} ms for {weight.tokens} tokens", fontsize=10, x=0.3
    )
    said = [
        "; ".join(f"{n} {text}{f' ({word})' * bool(word)}" for n, _, text, word in part) for part in (sizes, speeds)
    ]
    return figure, (
        f"Weight under the pattern {pattern} at sparsity {sparsity:.1f}. Against dense as 1: {said[0]}. "
        f"Times as fast as dense: {said[1]}."
    )


def _shades(W: Tensor, keep: Tensor) -> Tensor:
    """RGB picture ``[out, in, 3]`` of a weight: kept ones blue, darker where larger; pruned ones nearly white, so that
    a grey print tells them apart."""
    size = W.abs().float()
    depth = (size / size.quantile(0.98).clamp_min(1e-12)).clamp(0, 1).unsqueeze(-1)
    kept = torch.tensor([0.60, 0.77, 0.90]) * (1 - depth) + torch.tensor([0.0, 0.27, 0.44]) * depth
    pale = torch.tensor([int(PALE[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return torch.where(keep.unsqueeze(-1), kept, pale)
