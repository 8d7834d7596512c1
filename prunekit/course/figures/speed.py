"""Figures of notebook 05 that `prunekit.speed.plots` does not have. Each says on itself whether its numbers are
measured, published or predicted; the GPU ones are never measured here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from typing import TYPE_CHECKING

from ...bench.timing import Timing, clock_note, speedup
from ...speed.devices import Gpu, find_gpu
from ...speed.published import CITATION, Row
from ..checks.speed import waves
from ..style import COLORS, ON_WHITE, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P")


def said(numbers: Mapping | Sequence | float | None) -> str:
    """Numbers in words, for alternative texts: "dense 1.00, 2:4 1.51"; of nested mappings each with its names.

    Args:
        numbers: by name, or by names; several for a name follow each other, and None is said as "none".
    """
    if numbers is None or isinstance(numbers, (int, float)):
        return "none" if numbers is None else f"{numbers:.2f}"
    if not isinstance(numbers, Mapping):
        return " and ".join(map(said, numbers))
    parts = ((" ".join(map(str, name)) if isinstance(name, tuple) else name, value) for name, value in numbers.items())
    nested = any(isinstance(value, Mapping) for value in numbers.values())
    return "; ".join(f"{n}: {said(v)}" for n, v in parts) if nested else ", ".join(f"{n} {said(v)}" for n, v in parts)


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
        measured: timings by name, taken in turn on one device; the first, "dense", is the yardstick.
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
        color, hatch = (COLORS["muted"], "") if place == 0 else (COLORS["light"], "///")
        axes.barh(place, us, 0.65, color=color, hatch=hatch, edgecolor="white", lw=0)
        axes.plot([low, high], [place, place], color=COLORS["ink"], lw=1.2, marker="|")
        axes.text(high + far * 0.02, place, f"{us:.0f} us, {speedup(base, timing)[0]:.2f}", va="center")
    axes.set_yticks(range(len(measured)), list(measured))
    axes.invert_yaxis()
    axes.set_xlim(0, far * 1.3)
    axes.set_xlabel("microseconds, median and quartiles; then: times as fast as dense")
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
        text = f"{claim:.0f}" if claim >= 10 else f"{claim:.1f}"
        axes.annotate(text, (claim, place), (9, 0), textcoords="offset points", va="center")
    axes.set_xscale("log")
    low, high = axes.get_xlim()[0] / 1.2, axes.get_xlim()[1] * 2
    axes.set_xlim(low, high)
    ticks = [t for t in (0.1, 0.3, 1, 2, 4, 10, 30, 100, 300, 1000, 3000, 10000) if low <= t <= high]
    _log_ticks(axes.xaxis, ticks, [f"{t:g}" for t in ticks])
    axes.set_yticks(range(len(claims)), list(claims))
    axes.invert_yaxis()
    axes.set_xlabel("times as fast (log scale; the right answer is 1)")
    axes.set_title("What was claimed and what is true, measured on this CPU", pad=24)
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


def gains(found: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]) -> Figure:
    """What 2:4 gains over dense in the same format, by number of tokens, one panel a card.

    Args:
        found: published speed-ups of some shapes, by card, format ("BF16" and "FP8") and number of tokens.
    """
    figure, panels = subplots(1, len(found), size=(9.0, 4.2), sharey=True, squeeze=False)
    looks = {"BF16": ("keep", "o", "-", "", 11), "FP8": ("cast", "s", "--", "....", -17)}
    for axes, (card, formats) in zip(panels[0], found.items()):
        for name, by_size in formats.items():
            color, marker, style, hatch, above = looks[name]
            parts = [quantiles(values, n=4) for values in by_size.values()]
            low, middle, high = zip(*parts)
            axes.fill_between(list(by_size), low, high, color=COLORS[color], alpha=0.25, hatch=hatch, lw=0.8)
            label = f"2:4 over dense, {name}"
            axes.plot(list(by_size), middle, style, marker=marker, color=COLORS[color], lw=2, label=label)
            text = {"textcoords": "offset points", "ha": "center", "bbox": ON_WHITE}
            axes.annotate(f"{middle[0]:.2f}", (min(by_size), middle[0]), (0, above), **text)
            top = middle[-1] == max(median(each[max(each)]) for each in formats.values())
            axes.annotate(f"{middle[-1]:.2f}", (max(by_size), middle[-1]), (0, 11 if top else -17), **text)
        axes.axhline(1, color=COLORS["ink"], lw=1)
        axes.axhspan(0, 1, color=COLORS["muted"], alpha=0.2, lw=0)
        axes.text(0.98, 0.02, "slower than dense", ha="right", va="bottom", transform=axes.transAxes)
        axes.set_xscale("log", base=2)
        ticks = [64, 256, 1024, 4096, 16384]
        _log_ticks(axes.xaxis, ticks, [f"{m:,}" for m in ticks])
        axes.set(ylim=(0.6, 2.25), xlabel="tokens at once", title=card)
    panels[0][0].set_ylabel("times as fast as dense in the same format")
    figure.suptitle(f"Median of the layers' shapes; band: the middle half of them\n{CITATION}", fontsize=11)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def cards(found: Mapping[str, Mapping[int, Mapping[str, float | None]]], title: str) -> Figure:
    """Predicted gains over each card's own dense 16-bit product: 2:4, FP8, and both, for one layer.

    Args:
        found: by card and number of tokens, how many times as fast "2:4", "FP8" and "FP8 + 2:4" are; None where no
            kernel does that.
        title: which layer.
    """
    batches = list(next(iter(found.values())))
    figure, row = subplots(1, len(batches), size=(8.0, 1.3 + 0.75 * len(found)), sharey=True, sharex=True)
    looks = {"2:4": ("prune", "////"), "FP8": ("cast", "...."), "FP8 + 2:4": ("accent", "xx")}
    for axes, M in zip(row, batches):
        for place, gains in enumerate(found.values()):
            for k, (label, value) in enumerate(gains[M].items()):
                y, (color, hatch) = place + 0.27 * (k - 1), looks[label]
                legend = label if place == 0 else None
                axes.barh(y, value or 0, 0.24, color=COLORS[color], hatch=hatch, edgecolor="white", lw=0, label=legend)
                text = f"{value:.2f}" if value else "no kernel"
                axes.text((value or 0) + 0.05, y, text, va="center", fontsize=8, bbox=ON_WHITE)
        axes.axvline(1, color=COLORS["ink"], lw=1)
        axes.set_title(f"{M:,} token{'s' if M > 1 else ''} at once")
        axes.set_xlabel("times as fast as dense 16-bit")
    row[0].set_yticks(range(len(found)), [f"{n}\n({'.'.join(map(str, find_gpu(n).capability))})" for n in found])
    row[0].invert_yaxis()
    figure.suptitle(f"Predicted, not measured: {title}", fontsize=11)
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
