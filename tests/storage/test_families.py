"""Families come through compress, save and load: which layers, what stays, the same logits, for transformers, too."""

from functools import cache

import pytest
import torch
import transformers
from families import IDS, NAMES, RESULTS, attempt, opens, table, tiny, with_table
from tiny import FAMILIES

from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.model.linear import weight_of, zeros_in
from prunekit.storage.load import load
from prunekit.storage.save import save

pytestmark = pytest.mark.skipif(transformers.__version__.startswith("4."), reason="as transformers 5 has them")

ATTENTION = [f"self_attn.{x}_proj" for x in "qkvo"]
SEPARATE = ATTENTION + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
LAYERS = {  # where the blocks are, and the layers of each that are compressed
    "gpt2": ("transformer.h", ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]),
    "opt": ("model.decoder.layers", [f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")] + ["fc1", "fc2"]),
    "gpt_neox": (
        "gpt_neox.layers",
        ["attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
    ),
    "phi": ("model.layers", [*(f"self_attn.{x}_proj" for x in "qkv"), "self_attn.dense", "mlp.fc1", "mlp.fc2"]),
    "phi3": ("model.layers", ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"]),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"), ("model.layers", SEPARATE)),
    **{
        kind: ("model.layers", ATTENTION + [f"mlp.experts.{e}.{name}" for e in range(4) for name in names])
        for kind, names in {
            "olmoe": ("gate_proj", "up_proj", "down_proj"),
            "qwen3_moe": ("gate_proj", "up_proj", "down_proj"),
            "mixtral": ("w1", "w3", "w2"),
        }.items()
    },
    "gpt_oss": ("model.layers", ATTENTION),
}


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """Each family with each recipe, tried once."""
    return cache(lambda kind, recipe: attempt(kind, recipe, tmp_path_factory.mktemp("tried") / "out"))


@pytest.mark.parametrize("recipe", ["fp8", "2:4"])
@pytest.mark.parametrize("kind", NAMES)
def test_a_family_comes_back(tried, kind, recipe):
    found = tried(kind, recipe)
    result, loaded = found.result, found.loaded
    blocks, layers = LAYERS[kind]
    names = [f"{blocks}.{i}.{layer}" for i in range(2) for layer in layers]
    assert sorted(entry["name"] for entry in result.layers) == sorted(names)
    for name in names:
        old, new = (weight_of(m.get_submodule(name)) for m in (result.model, loaded))
        assert torch.equal(old, new) and zeros_in(new) == pytest.approx(new.numel() / 2, rel=0.06)
        assert recipe != "2:4" or (new.unflatten(1, (-1, 4)) != 0).sum(2).max() == 2
    changed = {f"{name}.{part}" for name in names for part in ("weight", "weight_scale")}
    before = found.dense.state_dict()
    untouched = {name: value for name, value in loaded.state_dict().items() if name not in changed}
    assert [name for name, value in untouched.items() if not torch.equal(value, before[name])] == []
    fused = {name for name in before.keys() - changed - untouched.keys() if "experts" in name}
    assert before.keys() - changed - untouched.keys() == fused and all(before[name].ndim == 3 for name in fused)
    tied = {m.get_output_embeddings().weight is m.get_input_embeddings().weight for m in (result.model, loaded)}
    assert tied == {found.dense.config.tie_word_embeddings}
    with torch.no_grad():
        logits = loaded(IDS).logits
        assert torch.equal(logits, result.model(IDS).logits)
        assert not torch.allclose(logits, found.dense(IDS).logits, atol=0.1)
    assert opens(found) == "yes"


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_head_that_is_tied_or_not_stays_so(tokenizer, tmp_path, kind):
    for tied in (True, False):
        model = tiny(kind, tie_word_embeddings=tied)
        result = compress(model, sparsity=0.5, method="magnitude", fp8="e4m3")
        loaded, _ = load(str(save(result, tokenizer, tmp_path / str(tied))), device="cpu")
        for m in (result.model, loaded):
            assert (m.get_output_embeddings().weight is m.get_input_embeddings().weight) == tied
            assert torch.equal(m.get_output_embeddings().weight, model.get_output_embeddings().weight)


def test_what_is_left_out_is_named_with_the_reason(tried):
    for kind in NAMES:
        left = tried(kind, "fp8").result.left_out
        if kind == "gpt_oss":
            assert {name.rpartition(".")[2] for name in left} >= {"gate_up_proj", "down_proj"}
            assert all("in a layout" in why for name, why in left.items() if "experts" in name)
        else:
            assert all(
                name.endswith("mlp.gate.weight") and why == "no plain linear layer" for name, why in left.items()
            )
            assert bool(left) == (kind in ("olmoe", "mixtral", "qwen3_moe"))


def test_the_table_of_families_is_what_the_tests_find(tried):
    text = RESULTS.read_text("utf-8")
    assert with_table(text, table(tried)) == text, "run: PYTHONPATH=.:tests python tests/storage/families.py"


OTHERS = {  # families that are in no table
    "Falcon": {},
    "Bloom": {"n_layer": 2, "n_head": 4},
    "StableLm": {"num_key_value_heads": 2},
    "Cohere": {"num_key_value_heads": 2},
    "Glm4Moe": {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    "Rwkv": {"context_length": 64, "says": "RWKV divides its own weights"},
    "Mamba": {"state_size": 8, "says": "text does not reach the layer .*dt_proj: leave it out"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_family_that_is_not_in_the_table_works_or_says_what_it_lacks(tokenizer, tmp_path, name):
    its = dict(OTHERS[name])
    says = its.pop("says", None)
    sizes = {"vocab_size": 99, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = getattr(transformers, f"{name}Config")(**sizes, bos_token_id=0, eos_token_id=0, pad_token_id=0, **its)
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval().requires_grad_(False)
    if says:
        with pytest.raises(PrunekitError, match=says):
            compress(model, IDS, sparsity=0.5, fp8="e4m3")
        return
    result = compress(model, IDS, sparsity=0.5, fp8="e4m3")
    loaded, _ = load(str(save(result, tokenizer, tmp_path / "out")), device="cpu")
    assert torch.equal(loaded(IDS).logits, result.model(IDS).logits)
