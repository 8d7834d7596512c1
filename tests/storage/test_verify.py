"""What was changed in a folder is found."""

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.storage.save import save
from prunekit.storage.shipped.hashes import NAME, write_hashes
from prunekit.storage.streamed.verify import verify

RECIPES = {
    "2:4 in FP8": {"pattern": "2:4", "fp8": "e4m3"},
    "wide FP8": {"sparsity": 0.5, "fp8": "e5m2"},
    "4:8": {"pattern": "4:8"},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny_models, tokenizer, ids):
    base = tmp_path_factory.mktemp("saved")
    return {
        (kind, name): save(compress(model, ids, **recipe), tokenizer, base / f"{kind}-{index}")
        for kind, model in tiny_models.items()
        for index, (name, recipe) in enumerate(RECIPES.items())
    }


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_was_saved_is_in_order(saved, kind, recipe):
    folder = saved[kind, recipe]
    found = verify(folder)
    assert found.files == len(list(folder.iterdir())) - 1
    assert found.layers == {"llama": 14, "gpt2": 8}[kind]
    assert found.sparsity == json.loads((folder / "prunekit.json").read_text())["sparsity"]


def test_every_flipped_bit_is_found(saved):
    folder, g, missed = saved["llama", "2:4 in FP8"], random.Random(0), 0
    files = sorted(path for path in folder.iterdir() if path.name != NAME)
    for trial in range(200):
        path = files[trial % len(files)]
        before = path.read_bytes()
        changed = bytearray(before)
        changed[g.randrange(len(changed))] ^= 1 << g.randrange(8)
        path.write_bytes(changed)
        try:
            verify(folder)
            missed += 1
        except PrunekitError as error:
            assert path.name in str(error) and "\n" not in str(error)
        path.write_bytes(before)
    assert missed == 0
    verify(folder)


def changed_weight(folder, change):
    """Change the tensors of a folder, and its hashes with them."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    write_hashes(folder)


def test_what_hashes_do_not_show_is_found_in_the_tensors(saved, tmp_path):
    name = "model.layers.0.mlp.up_proj"

    def filled(tensors):
        tensors[f"{name}.weight"][3].view(torch.uint8)[:] = 0x38  # one

    def silent(tensors):
        tensors[f"{name}.weight_scale"][0] = 0

    def emptied(tensors):
        tensors[f"{name}.weight"][3].view(torch.uint8)[:] = 0

    for change, says in ((filled, f"{name} keeps 4 of 4 weights in row 3"), (silent, name), (emptied, "at zero, and")):
        folder = shutil.copytree(saved["llama", "2:4 in FP8"], tmp_path / change.__name__)
        changed_weight(folder, change)
        with pytest.raises(PrunekitError, match=says):
            verify(folder)


def test_a_config_that_says_something_else_is_found(saved, tmp_path):
    folder = shutil.copytree(saved["llama", "2:4 in FP8"], tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["ignore"].append("model.layers.0.mlp.up_proj")
    (folder / "config.json").write_text(json.dumps(config))
    write_hashes(folder)
    with pytest.raises(PrunekitError, match="describes other FP8 layers"):
        verify(folder)


def test_missing_and_foreign_files_are_found(saved, tmp_path):
    folder = shutil.copytree(saved["llama", "4:8"], tmp_path / "out")
    (folder / "NOTES.md").write_text("mine")
    verify(folder)
    (folder / "extra.safetensors").write_bytes(b"")
    with pytest.raises(PrunekitError, match=r"extra.safetensors was not written with the model"):
        verify(folder)
    (folder / "extra.safetensors").unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(PrunekitError, match=r"tokenizer.json is missing"):
        verify(folder)
    (folder / NAME).unlink()
    with pytest.raises(PrunekitError, match=r"has no hashes\.json"):
        verify(folder)
