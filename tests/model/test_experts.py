"""Fused experts taken apart: the same function and memory, each judged by the tokens that go to it."""

import json

import pytest
import torch
import transformers
from tiny import tiny_llama, tiny_mixture

from prunekit.calibration.calibrate import calibrate
from prunekit.compression.allocate import allocate
from prunekit.compression.blockwise import Step, prune_blocks
from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.model.experts import Experts, experts_of, layers_of, left_out, with_experts
from prunekit.recovery.recover import recover
from prunekit.storage.load import load
from prunekit.storage.save import save

pytestmark = pytest.mark.skipif(transformers.__version__.startswith("4."), reason="transformers 5 fuses experts")
kinds = pytest.mark.parametrize("kind", ["olmoe", "mixtral", "qwen3_moe"])


@pytest.fixture(scope="module")
def olmoe():
    return tiny_mixture()


@kinds
def test_taken_apart_a_model_says_the_same_and_shares_its_memory(ids, kind):
    model = tiny_mixture(kind)
    before = {name: p.clone() for name, p in model.named_parameters()}
    apart, layers = layers_of(model)
    torch.testing.assert_close(apart(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)
    assert experts_of(apart) == [f"model.layers.{i}.mlp.experts" for i in (0, 1)] and not experts_of(model)
    memory = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert {p.untyped_storage().data_ptr() for p in apart.parameters()} == memory
    assert sum(p.numel() for p in apart.parameters()) == model.num_parameters()
    assert len(layers) == 8 + 2 * 4 * 3
    result = compress(model, ids, sparsity=0.5)
    assert len(result.layers) == len(layers)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_experts_that_nothing_is_done_to_stay_fused(olmoe, ids):
    apart, layers = layers_of(olmoe, include=["layers.1.mlp"])
    assert experts_of(apart) == ["model.layers.1.mlp.experts"] and len(layers) == 12
    assert layers_of(olmoe, include=["attn"])[0] is olmoe or not experts_of(layers_of(olmoe, include=["attn"])[0])
    assert len(layers_of(olmoe, experts=False)[1]) == 8
    model = tiny_llama()
    assert layers_of(model)[0] is model and left_out(model, layers_of(model)[1]) == {}
    with pytest.raises(ValueError, match="mlp holds no experts"):
        with_experts(olmoe, ["model.layers.0.mlp"])


def seen_by(model, ids, block, expert):
    """The tokens ``[tokens, width]`` that go to an expert."""
    seen = []
    moe = model.model.layers[block].mlp

    def look(module, args, output):
        routed = (output[2] == expert).any(1)
        seen.append(args[0].reshape(-1, 64)[routed])

    hook = moe.gate.register_forward_hook(look)
    model(ids, use_cache=False)
    hook.remove()
    return torch.cat(seen)


def test_an_expert_is_judged_by_its_own_tokens(olmoe, ids):
    found = calibrate(olmoe, ids, stop=False, batch_tokens=10**9, prior=0, bfloat16=False)
    for block, expert in ((0, 0), (1, 3)):
        x = seen_by(olmoe, ids, block, expert)
        name = f"model.layers.{block}.mlp.experts.{expert}"
        for layer in ("gate_proj", "up_proj"):
            torch.testing.assert_close(found.energy[f"{name}.{layer}"], x.square().mean(0), rtol=1e-4, atol=1e-6)
        fused = olmoe.model.layers[block].mlp.experts
        gate, up = (fused.gate_up_proj[expert] @ x.T).chunk(2)
        inner = (torch.nn.functional.silu(gate) * up).T
        torch.testing.assert_close(found.energy[f"{name}.down_proj"], inner.square().mean(0), rtol=1e-4, atol=1e-6)


@pytest.fixture
def lonely():
    """A mixture of which no token goes to the last expert of the first block."""
    model = tiny_mixture()
    gate = model.model.layers[0].mlp.gate

    def avoid(module, args, output):
        logits, scores, index = output
        return logits, scores, torch.where(index == 3, (index.flip(1) + 1) % 3, index)

    gate.register_forward_hook(avoid)
    return model


@pytest.mark.parametrize(
    "options",
    [{"compensate": True, "fp8": "e4m3"}, {"method": "wanda"}, {"method": "sparsegpt"}, {"method": "admm"}],
    ids=lambda o: o.get("method", "ewma"),
)
def test_an_expert_without_tokens_is_shown_some(lonely, ids, options):
    result = compress(lonely, ids, sparsity=0.5, **options)
    alone = [entry for entry in result.layers if "layers.0.mlp.experts.3." in entry["name"]]
    assert len(alone) == 3 and all(abs(entry["sparsity"] - 0.5) < 0.05 for entry in alone)
    assert result.model(ids).logits.isfinite().all()


def test_what_is_shown_to_an_expert_without_tokens_is_the_first_batch(lonely, ids):
    found = calibrate(lonely, ids, stop=False, batch_tokens=64, prior=0, bfloat16=False)
    seen = []
    hook = lonely.model.layers[0].mlp.gate.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    lonely(ids[:2])
    hook.remove()
    expected = seen[0].reshape(-1, 64).square().mean(0)
    for layer in ("gate_proj", "up_proj"):
        name = f"model.layers.0.mlp.experts.3.{layer}"
        torch.testing.assert_close(found.energy[name], expected, rtol=1e-4, atol=1e-6)


def test_block_by_block_an_expert_without_tokens_changes_nothing_of_the_others(lonely, ids):
    apart, layers = layers_of(lonely)
    seen = {}

    def prune(name, module, statistic):
        seen[name] = statistic
        return module

    step = Step(lambda x: x.float().square().sum(0), prune)
    prune_blocks(apart, ids, layers, step)
    with_all = dict(seen)
    some = {name: module for name, module in layers.items() if "0.mlp.experts.3." not in name}
    prune_blocks(apart, ids, some, step)
    assert with_all.keys() == layers.keys()
    assert all(torch.equal(seen[name], with_all[name]) for name in some)
    assert not any(m.everyone for m in apart.modules() if isinstance(m, Experts))


def test_experts_are_allocated_reordered_and_trained_like_other_layers(olmoe, ids):
    budget = allocate(olmoe, ids, 0.5)
    assert "model.layers.0.mlp.experts.2.down_proj" in budget.sparsity
    assert compress(olmoe, ids, sparsity=0.5, budget=budget).sparsity == pytest.approx(0.5, abs=0.02)
    plain, permuted = (compress(olmoe, ids, pattern="2:4", permute=permute) for permute in (False, True))
    assert permuted.sparsity == plain.sparsity == 0.5
    trained = recover(plain, olmoe, ids, steps=3)
    name = "model.layers.1.mlp.experts.0.up_proj"
    old, new = (r.model.get_submodule(name).weight for r in (plain, trained))
    assert not torch.equal(old, new) and torch.equal(old == 0, new == 0)
    assert trained.left_out == plain.left_out != {}


def test_a_part_of_the_experts_is_refused_in_fp8_alone(olmoe, ids):
    assert len(compress(olmoe, ids, sparsity=0.5, exclude=["experts.1."]).layers) == 26
    with pytest.raises(PrunekitError, match="3 of 4 experts"):
        compress(olmoe, ids, sparsity=0.5, fp8="e4m3", exclude=["experts.1."])
    assert len(compress(olmoe, ids, sparsity=0.5, fp8="e4m3", exclude=["experts.*down_proj"]).layers) == 24


@pytest.mark.parametrize("experts", [5, "abc", ["model"], [["x"]], {"a": 1}, None], ids=str)
def test_a_prunekit_json_that_names_no_experts_is_refused(olmoe, ids, tokenizer, tmp_path, experts):
    folder = save(compress(olmoe, sparsity=0.5, method="magnitude"), tokenizer, tmp_path / "out")
    about = json.loads((folder / "prunekit.json").read_text("utf-8"))
    (folder / "prunekit.json").write_text(json.dumps(about | {"experts": experts}), "utf-8")
    with pytest.raises(PrunekitError, match="seems damaged"):
        load(str(folder), device="cpu")
