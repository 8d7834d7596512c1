"""Marks for a class: ``python -m prunekit.course.grading.grade DIR`` in the repository; ``make grade`` calls it.

DIR holds what was handed in, as STUDENT_NOTEBOOK.ipynb (alice_01_ewma_scoring.ipynb) or STUDENT/NOTEBOOK.ipynb; a file
of another name is told by its exercises. Each exercise of each copy gets a line in OUT/marks.csv, each student a page
beside it; OUT/predictions.csv holds the predictions. Answers run one by one, each in a process of its own that is
fenced in, on inputs that nobody has seen, and another process judges what they return.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from ...errors import PrunekitError
from ..build import sources
from .asked import Asked, asked_in, modules
from .fenced.runner import Runner
from .guesses import guesses
from .handed_in import Copy, copies
from .marks import Mark, Marker
from .pages import write

FENCES = {
    "network": "no network",
    "files": "no files but Python's own",
    "processes": "no other processes in sight",
    "user": "as the user nobody",
}


def grade(found: list[Copy], asked: dict[str, list[Asked]], marker: Marker) -> Iterator[Mark]:
    """The marks for all copies, those of a student together.

    Args:
        found: the copies, by student and notebook.
        asked: the exercises of each notebook.
        marker: gives the marks.
    """
    for (student, notebook), group in groupby(found, lambda copy: (copy.student, copy.notebook)):
        *older, last = sorted(group, key=lambda copy: copy.path.lstat().st_mtime)
        if not notebook:
            for copy in (*older, last):
                yield Mark(student, "", "", 0, f"{copy.path.name} is no notebook of the course")
            continue
        yield from (Mark(student, "", "", 0, f"{copy.path.name} is older than another one") for copy in older)
        yield from marker.marks(last, asked[notebook])


def run(options: argparse.Namespace) -> None:
    """Mark a folder, and write the results.

    Raises:
        PrunekitError: there is no such folder, or answers cannot be run here.
    """
    paths = {path.stem: path for path in sources()}
    found = copies(options.folder, list(paths))
    asked = {name: asked_in(paths[name]) for name in sorted({copy.notebook for copy in found} - {""})}
    marks: list[Mark] = []
    wanted = modules([each for some in asked.values() for each in some])
    with Runner(options.seconds, options.memory << 20, wanted) as runner:
        held, lacking = ([said for name, said in FENCES.items() if runner.fences[name] == has] for has in (True, False))
        print(f"seed {options.seed}; answers run with {', '.join(held) or 'no fence'}", flush=True)
        if lacking:
            print(f"not on this system or for this user: {', '.join(lacking)}", flush=True)
        lines = grade(found, asked, Marker(runner, options.seed))
        for student, own in groupby(lines, lambda mark: mark.student):
            marks += (some := list(own))
            print(f"{student}: {sum(mark.points for mark in some)} of {sum(bool(mark.exercise) for mark in some)}")
    write(options.out, marks, [guess for copy in found if copy.notebook for guess in guesses(copy)])
    print(f"wrote {options.out}/marks.csv, {options.out}/predictions.csv and a page for each student")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 2 for bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    name = "python -m prunekit.course.grading.grade"
    parser = argparse.ArgumentParser(prog=name, description=__doc__, formatter_class=raw)
    parser.add_argument("folder", type=Path, metavar="DIR", help="what was handed in")
    parser.add_argument("--out", type=Path, default=Path("dist/grades"), help="default: dist/grades")
    parser.add_argument("--seed", default=secrets.token_hex(8), help="of the inputs; default: a new one, printed")
    parser.add_argument("--seconds", type=_count, default=10, help="for an answer, of the processor; default: 10")
    parser.add_argument("--memory", type=_count, default=1024, help="for an answer, in MB; default: 1024 (Linux)")
    try:
        run(parser.parse_args(arguments))
    except PrunekitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
