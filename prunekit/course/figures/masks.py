"""Figures of notebook 02: where zeros may be, how they are stored, which rows and columns go, what becomes faster.

Latencies say on the picture whether they are measured or published; speeds are "times as fast as dense".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ...bench.timing import Timing, fastest
from ...speed.published import CITATION, published_rows
from ..style import COLORS, HATCHES, bars, slower, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALE = "#fbe6d9"  # under the hatch of what is pruned
INK = COLORS["ink"]


def patterns(W: Tensor, E: Tensor, L: Tensor, masks: Mapping[str, Tensor], lost: Mapping[str, float]) -> Figure:
    """A small weight with its energies, and its scores under each mask: kept ones blue, pruned ones hatched.

    Args:
        W: small weight ``[out, in]`` of whole numbers.
        E: energies ``[in]``, whole numbers, too.
        L: scores ``[out, in]``.
        masks: three by name, bool ``[out, in]``, True where a weight stays.
        lost: by name, the share of the scores that goes, from 0 to 1.
    """
    figure, axes = subplots(2, 2, size=(8.6, 5.0))
    first = axes[0, 0]
    _grid(first, W, None)
    for j, energy in enumerate(E.tolist()):
        _cell(first, j, -1.25, f"{energy:g}", None, COLORS["yellow"])
    first.text(-0.2, -0.75, "E", ha="right", va="center", weight="bold")
    first.text(-0.2, W.shape[0] / 2, "W", ha="right", va="center", weight="bold")
    first.set(title="the weight, and the energy of each input", xlim=(-0.7, W.shape[1]), ylim=(W.shape[0], -1.3))
    for axis, (name, keep) in zip(axes.flat[1:], masks.items()):
        _grid(axis, L, keep)
        axis.set_title(f"{name}: scores W²E, {lost[name]:.0%} lost")
        for edge in range(4, L.shape[1], 4) if ":" in name else ():
            axis.axvline(edge, color=INK, linewidth=3.5)
    return figure


def _grid(axis: Axes, table: Tensor, keep: Tensor | None) -> None:
    """Numbers in cells, blue where they are kept, hatched where not, pale grey without a mask."""
    rows, columns = table.shape
    for i in range(rows):
        for j in range(columns):
            _cell(axis, j, i, f"{table[i, j]:g}", None if keep is None else bool(keep[i, j]))
    axis.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[], aspect="equal")
    axis.spines[:].set_visible(False)


def _cell(axis: Axes, x: float, y: float, text: str, kept: bool | None, face: str = "#f3f3f3") -> None:
    from matplotlib.patches import Rectangle

    if kept is not None:
        face = COLORS["keep"] if kept else PALE
    edge, hatch = ("white", None) if kept in (True, None) else (COLORS["prune"], HATCHES["prune"])
    axis.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=1))
    back = {"facecolor": PALE, "edgecolor": "none", "pad": 1.0} if kept is False else None
    color, weight = ("white", "bold") if kept else (INK, "normal")
    axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=color, weight=weight, bbox=back)


def _bare(axis: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    axis.set(xlim=x, ylim=y)
    axis.axis("off")


def _groups(axis: Axes, row: Tensor, keep: Tensor, y: float) -> None:
    for j, value in enumerate(row.tolist()):
        _cell(axis, j, y, f"{value:g}", bool(keep[j]))
    for edge in range(0, len(row) + 1, 4):
        axis.plot([edge, edge], [y - 0.1, y + 1.1], color=INK, linewidth=3)


def layout24(row: Tensor, keep: Tensor) -> Figure:
    """One row in groups of four, the values that a 2:4 format stores, and the bits of their places.

    Args:
        row: ``[in]``, 4 divides ``in``.
        keep: bool ``[in]`` with two True in each group of four.
    """
    figure, axis = subplots(size=(8.2, 2.4))
    kept = keep.nonzero().flatten().tolist()
    _groups(axis, row, keep, 0)
    for j in range(len(row)):
        axis.text(j + 0.5, -0.15, str(j % 4), ha="center", va="bottom", fontsize=9, color="#555555")
    for place, j in enumerate(kept):
        x = place + (len(row) - len(kept)) / 2
        _cell(axis, x, 1.7, f"{row[j]:g}", True)
        _cell(axis, x, 2.7, f"{j % 4:02b}", None, COLORS["yellow"])
        axis.annotate("", (x + 0.5, 1.68), (j + 0.5, 1.05), arrowprops={"arrowstyle": "->", "color": "#777777"})
    labels = ("the row in groups of 4\n(above: place in its group)", "values kept", "places, 2 bits each")
    for y, label in zip((0.5, 2.2, 3.2), labels):
        axis.text(-0.3, y, label, ha="right", va="center")
    _bare(axis, (-3.6, len(row) + 0.2), (3.8, -0.6))
    return figure


def row_bytes(forms: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """One row as each format stores it, a box for each byte: values blue, what says where they belong yellow.

    Args:
        forms: by format, the tensors that it stores; numbers are values, integers say where they belong.
    """
    figure, axis = subplots(size=(8.8, 0.4 + 0.62 * len(forms)))
    for y, (name, tensors) in enumerate(forms.items()):
        x, said = 0, []
        for part, tensor in tensors.items():
            value = tensor.is_floating_point()
            for _ in range(tensor.nbytes):
                _cell(axis, x, 1.6 * y, "", None, COLORS["keep" if value else "yellow"])
                x += 1
            said.append(f"{part} {tensor.nbytes}")
        axis.text(-0.5, 1.6 * y + 0.5, name, ha="right", va="center")
        axis.text(x + 0.5, 1.6 * y + 0.5, f"{x} bytes: " + ", ".join(said), ha="left", va="center", fontsize=9)
    _bare(axis, (-6, 48), (1.6 * len(forms) - 0.4, -0.4))
    return figure


def reordered(row: Tensor, order: Sequence[int], keep: Tensor, keep_after: Tensor) -> Figure:
    """The scores of one row under 2:4, as they stand and in another order.

    Args:
        row: scores ``[in]``.
        order: which column comes to each place.
        keep: bool ``[in]``; this and the next say what 2:4 keeps before and after.
        keep_after: bool ``[in]``, in the new order.
    """
    figure, axis = subplots(size=(8.2, 2.2))
    after = row[list(order)]
    for y, scores, mask, name in ((0, row, keep, "as it stands"), (2.2, after, keep_after, "two change places")):
        _groups(axis, scores, mask, y)
        axis.text(-0.3, y + 0.5, name, ha="right", va="center")
        axis.text(len(row) + 0.3, y + 0.5, f"lost: {scores[~mask].sum():g}", ha="left", va="center", weight="bold")
    for place, j in enumerate(order):
        if place != j:
            style = {"arrowstyle": "->", "color": "#555555", "linewidth": 1.5}
            axis.annotate("", (place + 0.5, 2.15), (j + 0.5, 1.05), arrowprops=style)
    _bare(axis, (-2.6, len(row) + 1.9), (3.4, -0.2))
    return figure


def gated(keep: Tensor, width: int = 4) -> Figure:
    """A gated MLP with the rows and columns of its removed neurons hatched, and the next layer unchanged.

    Args:
        keep: bool ``[neurons]``, few of them.
        width: of the MLP's input and output.
    """
    count, down = len(keep), len(keep) + 0.5 - width / 2
    far = width + 7.5
    last = far + count + 2.0
    figure, axis = subplots(size=(9.0, 3.4))
    matrices = [(0.0, 0.0, count, width), (0.0, count + 1.0, count, width), (far, down, width, count)]
    for x, y, rows, columns in matrices:
        for i in range(rows):
            for j in range(columns):
                _cell(axis, x + j, y + i, "", bool(keep[i if rows == count else j]))
    for i in range(width * width):
        _cell(axis, last + i % width, down + i // width, "", None)
    for name, (_, y, _, _) in zip(("gate_proj", "up_proj"), matrices):
        axis.text(-0.3, y + count / 2, f"{name}\n{count} x {width}", ha="right", va="center")
    said = "silu(gate) · up:\none number\nfor each neuron"
    for x, y, text, weight in (
        (width + 3.6, count + 0.5, said, "normal"),
        (far + count / 2, down - 1.2, f"down_proj, {width} x {count}", "normal"),
        (last + width / 2, down - 1.7, "next layer:\nunchanged", "bold"),
    ):
        axis.text(x, y, text, ha="center", va="center", weight=weight)
    middle = count + 0.5
    arrows = [((width + 0.2, y), (width + 1.6, middle)) for y in (count / 2, 1.5 * count + 1)]
    arrows += [((far - 1.6, middle), (far - 0.3, middle)), ((last - 1.7, middle), (last - 0.3, middle))]
    for start, end in arrows:
        axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#555555", "linewidth": 1.5})
    _bare(axis, (-3.6, last + width + 0.2), (2 * count + 1.3, -0.3))
    return figure


def measured_times(timings: Mapping[str, Timing], title: str) -> Figure:
    """How many times as fast each form is as the dense one, which is the first, measured on this CPU in turn."""
    dense = next(iter(timings.values()))
    figure, axis = subplots(size=(7.6, 0.9 + 0.42 * len(timings)))
    speeds = [fastest(dense, timing) for timing in timings.values()]
    values = [middle for middle, _, _ in speeds]
    errors = [[middle - low for middle, low, _ in speeds], [high - middle for middle, _, high in speeds]]
    texts = [f"{value:.2f}  ({min(timing.samples) * 1e3:.2f} ms)" for value, timing in zip(values, timings.values())]
    bars(axis, list(timings), values, texts, [slower(value) for value in values], errors)
    axis.set(title=title, xlabel="times as fast as dense (this CPU, fastest rounds; whiskers: quartiles)")
    return figure


def published24(gpu: str = "RTX 4090", dtype: str = "fp8") -> Figure:
    """How many times as fast 2:4 weights are on a GPU, over tokens, for the layers of Llama 3.2 1B: published.

    Args:
        gpu: the card; this and the next as `published_rows` takes them.
        dtype: the format.

    Raises:
        PrunekitError: unknown card.
    """
    rows = [row for row in published_rows(gpu, dtype) if row.model == "Llama3.2-1B"]
    figure, axis = subplots(size=(7.6, 3.6))
    axis.axhspan(0, 1, facecolor="#eeeeee", linewidth=0)
    axis.text(15500, 0.47, "2:4 is slower than dense", va="center", ha="right", weight="bold")
    for (N, K), marker in zip(sorted({(row.N, row.K) for row in rows}), "os^D"):
        points = sorted((row.M, row.speedup) for row in rows if (row.N, row.K) == (N, K))
        axis.plot(*zip(*points), marker=marker, markersize=5, label=f"weight {N} x {K}")
    axis.axhline(1, color=INK, linestyle="--", linewidth=1)
    axis.set_xscale("log", base=2)
    ticks = sorted({row.M for row in rows})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set(ylim=(0.3, 2.2), xlabel="tokens in the product", ylabel="times as fast as dense")
    axis.set_title(f"{gpu}, {dtype.upper()}, layers of Llama 3.2 1B ({CITATION})", fontsize=10)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 0.12), ncols=2, fontsize=9)
    return figure


def models(judged: Mapping[str, Mapping[str, float]]) -> Figure:
    """Whole models side by side: file size, speed and perplexity.

    Args:
        judged: by model ``megabytes`` (real files), ``fast`` (a block, times as fast as dense, on this CPU), its
            ``spread`` (quartiles) and ``perplexity``; the first is the dense one. The file of ``2:4`` is
            packed, its speed that of stored zeros.
    """
    figure, axes = subplots(1, 3, size=(9.0, 0.9 + 0.4 * len(judged)), sharey=True)
    names, first = list(judged), next(iter(judged.values()))
    size = [values["megabytes"] / first["megabytes"] for values in judged.values()]
    packed = {"2:4": " packed"}
    files = [f"{values['megabytes']:.0f} MB{packed.get(name, '')}" for name, values in judged.items()]
    bars(axes[0], names, size, files, [""] * len(names))
    fast = [values["fast"] for values in judged.values()]
    spread = [[abs(values["spread"][side] - values["fast"]) for values in judged.values()] for side in (0, 1)]
    told = [f"{value:.2f}" + " zeros stored" * (name in packed) for name, value in zip(names, fast)]
    bars(axes[1], names, fast, told, [""] * len(names), spread)
    perplexity = [values["perplexity"] for values in judged.values()]
    axes[2].barh(range(len(names)), perplexity, color=COLORS["muted"], height=0.6)
    for place, value in enumerate(perplexity):
        axes[2].text(value + 0.02 * max(perplexity), place, f"{value:.1f}", va="center", fontsize=9)
    axes[2].set_xlim(0, 1.25 * max(perplexity))
    titles = (
        "file over dense file\n(lower: better)",
        "a block, times as fast as dense\n(this CPU; whiskers: quartiles)",
    )
    for axis, title in zip(axes, (*titles, "perplexity\n(lower: better)")):
        axis.set_title(title, fontsize=10)
    return figure
