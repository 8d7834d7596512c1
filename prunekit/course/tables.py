"""Results as tables: HTML where a notebook shows them, aligned text elsewhere."""

from __future__ import annotations

import html
from collections.abc import Sequence

from .style import display_bundle


def table(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
    """Show a table; numbers stand to the right.

    Args:
        head: the columns' names, with their units.
        rows: cells by row; floats are shown with four digits, so give text where you want others.
        caption: what the numbers are: measured, published or predicted, and on what.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells)]
    right = [all(isinstance(cell, (int, float)) for cell in column) for column in zip(*rows)] or [False] * len(head)
    lines = ["  ".join(_aligned(*part) for part in zip(row, widths, right)).rstrip() for row in (head, *cells)]
    plain = "\n".join(([caption] if caption else []) + lines)

    def row(kind: str, values: Sequence[str]) -> str:
        sides = ("right" if side else "left" for side in right)
        return "".join(f'<{kind} style="text-align: {s}">{html.escape(v)}</{kind}>' for v, s in zip(values, sides))

    body = "".join(f"<tr>{row('td', values)}</tr>" for values in cells)
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    page = f"<table>{title}<thead><tr>{row('th', head)}</tr></thead><tbody>{body}</tbody></table>"
    display_bundle({"text/plain": plain, "text/html": page})


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _aligned(value: str, width: int, right: bool) -> str:
    return value.rjust(width) if right else value.ljust(width)
