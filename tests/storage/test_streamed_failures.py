"""A run that is interrupted goes on; one that cannot go on says why, and leaves nothing that looks finished."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file
from streamed_models import bytes_of, write_model
from tiny import ROOT, VOCABULARY

from prunekit.errors import PrunekitError
from prunekit.storage.streamed import shards
from prunekit.storage.streamed.folder import compress_folder
from prunekit.system import files

FAST = {"sparsity": 0.5, "compensate": True, "fp8": "e4m3"}
ADMM = {"method": "admm", "pattern": "2:4"}


@pytest.fixture(scope="module")
def source(tmp_path_factory, tokenizer):
    return write_model("llama", tokenizer, tmp_path_factory.mktemp("sources") / "llama")


@pytest.fixture(scope="module")
def wholes(tmp_path_factory, source, windows):
    """What an undisturbed run writes, by method."""
    base = tmp_path_factory.mktemp("wholes")
    recipes = {"fast": FAST, "admm": ADMM}
    return {n: compress_folder(source, base / n, ids=windows, **r).out for n, r in recipes.items()}


@pytest.mark.parametrize("recipe", [FAST, ADMM], ids=["fast", "admm"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(source, windows, wholes, tmp_path, monkeypatch, recipe):
    replace, out, left, gaps = os.replace, tmp_path / "out", [4], random.Random(0)

    def interrupted(*names):
        left[0] -= 1
        if left[0] > 0:
            replace(*names)
            return
        left[0] = gaps.randint(1, 9)
        if left[0] % 2:  # just after the file has its name, or just before
            replace(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupted)
    interruptions = 0
    while not out.exists():
        try:
            compress_folder(source, out, ids=windows, **recipe)
        except KeyboardInterrupt:
            interruptions += 1
            assert interruptions < 50
    assert interruptions >= 5
    assert bytes_of(out) == bytes_of(wholes["admm" if recipe is ADMM else "fast"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_run_goes_on_where_it_stopped(source, windows, tmp_path, monkeypatch):
    save, calls = shards.save_file, []

    def full(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(shards, "save_file", full)
    with pytest.raises(PrunekitError, match="No space left"):
        compress_folder(source, tmp_path / "out", ids=windows, **ADMM)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.partial"]
    assert not (tmp_path / "out.partial" / "config.json").exists()
    compress_folder(source, tmp_path / "out", ids=windows, **ADMM)
    assert len(calls) == 3 + 2  # the third block, and what lies outside


def test_another_command_does_not_go_on(source, windows, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shards.ShardFolder, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            compress_folder(source, tmp_path / "out", ids=windows, **FAST)
    before = bytes_of(tmp_path)
    for ids, recipe in ((windows, ADMM), (windows + 1, FAST)):
        with pytest.raises(PrunekitError, match=r"out.partial holds what another command.*remove that folder"):
            compress_folder(source, tmp_path / "out", ids=ids % VOCABULARY, **recipe)
    assert bytes_of(tmp_path) == before


def test_two_do_not_work_at_the_same(source, windows, tmp_path):
    from prunekit.storage.streamed.partial import Partial

    with Partial(tmp_path / "out").held(), pytest.raises(PrunekitError, match="another process is at work"):
        compress_folder(source, tmp_path / "out", ids=windows, **FAST)


def damaged(kind, folder):
    index = folder / "model.safetensors.index.json"
    said = json.loads(index.read_text())
    shard = folder / said["weight_map"]["model.layers.1.mlp.up_proj.weight"]
    if kind == "truncated shard":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif kind == "missing shard":
        shard.unlink()
    elif kind == "wrong index":
        others = [name for name in said["weight_map"].values() if name != shard.name]
        said["weight_map"]["model.layers.1.mlp.up_proj.weight"] = others[0]
        index.write_text(json.dumps(said))
    else:
        from safetensors.torch import load_file

        tensors = load_file(shard)
        name = "model.layers.1.mlp.up_proj.weight"
        changed = {
            "missing tensor": lambda t: {},
            "wrong shape": lambda t: {name: t[:, :-1].contiguous()},
            "NaN": lambda t: {name: t.fill_(float("nan"))},
            "FP8": lambda t: {name: t.to(torch.float8_e4m3fn)},
        }[kind](tensors.pop(name))
        save_file(tensors | changed, shard)
        if kind == "missing tensor":
            del said["weight_map"][name]
            index.write_text(json.dumps(said))


SAYS = {
    "truncated shard": "damaged or incomplete",
    "missing shard": "which its index names",
    "wrong index": "where it does not",
    "missing tensor": "has no tensor model.layers.1.mlp.up_proj.weight",
    "wrong shape": r"has the shape \[160, 63\]",
    "NaN": "holds NaN or infinity",
    "FP8": "is FP8 already",
}


@pytest.mark.parametrize("kind", SAYS)
def test_a_damaged_source_is_one_sentence(tokenizer, windows, tmp_path, kind):
    write_model("llama", tokenizer, tmp_path / "in")
    damaged(kind, tmp_path / "in")
    with pytest.raises(PrunekitError, match=SAYS[kind]) as error:
        compress_folder(tmp_path / "in", tmp_path / "out", ids=windows, **FAST)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path).rglob("out*/**/prunekit.json"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_being_killed_at_random_moments_changes_no_byte(source, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The weights of a model are many, and most of them hardly matter. " * 200)
    options = ["--stream", "--sparsity", "0.5", "--calibration-text", str(text), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "prunekit", "compress", str(source), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    whole = (tmp_path / "out").rename(tmp_path / "whole")
    moments, kills, longest = random.Random(0), 0, 1.0
    for _ in range(50):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        if kills < 10:
            begun = time.monotonic()
            while not (tmp_path / "out.partial" / "state" / "plan.json").exists() and process.poll() is None:
                assert time.monotonic() - begun < 120
                time.sleep(0.02)
            time.sleep(moments.uniform(0.0, longest))
            process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        kills += killed
        assert killed or process.returncode == 0
        if (tmp_path / "out").exists():
            assert bytes_of(tmp_path / "out") == bytes_of(whole)
            if kills == 10:
                return
            shutil.rmtree(tmp_path / "out")  # it was quicker: once more
            longest *= 0.8
    raise AssertionError(f"{kills} kills in 50 runs")
