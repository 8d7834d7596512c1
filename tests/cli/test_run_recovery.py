"""`prunekit compress` with recovery: how long, from which text, and how it goes on."""

import importlib
import json
from pathlib import Path

import pytest
from tiny import Seen

from prunekit.errors import PrunekitError

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
    assert seeds == [3, 3] and seen.value.args == (3,) and texts == 2 * [2 * [str(text_file)]]


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
    def full(*_, **__):
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


def test_an_interruption_before_the_first_step_promises_no_state(run, model, text_file, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("prunekit.cli.compress.run.recover", interrupted)
    options = ("--sparsity", "0.5", "--calibration-text", text_file, "--recover", "--steps", "2", "--out", "out")
    code, _, error = run("compress", model, *options)
    assert code == 130 and error == "prunekit: interrupted; nothing unfinished was written.\n"


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


def test_sharding_is_for_recovery_in_several_processes(refused, model, text_file):
    command = ("compress", model, "--sparsity", "0.5", "--calibration-text", text_file, "--shard")
    assert "start them by torchrun" in refused(*command, "--recover")
