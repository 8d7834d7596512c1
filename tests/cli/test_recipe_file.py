"""`prunekit compress --recipe FILE` does once more all that a saved folder says."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import uint8

COMMANDS = [
    "--sparsity 0.5",
    "--sparsity 0.4 --fp8 e4m3 --seed 3 --exclude q_proj --calibration-tokens 256 --activations dynamic",
    "--pattern 2:4 --preset balanced --calibration-tokens 512 --include mlp",
    "--sparsity 0.5 --allocate --steps 2 --calibration-tokens 128",
    "--sparsity 0.3 --no-compensate --metric magnitude --select exact",
]


def bits(folder):
    return {name: t.view(uint8) for name, t in load_file(Path(folder) / "model.safetensors").items()}


@pytest.mark.parametrize(("options", "recipe"), zip(COMMANDS, ["first", "first/prunekit.json"] * 3))
def test_a_folder_is_made_again(run, model, text_file, options, recipe):
    first = ("compress", model, *options.split(), "--calibration-text", text_file, "--out", "first")
    for command in (first, ("compress", model, "--recipe", recipe, "--out", "again")):
        code, _, error = run(*command)
        assert code == 0, error
    one, other = bits("first"), bits("again")
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    for name in ("prunekit.json", "config.json"):
        assert (Path("first") / name).read_text("utf-8") == (Path("again") / name).read_text("utf-8")


@pytest.fixture
def recipe(run, model, text_file):
    """The prunekit.json of a folder."""
    assert run("compress", model, "--sparsity", 0.5, "--calibration-text", text_file, "--out", "saved")[0] == 0
    return Path("saved/prunekit.json")


@pytest.mark.parametrize(
    "option",
    [
        "--sparsity 0.5", "--sparsity 0.7", "--pattern 2:4", "--metric magnitude", "--select exact", "--preset fast",
        "--method wanda", "--no-compensate", "--no-permute", "--fp8 e4m3", "--granularity row",
        "--calibration-tokens auto", "--calibration-text news", "--seed 0", "--allocate", "--recover", "--minutes 1",
        "--steps 1", "--include mlp", "--exclude mlp", "--activations none", "--block-steps 1",
    ],
)  # fmt: skip
def test_an_option_that_the_recipe_says_is_refused(refused, model, recipe, option):
    name = option.split()[0]
    error = refused("compress", model, "--recipe", recipe, *option.split(), "--out", "out")
    assert f"leave out {name}, or --recipe" in error


def test_what_a_recipe_does_not_say_may_be_said(run, model, recipe):
    code, _, error = run("compress", model, "--recipe", recipe, "--dtype", "bfloat16", "--json", "report.json")
    assert code == 0, error
    assert json.loads(Path("report.json").read_text("utf-8"))["recipe"]["sparsity"] == 0.5


def test_a_folder_of_an_earlier_prunekit_has_a_recipe_and_no_more(run, model, recipe, monkeypatch):
    about = json.loads(recipe.read_text("utf-8"))
    del about["provenance"], about["activations"]
    recipe.write_text(json.dumps(about), "utf-8")
    seen = []
    monkeypatch.setattr("prunekit.cli.compress.job.check_texts", seen.extend)
    monkeypatch.setattr("prunekit.cli.compress.run.load", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("compress", model, "--recipe", recipe)[0] == 130 and seen == ["wikipedia"]


BROKEN = {
    "text": "{",
    "list": [],
    "no recipe": {"version": 1},
    "a recipe that is none": {"recipe": 3},
    "an option that there is not": {"recipe": {"sparsty": 0.5, "compensate": False, "permute": False}},
    "a sparsity that is none": {"recipe": {"sparsity": 2, "compensate": False, "permute": False}},
    "a word for yes": {"recipe": {"sparsity": 0.5, "compensate": "yes", "permute": False}},
}
REST = {
    "include": "mlp", "exclude": [3], "text": {"news": 1}, "budget": {"x": "much"}, "tokens": 0, "seed": "one",
    "recovery": {"steps": 2, "rm": 1}, "nosuch": 1,
}  # fmt: skip


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_holds_no_recipe_is_refused(refused, model, tmp_path, content):
    (tmp_path / "file.json").write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    assert "file.json holds no recipe" in refused("compress", model, "--recipe", "file.json")


@pytest.mark.parametrize("name", REST)
def test_a_damaged_provenance_is_refused(refused, model, tmp_path, name):
    about = {"recipe": {"sparsity": 0.5, "compensate": False, "permute": False}, "provenance": {name: REST[name]}}
    (tmp_path / "file.json").write_text(json.dumps(about), "utf-8")
    assert "file.json holds no recipe" in refused("compress", model, "--recipe", "file.json")


def test_a_recipe_file_that_is_not_there(refused, model, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in ("nosuch.json", "empty"):
        assert f"cannot read {path}" in refused("compress", model, "--recipe", path)
    assert "--recipe is empty" in refused("compress", model, "--recipe", "")


def test_a_budget_of_another_model_is_refused(refused, model, tmp_path):
    about = {"recipe": {"sparsity": 0.5, "compensate": False, "permute": False}}
    about["provenance"] = {"budget": {"model.layers.99.mlp.up_proj": 0.5}}
    (tmp_path / "file.json").write_text(json.dumps(about), "utf-8")
    assert "budget must name the layers" in refused("compress", model, "--recipe", "file.json")
