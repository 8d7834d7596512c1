"""`prunekit compress --stream`, `evaluate --stream`, `verify` and `fit` on a tiny model."""

import json

import pytest

from prunekit.cli.compress import fit, streamed
from prunekit.recovery.blocks import RATE
from prunekit.storage.about import read_recipe


@pytest.fixture
def compressed(run, model, text_file, tmp_path):
    options = ("--pattern", "2:4", "--fp8", "e4m3", "--calibration-text", text_file, "--json", "report.json")
    code, out, error = run("compress", model, *options, "--stream", "--out", "small")
    assert code == 0 and error == "" and "saved to small" in out and "calibration text" not in error
    return tmp_path / "small"


def test_what_is_streamed_is_judged_and_verified(run, model, text_file, compressed, tmp_path):
    assert read_recipe(compressed)[1].text == (str(text_file),)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["sparsity"] == 0.5 and report["bytes"] < report["bytes_dense"] and report["peak_rss"] > 50e6

    options = ("--dense", model, "--text", text_file, "--tokens", 256, "--context", 32, "--json")
    for name, more in (("whole.json", ()), ("streamed.json", ("--stream",))):
        code, out, error = run("evaluate", "small", *options, name, *more)
        assert code == 0 and error == "" and "retention" in out
    whole, streamed = (json.loads((tmp_path / f"{way}.json").read_text()) for way in ("whole", "streamed"))
    assert whole.keys() == streamed.keys()
    for key, value in whole.items():
        assert streamed[key] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)

    code, out, error = run("verify", "small")
    assert code == 0 and "14 layers hold what the recipe says" in out
    config = tmp_path / "small" / "config.json"
    config.write_text(config.read_text() + " ")
    code, out, error = run("verify", "small")
    assert code == 2 and error.count("\n") == 1 and "config.json is not what was written" in error


def test_what_needs_the_whole_model_is_refused(refused, model, text_file):
    stream = ("compress", model, "--stream", "--calibration-text", text_file, "--out", "small")
    assert "leave out recovery" in refused(*stream, "--sparsity", "0.5", "--preset", "best")
    assert "leave out --allocate" in refused(*stream, "--sparsity", "0.5", "--allocate")
    assert "add --out" in refused("compress", model, "--stream", "--sparsity", "0.5")
    assert "is no folder" in refused("compress", "nobody/nothing", "--stream", "--sparsity", "0.5", "--out", "small")


def test_blocks_are_trained_and_a_recipe_says_so(run, refused, model, text_file, tmp_path):
    options = ("--sparsity", "0.5", "--calibration-text", text_file, "--block-steps", "2")
    code, out, error = run("compress", model, *options, "--out", "small")  # block by block without --stream, too
    assert code == 0 and error == "" and "one at a time" in out
    assert read_recipe(tmp_path / "small")[1].recovery == {"block_steps": 2, "rate": RATE}
    assert run("verify", "small")[0] == 0
    preset = ("--pattern", "2:4", "--preset", "blockwise", "--calibration-tokens", "512", *options[2:])
    assert run("compress", model, *preset, "--out", "preset")[0] == 0
    recipe, rest, _ = read_recipe(tmp_path / "preset")
    assert (recipe.method, recipe.permute, rest.recovery) == ("admm", True, {"block_steps": 2, "rate": RATE})
    code, _, error = run("compress", model, "--recipe", "small", "--out", "again")
    assert code == 0, error
    for path in (tmp_path / "small").iterdir():
        if path.name not in ("README.md", "hashes.json"):  # which tell the command, and that of what tells it
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()

    about = tmp_path / "small" / "prunekit.json"
    for wrong in ({"block_steps": 2, "steps": 3}, {"block_steps": "2"}):
        said = json.loads(about.read_text())
        said["provenance"]["recovery"] = wrong
        about.write_text(json.dumps(said))
        assert "holds no recipe" in refused("compress", model, "--recipe", "small", "--out", "other")


@pytest.mark.parametrize(
    "options, said",
    [
        (("--block-steps", "0"), "--block-steps is 0: expected a whole number"),
        (("--block-steps", "9", "--recover"), "leave one out"),
        (("--block-steps", "9", "--preset", "best"), "leave one out"),
        (("--preset", "blockwise", "--minutes", "9"), "leave one out"),
        (("--block-steps", "9", "--allocate"), "leave out --allocate"),
        (("--block-steps", "9999"), "fewer than the 5119488 asked for"),
    ],
)
def test_training_of_blocks_that_cannot_be_is_refused(refused, model, text_file, options, said):
    stream = ("compress", model, "--sparsity", "0.5", "--calibration-text", text_file, "--out", "small")
    assert said in refused(*stream, *options)


def test_a_model_that_does_not_fit_is_streamed_by_itself(run, model, text_file, monkeypatch):
    def too_large(*_):
        raise streamed.PrunekitError("the model needs 9.9 GB.")

    monkeypatch.setattr(streamed, "check_memory", too_large)
    code, out, _ = run("compress", model, "--sparsity", "0.5", "--calibration-text", text_file, "--out", "small")
    assert code == 0 and "block by block (--stream), since the model needs 9.9 GB." in out and "saved to small" in out


def test_fit_says_what_each_preset_takes(run, model):
    code, out, error = run("fit", model, "--pattern", "2:4", "--fp8", "e4m3", "--gpu", "RTX 4090")
    assert code == 0 and error == ""
    rows = [line.split()[:2] for line in out.splitlines()[3:-1]]
    both = [[name, how] for name in ("fast", "balanced", "best") for how in ("whole", "streamed")]
    assert rows == [*both[:4], ["blockwise", "streamed"], *both[4:]]
    fitting = "fits here: fast, fast --stream, balanced, balanced --stream, blockwise --stream, best"
    assert out.splitlines()[-1] == fitting
    assert out.count(", fits") == 6 and "recovery needs the whole model" in out and "RTX 4090" in out


def test_fit_says_what_would_fit_instead(run, model, monkeypatch):
    sizes = {"whole_memory": {4: 100, 2: 50}, "streamed_memory": {4: 70, 2: 40}}
    for name, by_width in sizes.items():
        monkeypatch.setattr(fit, name, lambda sizes, itemsize, *_, by_width=by_width, **__: by_width[itemsize])
    for free, said in (
        (60, "nothing; with --dtype bfloat16 also fast, balanced, best"),
        (80, "fast --stream, balanced --stream, blockwise --stream; with --dtype bfloat16 also fast, balanced, best"),
        (30, "nothing"),
    ):
        monkeypatch.setattr(fit, "memory_free", lambda _, free=free: free)
        assert run("fit", model)[1].splitlines()[-1] == f"fits here: {said}"


def test_folders_that_are_none_are_refused(refused):
    assert "is no folder" in refused("verify", "nobody/nothing")
    assert "is no folder" in refused("fit", "nobody/nothing")
