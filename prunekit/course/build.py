"""Build the course: fill in the set-up cell, execute the notebooks, make copies for students and for Colab.

``python -m prunekit.course.build notebooks|student|colab|figures [NAME ...]`` in the repository; the Makefile has a
target for each. A notebook's source is ``notebooks/NAME.py`` (py:percent); ``NAME.ipynb`` beside it is built from it
and holds the outputs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..errors import PrunekitError
from .handouts import ABOUT, for_students, with_words
from .ready import DATA
from .style import FIGURES

# Where the repository is, such as "https://github.com/OWNER/prunekit": the one place where it is set. The site's Colab
# buttons lead there, and the set-up cell, which `make notebooks` fills in, installs from there. Empty: prunekit is
# published nowhere, and comes as a wheel beside the notebook.
REPOSITORY = ""
_FROM = f"git+{REPOSITORY}" if REPOSITORY else "--no-index -f . -f /content prunekit"

SETUP = f"""\
# Set-up, the same in every notebook. Where prunekit is missing, put its wheel, which came with this notebook, beside it
# (on Colab into /content) and run this cell: it installs what is needed, and never another torch.
from importlib.util import find_spec

from IPython import get_ipython

if not find_spec("prunekit"):
    get_ipython().run_line_magic("pip", "install -q --no-deps {_FROM}")
import prunekit as pk

pk.course.ready()"""

FOLDER = Path("notebooks")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "pygments_lexer": "ipython3"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
COMPANIONS = ("GLOSSARY.md", "BIBLIOGRAPHY.md", "CHOICES.md", "RESULTS.md")
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|tmp|root|work|Users|private|var/folders)/[\w.]|[A-Z]:\\\\?Users")


def sources(names: list[str] | None = None) -> list[Path]:
    """The notebooks' sources in order, or those whose names begin with one of `names`.

    Raises:
        PrunekitError: there is none.
    """
    paths = [path for path in sorted(FOLDER.glob("[0-9]*.py")) if not names or path.stem.startswith(tuple(names))]
    if not paths:
        raise PrunekitError(f"no notebook {' '.join(names or [])} in {FOLDER.resolve()}: run this in the repository.")
    return paths


def read_source(path: Path):
    """A notebook without outputs, from its py:percent source with the set-up cell; cells get lasting ids."""
    import jupytext

    notebook = jupytext.reads(filled(path), fmt="py:percent")
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index:02d}"
        cell["metadata"] = {"tags": list(cell.metadata["tags"])} if cell.metadata.get("tags") else {}
    notebook.metadata = {"kernelspec": dict(KERNEL), "language_info": dict(LANGUAGE)}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def filled(path: Path) -> str:
    """A source with the set-up cell, which comes after the line ``# %% tags=["setup"]``."""
    text = path.read_text("utf-8")
    cell = re.compile(r'(?<=^# %% tags=\["setup"\]\n).*?(?=^# %%)', re.MULTILINE | re.DOTALL)
    if len(cell.findall(text)) != 1:
        raise PrunekitError(f'{path}: needs one cell that begins with # %% tags=["setup"] and another cell after it.')
    return cell.sub(lambda match: SETUP + "\n\n", text)


def execute(notebook, folder: Path) -> None:
    """Run all cells from top to bottom in a new kernel that works in `folder`; outputs go into the notebook."""
    from nbclient import NotebookClient

    notebook.metadata["kernelspec"] = dict(KERNEL)
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder)}}).execute()


def clean(notebook) -> None:
    """Remove what only the run itself could use: widgets' views and state, times, the Python version."""
    notebook.metadata = {"kernelspec": dict(KERNEL), "language_info": dict(LANGUAGE)}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)


def problems(notebook) -> list[str]:
    """What is wrong with a notebook's stored outputs: errors, a wrong order, noise, paths of a machine."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = []
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("was not executed once from top to bottom")
    for number, cell in enumerate(code, 1):
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"cell {number} holds an error: {output.ename}")
            if output.get("name") == "stderr":
                found.append(f"cell {number} wrote to stderr: {output.text.strip()[:200]}")
            if WIDGET_VIEW in output.get("data", {}):
                found.append(f"cell {number} holds a widget that no kernel can show")
            data = output.get("data", {})
            texts = [output.get("text", ""), *(str(data[kind]) for kind in data if kind.startswith("text/"))]
            for text in texts:
                path = MACHINE_PATH.search(re.sub(r"base64,[^\"]*", "", text))
                if path:
                    found.append(f"cell {number} holds a path of a machine: {text[path.start() :][:60]!r}")
    return found


def in_step(path: Path) -> bool:
    """Whether a source has today's set-up cell, and the .ipynb beside it the same cells."""
    import nbformat

    built = path.with_suffix(".ipynb")
    if not built.exists() or path.read_text("utf-8") != filled(path):
        return False
    sides = (read_source(path), nbformat.read(built, as_version=4))
    one, other = ([(c.cell_type, c.source, c.metadata.get("tags", [])) for c in side.cells] for side in sides)
    return one == other


def build_notebook(path: Path) -> list[str]:
    """Fill in, execute and write one notebook; returns what is wrong with its outputs."""
    import nbformat

    path.write_text(filled(path), "utf-8")
    notebook = read_source(path)
    execute(notebook, path.parent)
    clean(notebook)
    nbformat.write(notebook, path.with_suffix(".ipynb"))
    path.touch()  # JupyterLab does not open a pair of which the source is the older one
    return problems(notebook)


def build_wheel(folder: Path) -> Path:
    """Build prunekit's wheel from the repository in the working directory; returns its path in `folder`."""
    with tempfile.TemporaryDirectory() as scratch:  # so that no old build/ gets in and none is left
        clone = Path(scratch) / "prunekit"
        shutil.copytree("prunekit", clone / "prunekit", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(name, clone)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(clone)]
        subprocess.run([*command, "--wheel-dir", str(folder)], check=True)
    return max(folder.glob("prunekit-*.whl"))


def fresh(folder: Path) -> Path:
    """An empty folder in place of whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def run(action: str, names: list[str]) -> list[str]:
    """Do one of the actions; returns what is wrong with the notebooks."""
    import nbformat

    wrong = []
    target = fresh(Path("dist") / action) if action != "notebooks" else None
    for path in sources(names):
        print(f"{action}: {path.stem}", flush=True)
        if action == "notebooks":
            wrong += [f"{path}: {problem}" for problem in build_notebook(path)]
        elif action == "figures":
            os.environ[FIGURES] = str(fresh(target / path.stem).resolve())
            execute(read_source(path), path.parent)
        else:
            copy = with_words(read_source(path), FOLDER / "GLOSSARY.md")
            nbformat.write(for_students(copy) if action == "student" else copy, target / f"{path.stem}.ipynb")
    if action in ABOUT:
        for name in COMPANIONS:
            if (FOLDER / name).exists():
                shutil.copy(FOLDER / name, target)
        wheel, data = build_wheel(target), " ".join(f'"{each}"' for each in DATA)
        (target / "README.md").write_text(ABOUT[action].format(wheel=wheel.name, data=data), "utf-8")
    if target is not None:
        print(f"wrote {target}")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 1 if a notebook has a problem, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m prunekit.course.build", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("notebooks", "student", "colab", "figures"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="beginnings of names, such as 01; default: all")
    options = parser.parse_args(arguments)
    try:
        wrong = run(options.action, options.names)
    except PrunekitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
