"""`ipywidgets`, or where it is not installed stand-ins that hold a value and never move: pictures then stay still."""

from typing import Any


class Held:
    """Stands in for any control: it keeps its first value, and nobody is told of changes."""

    def __init__(self, *args: Any, **settings: Any):
        choices = settings.get("options")
        choices = list(choices.items() if isinstance(choices, dict) else choices or [None])
        first = choices[0][1] if isinstance(choices[0], tuple) else choices[0]
        self.value = settings.get("value", args[0] if args else first)

    def observe(self, *args: Any, **settings: Any) -> None:
        """Accept an observer that nothing will call."""


class Stills:
    """Stands in for the module: every control of ipywidgets is a `Held`."""

    def __getattr__(self, name: str) -> type[Held]:
        if name.startswith("_"):
            raise AttributeError(name)
        return Held


try:
    import ipywidgets
except ImportError:
    ipywidgets = Stills()


def view_of(widget: Any) -> dict:
    """The part of a widget's MIME data that a live notebook shows; nothing for a stand-in."""
    if isinstance(widget, Held):
        return {}
    mime = "application/vnd.jupyter.widget-view+json"
    data = widget._repr_mimebundle_()
    data = data[0] if isinstance(data, tuple) else data
    return {mime: data[mime]} if mime in data else {}
