"""Figures on speed, each saying whether what it shows is measured, published or predicted.

Colours are Okabe and Ito's, which colour-blind readers tell apart; markers, line styles and hatches say the
same again. Every function returns a matplotlib `Figure` and shows nothing by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from ..errors import PrunekitError
from .devices import Gpu, find_gpu
from .latency import check_dtype, predict
from .published import CITATION, published_rows
from .shapes import Layer, exceeds_cache

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#666666"
BATCH_STYLES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (SKY, "v"))


def roofline(gpu: Gpu | str, dtype: str, layers: Sequence[Layer], batches: Sequence[int] = (1, 64, 4096)) -> Figure:
    """Roofline of a card with every layer of a model on it, dense, at up to five batch sizes.

    The roof is the data sheet's; each point is a layer's predicted rate. Weights come from memory
    unless the whole model fits in the cache, which lifts points above the slope.

    Args:
        gpu: a card of `prunekit.speed.devices`, or its name.
        dtype: "fp8", "bf16" or "fp16".
        layers: the model's linear layers, as `model_layers` gives them.
        batches: tokens at once.

    Raises:
        PrunekitError: unknown card, a format that the card lacks, or an impossible shape.
    """
    gpu = find_gpu(gpu)
    dtype = check_dtype(gpu, dtype)
    size, cold = 1 if dtype == "fp8" else 2, exceeds_cache(gpu, dtype, layers)
    peak, slope = getattr(gpu, dtype), gpu.bandwidth_gbs / 1e3
    figure, axes = _axes()
    x = [0.25, peak / slope, 1e5]
    axes.plot(x, [min(peak, slope * v) for v in x], color=GREY, lw=1.5)
    _note(axes, f"{peak:.0f} TFLOPS", (9e4, peak), (0, 4), "right")
    _note(axes, f"{gpu.bandwidth_gbs:g} GB/s of memory", (30, slope * 30), (-10, 2), "right")
    for batch, (color, marker) in zip(batches, BATCH_STYLES):
        points = {}
        for layer in layers:
            flops = 2 * batch * layer.N * layer.K
            moved = size * layer.K * (layer.N + batch) + 2 * batch * layer.N
            rate = flops / predict(gpu, dtype, batch, layer.N, layer.K, cold=cold).dense_us / 1e6
            points[layer.N, layer.K] = (flops / moved, rate)
        axes.plot(
            *zip(*points.values()),
            marker,
            color=color,
            mfc="none",
            mew=1.5,
            ls="",
            label=f"M = {batch}, {len(points)} shapes",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations per byte moved",
        ylabel="TFLOPS",
        title=f"{gpu.name}, {dtype}: roof from the data sheet, layers predicted",
    )
    axes.legend(frameon=False, loc="lower right", title="tokens at once")
    return figure


def speedup_by_batch(gpu: Gpu | str, dtype: str, model: str | None = None) -> Figure:
    """Speed-up of 2:4 against the number of tokens: published measurements, and the prediction for the same shapes.

    Args:
        gpu: a card of `prunekit.speed.devices`, or its name.
        dtype: "fp8", "bf16" or "fp16".
        model: only this model's shapes, as `Row.model` names them; default all but the square ones.

    Raises:
        PrunekitError: unknown card, a format that the card lacks, or nothing has been published for that card, format
            and model.
    """
    gpu = find_gpu(gpu)
    dtype = check_dtype(gpu, dtype)
    rows = [
        row
        for row in published_rows(gpu.name, dtype)
        if (row.model != "SQUARE" if model is None else row.model == model)
    ]
    if not rows:
        raise PrunekitError(f"no published rows are carried for {gpu.name}, {dtype}, {model or 'any model'}.")
    sizes = sorted({row.M for row in rows})
    predictions = {row: predict(gpu, dtype, row.M, row.N, row.K) for row in rows}
    predicted = {row: p.speedup for row, p in predictions.items() if p.speedup is not None}
    figure, axes = _axes()
    axes.axhline(1, color=GREY, lw=1)
    _note(axes, "no gain", (sizes[-1], 1), (0, -12), "right")
    axes.plot(
        [r.M for r in rows],
        [r.speedup for r in rows],
        "o",
        color=BLUE,
        alpha=0.35,
        ms=4,
        mew=0,
        label="published, one shape each",
    )
    for values, style, color, label in (
        ({r: r.speedup for r in rows}, "o-", BLUE, "published, median"),
        (predicted, "s--", ORANGE, "predicted, median"),
    ):
        medians = [median(v for r, v in values.items() if r.M == M) for M in sizes]
        axes.plot(sizes, medians, style, color=color, label=label, lw=2, mfc="white", mew=1.5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(M) for M in sizes])
    name = f"{gpu.name}, {dtype}" + (f", {model}" if model else "")
    axes.set(
        xlabel=f"tokens at once (M)\n{CITATION}",
        ylabel="2:4 speed-up over dense (times)",
        ylim=(0, None),
        title=f"{name}: 2:4 speed-up, published and predicted",
    )
    axes.legend(frameon=False, loc="lower right")
    axes.xaxis.label.set_fontsize(9)
    return figure


def token_time(gpu: Gpu | str, dtype: str, layers: Sequence[Layer], batch: int = 1) -> Figure:
    """Where the time of one step goes: predicted time of each kind of layer, all blocks, dense beside 2:4.

    Attention, norms, the embedding and the output head are not in it.

    Args:
        gpu: a card of `prunekit.speed.devices`, or its name.
        dtype: "fp8", "bf16" or "fp16".
        layers: the model's linear layers, as `model_layers` gives them.
        batch: tokens at once.

    Raises:
        PrunekitError: unknown card, a format that the card lacks, or an impossible shape.
    """
    gpu = find_gpu(gpu)
    dtype = check_dtype(gpu, dtype)
    cold = exceeds_cache(gpu, dtype, layers)
    predictions = [predict(gpu, dtype, batch, layer.N, layer.K, cold=cold) for layer in layers]
    bars: list[tuple[str, str, str, list[float], list[str | None]]]
    bars = [("dense", BLUE, "", [p.dense_us for p in predictions], [p.bound for p in predictions])]
    if gpu.sparse24:
        times = [p.sparse24_us for p in predictions if p.sparse24_us is not None]
        bars.append(("2:4", ORANGE, "///", times, [p.sparse24_bound for p in predictions]))
    figure, axes = _axes(height=1.4 + 0.55 * len(layers))
    thickness = 0.8 / len(bars)
    longest = 0.0
    for i, (label, color, hatch, times, bounds) in enumerate(bars):
        totals = [us * layer.count / 1e3 for us, layer in zip(times, layers)]
        longest = max(longest, *totals)
        places = [n + (i - (len(bars) - 1) / 2) * thickness for n in range(len(layers))]
        axes.barh(
            places,
            totals,
            thickness * 0.92,
            color=color,
            hatch=hatch,
            edgecolor="white",
            lw=0,
            label=f"{label}, {sum(totals):.2f} ms in all",
        )
        for place, total, bound in zip(places, totals, bounds):
            axes.annotate(f" {total:.2f} ms, {bound}", (total, place), va="center", fontsize=8)
    axes.set_yticks(range(len(layers)), [f"{layer.name} x{layer.count}" for layer in layers])
    axes.invert_yaxis()
    tokens = "one token" if batch == 1 else f"{batch} tokens"
    axes.set(
        xlabel="ms for all blocks (predicted)",
        xlim=(0, longest * 1.3),
        title=f"{gpu.name}, {dtype}: where the time of {tokens} goes, predicted",
    )
    below = (0.5, -0.6 / figure.get_figheight())
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=below, ncols=2)
    return figure


def _note(axes: Axes, text: str, at: tuple[float, float], offset: tuple[int, int], side: str) -> None:
    axes.annotate(text, at, xytext=offset, textcoords="offset points", ha=side, color=GREY)


def _axes(height: float = 4.2) -> tuple[Figure, Axes]:
    """A figure of its own with one plain axes, outside pyplot's list so that nothing is shown twice."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_fontsize(11)
    return figure, axes
