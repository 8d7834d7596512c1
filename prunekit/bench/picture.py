"""The picture of README: what each method keeps and how long it takes, drawn from the stored measurements.

``python -m prunekit.bench.picture`` writes ``notebooks/kept.svg``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .measured import measured, rounded_range

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACE = Path("notebooks/kept.svg")
METHODS = {"wanda": "Wanda", "sparsegpt": "SparseGPT", "fast": "fast", "balanced": "balanced", "best": "best"}
STYLES = {"20 %": ("#0072B2", ""), "50 %": ("#E69F00", "//"), "2:4 + FP8": ("#CC79A7", "xx")}  # by pattern


def rows() -> dict[str, dict[str, tuple[float, float]]]:
    """Retention on Wikipedia (a ratio) and seconds, by method and pattern: of each method the first stored seed."""
    found: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in METHODS}
    for row in measured()["rows"]:
        if row["method"] in found and row["seed"] == 0 and row["pattern"] in STYLES:
            found[row["method"]][row["pattern"]] = (row["texts"]["wikipedia"]["retention"], row["seconds"])
    return found


def draw() -> Figure:
    """Bars of retention by method and pattern, with the seconds that each took below its name."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 3.4), layout="constrained", facecolor="white")
        axes = figure.subplots()
    names = []
    for place, (name, patterns) in enumerate(rows().items()):
        seconds = [took for _, took in patterns.values()]
        names.append(f"{METHODS[name]}\n{span(min(seconds), max(seconds))}")
        for i, (pattern, (kept, _)) in enumerate(patterns.items()):
            color, hatch = STYLES[pattern]
            label = pattern if place == 0 else None
            bar = axes.bar(place + (i - 1) * 0.28, 100 * kept, 0.26, color=color, hatch=hatch, ec="white", label=label)
            axes.bar_label(bar, fmt="%.0f", fontsize=9, padding=2)
    axes.axhline(100, color="black", lw=0.6, ls=":", zorder=0)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 124)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("top-1 kept, % of dense")
    axes.legend(title="pruned", ncols=3, frameon=False, loc="upper left", bbox_to_anchor=(0, 1.06))
    return figure


def span(low: float, high: float) -> str:
    """Seconds or minutes, as "2 s" or "8 to 19 min"."""
    unit, size = ("min", 60) if low >= 120 else ("s", 1)
    return f"{rounded_range(low / size, high / size)} {unit}"


def main() -> None:
    """Write the picture, its letters as text and always in the same way."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kept"}):
        draw().savefig(PLACE, metadata={"Date": None, "Creator": None})
    print(f"wrote {PLACE}")


if __name__ == "__main__":
    main()
