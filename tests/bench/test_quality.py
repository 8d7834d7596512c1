"""The table of qualities: rows are kept and replaced, files of another kind refused, RESULTS is in step."""

import json

import pytest
from tiny import ROOT

from prunekit.bench import quality as module
from prunekit.bench.measured import measured
from prunekit.bench.quality import BEGIN, METHODS, PATTERNS, TEXTS, markdown, quality, read, with_table
from prunekit.errors import PrunekitError
from prunekit.recovery.recover import recover
from prunekit.system.machine import versions

RESULTS = ROOT / "notebooks" / "RESULTS.md"


@pytest.fixture
def small(monkeypatch, llama, tokenizer, ids, said):
    """The tiny model and text in place of the embedded ones, and a recovery of two steps."""
    monkeypatch.setattr(module, "load", lambda *_, **__: (llama, tokenizer))
    asked = []

    def corpus(_, *what):
        asked.append(what)
        return said  # the dense model is mostly right on it

    monkeypatch.setattr(module, "corpus", corpus)
    monkeypatch.setattr(module, "calibration_text", lambda *what: asked.append(what[1:]) or ids)
    monkeypatch.setattr(module, "recovery_text", lambda *what: asked.append(what[2:]) or (ids, ids[:2]))
    monkeypatch.setattr(module, "recover", lambda *a, minutes, **k: recover(*a, steps=2, **k))
    return asked


def test_rows_are_added_replaced_and_in_order(small, tmp_path):
    path = tmp_path / "table.json"
    quality(path, ["fast"], seeds=[1])
    assert small[:2] == [("wikipedia", "test", 32_768, 512), ("news", "train", 16_384, 512)]
    assert set(small[2:]) == {("ewma", None, "wikipedia", 1)}
    table = quality(path, ["best", "magnitude"])
    assert table == json.loads(path.read_text()) == read(path)
    keys = [(row["method"], row["pattern"], row["seed"]) for row in table["rows"]]
    assert keys == [(m, p, s) for m, s in (("magnitude", 0), ("fast", 1), ("best", 0)) for p in PATTERNS]
    again = quality(path, ["fast", "20 %"], seeds=[1])
    assert len(again["rows"]) == len(table["rows"])
    for row in again["rows"]:
        assert row["versions"] == versions() and row["processor"]
        wikipedia = row["texts"]["wikipedia"]
        assert wikipedia["retention"] == pytest.approx(wikipedia["top1"] / again["dense"]["wikipedia"]["top1"])
        assert row["sparsity"] == pytest.approx({"20 %": 0.2}.get(row["pattern"], 0.5), abs=0.03)
        assert ("inputs cast" in row) == ("FP8" in row["pattern"])
        if "inputs cast" in row:
            assert row["inputs cast"]["news"]["perplexity"] != row["texts"]["news"]["perplexity"]


def test_recovery_calibrates_and_trains_on_two_kinds_of_text(small, tmp_path):
    for method, texts in (("best", ("wikipedia", "press")), ("best, Wikipedia alone", "wikipedia")):
        small.clear()
        quality(tmp_path / "table.json", [method, "50 %"], seeds=[3])
        assert small[2:] == [("admm", None, texts, 3), (texts, 3)]


def test_rows_of_another_kind_of_cpu_stay(small, tmp_path, monkeypatch):
    for kind in (True, False, True):
        monkeypatch.setattr(module, "fast_bfloat16", lambda kind=kind: kind)
        table = quality(tmp_path / "table.json", ["magnitude", "50 %"])
    assert [row["bfloat16"] for row in table["rows"]] == [True, False]


def test_what_cannot_be_measured_is_refused(small, tmp_path):
    with pytest.raises(PrunekitError, match="unknown method or pattern 'fastest'"):
        quality(tmp_path / "table.json", ["fastest"])
    other, table = tmp_path / "other.json", '{"protocol": {}, "dense": {}, "rows": [%s]}'
    for text in (
        "no table",
        "[]",
        "{}",
        '{"protocol": {}, "dense": {}, "rows": 5}',
        table % '{"method": "fast"}',
        table % "1",
    ):
        other.write_text(text)
        with pytest.raises(PrunekitError, match="no table of quality"):
            quality(other, ["fast"])
    other.write_text(json.dumps({"protocol": {}, "dense": {}, "rows": []}))
    with pytest.raises(PrunekitError, match="another protocol"):
        quality(other, ["fast"])


def test_a_row_of_another_version_is_refused_before_anything_is_measured(small, tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    table = quality(path, ["magnitude", "50 %"])
    table["rows"][0]["method"] = "slowest"
    path.write_text(json.dumps(table))
    monkeypatch.setattr(module, "load", None)
    with pytest.raises(PrunekitError, match="no table of quality"):
        quality(path, ["fast"])


def test_the_table_has_a_line_for_each_method_and_a_cell_for_each_pattern():
    texts = {text: {"perplexity": 20.0, "retention": 0.5} for text in TEXTS}
    fast = {"method": "fast", "seconds": 3.0, "steps": 0, "texts": texts}
    kinds = [(0, False), (1, True), (0, True)]
    rows = [fast | {"pattern": p, "seed": seed, "bfloat16": bfloat16} for seed, bfloat16 in kinds for p in PATTERNS]
    rows[0]["steps"] = 341
    rows[0]["inputs cast"] = {text: {"perplexity": 21.0, "retention": 0.4} for text in TEXTS}
    missing = len(PATTERNS) - 1
    lines = markdown({"rows": rows[:missing] + rows[missing + 1 :]}).splitlines()
    labels = ["method", "---", "fast", "fast, no bfloat16", "fast, no bfloat16, W8A8", "fast, seed 1"]
    assert [line.split("|")[1].strip() for line in lines] == labels
    assert {line.count("|") for line in lines} == {len(PATTERNS) + 4}
    assert lines[3].endswith("| - |") and "50.0%" in lines[2]
    assert [line.split("|")[3].strip() for line in lines] == ["steps", "---", "", "341, 0, 0, -", "", ""]
    assert lines[4].endswith("|  |  | 21.0, 40.0%, 40.0% | - | - | - |")


def test_results_show_the_table_that_comes_with_prunekit():
    table, text = measured(), RESULTS.read_text("utf-8")
    assert with_table(text, table) == text, "run: python -m prunekit.bench.quality"
    prose = text.split("## What is kept")[1].split(BEGIN)[0]
    for dense in table["dense"].values():
        assert f"{dense['perplexity']:.2f}" in prose
    assert {row["method"] for row in table["rows"]} <= METHODS.keys()
    assert table["protocol"]["texts"] == TEXTS
