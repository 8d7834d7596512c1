"""What the tests of the course read out of the notebooks: cells, exercises, and which cells a piece of code needs."""

import builtins
import functools
import importlib.util
import re
import symtable
from dataclasses import dataclass
from pathlib import Path

import nbformat

from prunekit.course import build

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
NAMES = [path.stem for path in SOURCES]
COURSE = (
    "00_start_here",
    "01_ewma_scoring",
    "02_structured_masks",
    "03_fp8_casting",
    "04_joint_pipeline",
    "05_rtx_speed_profiling",
    "06_your_model",
    "07_recovering_quality",
)


@functools.cache
def source(name):
    """The notebook as its source says, without outputs."""
    return build.read_source(FOLDER / f"{name}.py")


@functools.cache
def stored(name):
    """The notebook as it is stored, with outputs."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def prose_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def names_read(code):
    """Global names that a cell reads; what is local to its functions does not count."""

    def read(table):
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
                yield symbol.get_name()
        for inner in table.get_children():
            yield from read(inner)

    return set(read(symtable.symtable(code, "cell", "exec"))) - set(dir(builtins))


def names_set(code):
    """Global names that a cell sets by assignment, definition or import."""
    symbols = symtable.symtable(code, "cell", "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}


def needed(notebook, index, code):
    """Indices of the cells before `index` that `code` needs, found by the names that they set."""
    wanted, found = names_read(code), []
    for earlier in range(index - 1, -1, -1):
        cell = notebook.cells[earlier]
        if cell.cell_type == "code" and wanted & names_set(cell.source):
            found.insert(0, earlier)
            wanted |= names_read(cell.source)
    return found


def namespace(notebook, index, code):
    """A namespace in which the cells that `code` needs have been run, without the exercises among them."""
    cells = (notebook.cells[earlier].source for earlier in needed(notebook, index, code))
    return dict(_run(tuple(cell for cell in cells if "course.check(" not in cell)))


@functools.cache
def _run(cells):
    """What some cells set; exercises of a notebook mostly need the same ones."""
    space = {"__name__": "notebook"}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number}", "exec"), space)
    return space


@dataclass(frozen=True)
class Stub:
    """An exercise as a notebook states it."""

    notebook: str
    identifier: str
    function: str
    heading: str
    code: str
    solution: str
    index: int  # of the stub's cell

    def define(self, solved):
        """The function of the stub, or that of the solution."""
        cells = source(self.notebook)
        code = self.solution if solved else self.code.split("course.check(")[0]
        space = namespace(cells, self.index, code)
        exec(compile(code, f"exercise {self.identifier}", "exec"), space)
        return space[self.function]


def stubs(name):
    """The exercises of a notebook, in order."""
    cells = source(name).cells
    found = []
    for index, cell in enumerate(cells):
        call = re.search(r"course\.check\(\s*['\"]([\d.]+)['\"],\s*(\w+)\s*\)", cell.source)
        if cell.cell_type != "code" or call is None:
            continue
        headings = [line for c in cells[:index] if c.cell_type == "markdown" for line in c.source.splitlines()]
        heading = next((line for line in reversed(headings) if line.startswith("#") and "Exercise" in line), "")
        after = next((c for c in cells[index + 1 :] if "solution" in c.metadata.get("tags", [])), None)
        blocks = re.findall(r"```python\n(.*?)```", after.source if after else "", re.DOTALL)
        found.append(Stub(name, call[1], call[2], heading, cell.source, "\n".join(blocks), index))
    return found


def answers(topic):
    """The module of known right and wrong solutions of a topic, or None."""
    path = Path(__file__).parent / "wrong" / f"{topic}.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"wrong_{topic}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
