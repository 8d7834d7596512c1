"""Each notebook alone in an empty folder, where only the built wheel and the embedded model are installed."""

import os
import shutil
import subprocess
import sys
import time

import nbformat
import pytest
from reading import FOLDER, NAMES, ROOT

from prunekit.course import build

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds prunekit as its wheel installs it, and nothing else of the repository."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        wheel = build.build_wheel(tmp_path_factory.mktemp("wheel"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run(pip, check=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_alone(name, site, tmp_path, monkeypatch):
    shutil.copy(FOLDER / f"{name}.ipynb", tmp_path)
    notebook = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import prunekit\nprint(prunekit.__file__)"))
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(site))
    began = time.perf_counter()
    build.execute(notebook, tmp_path)
    print(f"{name}: {time.perf_counter() - began:.0f} s")
    assert notebook.cells[-1].outputs[0].text.startswith(str(site))
