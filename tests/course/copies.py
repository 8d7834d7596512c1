"""Copies of notebook 00 as students might hand them in, honest and otherwise, and the marks that each should get."""

import json
import re
from pathlib import Path

from reading import ROOT, source, stubs

from prunekit.course.grading.trial import groups
from prunekit.course.handouts import for_students
from prunekit.course.quiz.question import topic

NOTEBOOK = "00_start_here"
IDS = ("0.1", "0.2", "0.3", "0.4", "0.5")
SOLVED = {s.identifier: f'{s.solution}\n\ncourse.check("{s.identifier}", {s.function})' for s in stubs(NOTEBOOK)}
SOLVED["0.4"] = f'answer = "{topic("00").READINGS["0.4"].follow}"\ncourse.interpret("0.4", answer)'
RIGHT, UNTOUCHED = (1, "^correct$"), (0, "^not attempted$")
GOOD = "return (W == 0).float().mean(dim=1)"


class _Attributes(dict):
    """JSON's objects with attributes, as nbformat has them."""

    __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__


def copy(changes, above=(), below=()):
    """A student's copy, all solved but for changes: by id another cell, None for none, or "stub" to leave it.

    Cells may be added above and below all others.
    """

    def added(sources):
        return [
            {"cell_type": "code", "id": f"new-{i}", "metadata": {}, "source": source, "outputs": []}
            for i, source in enumerate(sources)
        ]

    found = for_students(json.loads(json.dumps(source(NOTEBOOK)), object_hook=_Attributes))
    cells = []
    for cell in found.cells:
        named = re.search(r'course\.(?:check|interpret)\(\s*"([\d.]+)"', cell.source)
        change = changes.get(named[1], SOLVED[named[1]]) if named else "stub"
        if change is not None:
            cells.append(cell | {"source": cell.source if change == "stub" else change})
    return json.dumps(found | {"cells": added(above) + cells + added(below)})


def cell(body, top=""):
    """A cell for exercise 0.1 with that body, and `top` above its function."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f'{top}\n\ndef row_sparsity(W):\n{lines}\n\n\ncourse.check("0.1", row_sparsity)'


def _by_heart():
    """A solution that knows the answers to the notebook's own inputs, and no others."""
    table = {repr(W.tolist()): (W == 0).float().mean(1).tolist() for group in groups("0.1") for (W,) in group}
    return cell(f"return torch.tensor({table!r}[repr(W.tolist())])")


CHECKS = ROOT / "prunekit" / "course" / "checks" / "start.py"
LOAD = f"""\
space = {{"__package__": "prunekit.course.checks", "__name__": "x"}}
exec(open({str(CHECKS)!r}).read(), space)
row_sparsity = space["row_sparsity"]
course.check("0.1", row_sparsity)"""
DIG = f"""\
import sys
sys.modules.pop("prunekit", None)
sys.path.insert(0, {str(ROOT)!r})
from prunekit.course.checks import start
return start.row_sparsity(W)"""
RUMMAGE = """\
import gc
return [thing for thing in gc.get_objects() if type(thing).__name__ == "Exercise"][0].reference(W)"""
FRAMES = """\
import sys
for depth in range(9):
    names = sys._getframe(depth).f_locals
    if "task" in names:
        names["task"]["identifier"] = "0.4"
return W"""
PATCH = "course.check = course.grade = lambda *_: print('correct')\ntorch.equal = torch.allclose = lambda *_: True"
PATCH_MODULE = "import prunekit.course.exercises as e\ne.grade = e.check = lambda *_: print('correct')"
LIAR = """\
class Liar(torch.Tensor):
    __eq__ = __gt__ = lambda self, other: torch.ones((), dtype=torch.bool)
    detach = lambda self: torch.zeros(1)"""
KILL = f"import os\nfor who in (os.getppid(), os.getpid()):\n    os.kill(who, 9)\n{GOOD}"

