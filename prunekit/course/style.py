"""One look for all pictures of the course: a palette, figure settings, and display with alternative text."""

from __future__ import annotations

import base64
import html
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PrunekitError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, which colour-blind readers can tell apart. Add a hatch, marker, line style or label:
# no meaning by colour alone.
COLORS = {
    "keep": "#0072B2",  # blue
    "prune": "#D55E00",  # vermilion
    "accent": "#E69F00",  # orange
    "exact": "#009E73",  # green
    "muted": "#999999",  # grey
    "light": "#56B4E9",  # sky blue
    "cast": "#CC79A7",  # purple
    "yellow": "#F0E442",
    "ink": "#000000",
}

HATCHES = {"keep": "", "prune": "////", "cast": "...."}  # with the colours of the same names, in every figure

WORSE = 1.1  # slower or larger by this factor is called so: less may be chance

ON_WHITE = {"fc": "white", "ec": "none", "pad": 0.5}  # the box of a label that lines may cross

SETTINGS = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
}
SCREEN_DPI = 96  # a browser's pixels per inch
STORED_DPI = 144
FIGURES = "PRUNEKIT_FIGURES"  # names a folder that gets each figure, see `make figures`


def subplots(rows: int = 1, columns: int = 1, size: tuple[float, float] = (7.0, 3.2), **options) -> tuple:
    """A figure and its axes as `matplotlib.pyplot.subplots` gives them, in the style of the course.

    Args:
        rows: number of axes under each other.
        columns: number of axes side by side.
        size: width and height in inches; notebooks are about 9 inches wide.
        options: passed on to `Figure.subplots`, such as ``sharex=True``.
    """
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    colors = [COLORS[name] for name in ("keep", "prune", "exact", "accent", "cast", "light", "ink")]
    with mpl.rc_context(SETTINGS | {"axes.prop_cycle": cycler(color=colors)}):
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


def bars(
    axis: Axes,
    names: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    words: Sequence[str],
    errors: Sequence | None = None,
) -> None:
    """Horizontal bars around the line at 1, which is dense.

    Args:
        axis: where to draw.
        names: of the bars, from top to bottom.
        values: their lengths.
        texts: what stands beside each.
        words: such as "slower", for each bar that is worse than dense, which also hatches it; "" for the others.
        errors: lengths of the whiskers to the left and to the right, each by bar; None for none.
    """
    places = range(len(values))
    ends = [value + (errors[1][i] if errors else 0) for i, value in enumerate(values)]
    far = max([*ends, 1.0])
    options = {"xerr": errors, "error_kw": {"capsize": 3, "elinewidth": 1}} if errors else {}
    drawn = axis.barh(places, values, color=COLORS["muted"], height=0.6, **options)
    for bar, end, text, word in zip(drawn, ends, texts, words):
        if word:
            bar.set(hatch="xx", facecolor=COLORS["accent"], edgecolor="white")
        middle, said = bar.get_y() + bar.get_height() / 2, f"{text}, {word}" if word else text
        axis.text(end + 0.03 * far, middle, said, va="center", fontsize=9, bbox=ON_WHITE)
    axis.axvline(1, color=COLORS["ink"], linestyle="--", linewidth=1, zorder=1.5)
    axis.set_yticks(list(places), names)
    axis.set(xlim=(0, 1.6 * far), ylim=(len(values) - 0.4, -0.6))


def slower(value: float) -> str:
    """The word for a speed, in times as fast as dense: "slower" or nothing."""
    return "slower" if value < 1 / WORSE else ""


def png(figure: Figure, dpi: int = STORED_DPI, small: bool = True) -> bytes:
    """The figure as PNG; ``small`` reduces it to 128 colours, which takes a third of the space."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    if not small:
        return buffer.getvalue()
    from PIL import Image

    picture = Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as SVG, the same each time, with its letters drawn."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "prunekit", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def image_tag(data: bytes, alt: str, width: int) -> str:
    """An HTML image that holds its own data, `width` pixels wide, with alternative text."""
    source = base64.b64encode(data).decode("ascii")
    return (
        f'<img alt="{html.escape(alt)}" width="{width}" style="max-width: 100%; height: auto" '
        f'src="data:image/png;base64,{source}">'
    )


def bundle(figure: Figure, alt: str) -> tuple[dict, dict]:
    """Data and metadata by which Jupyter shows a figure.

    JupyterLab gives no alternative text to an ``image/png``, whatever its metadata says, so an HTML image comes
    first; the ``image/png`` is for places that show no HTML, and nbconvert does read its alternative text. SVG takes
    twice the space; with `FIGURES` set, it is written there.

    Args:
        figure: a matplotlib figure.
        alt: its alternative text.

    Returns:
        (data, metadata), each by MIME type.
    """
    data = png(figure)
    if folder := os.environ.get(FIGURES):
        (Path(folder) / f"{len(list(Path(folder).iterdir())) + 1:02}.svg").write_bytes(svg(figure))
    width = round(figure.get_figwidth() * SCREEN_DPI)
    content = {
        "text/plain": f"[Picture: {alt}]",
        "text/html": image_tag(data, alt, width),
        "image/png": base64.b64encode(data).decode("ascii"),
    }
    return content, {"image/png": {"alt": alt, "width": width}}


def show(figure: Figure, alt: str) -> None:
    """Show a figure in the notebook and close it.

    Args:
        figure: a matplotlib figure.
        alt: one or two sentences that say what the picture shows, for readers who do not see it.

    Raises:
        PrunekitError: there is no alternative text.
    """
    if not isinstance(alt, str) or len(alt.split()) < 3:
        raise PrunekitError("a picture needs alternative text: alt='what it shows, in one or two sentences'.")
    content, metadata = bundle(figure, alt)
    close(figure)
    display_bundle(content, metadata)


def close(figure: Figure) -> None:
    """Forget a figure, so that the notebook does not show it a second time."""
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(figure)


def display_bundle(content: dict, metadata: dict | None = None, **options: object) -> Any:
    """Hand MIME data to Jupyter, or print the plain text where no notebook runs; options are those of ``display``."""
    from IPython.display import display

    if _in_ipython():
        return display(content, metadata=metadata or {}, raw=True, **options)
    print(content["text/plain"])
    return None


def _in_ipython() -> bool:
    from IPython import get_ipython

    return get_ipython() is not None
