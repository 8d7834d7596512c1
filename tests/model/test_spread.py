"""Models that accelerate keeps on the CPU, and partly on the disk, are compressed like others."""

import pytest
import torch
from accelerate import cpu_offload
from tiny import tiny_mixture
from transformers import AutoModelForCausalLM

from prunekit.calibration.calibrate import calibrate
from prunekit.compression.allocate import allocate
from prunekit.compression.compress import compress
from prunekit.evaluation.evaluate import evaluate
from prunekit.model.distributed.spread import gathered_up, is_spread
from prunekit.recovery.recover import recover
from prunekit.storage.load import load
from prunekit.storage.save import save

PLACES = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu"}
PLACES |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}
RECIPES = [
    {"sparsity": 0.5, "compensate": True},
    {"pattern": "2:4", "fp8": "e4m3", "permute": True},
    {"pattern": "2:4", "method": "admm"},
    {"sparsity": 0.5, "method": "magnitude", "fp8": "e4m3"},
]


@pytest.fixture(params=["on the CPU", "partly on the disk", "GPT-2 on the CPU"])
def pair(request, make_model, folders, tmp_path):
    """A spread model, and the same one as it usually is."""
    kind = "gpt2" if "GPT" in request.param else "llama"
    if "disk" in request.param:
        spread = AutoModelForCausalLM.from_pretrained(
            folders.llama, device_map=PLACES, offload_folder=tmp_path / "disk"
        )
    else:
        spread = cpu_offload(make_model(kind), torch.device("cpu"))
    assert is_spread(spread) and any(p.is_meta for p in spread.parameters())
    return spread, make_model(kind)


def same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(
        torch.equal(one[name].contiguous().view(torch.uint8), other[name].contiguous().view(torch.uint8))
        for name in one
    )


def test_what_is_gathered_is_the_model(pair, ids):
    spread, model = pair
    whole = gathered_up(spread)
    assert same_state(whole, model) and not is_spread(whole)
    assert torch.equal(whole(ids).logits, model(ids).logits)
    assert any(p.is_meta for p in spread.parameters()) and torch.equal(spread(ids).logits, model(ids).logits)


def test_it_is_calibrated_compressed_saved_and_recovered(pair, ids, tokenizer, tmp_path):
    spread, model = pair
    one, other = (calibrate(m, ids, samples=8) for m in (spread, model))
    for found, wanted in ((one.energy, other.energy), (one.samples, other.samples)):
        assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert evaluate(spread, ids) == evaluate(model, ids)
    recipes = RECIPES if hasattr(model, "model") else RECIPES[::2]  # enough for layers of another kind
    results = [[compress(m, ids, **recipe) for m in pair] for recipe in recipes]
    for found, wanted in results:
        assert same_state(found.model, wanted.model) and not is_spread(found.model)
    save(results[0][0], tokenizer, tmp_path / "out")
    assert same_state(load(str(tmp_path / "out"))[0], results[0][1].model)
    one, other = (recover(result, m, ids, steps=2) for result, m in zip(results[0], pair))
    assert same_state(one.model, other.model)
    assert allocate(spread, ids, 0.5).sparsity == allocate(model, ids, 0.5).sparsity
    assert any(p.is_meta for p in spread.parameters())


def test_a_spread_mixture_runs_on_the_cpu_with_its_experts_apart(ids):
    model, spread = tiny_mixture("olmoe"), cpu_offload(tiny_mixture("olmoe"), torch.device("cpu"))
    recipe = {"sparsity": 0.5, "compensate": True}
    found, wanted = (compress(m, ids, **recipe) for m in (spread, model))
    assert same_state(found.model, wanted.model) and not is_spread(found.model)
    assert any(p.is_meta for p in spread.parameters())
