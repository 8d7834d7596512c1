import json

import pytest

from prunekit.errors import PrunekitError
from prunekit.speed.devices import find_gpu
from prunekit.speed.shapes import EMBEDDED, Layer, config_layers, exceeds_cache, model_layers, read_shapes


def test_the_embedded_model():
    layers = {layer.name: layer for layer in model_layers()}
    assert layers["k_proj"] == Layer("k_proj", 192, 576, 30)
    assert layers["gate_proj"] == Layer("gate_proj", 1536, 576, 30)
    assert layers["down_proj"] == Layer("down_proj", 576, 1536, 30)
    # SmolLM2-135M: 134.5 million parameters less 28.3 million of the embedding and 35 thousand of norms.
    assert sum(layer.N * layer.K * layer.count for layer in layers.values()) == 106_168_320


def test_head_dim_and_missing_kv_heads():
    layers = config_layers({**EMBEDDED, "head_dim": 128, "num_key_value_heads": None})
    assert layers[0].N == layers[1].N == 9 * 128
    assert (layers[3].N, layers[3].K) == (576, 9 * 128)


def test_a_local_folder(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {**EMBEDDED, "num_hidden_layers": 2}}))
    assert {layer.count for layer in model_layers(str(tmp_path))} == {2}
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert model_layers(f"~/{tmp_path.name}") == model_layers(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({k: v for k, v in EMBEDDED.items() if k != "intermediate_size"}, "has no intermediate_size"),
        ({**EMBEDDED, "hidden_size": "576"}, "says '576' for hidden_size"),
        ({**EMBEDDED, "num_local_experts": 8}, "mixtures of experts"),
        ({**EMBEDDED, "model_type": "biogpt"}, "the MLPs of biogpt have no gate"),
        ({**EMBEDDED, "model_type": "falcon_h1"}, "falcon_h1 has state-space layers"),
        ({**EMBEDDED, "layer_types": ["linear_attention", "full_attention"]}, "llama has linear_attention in"),
        ({**EMBEDDED, "layer_types": ["conv", "full_attention"]}, "llama has conv in"),
        ({**EMBEDDED, "kv_lora_rank": 512}, "low-rank keys and values"),
        ({"text_config": "small"}, "has no hidden_size"),
        ({"model_type": ["llama"]}, "has no hidden_size"),
        ({**EMBEDDED, "model_type": "gpt_neox"}, "the MLPs of gpt_neox have no gate"),
        ({**EMBEDDED, "model_type": "phi3"}, "phi3 keeps several of the seven layers of LLaMA-like models in one"),
    ],
)
def test_configurations_that_do_not_fit(config, says):
    with pytest.raises(PrunekitError, match=says):
        config_layers(config)


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_a_folder_without_a_readable_configuration(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(PrunekitError, match=r"config\.json"):
        model_layers(str(tmp_path))


def test_a_name_that_the_hub_does_not_know(monkeypatch):
    def from_pretrained(name, **_):
        raise OSError(f"{name} is not a model\nand more lines")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", from_pretrained)
    says = r"^'no-such-model' is neither 'embedded' nor a local folder; as .* it fails: no-such-model is not a model\.$"
    with pytest.raises(PrunekitError, match=says) as error:
        model_layers("no-such-model")
    assert "\n" not in str(error.value)


def test_a_model_that_fits_the_cache():
    layers = model_layers()
    assert exceeds_cache(find_gpu("RTX 4090"), "fp8", layers)
    assert not exceeds_cache(find_gpu("RTX 4090"), "fp8", [Layer("x", 576, 576, 30)])


def test_a_shapes_file(tmp_path):
    file = tmp_path / "shapes.csv"
    file.write_bytes('\ufeffname,M, N ,K\r\nfirst, 64,128,256\r\n\r\n"se,cond",1,2,4\r\n'.encode())
    header, rows = read_shapes(file)
    assert header == ["name", "M", "N", "K"]
    assert [(r.line, r.M, r.N, r.K) for r in rows] == [(2, 64, 128, 256), (4, 1, 2, 4)]
    assert rows[1].columns["name"] == "se,cond"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("M,N,K\n", "no row"),
        ("M,N\n1,2\n", "K"),
        ("M,M,N,K\n1,1,2,4\n", "once"),
        ("M,N,K\n64,64,64\n64,x,64\n", "line 3.*N is 'x'"),
        ("M,N,K\n64,64,64.0\n", "line 2.*K is '64.0'"),
        ("M,N,K\n64,,64\n", "line 2.*N is ''"),
        ("M,N,K\n64,64,64\n\n0,64,64\n", "line 4.*M is 0"),
        ("M,N,K\n64,64,-4\n", "line 2.*K is -4"),
        ("M,N,K\n64,64,66\n", "line 2.*2:4"),
        ("M,N,K\n64,64,99999999999999999999\n", "line 2.*whole numbers from 1"),
        (f"M,N,K\n64,64,{'9' * 5000}\n", "line 2.*must be a whole number"),
        ("M,N,K\n64,64\n", "line 2.*2 fields"),
        ("M,N,K\n64,64,64,64\n", "line 2.*4 fields"),
        ('M,N,K\n"64,64,64\n', "cannot read"),
    ],
)
def test_bad_shapes_files_name_the_row(tmp_path, text, says):
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(PrunekitError, match=says) as error:
        read_shapes(file)
    assert "bad.csv" in str(error.value) and "\n" not in str(error.value)


def test_unreadable_shapes_files(tmp_path):
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(PrunekitError, match="cannot read"):
            read_shapes(path)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"M,N,K\n\xff\xfe\x00\n")
    with pytest.raises(PrunekitError, match="UTF-8"):
        read_shapes(binary)


def test_without_sparse_tensor_cores_any_k_will_do(tmp_path):
    file = tmp_path / "odd.csv"
    file.write_text("M,N,K\n3,5,7\n")
    assert read_shapes(file, sparse24=False)[1][0].K == 7
