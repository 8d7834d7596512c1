"""Families beside LLaMA and GPT-2 come through compress, save and load: which layers, what stays, the same logits."""

import pytest
import torch
from tiny import tiny_family

from prunekit.compression.compress import compress
from prunekit.model.linear import weight_of, zeros_in
from prunekit.storage.load import load
from prunekit.storage.save import save

SEPARATE = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
LAYERS = {  # where the blocks are, and the layers of each that are compressed
    "opt": ("model.decoder.layers", [f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")] + ["fc1", "fc2"]),
    "gpt_neox": (
        "gpt_neox.layers",
        ["attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
    ),
    "phi": ("model.layers", [*(f"self_attn.{x}_proj" for x in "qkv"), "self_attn.dense", "mlp.fc1", "mlp.fc2"]),
    "phi3": ("model.layers", ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"]),
    "qwen2": ("model.layers", SEPARATE),
    "qwen3": ("model.layers", SEPARATE),
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("options", [{"sparsity": 0.5}, {"pattern": "2:4", "fp8": "e4m3"}], ids=["half", "2:4-fp8"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_family_comes_back(tokenizer, tmp_path, kind, options, tied):
    model = tiny_family(kind, tie_word_embeddings=tied)
    ids = torch.randint(1, 99, (8, 32), generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = compress(model, ids, **options)
    loaded, _ = load(str(save(result, tokenizer, tmp_path / "out")), device="cpu")

    blocks, layers = LAYERS[kind]
    names = [f"{blocks}.{i}.{layer}" for i in range(2) for layer in layers]
    assert sorted(entry["name"] for entry in result.layers) == sorted(names)
    for name in names:
        old, new = (weight_of(m.get_submodule(name)) for m in (result.model, loaded))
        assert torch.equal(old, new) and zeros_in(new) == pytest.approx(new.numel() / 2, rel=0.05)
    if "pattern" in options:
        assert all((weight_of(loaded.get_submodule(n)).unflatten(1, (-1, 4)) != 0).sum(2).max() == 2 for n in names)
    parts = [f"{name}.{part}" for name in names for part in ("weight", "weight_scale")]
    untouched = {name: value for name, value in loaded.state_dict().items() if name not in parts}
    assert untouched.keys() == before.keys() - set(parts)
    assert [name for name, value in untouched.items() if not torch.equal(value, before[name])] == []

    for m in (result.model, loaded):
        assert (m.get_output_embeddings().weight is m.get_input_embeddings().weight) == tied
        assert torch.equal(m.get_output_embeddings().weight, model.get_output_embeddings().weight)
    assert torch.equal(loaded(ids).logits, result.model(ids).logits)
    assert not torch.equal(loaded(ids).logits, model(ids).logits)
