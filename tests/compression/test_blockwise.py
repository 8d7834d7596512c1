"""Walking through a model block by block: each block sees what it sees in the model."""

from importlib import import_module
from typing import ClassVar

import pytest
import torch
from tiny import VOCABULARY

from prunekit.calibration.calibrate import calibrate
from prunekit.compression import blockwise
from prunekit.compression.blockwise import Step, prune_blocks
from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.evaluation.evaluate import evaluate
from prunekit.model.copies import with_weight
from prunekit.model.linear import linear_layers, weight_of


def tiny_gemma3():
    """Three blocks, of which the second attends over everything and has other frequencies than its neighbours."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8}
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = Gemma3TextConfig(vocab_size=VOCABULARY, **sizes, **heads, layer_types=kinds, initializer_range=0.3)
    return Gemma3ForCausalLM(config).eval().requires_grad_(False)


@pytest.mark.parametrize("tokens", [64, 2048], ids="batches of {}".format)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt2 eager", "gemma3"])
def test_blocks_see_what_they_see_in_the_model(make_model, ids, monkeypatch, kind, tokens):
    model = tiny_gemma3() if kind == "gemma3" else make_model(kind.split()[0])
    if kind == "gpt2 eager":  # whose blocks get their mask by position
        model.set_attn_implementation("eager")
    layers = linear_layers(model)
    expected = calibrate(model, ids, stop=False, prior=0.0, bfloat16=False).energy
    seen = {}
    monkeypatch.setattr(blockwise, "BATCH_TOKENS", tokens)

    def prune(name, layer, energy):
        seen[name] = energy
        return layer

    for dense_inputs in (True, False):
        prune_blocks(model, ids, layers, Step(lambda x: x.float().square().sum(0), prune, dense_inputs))
        for name in layers:
            torch.testing.assert_close(seen[name], expected[name], rtol=1e-4, atol=1e-6)


def test_later_blocks_see_pruned_ones_unless_inputs_are_dense(llama, ids):
    layers = linear_layers(llama)
    seen = {}

    def prune(name, layer, energy):
        seen[name] = energy
        return with_weight(layer, 0 * weight_of(layer))

    expected = calibrate(llama, ids, stop=False, prior=0.0, bfloat16=False).energy
    for dense_inputs in (True, False):
        prune_blocks(llama, ids, layers, Step(lambda x: x.float().square().sum(0), prune, dense_inputs))
        for name in layers:
            same = torch.allclose(seen[name], expected[name], rtol=1e-4, atol=1e-6)
            first = "layers.0." in name and name.endswith(("q_proj", "k_proj", "v_proj"))  # before any zero weight
            assert same or not (dense_inputs or first)
            assert not same or dense_inputs or "layers.0." in name


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_admm_in_bfloat16_is_about_what_it_is_in_float32(make_model, ids, monkeypatch, kind):
    model = tiny_gemma3() if kind == "gemma3" else make_model(kind)
    error = {}
    for low in (False, True):
        monkeypatch.setattr(import_module("prunekit.compression.blockwise"), "bfloat16_pays", lambda _, low=low: low)
        error[low] = evaluate(compress(model, ids, pattern="2:4", method="admm").model, ids, model)["kl"]
    magnitude = evaluate(compress(model, pattern="2:4", method="magnitude").model, ids, model)["kl"]
    assert error[True] == pytest.approx(error[False], rel=0.25) and error[True] < magnitude


class _Scaled(torch.nn.Module):
    """A part of a block that has a float buffer, which meets its weights."""

    seen: ClassVar = set()

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("factor", torch.full((64,), 1 + 2**-12))  # 1 in bfloat16

    def forward(self, x):
        self.seen.add(self.factor.dtype)
        return self.inner(x * self.factor)


def test_buffers_of_blocks_in_bfloat16_keep_their_digits(make_model, ids, monkeypatch):
    model = make_model()
    model.model.layers[1].mlp = _Scaled(model.model.layers[1].mlp)
    monkeypatch.setattr(import_module("prunekit.compression.blockwise"), "bfloat16_pays", lambda _: True)
    result = compress(model, ids, sparsity=0.5, method="admm")
    magnitude = compress(model, sparsity=0.5, method="magnitude")
    assert _Scaled.seen == {torch.float32}
    assert evaluate(result.model, ids, model)["kl"] < evaluate(magnitude.model, ids, model)["kl"]


class _Unread(torch.nn.Module):
    """A block with a layer that no text reaches."""

    def __init__(self, block):
        super().__init__()
        self.block, self.spare = block, torch.nn.Linear(64, 64)

    def forward(self, *args, **kwargs):
        return self.block(*args, **kwargs)


@pytest.mark.parametrize("method", ["ewma", "admm", "wanda"])
def test_a_layer_that_text_does_not_reach_is_named(make_model, ids, method):
    model = make_model("llama")
    model.model.layers[1].mlp = _Unread(model.model.layers[1].mlp)
    with pytest.raises(PrunekitError, match=r"does not reach the layer model.layers.1.mlp.spare.*--exclude"):
        compress(model, ids, pattern="2:4", method=method)
    assert compress(model, ids, pattern="2:4", method=method, exclude=["spare"]).sparsity == 0.5
