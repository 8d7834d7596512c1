"""What was handed in: files by student and notebook, and the cells in them that belong to an exercise.

A notebook is data of unknown origin here. It is read as JSON and with plain searches; nothing in it is run.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import PrunekitError
from .asked import Asked

HANDING = re.compile(r"course\s*\.\s*(?:check|interpret)\s*\(\s*['\"]([\d.]+)['\"]")
MOST = 64 << 20  # bytes of a notebook with all its pictures


@dataclass(frozen=True)
class Copy:
    """A file that was handed in; ``notebook`` is empty if it is none of the course's."""

    student: str
    notebook: str
    path: Path


@dataclass(frozen=True)
class Cell:
    """A code cell."""

    id: str
    tags: tuple[str, ...]
    source: str
    outputs: tuple[dict, ...]


def copies(folder: Path, notebooks: list[str]) -> list[Copy]:
    """The files in a folder, ``STUDENT_NOTEBOOK.ipynb`` or ``STUDENT/NOTEBOOK.ipynb``, by student and notebook.

    What stands behind the notebook's name, such as "-Copy1" or " (2)", does not matter. A file of another name is told
    by its exercises, and its name is the student's. Hidden files are left out.

    Args:
        folder: what was handed in.
        notebooks: names of the course's, such as "01_ewma_scoring".

    Raises:
        PrunekitError: it is no folder, or there is nothing in it.
    """
    if not folder.is_dir():
        raise PrunekitError(f"{folder} is no folder: give the one with the notebooks that were handed in.")
    found = []
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.is_dir() or any(part.startswith((".", "__")) for part in place.parts):
            continue
        whole = "/".join((*place.parent.parts, place.stem if place.suffix == ".ipynb" else place.name))
        names = [name for name in notebooks if name in whole] if place.suffix == ".ipynb" else []
        name = max(names, key=whole.rindex, default="")
        before, _, behind = whole.rpartition(name) if name else (whole, "", "")
        student = before.strip(" _-/") or behind.strip(" _-/") or "(no name)"
        found.append(Copy(student, name or _by_exercises(path, notebooks), path))
    if not found:
        raise PrunekitError(f"there is nothing in {folder}: expected files such as alice_{notebooks[0]}.ipynb.")
    return sorted(found, key=lambda copy: (copy.student, copy.notebook))


def _by_exercises(path: Path, notebooks: list[str]) -> str:
    """The notebook that most of a file's exercises belong to, or ""."""
    try:
        numbers = [f"0{identifier[0]}_" for cell in cells_of(path) for identifier in HANDING.findall(cell.source)]
    except PrunekitError:
        return ""
    most = max(numbers, key=numbers.count, default="none")
    return next((name for name in notebooks if name.startswith(most)), "")


def cells_of(path: Path) -> list[Cell]:
    """The code cells of a notebook.

    Raises:
        PrunekitError: it is no notebook.
    """
    try:
        if not path.is_file():
            raise PrunekitError("this is no file.")
        if path.stat().st_size > MOST:
            raise PrunekitError(f"the file has more than {MOST >> 20} MB: clear its outputs.")
        cells = json.loads(path.read_bytes())["cells"]
        return [_cell(cell) for cell in cells if cell.get("cell_type") == "code"]
    except PrunekitError:
        raise
    except OSError as error:
        raise PrunekitError(f"the file cannot be read: {error.strerror}.") from error
    except Exception as error:  # whatever is wrong with it
        raise PrunekitError(f"this is no notebook: {type(error).__name__}, {str(error)[:80]}.") from error


def _cell(cell: dict) -> Cell:
    metadata = cell.get("metadata") or {}
    outputs = tuple(output for output in cell.get("outputs") or [] if isinstance(output, dict))
    tags = tuple(map(str, metadata.get("tags") or []))
    return Cell(str(cell.get("id") or metadata.get("id")), tags, _joined(cell["source"]), outputs)


def _joined(source: Any) -> str:
    """The text of a cell, which is a string or a list of lines."""
    text = source if isinstance(source, str) else "".join(source)
    return text.encode("utf-8", "replace").decode()


def belonging(cells: list[Cell], asked: Asked) -> list[str]:
    """The code of the cells that belong to an exercise, from top to bottom, without stubs that nobody touched.

    These are cells that hand something in under its id. And, where that line is gone, the cell that the course gave for
    it, by id or tag, if it hands in nothing else and still sets its name.
    """
    setting = re.compile(rf"^\s*(?:def\s+)?{re.escape(asked.name)}\s*[(=]", re.MULTILINE)
    found = []
    for cell in cells:
        handed = HANDING.findall(cell.source)
        given = cell.id == asked.cell or (asked.kind == "check" and "exercise" in cell.tags)
        if asked.identifier in handed or (not handed and given and setting.search(cell.source)):
            found.append(cell.source)
    return found


def untouched(source: str, asked: Asked) -> bool:
    """Whether a cell is as the course gave it."""
    return source.split() == asked.stub.split()
