import json

import pytest

from prunekit.errors import PrunekitError
from prunekit.speed.published import published_rows
from prunekit.speed.shapes import EMBEDDED
from prunekit.speed.whole.model import MODELS, config_model, find_model


@pytest.mark.parametrize("name", MODELS)
def test_fused_layers_are_those_of_the_published_products(name):
    published = {(row.N, row.K) for row in published_rows("RTX 5080", "fp8") if row.model == name}
    assert {(layer.N, layer.K) for layer in find_model(name).layers} == published


def test_sizes_against_the_models_parameters():
    # Parameters as their model cards say, in billions.
    for name, billions in (("Llama3.2-1B", 1.24), ("Llama3.2-3B", 3.21), ("Qwen2.5-7B", 7.61), ("Qwen2.5-14B", 14.8)):
        assert find_model(name).weight_bytes("bf16", False) / 2e9 == pytest.approx(billions, rel=0.01)


def test_bytes():
    model = find_model("Qwen2.5-7B")
    linear = sum(layer.N * layer.K * layer.count for layer in model.layers)
    assert model.cache_bytes == 28 * 2 * 4 * 128 * 2
    assert model.weight_bytes("bf16", False) - model.weight_bytes("fp8", False) == linear
    assert model.weight_bytes("fp8", False) - model.weight_bytes("fp8", True) == linear * 3 / 8
    assert model.weight_bytes("bf16", False) - model.weight_bytes("bf16", True) == linear * 7 / 8


def test_a_built_in_model_is_found_however_it_is_spelled(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("qwen2.5 7b", "Qwen/Qwen2.5-7B-Instruct", "QWEN2.5-7B"):
        assert find_model(name) == find_model("Qwen2.5-7B")
    assert find_model("meta-llama/Llama-3.2-1B").name == "Llama3.2-1B"


def test_embedded_and_a_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"text_config": EMBEDDED}))
    here, embedded = find_model(str(tmp_path)), find_model("embedded")
    assert here.layers == embedded.layers and here.tied and here.context == 8192
    # SmolLM2-135M less its norms' 35 thousand.
    assert embedded.weight_bytes("bf16", False) / 2 == pytest.approx(134.5e6, rel=1e-3)


def test_what_is_missing_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PrunekitError, match=r"^there is no configuration of 'Mistral-7B' here: .*Qwen2.5-7B") as error:
        find_model("Mistral-7B")
    assert "\n" not in str(error.value)
    without = {k: v for k, v in EMBEDDED.items() if k != "vocab_size"}
    with pytest.raises(PrunekitError, match="'mine' has no vocab_size"):
        config_model("mine", without)
    with pytest.raises(PrunekitError, match="says '8' for max_position_embeddings"):
        config_model("mine", {**EMBEDDED, "max_position_embeddings": "8"})