# What stands in the cell of 0.1, and what its mark says. Of the other exercises 0.2 and 0.4 are solved.
FIRST = {
    # never ending, ending too early, taking too much
    "loop": (cell("while True:\n    pass"), (0, "^it did not end within")),
    "chatterer": (cell("while True:\n    print('x' * 10**6)"), (0, "^it did not end within")),
    "quitter": (cell("import os\nos._exit(0)"), (0, "ended itself")),
    "early-quitter": (cell(GOOD, "import os\nos._exit(0)"), (0, "ended itself")),
    "leaver": (cell("import sys\nsys.exit()"), (0, "raised SystemExit")),
    "early-leaver": (cell(GOOD, "exit = 1\nraise SystemExit"), (0, "SystemExit|'row_sparsity' is not defined")),
    "crasher": (cell("import ctypes\nctypes.string_at(0)"), (0, "signal 11")),
    "killer": (cell(KILL), None),
    "forker": (cell("import os\nwhile True:\n    os.fork()"), (0, "BlockingIOError")),
    "threader": (cell(f"import threading\nthreading.Thread(target=print).start()\n{GOOD}"), (0, "new thread")),
    "hog": (cell("return torch.zeros(10**10)"), (0, "memory")),
    "hoarder": (cell("kept = bytearray(2 * 10**9)"), (0, "MemoryError")),
    "giant": (cell("return torch.zeros(3 * 10**6)"), (0, "too many bytes")),
    "printer": (cell(f"print('x' * 10**7)\n{GOOD}"), RIGHT),
    # reading what is not theirs
    "reader": (cell(f"open({str(CHECKS)!r}).read()\n{GOOD}"), (0, "PermissionError")),
    "loader": (LOAD, (0, "PermissionError")),
    "looker": (cell(f"open({str(ROOT / 'notebooks' / NOTEBOOK)!r} + '.py').read()\n{GOOD}"), (0, "PermissionError")),
    "lister": (cell(f"import os\nos.listdir({str(Path.home())!r})\n{GOOD}"), (0, "PermissionError")),
    "writer": (cell(f"open('left.txt', 'w')\n{GOOD}"), (0, "PermissionError")),
    "caller": (cell("import socket\nsocket.create_connection(('127.0.0.1', 9), 1)"), (0, "PermissionE|unreachable")),
    "importer": (cell("from prunekit.course.checks.start import row_sparsity as f\nreturn f(W)"), (0, "No module")),
    "digger": (cell(DIG), (0, "raised (ModuleNotFoundError|ImportError|PermissionError)")),
    "rummager": (cell(RUMMAGE), (0, "raised IndexError")),
    "librarian": (cell("return pk.row_sparsity(W)"), (0, "marked without prunekit")),
    "by-heart": (_by_heart(), (0, "raised KeyError")),
    # changing what judges
    "patcher": (cell("return W", PATCH), (0, "^wrong: row 0")),
    "module-patcher": (cell("return W", PATCH_MODULE), (0, "No module named 'prunekit.course'")),
    "frame-patcher": (cell(FRAMES), (0, "^wrong: ")),
    "liar": (cell("return W.as_subclass(Liar)", LIAR), (0, "^wrong: row 0")),
    # names
    "renamer": (cell(GOOD).replace("def row_sparsity", "def mine"), (0, "'row_sparsity' is not defined")),
    "renamer-unchecked": (f"def mine(W):\n    {GOOD}", (0, "cell is missing")),
    "renamer-of-both": (cell(GOOD).replace("row_sparsity", "mine"), RIGHT),
    "no-check": (cell(GOOD).split("course.check")[0], RIGHT),
    "helped-elsewhere": (cell("return helper(W)"), (0, "NameError.*only the cell of the exercise runs")),
    "deleter": (None, (0, "^its cell is missing$")),
    "untouched": ("stub", UNTOUCHED),
    # kinds of answers
    "typist": (cell("return 'half'"), (0, "^wrong: return one number")),
    "thing": (cell("return object()"), (0, "^wrong: return one number")),
    "circle": (cell("return x", "x = []\nx.append(x)"), (0, "RecursionError")),
    "deep": (cell("for _ in range(10**4):\n    W = [W]\nreturn W"), (0, "RecursionError")),
    "list": (cell("return [sum(float(w == 0) for w in row) / len(row) for row in W]"), RIGHT),
    "array": (cell("return (W.numpy() == 0).mean(1)"), RIGHT),
    "in-place": (cell("W[W != 0] = 1\nreturn 1 - W.mean(1)"), (0, "changes its argument W in place")),
    "no-python": (cell("def f(W) return"), (0, "^SyntaxError")),
    "magician": (f"%time 1\n!ls\n{cell(GOOD)}", RIGHT),
    "failing": (cell("return W.none"), (0, "AttributeError.*in the line `return W.none`")),
    "silent": (cell("W.mean()"), UNTOUCHED),
}
# What only holds where the system can fence it off.
FENCED = {"files": ("reader", "loader", "looker", "lister", "writer", "digger"), "network": ("caller",)}

