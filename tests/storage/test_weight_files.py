"""Weights are read from safetensors alone, and from those that belong to the model."""

import json

import pytest

from prunekit.errors import PrunekitError
from prunekit.storage.weight_files import weight_files


def index(folder, value):
    (folder / "model.safetensors.index.json").write_text(value if isinstance(value, str) else json.dumps(value))


def test_one_file_is_enough_and_others_beside_it_do_not_count(tmp_path):
    for name in ("model.safetensors", "model_dense.safetensors", "pytorch_model.bin"):
        (tmp_path / name).touch()
    index(tmp_path, {"weight_map": {"a": "model_dense.safetensors"}})
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]


def test_an_index_names_the_files(tmp_path):
    (tmp_path / "stray.safetensors").touch()
    index(tmp_path, {"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}})
    assert weight_files(tmp_path) == [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]


@pytest.mark.parametrize("kind", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickle_is_never_read(tmp_path, kind):
    (tmp_path / kind).touch()
    with pytest.raises(PrunekitError, match=rf"as pickle \({kind}\).*convert them to safetensors"):
        weight_files(tmp_path)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(PrunekitError, match=r"holds no model\.safetensors"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        "null",
        "[]",
        "{",
        "[" * 100_000,
        {"weight_map": {}},
        {"weight_map": {"a": 5}},
        {"weight_map": {"a": ["x.safetensors"]}},
        {"weight_map": {"a": "x.bin"}},
        {"weight_map": {"a": "x.safetensors", "b": "../y.safetensors"}},
        {"weight_map": {"a": "/etc/y.safetensors"}},
    ],
    ids=str,
)
def test_an_index_that_is_damaged_or_leads_elsewhere(tmp_path, value):
    index(tmp_path, value)
    with pytest.raises(PrunekitError, match="is damaged or names other files"):
        weight_files(tmp_path)
