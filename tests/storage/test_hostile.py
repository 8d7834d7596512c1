"""Folders and hub models that want to be more than weights: pickles, names that lead elsewhere, code."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from test_load import assert_refused
from tiny import ROOT

from prunekit.errors import PrunekitError
from prunekit.storage.load import load
from prunekit.storage.pretrained import open_model
from prunekit.storage.weight_files import INDEX


class Trap:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def lay_trap(folder, name="pytorch_model.bin"):
    mark = folder / "ran"
    (folder / name).write_bytes(pickle.dumps(Trap(mark)))
    return mark


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def index(folder, name, file):
    """An index in which every tensor of the checkpoint is said to be in one file."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as tensors:
        names = {tensor: file for tensor in tensors.keys()}  # noqa: SIM118
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}), "utf-8")


@pytest.mark.parametrize("named", ["pytorch_model.bin", "../outside.safetensors", "model.safetensors"])
def test_weights_that_a_config_names_are_not_followed(copy, named):
    mark = lay_trap(copy)
    shutil.copy(copy / "model.safetensors", copy.parent / "outside.safetensors")
    index(copy, "x.safetensors.index.json", named)  # model.safetensors stays as a decoy
    change(copy / "config.json", transformers_weights="x.safetensors.index.json")
    assert_refused(copy, "transformers_weights: 'x.safetensors.index.json'.*never followed")
    assert not mark.exists()


@pytest.mark.parametrize("named", ["pytorch_model.bin", "../outside.safetensors", "below/model.safetensors", "", "/x"])
def test_an_index_names_safetensors_beside_it(copy, named):
    mark = lay_trap(copy)
    shutil.copy(copy / "model.safetensors", copy.parent / "outside.safetensors")
    (copy / "below").mkdir()
    shutil.copy(copy / "model.safetensors", copy / "below" / "model.safetensors")
    index(copy, INDEX, named)
    (copy / "model.safetensors").unlink()
    assert_refused(copy, "names other files than safetensors beside it")
    assert not mark.exists()


def test_the_loader_itself_reads_safetensors_only(copy, llama):
    """Whatever was checked before."""
    torch.save(llama.state_dict(), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(PrunekitError, match=r"model\.safetensors"):
        open_model(str(copy))


@pytest.mark.parametrize("place", [(), ("text_config",)], ids=str)
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
def test_code_for_attention_is_not_fetched(copy, place, key):
    values = {key: "owner/kernel"}
    for part in place:
        values = {part: values}
    change(copy / "config.json", **values)
    assert_refused(copy, "asks for code from the hub")


def test_an_attention_that_transformers_has_is_no_code(copy):
    change(copy / "config.json", attn_implementation="eager")
    load(str(copy), device="cpu")


def test_code_in_a_saved_folder_is_not_run(compressed):
    (compressed / "code.py").write_text(f"open({str(compressed / 'ran')!r}, 'w')\n")
    places = {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}
    for changes in ({"auto_map": places}, {"auto_map": places, "model_type": "nobody"}):
        change(compressed / "config.json", **changes)
        if "model_type" in changes:
            assert_refused(compressed, "code of its own, which is never run")
        else:
            load(str(compressed), device="cpu")  # its kind is known, so that the code is not needed
        assert not (compressed / "ran").exists()


def test_a_saved_folder_does_not_name_other_weights(compressed):
    change(compressed / "config.json", transformers_weights="other.safetensors")
    assert_refused(compressed, "never followed")


HUB = """
import json, sys
from prunekit.errors import PrunekitError
from prunekit.storage.load import load
said = {}
for name in sys.argv[1:]:
    try:
        load(f"owner/{name}", device="cpu")
        said[name] = "opened"
    except PrunekitError as error:
        said[name] = str(error)
print(json.dumps(said))
"""
ON_THE_HUB = {  # what is changed in a whole model, and what is said of it
    "whole": (lambda folder: None, "opened"),
    "index": (lambda folder: index(folder, INDEX, "pytorch_model.bin"), "names other files than safetensors beside it"),
    "outside": (lambda folder: index(folder, INDEX, "../../x.safetensors"), "names other files than safetensors"),
    "pickle": (lambda folder: None, "pickles are never read"),
    "config": (lambda folder: change(folder / "config.json", transformers_weights="x.bin"), "never followed"),
    "kernel": (lambda folder: change(folder / "config.json", attn_implementation="owner/kernel"), "never fetched"),
}


def test_models_of_the_hub_are_held_to_the_same_rules(folders, tmp_path):
    """In a process of its own, whose cache of the hub holds them already."""
    for name, (changed, _) in ON_THE_HUB.items():
        cache = tmp_path / "hub" / f"models--owner--{name}"
        folder = shutil.copytree(folders.llama, cache / "snapshots" / "0")
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text("0")
        lay_trap(folder)
        changed(folder)
        if name in ("index", "outside", "pickle"):
            (folder / "model.safetensors").unlink()
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", HUB, *ON_THE_HUB], capture_output=True, text=True, env=environment)
    said = json.loads(done.stdout)
    assert [name for name, (_, expected) in ON_THE_HUB.items() if expected not in said[name]] == [], said
    assert list(tmp_path.rglob("ran")) == []


def test_fp8_that_prunekit_did_not_write_is_said_before_it_is_loaded(compressed, monkeypatch):
    (compressed / "prunekit.json").unlink()
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", None)
    assert_refused(compressed, "compressed-tensors has quantized this model, and no prunekit.json lies beside it")
