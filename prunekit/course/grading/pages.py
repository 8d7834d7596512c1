"""What `make grade` writes: tables, and a page for each student."""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from .guesses import Guess
from .marks import Mark

PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{student}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }}
:root {{ color-scheme: light dark; }}
pre {{ overflow-x: auto; padding: 0.5rem; border: 1px solid #8886; }}
h2 {{ font-size: 1.1rem; margin: 1.5rem 0 0; }} p {{ margin: 0.2rem 0; }}
</style>
<h1>{student}: {points} of {most} points</h1>
{body}
</html>
"""


def write(folder: Path, marks: Sequence[Mark], guesses: Iterable[Guess]) -> None:
    """Write marks.csv, predictions.csv and a page for each student.

    Args:
        folder: is made if it is not there; other files in it stay.
        marks: a student's lines stand together.
        guesses: what the copies say was predicted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [(mark.student, mark.exercise, mark.points, mark.reason) for mark in marks]
    _table(folder / "marks.csv", ("student", "exercise", "points", "reason"), lines)
    rows = [(each.student, each.notebook, each.key, each.question, each.guess, each.answer) for each in guesses]
    _table(folder / "predictions.csv", ("student", "notebook", "prediction", "question", "guess", "answer"), rows)
    taken: set[str] = set()
    for student, own in groupby(marks, lambda mark: mark.student):
        name = re.sub(r"[^\w.-]+", "_", student).lstrip(".")[:100] or "student"
        while name.lower() in taken:  # some systems do not tell Ann from ann
            name += "_"
        taken.add(name.lower())
        (folder / f"{name}.html").write_text(page(student, list(own)), "utf-8")


def page(student: str, marks: list[Mark]) -> str:
    """A student's page.

    Args:
        student: who.
        marks: the student's lines.
    """
    body = "\n".join(_part(mark) for mark in marks)
    points, most = sum(mark.points for mark in marks), sum(bool(mark.exercise) for mark in marks)
    return PAGE.format(student=html.escape(student), points=points, most=most, body=body)


def _part(mark: Mark) -> str:
    title = html.escape(mark.title or "A file")
    word = "point" if mark.points == 1 else "points"
    more = f"<pre>{html.escape(mark.details)}</pre>" if mark.details and not mark.points else ""
    return f"<h2>{title}</h2>\n<p>{mark.points} {word}: {html.escape(mark.reason)}</p>{more}"


def _table(path: Path, head: tuple[str, ...], rows: Iterable[tuple]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows([_plain(cell) for cell in row] for row in rows)


def _plain(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
