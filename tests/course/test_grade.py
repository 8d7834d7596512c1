"""Marks: each copy gets what it should, whatever the others do; answers are fenced in, and judged elsewhere."""

import csv
import json
import re
import sys

import nbformat
import pytest
import torch
from copies import FENCED, FIRST, IDS, NOTEBOOK, SOLVED, WHOLE, cell, copy, expected
from reading import NAMES, ROOT, stubs

from prunekit import PrunekitError, course
from prunekit.course.grading import grade, handed_in
from prunekit.course.grading.asked import asked_in
from prunekit.course.grading.fenced import fence, packing, runner
from prunekit.course.grading.trial import groups
from prunekit.course.printing import same

pytestmark = pytest.mark.skipif(not hasattr(sys, "abiflags"), reason="marks need Linux or macOS")
ASKED = {path.stem: asked_in(path) for path in sorted((ROOT / "notebooks").glob("[0-9]*.py"))}


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """The folder that `make grade` writes for all copies together."""
    handed, out = tmp_path_factory.mktemp("handed"), tmp_path_factory.mktemp("out")
    for name, (content, _) in WHOLE.items():
        path = handed / f"{name}_{NOTEBOOK}.ipynb"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert grade.main([str(handed), "--out", str(out), "--seed", "a seed", "--seconds", "2"]) == 0
    return out


@pytest.fixture(scope="module")
def marks(marked):
    """By student and exercise, points and reason."""
    return {
        (row["student"], row["exercise"]): (int(row["points"]), row["reason"]) for row in rows(marked / "marks.csv")
    }


@pytest.fixture(scope="module")
def running():
    with runner.Runner(5, 1 << 30, ["torch"]) as found:
        yield found


@pytest.mark.parametrize("name", WHOLE)
def test_each_copy_gets_its_marks(marks, running, name):
    lacking = [kind for kind, names in FENCED.items() if name in names and not running.fences[kind]]
    if lacking:
        pytest.skip(f"this system does not fence off {lacking[0]}")
    for identifier, mark in expected(name).items():
        got = marks[f"'{name}" if name[0] == "=" else name, identifier]
        assert mark is None or (got[0] == mark[0] and re.search(mark[1], got[1])), (identifier, got)


def test_there_are_as_many_lines_as_exercises_whatever_was_handed_in(marked, marks):
    assert len(rows(marked / "marks.csv")) == len(marks) == len(WHOLE) * len(IDS)
    assert {identifier for _, identifier in marks} == set(IDS)


def test_each_student_has_a_page_that_runs_nothing(marked):
    pages = {path.stem: path.read_text("utf-8") for path in marked.glob("*.html")}
    assert len(pages) == len(WHOLE)
    assert "5 of 5 points" in pages["right"] and "2 of 5 points" in pages["half"]
    assert "expected" in pages["half"] and "b does not follow" in pages["half"]
    evil = grade.Mark("<script>", "0.1", "<script>", 0, "<script>", "<script>")
    from prunekit.course.grading.pages import page

    assert "<script>" not in page("<script>", [evil])


def test_the_answer_by_heart_passes_in_the_notebook_and_not_on_hidden_inputs(marks):
    space = {"torch": torch, "course": course}
    exec(FIRST["by-heart"][0].split("course.check")[0], space)
    assert course.grade("0.1", space["row_sparsity"]).passed
    assert marks["by-heart", "0.1"][0] == 0


def test_inputs_come_from_the_seed_and_from_nothing_else():
    def drawn(identifier, seed):
        return [args for number, group in enumerate(groups(identifier, seed)) if number for args in group]

    for asked in (each for some in ASKED.values() for each in some if each.kind == "check"):
        assert same(drawn(asked.identifier, "a"), drawn(asked.identifier, "a"))
        if asked.identifier != "1.6":  # which is given a length, and nothing random
            assert not same(drawn(asked.identifier, "a"), drawn(asked.identifier, "b")), asked.identifier


def _solved(name):
    codes = [f'{s.solution}\n\ncourse.check("{s.identifier}", {s.function})' for s in stubs(name)]
    return [handed_in.Cell("", (), code, ()) for code in codes]


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_is_found_with_what_it_needs(name, running):
    """The solution runs with what stands before the exercise, and nothing else of the notebook."""
    assert [e.identifier for e in ASKED[name] if e.kind == "check"] == [s.identifier for s in stubs(name)]
    assert all(each.title.startswith(f"Exercise {each.identifier}: ") for each in ASKED[name])
    marker = grade.Marker(running, "some")
    cells = _solved(name)
    for place, each in enumerate(ASKED[name]):
        if each.kind == "check":
            assert marker._marked(each, cells, ASKED[name][:place])[:2] == (1, "correct"), each.identifier


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_solutions_are_right_whatever_the_seed(name, running):
    cells = _solved(name)
    for seed in map(str, range(40)):
        marker = grade.Marker(running, seed)
        for each in ASKED[name]:
            if each.kind == "check":
                assert marker._marked(each, cells, [])[:2] == (1, "correct"), (each.identifier, seed)


