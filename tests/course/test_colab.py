"""What `make colab` writes, in a new environment that has what Colab has: torch, a kernel, and no prunekit."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from reading import ROOT

from prunekit.course import build

pytestmark = pytest.mark.slow

# Any Python that prunekit runs on; Colab's is 3.12. Torch comes from wherever pip finds it.
PYTHON = sys.executable
THERE = ("torch", "numpy", "matplotlib", "ipykernel", "nbclient", "ipywidgets")


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of the new environment."""
    folder = tmp_path_factory.mktemp("colab") / "environment"
    subprocess.run([PYTHON, "-m", "venv", folder], check=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    installed = subprocess.run([python, "-m", "pip", "install", "--quiet", *THERE], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"{PYTHON} finds no torch here: {installed.stderr.splitlines()[-1]}")
    return python


def test_a_notebook_installs_what_it_needs_and_no_other_torch(python, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with monkeypatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(build, "Path", lambda *parts: tmp_path / "dist" if parts == ("dist",) else Path(*parts))
        assert build.main(["colab", "00"]) == 0
    folder = tmp_path / "dist" / "colab"
    notebook = nbformat.read(folder / "00_start_here.ipynb", as_version=4)
    versions = "import torch\nfrom importlib.metadata import version\nprint(version('torch'))"
    before = nbformat.v4.new_code_cell(versions)
    number = next(i for i, cell in enumerate(notebook.cells) if "setup" in cell.metadata.get("tags", []))
    uses = "model, tokenizer = pk.load('embedded')\nprint(pk.corpus(tokenizer, tokens=64, context=32).shape)"
    notebook.cells = [before, notebook.cells[number], nbformat.v4.new_code_cell(f"{versions}\n{uses}")]
    nbformat.write(notebook, folder / "begin.ipynb")
    run = [python, "-m", "jupyter", "execute", "--inplace", "begin.ipynb"]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, _, last = nbformat.read(folder / "begin.ipynb", as_version=4).cells
    assert "".join(o.text for o in last.outputs if "text" in o) == first.outputs[0].text + "torch.Size([2, 32])\n"
