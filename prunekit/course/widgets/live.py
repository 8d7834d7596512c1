"""A picture with controls: live in a notebook with a kernel, and a plain picture everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets

from ..style import SCREEN_DPI, bundle, close, image_tag, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAST = 0.1  # seconds; a slower picture is drawn when the control is let go, not while it is dragged


class LiveFigure:
    """A figure that is drawn again whenever a control changes.

    Args:
        draw: called with the controls' values by name; returns a matplotlib figure and its alternative text.
        **controls: ipywidgets with a ``value``, by name, in the order in which they are shown.
    """

    def __init__(self, draw: Callable[..., tuple[Figure, str]], **controls: ipywidgets.Widget):
        self.draw = draw
        self.controls = controls
        self.alt = ""
        self.picture = ipywidgets.HTML()
        self.box = ipywidgets.VBox([*controls.values(), self.picture])
        self._fastest = float("inf")
        for control in controls.values():
            control.observe(self.draw_now, names="value")

    @property
    def values(self) -> dict:
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def image(self) -> str:
        """The picture as it is shown now: HTML, an ``<img>`` with alternative text and its data."""
        if not self.picture.value:
            self.draw_now()
        return self.picture.value

    def draw_now(self, change: object = None) -> None:
        """Draw the picture for the present values; controls call this by themselves."""
        close(self._draw())

    def _draw(self) -> Figure:
        began = time.perf_counter()
        figure, self.alt = self.draw(**self.values)
        width = round(figure.get_figwidth() * SCREEN_DPI)
        self.picture.value = image_tag(png(figure, dpi=SCREEN_DPI, small=False), self.alt, width)
        self._fastest = min(self._fastest, time.perf_counter() - began)
        for control in self.controls.values():
            if hasattr(control, "continuous_update"):
                control.continuous_update = self._fastest < FAST
        return figure

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        """The live view, and for places without a kernel the picture of the present state."""
        figure = self._draw()
        content, metadata = bundle(figure, self.alt)
        close(figure)
        return content | view_of(self.box), metadata


def view_of(widget: ipywidgets.Widget) -> dict:
    """The part of a widget's MIME data that a live notebook shows; the same for ipywidgets 7, as on Colab, and 8."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view}