@pytest.mark.slow
def test_an_answer_that_waits_is_ended():
    with runner.Runner(1, 1 << 30, ["torch"]) as found:
        came = found.run(_task("import time\ndef row_sparsity(W):\n    time.sleep(10**6)"), ONE)
    assert came == ([], "it did not end within 1 seconds")


ONE = packing.pack([(torch.ones(1, 1),)])


def _task(*cells, **changes):
    task = {
        "identifier": "0.1",
        "kind": "check",
        "name": "row_sparsity",
        "before": [],
        "earlier": [],
        "cells": list(cells),
    }
    return task | changes


def test_an_answer_sees_no_checks_and_an_empty_folder(running):
    code = (
        "import os, sys\ndef row_sparsity(W):\n"
        "    inside = [name for name in sys.modules if 'prunekit' in name or 'checks' in name or 'mistakes' in name]\n"
        "    there = [path for path in sys.path if os.path.exists(os.path.join(path, 'prunekit'))]\n"
        "    return inside, there, os.listdir(), dict(os.environ), os.getuid()"
    )
    ((call,), _) = running.run(_task(code), ONE)
    inside, there, folder, environment, user = call["out"]
    assert inside == ["prunekit"] and there == [] and folder == []
    assert set(environment) <= {"PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_CTYPE", "CUDA_VISIBLE_DEVICES"} | {
        f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL")
    }
    assert (user == fence.NOBODY) == running.fences["user"]


def test_a_worker_that_dies_is_started_again(running):
    running.worker.kill()
    running.worker.wait()
    found, why = running.run(_task("def row_sparsity(W): return 1"), ONE)
    assert found == [] and "ended itself" in why
    assert running.run(_task("def row_sparsity(W): return 1"), ONE)[0] == [{"out": 1}]


def test_an_earlier_exercise_runs_only_if_it_is_needed(running):
    earlier = ["import os\nx = 1\nos._exit(0)", "def helper(W): return 2"]
    task = _task("def row_sparsity(W):\n    x = 1\n    return helper(W)", earlier=earlier)
    assert running.run(task, ONE)[0] == [{"out": 2}]


def test_what_came_before_the_end_is_judged(running):
    body = "if len(W) > 2:\n    import os\n    os._exit(0)\nreturn {}"
    asked = ASKED[NOTEBOOK][0]
    for answer, said in (("W", "wrong: return one number"), ("(W == 0).float().mean(1)", "its process ended itself")):
        own = [handed_in.Cell("", (), cell(body.format(answer)), ())]
        assert grade.Marker(running, "s")._marked(asked, own, [])[1].startswith(said)


def test_a_fence_that_is_missing_is_no_error(monkeypatch):
    monkeypatch.setattr(fence, "call", lambda *_: -1)
    assert fence.rules([], []) is None
    assert fence.enter() == {"network": False, "processes": False}


VALUES = [
    (1, 2.5, True, None, "text", [1, (2,)], {"a": {3}, 4: frozenset()}),
    (float("inf"), float("nan"), -0.0, 10**30, ...),
    tuple(
        torch.tensor([[0, 1], [1, 0]]).to(dtype) for dtype in (torch.bool, torch.int64, torch.bfloat16, torch.float64)
    ),
    torch.tensor([1.5, 448]).to(torch.float8_e4m3fn),
    torch.arange(6.0).reshape(2, 3).T,
    torch.zeros(0, 3),
    torch.arange(3).numpy(),
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_values_come_back_as_they_went(value):
    back = packing.unpack(packing.pack(value))
    assert same(back, value) and type(back) is type(value)


def test_what_is_no_data_comes_back_as_nothing_but_a_name():
    class Trap:
        def __reduce__(self):
            raise AssertionError("pickled")

    back = packing.unpack(packing.pack([Trap(), 1j, torch.ones(1) * 1j, torch.ones(1, device="meta")]))
    assert [type(item).__name__ for item in back] == ["Trap", "complex", "Tensor", "Tensor"]
    assert not any(isinstance(item, torch.Tensor) for item in back)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 7, b"\xff" * 99, packing.pack(1)[:-3], b"x" + packing.pack(1)],
    ids=range(5),
)
def test_bytes_that_nobody_packed_are_refused(data):
    with pytest.raises(ValueError, match="cannot be read"):
        packing.unpack(data)


def test_one_tensor_cannot_stand_for_many():
    tree = json.dumps(["list", [["tensor", "0"]] * 2]).encode()
    data = packing.pack(torch.ones(1))
    size = int.from_bytes(data[: packing.SIZE], "big")
    with pytest.raises(ValueError):
        packing.unpack(len(tree).to_bytes(packing.SIZE, "big") + tree + data[packing.SIZE + size :])


