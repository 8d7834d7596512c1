"""What the course's own notebooks ask for: their exercises, and the cells that an answer builds on."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from ..build import read_source


@dataclass(frozen=True)
class Asked:
    """An exercise as the course's notebook states it.

    Attributes:
        identifier: such as "1.2".
        title: its heading.
        kind: "check" for a function, "interpret" for an answer.
        name: of the function, or of the variable that holds the answer.
        cell: the id of its cell.
        stub: the code of its cell.
        before: imports and functions of the course's cells above it, each by itself.
    """

    identifier: str
    title: str
    kind: str
    name: str
    cell: str
    stub: str
    before: tuple[str, ...]


def asked_in(path: Path) -> list[Asked]:
    """The exercises of a notebook's source, in order."""
    found: list[Asked] = []
    before: list[str] = []
    title = ""
    for cell in read_source(path).cells:
        if cell.cell_type != "code":
            headings = re.findall(r"^#+ (Exercise .*)$", cell.source, re.MULTILINE)
            title = headings[-1] if headings else title
            continue
        tree = ast.parse(cell.source)
        if "exercise" in cell.metadata.get("tags", []):
            identifier, kind, name = _call(tree)
            found.append(Asked(identifier, title, kind, name, cell.id, cell.source, tuple(before)))
        else:
            before += [ast.unparse(node) for node in tree.body if _lasts(node)]
    return found


def modules(asked: list[Asked]) -> list[str]:
    """What the cells before some exercises import."""
    nodes = [node for each in asked for node in ast.parse("\n".join(each.before)).body]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return sorted(names | {node.module for node in nodes if isinstance(node, ast.ImportFrom)})


def _call(tree: ast.Module) -> tuple[str, str, str]:
    """The id, the kind and the name in ``course.check("1.2", name)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("course.check", "course.interpret"):
            return node.args[0].value, node.func.attr, ast.unparse(node.args[1])
    raise ValueError("a cell tagged exercise has no course.check and no course.interpret")


def _lasts(node: ast.stmt) -> bool:
    """Whether a statement is an import, not of what is the notebook's own, or a function."""
    if isinstance(node, ast.ImportFrom):
        return not node.module.startswith(("prunekit", "IPython"))
    if isinstance(node, ast.Import):
        return not any(alias.name.startswith(("prunekit", "IPython")) for alias in node.names)
    return isinstance(node, ast.FunctionDef)
