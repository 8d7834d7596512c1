"""Which layers `compress` touches, and how much of each."""

import pytest
import torch
from test_compress import each_kind, weights
from torch import nn

from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.model.linear import linear_layers, weight_of


@each_kind
@pytest.mark.parametrize("cast", [{}, {"fp8": "e4m3"}], ids=str)
def test_what_is_not_compressed_is_shared(tiny_models, ids, kind, cast):
    model = tiny_models[kind]
    result = compress(model, ids, sparsity=0.5, **cast)
    new, touched = result.model, {f"{layer['name']}.weight" for layer in result.layers}
    assert new is not model and type(new) is type(model)
    assert new.get_output_embeddings() is model.get_output_embeddings()
    assert new.get_input_embeddings() is model.get_input_embeddings()
    assert new.get_output_embeddings().weight is new.get_input_embeddings().weight  # still tied
    assert not any("lm_head" in name for name in touched)
    old = dict(model.named_parameters())
    for name, parameter in new.named_parameters():
        if name in touched:
            assert parameter.data_ptr() != old[name].data_ptr()
        else:
            assert parameter.data_ptr() == old[name].data_ptr(), name


def test_an_untied_output_embedding_is_left_alone(make_model, ids):
    model = make_model(tie_word_embeddings=False)
    result = compress(model, ids, sparsity=0.5, fp8="e4m3")
    assert result.model.lm_head is model.lm_head
    assert isinstance(result.model.lm_head, nn.Linear)
    assert not any("lm_head" in layer["name"] for layer in result.layers)


def test_include_and_exclude_choose_layers(llama, ids):
    def names(**choice):
        result = compress(llama, ids, sparsity=0.5, **choice)
        dense, new = weights(llama, linear_layers(llama)), weights(result.model, linear_layers(llama))
        changed = [name for name in dense if not torch.equal(dense[name], new[name])]
        assert changed == [layer["name"] for layer in result.layers]
        return {name.removeprefix("model.layers.") for name in changed}

    assert names(include=["q_proj"]) == {"0.self_attn.q_proj", "1.self_attn.q_proj"}
    assert names(include=["layers.0.*_proj"], exclude=["mlp"]) == {f"0.self_attn.{x}_proj" for x in "qkvo"}
    assert names(include=["up_proj", "0.self_attn.o"]) == {"0.mlp.up_proj", "1.mlp.up_proj", "0.self_attn.o_proj"}
    assert len(names(exclude=["self_attn"])) == 6
    assert len(names(exclude=["lm_head"])) == 14  # which stays out by itself
    assert len(names()) == 14


def test_an_exclude_that_matches_nothing_is_refused(llama):
    with pytest.raises(PrunekitError, match=r"--exclude dwn_proj matches nothing .* such as model.layers.0"):
        compress(llama, sparsity=0.5, method="magnitude", exclude=["self_attn", "dwn_proj"])


@pytest.mark.parametrize("how", ["sparsegpt", "admm"])
def test_a_layer_whose_budget_is_0_stays_as_it_is(llama, ids, how):
    layers = linear_layers(llama)
    budget = {name: 0.0 if "mlp" in name else 0.5 for name in layers}
    result = compress(llama, ids, sparsity=0.3, method=how, budget=budget)
    for name, layer in layers.items():
        same = torch.equal(weight_of(result.model.get_submodule(name)), weight_of(layer))
        assert same == ("mlp" in name)


def test_a_budget_needs_an_average(llama, ids):
    budget = dict.fromkeys(linear_layers(llama), 0.5)
    with pytest.raises(PrunekitError, match="a sparsity of 0 leaves no budget to spread"):
        compress(llama, ids, sparsity=0, budget=budget)


@pytest.mark.parametrize("how", ["wanda", "sparsegpt", "admm"])
def test_blockwise_methods_take_a_choice_of_layers_too(llama, ids, how):
    result = compress(llama, ids, sparsity=0.5, method=how, include=["1.mlp", "0.self_attn.q_proj"])
    assert {layer["name"] for layer in result.layers} == {
        "model.layers.0.self_attn.q_proj",
        *(f"model.layers.1.mlp.{x}_proj" for x in ("gate", "up", "down")),
    }
    assert result.model.model.layers[0].mlp is llama.model.layers[0].mlp


def test_a_model_without_a_linear_layer():
    with pytest.raises(PrunekitError, match="no linear layer"):
        compress(nn.Sequential(nn.Embedding(10, 4), nn.LayerNorm(4)), sparsity=0.5, method="magnitude")


def test_an_include_that_matches_nothing_says_what_would(llama):
    with pytest.raises(PrunekitError, match=r"nosuch matches none of the 14 linear layers: .*model\.layers\.0"):
        compress(llama, sparsity=0.5, method="magnitude", include=["nosuch"])
    with pytest.raises(PrunekitError, match="leave no layer"):
        compress(llama, sparsity=0.5, method="magnitude", include=["mlp"], exclude=["mlp"])