def test_frames_hold_no_more_than_they_may(tmp_path):
    with open(tmp_path / "frames", "wb", buffering=0) as file:
        frames = packing.Frames(file.fileno(), 10_000)
        frames.write({"a": 1})
        with pytest.raises(ValueError, match="too many bytes"):
            frames.write("x" * 10_000)
        frames.write("the last word")
    data = (tmp_path / "frames").read_bytes()
    assert packing.frames(data) == [{"a": 1}, "the last word"] and packing.frames(data[:-1]) == [{"a": 1}]
    assert packing.frames(b"") == []


def test_students_and_notebooks_are_read_off_names(tmp_path):
    names = {
        "ann_01_ewma_scoring.ipynb": ("ann", "01_ewma_scoring"),
        "b/b b/01_ewma_scoring.ipynb": ("b/b b", "01_ewma_scoring"),
        "cem_00_start_here-Copy1.ipynb": ("cem", "00_start_here"),
        "00_start_here_dora (2).ipynb": ("dora (2)", "00_start_here"),
        "eve.ipynb": ("eve", ""),
        "told by cells.ipynb": ("told by cells", "00_start_here"),
        "fay.pdf": ("fay.pdf", ""),
    }
    for name in (*names, ".ipynb_checkpoints/x_00_start_here.ipynb", "__MACOSX/x_00_start_here.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(copy({}) if name.startswith("told") else "")
    found = handed_in.copies(tmp_path, NAMES)
    assert {str(each.path.relative_to(tmp_path)): (each.student, each.notebook) for each in found} == names


def test_files_of_other_names_and_older_copies_get_a_line(running, tmp_path):
    import os

    for age, name in enumerate(("ann_00_start_here (1).ipynb", "ann_00_start_here.ipynb")):
        (tmp_path / name).write_text(copy(dict.fromkeys(IDS, "stub")))
        os.utime(tmp_path / name, (10**9 - age, 10**9 - age))
    (tmp_path / "bob.pdf").touch()
    (tmp_path / "cem_00_start_here.ipynb").symlink_to(tmp_path / "nothing")
    found = handed_in.copies(tmp_path, NAMES)
    lines = list(grade.grade(found, ASKED, grade.Marker(running, "")))
    reasons = {(mark.student, mark.exercise): mark.reason for mark in lines}
    assert reasons["ann", ""] == "ann_00_start_here.ipynb is older than another one"
    assert reasons["bob.pdf", ""] == "bob.pdf is no notebook of the course"
    assert reasons["cem", "0.1"] == "this is no file."
    assert len(lines) == 2 + 2 * len(IDS)


def test_predictions_are_collected_with_what_came_out(tmp_path, monkeypatch):
    def output(**told):
        return nbformat.v4.new_output("display_data", {"text/plain": ""}, metadata={"prunekit": told})

    told = [output(key="one", question="Q", guess=guess, answer=came) for guess, came in (("now", ""), ("then", "it"))]
    other = [output(key="two", question="Q", guess="=1+1", answer="")]
    cells = [nbformat.v4.new_code_cell("x", outputs=outputs) for outputs in (told, other)]
    cells[0].outputs.append(nbformat.v4.new_output("stream", text="no metadata"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "ann_00_start_here.ipynb")
    (tmp_path / "bob_00_start_here.ipynb").write_text("no notebook")
    monkeypatch.chdir(ROOT)
    assert grade.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    found = [tuple(row.values()) for row in rows(tmp_path / "out" / "predictions.csv")]
    one, two = ("ann", NOTEBOOK, "one", "Q", "then", "it"), ("ann", NOTEBOOK, "two", "Q", "'=1+1", "")
    assert found == [one, two]


@pytest.mark.parametrize(
    "arguments, said",
    [(["nowhere"], "is no folder"), (["empty"], "there is nothing in")],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, said):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(ROOT)
    assert grade.main([str(tmp_path / arguments[0])]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("option", [["--seconds", "0"], ["--memory", "x"]])
def test_bad_limits_are_refused(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        grade.main(["somewhere", *option])
    assert stopped.value.code == 2 and "no whole number above 0" in capsys.readouterr().err


def test_no_fork_is_said(monkeypatch):
    monkeypatch.delattr("os.fork")
    with pytest.raises(PrunekitError, match="WSL"):
        runner.Runner(1, 1, [])


def test_cells_are_found_without_their_ids_and_tags():
    asked = ASKED[NOTEBOOK][0]
    plain = handed_in.Cell("other", (), SOLVED["0.1"], ())
    tagged = handed_in.Cell("other", ("exercise",), cell("return W").split("course.check")[0], ())
    other = handed_in.Cell(asked.cell, ("exercise",), SOLVED["0.2"], ())
    text = handed_in.Cell("other", (), "row_sparsity(W)", ())
    assert handed_in.belonging([plain, tagged, other, text], asked) == [plain.source, tagged.source]
