"""FP8 layers that cast their inputs compute what others do with a folder that says so."""

import pytest
import torch
from tiny import tiny_llama
from transformers import AutoModelForCausalLM

from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.method.fp8 import GRANULARITIES
from prunekit.model.activations import with_cast_inputs
from prunekit.storage.save import save


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_logits_are_those_of_compressed_tensors(tokenizer, ids, tmp_path, granularity):
    model = tiny_llama(hidden_size=128, intermediate_size=256)  # whole groups of 128, as compressed-tensors wants them
    result = compress(model, ids, sparsity=0.5, fp8="e4m3", granularity=granularity)
    save(result, tokenizer, tmp_path, activations="dynamic")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(ids).logits
    ours = with_cast_inputs(result.model)(ids).logits
    torch.testing.assert_close(ours, theirs, atol=2e-3 * theirs.abs().max().item(), rtol=0)
    kept = result.model(ids).logits
    assert (kept - theirs).abs().max() > 4 * (ours - theirs).abs().max(), "or the cast would be seen by nobody"


def test_biases_stay_and_the_model_that_goes_in_does_too(make_model, ids):
    model = compress(make_model("gpt2"), ids, sparsity=0.5, fp8="e4m3").model
    before = model(ids).logits
    cast = with_cast_inputs(model)
    assert 0 < (cast(ids).logits - before).abs().mean() < 0.2 * before.abs().mean()
    assert torch.equal(model(ids).logits, before)


def test_a_model_without_fp8_layers_is_refused(llama):
    with pytest.raises(PrunekitError, match="has no FP8 layers"):
        with_cast_inputs(llama)