_AFTER_ITSELF = SOLVED["0.5"].replace("    lowest", "    row_sparsity(W)\n    lowest", 1)
_HALF = {"0.2": SOLVED["0.2"].replace("(-log", "(log"), "0.4": SOLVED["0.4"].replace('"a', '"ab'), "0.5": "stub"}
_EXIT = "import os\nanswer = os._exit(3)\ncourse.interpret('0.4', answer)"
# Copies, as text, and their marks by id; what is not named is right.
WHOLE = {
    "right": (copy({}), {}),
    "empty": (copy(dict.fromkeys(IDS, "stub")), dict.fromkeys(IDS, UNTOUCHED)),
    "half": (
        copy(_HALF),
        {
            "0.2": (0, "^wrong: log-probabilities are negative"),
            "0.4": (0, "^wrong: b does not follow"),
            "0.5": UNTOUCHED,
        },
    ),
    "no-json": ("{'cells': [}", dict.fromkeys(IDS, (0, "^this is no notebook: JSONDecodeError"))),
    "no-text": (b"\xff\xfe\x00\x80" * 99, dict.fromkeys(IDS, (0, "^this is no notebook"))),
    "no-bytes": ("", dict.fromkeys(IDS, (0, "^this is no notebook"))),
    "no-cells": ("[1, 2]", dict.fromkeys(IDS, (0, "^this is no notebook"))),
    "nested": ("[" * 10**6, dict.fromkeys(IDS, (0, "^this is no notebook: RecursionError"))),
    "cells-gone": (copy(dict.fromkeys(IDS)), dict.fromkeys(IDS, (0, "^its cell is missing$"))),
    "copied-below": (copy({"0.1": "stub"}, below=[SOLVED["0.1"]]), {}),
    "copied-above": (copy({"0.1": "stub"}, above=[SOLVED["0.1"]]), {}),
    "tried-twice": (copy({"0.1": cell("return W")}, below=[SOLVED["0.1"]]), {}),
    "spoilt": (copy({}, below=[cell("return W")]), {"0.1": (0, "^wrong: ")}),
    "reuser": (copy({"0.5": _AFTER_ITSELF}), {}),
    "number": (
        copy({"0.4": "answer = 3\ncourse.interpret('0.4', answer)"}),
        {"0.4": (0, "^wrong: the answer is some")},
    ),
    "bare-answer": (copy({"0.4": SOLVED["0.4"].split("\n")[0]}), {}),
    "exit-answer": (copy({"0.4": _EXIT}), {"0.4": (0, "ended itself")}),
    "=formula": (copy({}), {}),
}
_OTHERS = {"0.3": "stub", "0.5": "stub"}
for _name, (_cell, _mark) in FIRST.items():
    WHOLE[_name] = copy(_OTHERS | {"0.1": _cell}), dict.fromkeys(_OTHERS, UNTOUCHED) | {"0.1": _mark}


def expected(name):
    """The marks of a copy: by id points and what the reason says, or None where both depend on the system."""
    return dict.fromkeys(IDS, RIGHT) | WHOLE[name][1]
