"""Walking through a model block by block: each block sees what it sees in the model."""

import pytest
import torch
from conftest import VOCABULARY

from prunekit.calibrate import calibrate
from prunekit.compress import compress
from prunekit.errors import PrunekitError
from prunekit.linear import linear_layers
from prunekit.sequential import prune_blocks


def tiny_gemma3():
    """Three blocks, of which the second attends over everything and has other frequencies than its neighbours."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8}
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = Gemma3TextConfig(vocab_size=VOCABULARY, **sizes, **heads, layer_types=kinds, initializer_range=0.3)
    return Gemma3ForCausalLM(config).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_blocks_see_what_they_see_in_the_model(make_model, ids, kind):
    model = tiny_gemma3() if kind == "gemma3" else make_model(kind)
    layers = linear_layers(model)
    expected = calibrate(model, ids, stop=False, prior=0.0).energy
    seen = {}

    def prune(name, layer, energy):
        seen[name] = energy
        return layer

    for dense_inputs in (True, False):
        prune_blocks(model, ids, layers, lambda x: x.float().square().sum(0), prune, dense_inputs=dense_inputs)
        for name in layers:
            torch.testing.assert_close(seen[name], expected[name], rtol=1e-4, atol=1e-6)


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
