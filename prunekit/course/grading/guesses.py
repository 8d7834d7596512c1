"""What students predicted, as their copies tell it: `course.predict` leaves it in the metadata of its output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import PrunekitError
from ..predict import KEPT
from ..printing import shorten
from .handed_in import Copy, cells_of


@dataclass(frozen=True)
class Guess:
    """A prediction; ``answer`` is what came out, empty if the student did not look."""

    student: str
    notebook: str
    key: str
    question: str
    guess: str
    answer: str


def guesses(copy: Copy) -> Iterator[Guess]:
    """The predictions in a copy, in order. What stood when the answer was shown counts, before what stands now.

    Args:
        copy: one that is no notebook has none.
    """
    try:
        cells = cells_of(copy.path)
    except PrunekitError:
        return
    found: dict[str, Guess] = {}
    for output in (output for cell in cells for output in cell.outputs):
        metadata = output.get("metadata")
        kept = metadata.get(KEPT) if isinstance(metadata, dict) else None
        if isinstance(kept, dict):
            key, question, guess, answer = (
                shorten(str(kept.get(name) or ""), 200) for name in ("key", "question", "guess", "answer")
            )
            if answer or key not in found:
                found[key] = Guess(copy.student, copy.notebook, key, question, guess, answer)
    yield from found.values()
