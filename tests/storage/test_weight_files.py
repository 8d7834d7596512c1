"""Weights are read from safetensors alone, and from those that belong to the model."""

import json
import os

import pytest

from prunekit.errors import PrunekitError
from prunekit.storage.weight_files import check_config, weight_files


def index(folder, value):
    (folder / "model.safetensors.index.json").write_text(value if isinstance(value, str) else json.dumps(value))


def test_one_file_is_enough_and_others_beside_it_do_not_count(tmp_path):
    for name in ("model.safetensors", "model_dense.safetensors", "pytorch_model.bin"):
        (tmp_path / name).touch()
    index(tmp_path, {"weight_map": {"a": "model_dense.safetensors"}})
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]


def test_an_index_names_the_files(tmp_path):
    for name in ("stray", "1", "2"):
        (tmp_path / f"{name}.safetensors").touch()
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


@pytest.mark.parametrize("lost", [lambda path: None, os.mkdir, lambda path: path.symlink_to("nosuch"), os.mkfifo])
def test_a_file_that_is_named_and_is_none(tmp_path, lost):
    """A pipe would be read for ever."""
    (tmp_path / "1.safetensors").touch()
    lost(tmp_path / "2.safetensors")
    index(tmp_path, {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})
    with pytest.raises(PrunekitError, match=r"lacks 2\.safetensors, which its index names"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({"num_hidden_layers": 10**9}, True),
        ({"n_layer": -1}, True),
        ({"text_config": {"num_layers": 1001}}, True),
        ({"num_hidden_layers": 1000, "vision_feature_layer": -2, "mlp_only_layers": [1], "n_layer": None}, False),
    ],
    ids=str,
)
def test_layers_that_no_model_has_are_not_built(tmp_path, config, refused):
    (tmp_path / "config.json").write_text(json.dumps(config))
    if refused:
        with pytest.raises(PrunekitError, match=r"config\.json asks for fewer than 0 or more than 1000 layers"):
            check_config(tmp_path / "config.json")
    else:
        check_config(tmp_path / "config.json")
