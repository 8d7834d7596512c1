"""The roofline of a card, saying what of it is from the data sheet and what is predicted.

Colours are Okabe and Ito's, which colour-blind readers tell apart; markers, line styles and hatches say the
same again. It comes as a matplotlib `Figure`, and nothing is shown by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .devices import Gpu, find_gpu
from .latency import check_dtype, predict
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
