"""Figures of notebook 05 that `prunekit.speed.plots` does not have. Each says on itself whether its numbers are
measured, published or predicted; the GPU ones are never measured here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from ...bench.timing import Timing, clock_note, speedup
from ...speed.devices import FEW_TOKENS, Gpu, find_gpu
from ...speed.latency import predict
from ...speed.published import CITATION, Row, published_rows
from ...speed.shapes import config_layers
from ..checks.speed import waves
from ..style import COLORS, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The linear layers of a 7B model (the sizes of Qwen2.5-7B).
LAYERS_7B = config_layers(
    {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    }
)
MARKERS = ("o", "s", "^", "D", "v", "P")


def _log_ticks(axis, values: Sequence[float], labels: Sequence[str]) -> None:
    axis.set_major_locator(_fixed(values))
    axis.set_ticklabels(labels)
    axis.set_minor_locator(_fixed([]))


def _fixed(values: Sequence[float]):
    from matplotlib.ticker import FixedLocator

    return FixedLocator(values)


def timings(measured: Mapping[str, Timing], title: str) -> Figure:
    """Medians of some timings as bars, with the quartiles as whiskers.

    Args:
        measured: timings by name, taken in turn on one device; the first is the yardstick.
        title: what was timed.

    Raises:
        PrunekitError: the timings have not as many rounds each.
    """
    figure, axes = subplots(size=(7.0, 1.2 + 0.4 * len(measured)))
    base = next(iter(measured.values()))
    far = max(t.quartiles[1] for t in measured.values()) * 1e6
    for place, timing in enumerate(measured.values()):
        low, high = (1e6 * q for q in timing.quartiles)
        us = timing.median * 1e6
        color, hatch = (COLORS["muted"], "") if place == 0 else (COLORS["keep"], "///")
        axes.barh(place, us, 0.65, color=color, hatch=hatch, edgecolor="white", lw=0)
        axes.plot([low, high], [place, place], color=COLORS["ink"], lw=1.2, marker="|")
        axes.text(high + far * 0.02, place, f"{us:.0f} us, {speedup(base, timing)[0]:.2f} x", va="center")
    axes.set_yticks(range(len(measured)), list(measured))
    axes.invert_yaxis()
    axes.set_xlim(0, far * 1.3)
    axes.set_xlabel("microseconds, median and quartiles; x: speed over the first, by rounds")
    axes.set_title(f"{title}: measured on this CPU, {clock_note()}")
    return figure


def clinic(claims: Mapping[str, tuple[float, tuple[float, float, float]]]) -> Figure:
    """What each bad benchmark claimed beside what the honest one found, on a log scale.

    Args:
        claims: by name, the claimed speed-up, and the honest one as median, lower and upper quartile.
    """
    figure, axes = subplots(size=(7.0, 1.3 + 0.4 * len(claims)))
    axes.axvline(1, color=COLORS["muted"], lw=1)
    for place, (claim, (middle, low, high)) in enumerate(claims.values()):
        axes.plot([middle, claim], [place, place], color=COLORS["muted"], lw=1, ls=":")
        axes.plot([low, high], [place, place], color=COLORS["keep"], lw=4, alpha=0.5, solid_capstyle="butt")
        first = place == 0
        axes.plot(middle, place, "o", color=COLORS["keep"], label="honest: median and quartiles" if first else None)
        axes.plot(claim, place, "X", color=COLORS["prune"], ms=9, label="claimed" if first else None)
        text = f"{claim:.0f} x" if claim >= 10 else f"{claim:.1f} x"
        axes.annotate(text, (claim, place), (9, 0), textcoords="offset points", va="center")
    axes.set_xscale("log")
    low, high = axes.get_xlim()[0] / 1.2, axes.get_xlim()[1] * 2
    axes.set_xlim(low, high)
    ticks = [t for t in (0.1, 0.3, 1, 2, 4, 10, 30, 100, 300, 1000, 3000, 10000) if low <= t <= high]
    _log_ticks(axes.xaxis, ticks, [f"{t:g}" for t in ticks])
    axes.set_yticks(range(len(claims)), list(claims))
    axes.invert_yaxis()
    axes.set_xlabel("speed-up (log scale; the right answer is 1)")
    axes.set_title("Claimed and honest speed-ups, measured on this CPU", pad=24)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


def terms(rows: Sequence[Row], estimate: Callable[[Row], Mapping[str, float]]) -> Figure:
    """Predicted over published latency while the terms of a latency model are added one by one.

    Args:
        rows: published rows of one card, up to six.
        estimate: gives a row's microseconds after each term, by the term's name.
    """
    figure, axes = subplots(size=(7.0, 3.8))
    axes.axhspan(0.9, 1.1, color=COLORS["muted"], alpha=0.25, lw=0)
    axes.axhline(1, color=COLORS["muted"], lw=1)
    names: list[str] = []
    for row, marker in zip(rows, MARKERS):
        steps = estimate(row)
        names = list(steps)
        ratios = [max(us / row.dense_us, 0.1) for us in steps.values()]
        label = f"{row.M} x {row.N} x {row.K}"
        axes.plot(range(len(names)), ratios, marker=marker, mfc="white", mew=1.5, label=label)
    axes.set_yscale("log")
    _log_ticks(axes.yaxis, (0.1, 0.25, 0.5, 0.8, 1, 1.25, 2), ("0.1 or less", "0.25", "0.5", "0.8", "1", "1.25", "2"))
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("predicted / published")
    axes.set_title(f"{find_gpu(rows[0].gpu).name}, dense: each term repairs some shapes\n{CITATION}; grey: within 10 %")
    axes.legend(title="M x N x K", loc="lower right")
    return figure


def staircase(gpu: Gpu, M: int = 256, K: int = 4096, tile: tuple[int, int] = (128, 128)) -> Figure:
    """Predicted time against the number of outputs N: stairs of whole waves beside the straight line, in BF16.

    Args:
        gpu: a card with BF16.
        M: tokens.
        K: inputs.
        tile: rows (tokens) and columns (outputs) of an output tile.
    """
    figure, axes = subplots(size=(7.0, 3.0))
    sizes = range(64, 24577, 64)
    ideal = [2 * M * N * K / (gpu.bf16 * 1e6) for N in sizes]
    stairs = [us / waves(M, N, *tile, gpu.sms)[1] for us, N in zip(ideal, sizes)]
    axes.plot(sizes, stairs, color=COLORS["keep"], label="whole waves of tiles", drawstyle="steps-pre")
    axes.plot(sizes, ideal, "--", color=COLORS["prune"], label="operations / peak rate")
    axes.set_xlim(0, sizes[-1])
    axes.set_ylim(0, None)
    axes.set_xlabel("outputs N")
    axes.set_ylabel("microseconds")
    rows, columns = tile
    where = f"{gpu.name}, {gpu.sms} multiprocessors, bf16"
    axes.set_title(f"Predicted time of whole waves: {where}\n{M} tokens, K = {K}, tiles {rows} x {columns}")
    axes.legend(loc="upper left")
    return figure


def gains(gpu: str = "RTX 4090") -> Figure:
    """Published speed-ups over a dense BF16 product on one card, by number of tokens: FP8, 2:4, and both.

    Medians over the layer shapes that were published in both formats; the bands reach from the lowest to the highest.

    Args:
        gpu: the card, as `published_rows` takes it.

    Raises:
        PrunekitError: unknown card.
    """
    figure, axes = subplots(size=(7.0, 4.0))
    wide = {(r.model, r.M, r.N, r.K): r for r in published_rows(gpu, "bf16") if r.model != "SQUARE"}
    pairs = [(wide[k], r) for r in published_rows(gpu, "fp8") if (k := (r.model, r.M, r.N, r.K)) in wide]
    kinds = {
        "FP8 + 2:4": ("prune", "^", [b.dense_us / f.sparse24_us for b, f in pairs]),
        "FP8": ("exact", "s", [b.dense_us / f.dense_us for b, f in pairs]),
        "BF16 + 2:4": ("keep", "o", [b.speedup for b, _ in pairs]),
    }
    sizes = sorted({b.M for b, _ in pairs})
    for label, (color, marker, values) in kinds.items():
        groups = [[v for v, (b, _) in zip(values, pairs) if m == b.M] for m in sizes]
        edges = list(zip(*((min(g), max(g)) for g in groups)))
        axes.fill_between(sizes, *edges, color=COLORS[color], alpha=0.1, lw=0)
        for edge in edges:
            axes.plot(sizes, edge, marker=marker, ms=3, color=COLORS[color], lw=0.7, ls=":")
        axes.plot(sizes, [median(g) for g in groups], marker=marker, color=COLORS[color], label=label)
    axes.axhline(1, color=COLORS["ink"], lw=1)
    axes.text(sizes[-1], 0.93, "below: slower than dense BF16", ha="right", va="top")
    axes.set_xscale("log", base=2)
    _log_ticks(axes.xaxis, sizes, [str(m) for m in sizes])
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    axes.set_xlabel("tokens at once (M, log scale)")
    axes.set_ylabel("times as fast as dense BF16")
    axes.set_title(
        f"{find_gpu(gpu).name}, {len(pairs) // len(sizes)} layer shapes: median, and lowest to highest\n{CITATION}"
    )
    axes.legend(loc="upper left", ncols=3)
    return figure


def cards(names: Sequence[str], batches: Sequence[int], N: int, K: int) -> Figure:
    """Predicted speed-ups over the card's own dense 16-bit product: 2:4, FP8, and both, for one layer.

    Args:
        names: cards, as `find_gpu` knows them.
        batches: numbers of tokens, one picture each; two or more.
        N: the layer's outputs.
        K: its inputs; its weight comes from memory each time.

    Raises:
        PrunekitError: unknown card, or an impossible shape.
    """
    figure, row = subplots(1, len(batches), size=(8.0, 1.3 + 0.75 * len(names)), sharey=True, sharex=True)
    looks = {"2:4": ("keep", ""), "FP8": ("exact", "///"), "FP8 + 2:4": ("prune", "...")}
    for axes, M in zip(row, batches):
        for place, name in enumerate(names):
            for k, (label, value) in enumerate(card_gains(name, M, N, K).items()):
                y, (color, hatch) = place + 0.27 * (k - 1), looks[label]
                legend = label if place == 0 else None
                axes.barh(y, value or 0, 0.24, color=COLORS[color], hatch=hatch, edgecolor="white", lw=0, label=legend)
                text = f"{value:.2f}" if value else f"no such {'kernel' if M <= FEW_TOKENS else 'tensor cores'}"
                white = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # above the line at 1
                axes.text((value or 0) + 0.05, y, text, va="center", fontsize=8, bbox=white)
        axes.axvline(1, color=COLORS["ink"], lw=1)
        axes.set_title(f"{M} token{'s' if M > 1 else ''} at once")
        axes.set_xlabel("times as fast as dense 16-bit")
    row[0].set_yticks(range(len(names)), [f"{n}\n({'.'.join(map(str, find_gpu(n).capability))})" for n in names])
    row[0].invert_yaxis()
    figure.suptitle(f"Predicted, not measured: one layer, weight {N} x {K}", fontsize=11)
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def card_gains(name: str, M: int, N: int, K: int) -> dict[str, float | None]:
    """Predicted speed-ups of "2:4", "FP8" and "FP8 + 2:4" over dense BF16 (FP16 on cards without BF16).

    None where the card has no such unit, and for few tokens no weight-only kernel either. The weight comes from memory
    each time.

    Args:
        name: the card, as `find_gpu` knows it.
        M: tokens.
        N: the layer's outputs.
        K: its inputs.

    Raises:
        PrunekitError: unknown card, or an impossible shape.
    """
    gpu = find_gpu(name)
    base = predict(gpu, "bf16" if gpu.bf16 else "fp16", M, N, K, cold=True)
    fp8 = predict(gpu, "fp8", M, N, K, cold=True) if gpu.fp8 or M <= FEW_TOKENS else None
    return {
        "2:4": base.speedup,
        "FP8": base.dense_us / fp8.dense_us if fp8 else None,
        "FP8 + 2:4": base.dense_us / fp8.sparse24_us if fp8 and fp8.sparse24_us else None,
    }
