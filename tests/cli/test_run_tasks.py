"""`prunekit evaluate --tasks`, without a network."""

import json

import pytest

pytest.importorskip("lm_eval")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """The task is written to a cache of the test's own, where the articles are already."""
    from prunekit.system.files import cache_dir

    articles, cache = cache_dir() / "wikipedia.json", tmp_path_factory.mktemp("cache")
    if articles.exists():
        (cache / "wikipedia.json").symlink_to(articles)
    monkeypatch.setenv("PRUNEKIT_CACHE", str(cache))


def test_two_models_side_by_side(run, model, make_model, tokenizer, tmp_path, capsys):
    make_model(seed=1).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    capsys.readouterr()
    options = ("--dense", model, "--tasks", "continuation,", "--limit", 40, "--json", "tasks.json")
    code, out, error = run("evaluate", "other", *options)
    assert code == 0 and error == "", error
    protocol, heads, row, *_ = [line for line in out.splitlines() if line]
    assert "0.4." in protocol and "batches of 8, float32 on cpu, no chat template, the first 40 items" in protocol
    assert heads.split()[:6] == ["task", "items", "shots", "chance", "dense", "model"]
    assert row.startswith("continuation acc     40      0   0.250 ")
    report = json.loads((tmp_path / "tasks.json").read_text("utf-8"))
    assert report["protocol"]["limit"] == 40 and report["protocol"]["where"] == "float32 on cpu"
    (found,) = report["tasks"]
    for name in ("model", "dense"):
        said = found[name]
        assert f"{said['value']:.3f} ± {said['error']:.3f}" in row
        assert len(said["loglikelihoods"]) == 40 and all(len(item) == 4 for item in said["loglikelihoods"])
    if found["dense"]["value"] > 0.25:
        kept = (found["model"]["value"] - 0.25) / (found["dense"]["value"] - 0.25)
        assert found["kept_above_chance"][0] == pytest.approx(kept)
    assert found["model"]["loglikelihoods"] != found["dense"]["loglikelihoods"]


def test_a_model_alone(run, model):
    code, out, error = run("evaluate", model, "--tasks", "continuation", "--limit", 4, "--batch", 2)
    assert code == 0 and error == "" and "batches of 2" in out and "dense" not in out.splitlines()[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tasks", "continuation", "--stream"), "--tasks needs the whole model in memory: leave out --stream"),
        (("--tasks", "continuation", "--limit", "0"), "--limit is 0"),
        (("--tasks", "continuation", "--batch", "-1"), "--batch is -1"),
        (("--tasks", "continuation", "--shots", "-1"), "--shots is -1"),
        (("--tasks", "none.yaml"), "there is no task file none.yaml"),
        (("--tasks", ""), "--tasks is empty"),
        (("--tasks", " , "), "--tasks names no task"),
        (("--limit", "5"), "--limit belongs to --tasks"),
        (("--tasks", "continuation", "--text", "news"), "--text is not for --tasks"),
    ],
)
def test_bad_options(refused, model, options, message):
    assert message in refused("evaluate", model, *options, "--json", "tasks.json")


def test_a_task_that_lm_eval_does_not_know(refused, model):
    assert "lm-eval knows no task 'arc_eazy'" in (said := refused("evaluate", model, "--tasks", "arc_eazy"))
    assert "did you mean arc_easy?" in said
