"""What all commands share: exit codes, signals, one sentence for what goes wrong, and what each of them calls."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ROOT, Seen

from prunekit.system.files import cache_dir


def test_info(run):
    code, out, error = run("info")
    assert code == 0 and error == ""
    for word in ("prunekit", "torch", "transformers", "numba", "threads", "cache", "embedded model"):
        assert word in out


COMMANDS = ("compress", "evaluate", "generate", "fit", "verify", "bench", "demo", "info", "predict", "doctor")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(run, command):
    code, out, error = run(*command, "--help")
    assert code == 0 and out.startswith("usage: prunekit") and error == ""


@pytest.mark.parametrize("arguments", ["", "nosuch", "generate", "bench", "bench nosuch", "--nosuch"])
def test_bad_commands(refused, arguments):
    refused(*arguments.split())


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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_a_file_whose_name_is_not_utf8(model, text_file, tmp_path):
    text, report = tmp_path / "caf\udce9.txt", tmp_path / "report.json"
    text.write_bytes(Path(text_file).read_bytes())
    done = command("evaluate", model, "--text", text, "--tokens", "128", "--context", "64", "--json", report)
    assert done.returncode == 0, done.stderr
    assert "caf\\udce9.txt" in done.stdout and report.exists()


def test_an_interrupt(run, monkeypatch, model):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("prunekit.cli.compress.run.load", interrupt)
    code, _, error = run("compress", model, "--sparsity", "0.5")
    assert code == 130 and error == "prunekit: interrupted; nothing unfinished was written.\n"


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


@pytest.mark.skipif(os.name == "nt", reason="closes a descriptor by the shell")
def test_a_closed_standard_output_is_no_failure():
    command = f"{sys.executable} -m prunekit info >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cache_of_nobody_is_a_relative_name(monkeypatch):
    monkeypatch.setenv("PRUNEKIT_CACHE", "~nobody-of-that-name/x")
    assert cache_dir() == Path("~nobody-of-that-name/x")
