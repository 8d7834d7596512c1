"""The demo and the benchmarks run from end to end, on a tiny model, and report what others rely on."""

import json

import pytest

from prunekit.bench import pipeline, selection
from prunekit.cli import demo
from prunekit.errors import PrunekitError
from prunekit.storage.load import load


@pytest.fixture
def small(monkeypatch, llama, tokenizer, ids, said):
    """The tiny model in place of the embedded one, and text that it has said, on which it is mostly right."""
    asked = []

    def corpus(_, text="wikipedia", split="test", tokens=8192, **__):
        asked.append((text, split, tokens))
        return said

    for module in (demo, pipeline, selection):
        monkeypatch.setattr(module, "load", lambda *_, **__: (llama, tokenizer))
        monkeypatch.setattr(module, "corpus", corpus)
    for module in (demo, pipeline):
        monkeypatch.setattr(module, "calibration_text", lambda *_, **__: ids)
    return asked


def test_the_demo_writes_a_report_a_figure_and_two_models_and_replaces_its_own(small, tmp_path, capsys):
    for _ in range(2):
        report = demo.demo(tmp_path / "out")
        assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8")) == report
        found = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert found == ["figure.png", "report.json", "smollm2-2-4", "smollm2-half"]
    assert report["models"].keys() == {"dense", "half", "2-4"}
    assert set(small) == {("wikipedia", "test", demo.TOKENS)}
    printed = capsys.readouterr().out
    for row in report["models"].values():
        keys = {"sparsity", "bytes", "perplexity", "top1", "retention", "seconds", "calibration_tokens", "sentence"}
        assert keys <= row.keys()
        assert row["label"] in printed and row["sentence"] in printed
    model, _ = load(str(tmp_path / "out" / "smollm2-2-4"), device="cpu")
    W = model.model.layers[0].mlp.up_proj.dense_weight()
    assert ((W.view(len(W), -1, 4) != 0).sum(-1) <= 2).all()


@pytest.mark.parametrize("mine", ["smollm2-half/mine", "smollm2-2-4"])
def test_the_demo_removes_nothing_that_it_has_not_made(small, tmp_path, monkeypatch, mine):
    monkeypatch.setattr(demo, "load", None)  # said before any work
    path = tmp_path / mine
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(PrunekitError, match="is in the way and is no saved model"):
        demo.demo(tmp_path)
    assert path.read_text() == "mine"


def test_bench_select_reports_medians_spreads_and_ratios(small, capsys):
    result = selection.select()
    steps = ("copy_s", "select_s", "select_cast_s", "sort_s", "kthvalue_s", "sparsegpt_s")
    for step in steps:
        low, high = result["spread"][step]
        assert 0 < low <= result[step] <= high
    assert result["over_sort"] == result["sort_s"] / result["select_s"]
    assert result["over_sparsegpt"] == result["sparsegpt_s"] / result["select_s"]
    assert result["mean_speedup"] == (result["over_sort"] + result["over_sparsegpt"]) / 2
    assert {"machine", "versions"} <= result.keys()
    assert f"mean {result['mean_speedup']:.1f}x" in capsys.readouterr().out


def test_bench_pipeline_reports_each_run(small, ids, capsys):
    result = pipeline.pipeline()
    keys = {"group", "method", "tokens", "seconds", "sparsity", "perplexity"}
    assert all(keys <= run.keys() and run["perplexity"] > 1 for run in result["runs"])
    assert all(run["sparsity"] == pytest.approx(0.5, abs=0.03) for run in result["runs"])
    runs = {(run["group"], run["method"]): run for run in result["runs"]}
    own, wanda = (runs["own default", method] for method in ("ewma, compensated, FP8", "wanda"))
    assert result["speedup"] == wanda["seconds"] / own["seconds"]
    assert result["perplexity_ratio"] == own["perplexity"] / wanda["perplexity"]
    assert {run["tokens"] for run in result["runs"] if run["group"] == "same tokens"} == {ids.numel()}
