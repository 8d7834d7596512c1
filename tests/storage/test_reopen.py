"""Folders that `save` wrote come back, and damaged ones are refused in one sentence."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_load import assert_refused

from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.storage.load import load
from prunekit.storage.save import save


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_folder_comes_back_as_it_was_saved(folders, tiny_models, tokenizer, ids, kind):
    model, its_tokenizer = load(str(getattr(folders, kind)), device="cpu")
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert model.dtype == torch.float32
    assert torch.equal(model(ids).logits, tiny_models[kind](ids).logits)
    text = "Half of the weights can go"
    assert its_tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.parametrize(("key", "value"), [("weight", 0x7F), ("weight", 0xFF), ("weight_scale", float("inf"))])
def test_a_compressed_folder_with_numbers_that_are_none(compressed, key, value):
    path = compressed / "model.safetensors"
    tensors = load_file(path)
    tensor = tensors[f"model.layers.0.mlp.up_proj.{key}"]
    (tensor.view(torch.uint8) if key == "weight" else tensor)[0, 0] = value
    save_file(tensors, path, metadata={"format": "pt"})
    assert_refused(compressed, "up_proj holds NaN or infinity")


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_a_compressed_folder_with_truncated_weights(compressed, keep):
    path = compressed / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(compressed, "damaged or incomplete")


@pytest.mark.parametrize(
    "change",
    [
        {"fp8_layers": ["model.layers.9.mlp.up_proj"]},
        {"fp8_layers": ["model.layers.0.mlp.up_proj", "nosuch"]},
        {"fp8_layers": []},  # then the model has tensors that no layer takes
        {"fp8_layers": ["model.norm"]},
        {"recipe": {}},
        {"recipe": {"fp8": "e9m9"}},
    ],
    ids=str,
)
def test_a_prunekit_json_that_does_not_fit_the_weights(compressed, change):
    path = compressed / "prunekit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PrunekitError):
        load(str(compressed), device="cpu")


@pytest.mark.parametrize(
    ("name", "text"),
    [("prunekit.json", text) for text in ("", "{", "{}", "[]", "null")]
    + [("config.json", text) for text in ("", "{", "{}")],
)
def test_a_compressed_folder_with_corrupt_json(compressed, name, text):
    (compressed / name).write_text(text)
    assert_refused(compressed, "damaged or incomplete")


def test_a_compressed_folder_lacks_a_file(compressed, tmp_path):
    for name, message in [
        ("model.safetensors", r"holds no model\.safetensors"),
        ("tokenizer.json", "no tokenizer|cannot read the tokenizer"),
        ("config.json", "no config.json"),
    ]:
        folder = shutil.copytree(compressed, tmp_path / f"without-{name}")
        (folder / name).unlink()
        assert_refused(folder, message)


@pytest.mark.parametrize("lost", ["model.norm.weight", "model.layers.0.mlp.up_proj.weight_scale"])
def test_a_compressed_folder_lacks_a_tensor(compressed, lost):
    from safetensors.torch import load_file, save_file

    tensors = load_file(compressed / "model.safetensors")
    del tensors[lost]
    save_file(tensors, compressed / "model.safetensors", metadata={"format": "pt"})
    assert_refused(compressed, "damaged or incomplete")


def change_tensor(folder, name, changed):
    """Put something else in the place of a tensor."""
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = changed(tensors[name]).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


UP = "model.layers.0.mlp.up_proj"
TAMPERED = {
    "fewer rows": ("weight", lambda t: t[:-1], "has the shape"),
    "narrower": ("weight", lambda t: t[:, :-1], "has the shape"),
    "one dimension": ("weight", lambda t: t.flatten(), "has the shape"),
    "whole numbers": ("weight", lambda t: t.view(torch.int8), "torch.int8"),
    "another format": ("weight", lambda t: t.view(torch.float8_e5m2), "e5m2 where prunekit.json says"),
    "bfloat16 scale": ("weight_scale", lambda t: t.bfloat16(), "which is float32"),
    "whole scale": ("weight_scale", lambda t: torch.ones_like(t).int(), "which is float32"),
    "negative scale": ("weight_scale", lambda t: -t, "below or at zero"),
    "zero scale": ("weight_scale", lambda t: 0 * t, "below or at zero"),
    "NaN scale": ("weight_scale", lambda t: t * float("nan"), "NaN or infinity"),
    "fewer scales": ("weight_scale", lambda t: t[:-1], "which fit no granularity"),
    "scales of columns": ("weight_scale", lambda t: t.T, "which fit no granularity"),
    "wider than its scale": ("weight", lambda t: t.float(), "no e4m3 times its scale"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_tampered_fp8_layer_is_refused(compressed, kind):
    key, changed, said = TAMPERED[kind]
    change_tensor(compressed, f"{UP}.{key}", changed)
    assert_refused(compressed, said)


@pytest.mark.parametrize("key", ["weight", "bias"])
def test_a_tampered_widened_layer_is_refused(gpt2, ids, tokenizer, tmp_path, key):
    folder = save(compress(gpt2, ids, sparsity=0.5, fp8="e5m2"), tokenizer, tmp_path / "gpt2")
    change_tensor(folder, f"transformer.h.0.mlp.c_fc.{key}", lambda t: t[:-1])
    assert_refused(folder, "has the shape")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e5m2, torch.complex64], ids=str)
def test_a_tensor_that_is_no_float_is_refused(compressed, dtype):
    change_tensor(compressed, "model.norm.weight", lambda t: t.to(dtype))
    assert_refused(compressed, rf"model\.norm\.weight is {dtype}, where the model has torch\.float32")


def test_a_tensor_of_64_bits_is_narrowed_as_others_are_widened(compressed):
    change_tensor(compressed, "model.norm.weight", lambda t: t.double())
    assert load(str(compressed), device="cpu")[0].model.norm.weight.dtype == torch.float32


def test_an_unknown_format_is_said_with_the_folder_that_names_it(compressed):
    path = compressed / "prunekit.json"
    path.write_text(path.read_text().replace("e4m3", "e9m9"))
    assert_refused(compressed, "in prunekit.json: unknown FP8 format 'e9m9'")
