"""Sentences of a notebook that are held to its numbers, so that prose cannot drift from what was measured.

A module ``topics/TOPIC.py`` defines ``SENTENCES``, a dict from what is said to a condition on the notebook's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from .question import topic


def holds(number: str, names: Mapping[str, Any]) -> None:
    """Compare what a notebook says with its numbers, and print what does not hold on this run.

    Args:
        number: the notebook's, such as "01".
        names: its ``globals()``.

    Raises:
        PrunekitError: there is no such notebook.
    """
    sentences, space, lines = topic(number).SENTENCES, SimpleNamespace(**names), []
    for sentence, condition in sentences.items():
        try:
            fails = not condition(space)
        except AttributeError as error:
            lines.append(f"  not compared, since a cell was not run ({error.name}): {sentence}")
            continue
        if fails:
            lines.append(f"  does not hold in this run: {sentence}")
    count = f"{len(sentences)} sentences of this notebook were compared with its numbers"
    print("\n".join([f"{count}: {'these do not hold here.' if lines else 'all hold.'}", *lines]))
