"""Neurons removed: the same function as with their weights zeroed, in smaller tensors."""

import json
from functools import partial

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import prunekit as pk
from prunekit.bench.timing import Timing
from prunekit.calibration.calibrate import calibrate
from prunekit.compression.neurons import kept_neurons, neuron_scores
from prunekit.errors import PrunekitError
from prunekit.model.linear import is_conv1d
from prunekit.model.structure import find_mlps


def tiny_opt():
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 160, "num_hidden_layers": 2}
    config = OPTConfig(vocab_size=300, num_attention_heads=4, max_position_embeddings=128, init_std=0.15, **sizes)
    return OPTForCausalLM(config).eval().requires_grad_(False)


def tiny_neox():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = GPTNeoXConfig(vocab_size=300, max_position_embeddings=128, initializer_range=0.15, **sizes)
    return GPTNeoXForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(params=["llama", "llama with biases", "gpt2", "opt", "neox"])
def model(request, make_model):
    if request.param == "llama with biases":
        model = make_model("llama", mlp_bias=True)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
        return model
    return {"opt": tiny_opt, "neox": tiny_neox}.get(request.param, lambda: make_model(request.param))()


def logits(model, ids):
    with torch.inference_mode():
        return model(ids, use_cache=False).logits


def without(model, energy, keep_count):
    """The model with the columns of its worst neurons set to zero, in place: what removing them must equal."""
    for mlp in find_mlps(model):
        after = model.get_submodule(mlp.after)
        W = after.weight.T if is_conv1d(after) else after.weight
        scores = (W**2).sum(0) * energy[mlp.after]
        W[:, scores.sort(descending=True, stable=True).indices[keep_count:]] = 0
    return model


def test_removing_equals_zeroing_and_leaves_the_given_model_alone(model, ids):
    calibration = pk.calibrate(model, ids, stop=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected_before = logits(model, ids)
    smaller = pk.remove_neurons(model, 0.3, calibration)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(logits(model, ids), expected_before)
    assert model.config.to_dict() != smaller.config.to_dict()
    shapes = {name: tuple(t.shape) for name, t in smaller.state_dict().items() if t.shape != before[name].shape}
    assert shapes and all(96 in shape and 160 not in shape for shape in shapes.values())
    shared = set(before) - set(shapes)
    assert all(smaller.state_dict()[n].data_ptr() == model.state_dict()[n].data_ptr() for n in shared)
    zeroed = without(model, calibration.energy, 96)
    torch.testing.assert_close(logits(smaller, ids), logits(zeroed, ids), rtol=1e-4, atol=1e-4)


def test_a_smaller_model_survives_saving(model, ids, tmp_path):
    smaller = pk.remove_neurons(model, 0.5, pk.calibrate(model, ids, stop=False))
    smaller.save_pretrained(tmp_path)
    reloaded = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(logits(reloaded, ids), logits(smaller, ids))
    assert pk.stored_bytes(smaller) < pk.stored_bytes(model)
    again = pk.remove_neurons(reloaded, 0.5, pk.calibrate(reloaded, ids, stop=False))
    assert torch.isfinite(logits(again, ids)).all()


def test_it_goes_on_to_fp8_and_through_save(llama, ids, tokenizer, tmp_path):
    smaller = pk.remove_neurons(llama, 0.3, pk.calibrate(llama, ids, stop=False))
    result = pk.compress(smaller, ids, sparsity=0.5, fp8="e4m3")
    pk.save(result, tokenizer, tmp_path / "out")
    reloaded, _ = pk.load(str(tmp_path / "out"), device="cpu")
    assert torch.equal(logits(reloaded, ids), logits(result.model, ids))
    with pytest.raises(PrunekitError, match="FP8 already"):
        pk.remove_neurons(result.model, 0.3, pk.calibrate(llama, ids))


def test_scores_are_the_columns_contributions():
    W, E = torch.tensor([[1.0, -2.0], [3.0, 0.0]]), torch.tensor([1.0, 10.0])
    assert neuron_scores(W, E).tolist() == [10.0, 40.0]
    assert torch.equal(neuron_scores(W, E), pk.contribution(W, E).sum(0))


@pytest.mark.parametrize(
    ("width", "share", "multiple", "kept"),
    [
        (1536, 0.3, 32, 1056),  # 1075.2 could stay
        (1536, 0.25, 32, 1152),
        (1536, 0.5, 32, 768),
        (10, 0.3, 1, 7),  # 1 - 0.3 is a little more or less than 0.7: seven stay all the same
        (10, 0.7, 1, 3),
        (100, 0.99, 32, 32),  # never none
        (16, 0.5, 32, 16),  # fewer neurons than one multiple
        (161, 0, 32, 161),
    ],
)
def test_how_many_stay(width, share, multiple, kept):
    assert kept_neurons(width, share, multiple) == kept


def test_a_module_without_a_config(ids):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj, self.up_proj = nn.Linear(8, 12), nn.Linear(8, 12)
            self.down_proj = nn.Linear(12, 8)

        def forward(self, x):
            return self.down_proj(torch.relu(self.gate_proj(x)) * self.up_proj(x))

    torch.manual_seed(0)
    module, E = Gated(), torch.arange(12.0)
    smaller = pk.remove_neurons(module, 0.5, {"down_proj": E}, multiple=1)
    assert smaller.down_proj.in_features == smaller.gate_proj.out_features == 6
    assert smaller.gate_proj.in_features == 8 and len(smaller.up_proj.bias) == 6 and len(smaller.down_proj.bias) == 8
    keep = neuron_scores(module.down_proj.weight, E).topk(6).indices.sort().values
    assert torch.equal(smaller.up_proj.weight, module.up_proj.weight[keep])  # in their old order
    x = torch.randn(3, 8)
    with torch.no_grad():
        module.down_proj.weight[:, [j for j in range(12) if j not in keep]] = 0
        torch.testing.assert_close(smaller(x), module(x))


def test_the_benchmark_prints_its_protocol_and_writes_its_figures(folders, tmp_path, capsys, monkeypatch):
    import prunekit.bench.neurons as bench
    from prunekit.cli.main import main

    monkeypatch.setattr(bench, "time_in_turn", partial(bench.time_in_turn, sample_s=1e-6))
    file = tmp_path / "out.json"
    assert main(["bench", "neurons", "--model", str(folders.llama), "--share", "0.5", "--json", str(file)]) == 0
    printed, result = capsys.readouterr().out, json.loads(file.read_text())
    assert "64 of 160 neurons" in printed and "15 rounds in turn" in printed and "x faster" in printed
    assert (result["neurons_dense"], result["neurons"], result["removed"]) == (160, 64, 0.6)
    assert result["speedup"] > 0 and result["speedup_quartiles"][0] <= result["speedup_quartiles"][1]
    assert result["bytes"]["smaller"] < result["bytes"]["dense"]
    assert main(["bench", "neurons", "--share", "1.5"]) == 2
    assert "--share is '1.5'" in capsys.readouterr().err


def test_a_smaller_model_that_takes_half_the_time_is_twice_as_fast(folders, monkeypatch):
    import prunekit.bench.neurons as bench

    def time_in_turn(calls, rounds, warmup):
        return {n: Timing({"dense": (4.0, 6.0, 8.0), "smaller": (2.0, 3.0, 4.0)}[n], 1, "cpu") for n in calls}

    monkeypatch.setattr(bench, "time_in_turn", time_in_turn)
    result = bench.neurons(0.5, str(folders.llama))
    for kind, key in (("prompt", "speedup"), ("all_logits", "speedup_all_logits"), ("one_token", "speedup_one_token")):
        assert result[key] == 2 and result[f"{key}_quartiles"] == [2, 2]
        assert result["milliseconds"][kind] == {"dense": 6000, "smaller": 3000}


def test_a_share_may_be_given_as_text(llama, ids):
    energy = pk.calibrate(llama, ids).energy
    of_text, of_number = (pk.remove_neurons(llama, share, energy) for share in ("0.3", 0.3))
    assert torch.equal(of_text(ids).logits, of_number(ids).logits)


def test_what_cannot_be_done_is_said(make_model, llama, ids):
    energy = pk.calibrate(llama, ids).energy
    with pytest.raises(PrunekitError, match="no MLP"):
        pk.remove_neurons(nn.Sequential(nn.Linear(4, 4)), 0.5, {})
    for share in (1, -0.1, "x", float("nan")):
        with pytest.raises(PrunekitError, match=f"^share is {share!r}: expected a number"):
            pk.remove_neurons(llama, share, energy)
    for multiple in (0, 1.5):
        with pytest.raises(PrunekitError, match="multiple"):
            pk.remove_neurons(llama, 0.5, energy, multiple=multiple)
    with pytest.raises(PrunekitError, match=r"no energy.*layers\.1\.mlp\.down_proj"):
        pk.remove_neurons(llama, 0.5, {n: E for n, E in energy.items() if ".1." not in n})
    with pytest.raises(PrunekitError, match="no energy"):
        pk.remove_neurons(llama, 0.5, {n: E[:5] for n, E in energy.items()})
    uneven = make_model("llama")
    uneven.model.layers[1].mlp = pk.remove_neurons(
        uneven.model.layers[1].mlp, 0.5, {"down_proj": energy["model.layers.1.mlp.down_proj"]}
    )
    with pytest.raises(PrunekitError, match="different widths"):
        pk.remove_neurons(uneven, 0.5, energy)
    twice = make_model("llama")
    twice.config.shared_expert_intermediate_size = twice.config.intermediate_size
    with pytest.raises(PrunekitError, match="which of them belongs to the MLPs"):
        pk.remove_neurons(twice, 0.5, energy)
    silent = make_model("llama")
    silent.config.intermediate_size = 7
    with pytest.raises(PrunekitError, match="config does not state"):
        pk.remove_neurons(silent, 0.5, energy)


def test_a_width_that_gpt2_does_not_state(ids, tmp_path):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=64, n_layer=2, n_head=4, n_positions=128)).eval()
    smaller = pk.remove_neurons(model, 0.5, calibrate(model, ids))
    assert smaller.config.n_inner == 128 and model.config.n_inner is None
    smaller.save_pretrained(tmp_path)
    assert torch.equal(GPT2LMHeadModel.from_pretrained(tmp_path).eval()(ids).logits, smaller(ids).logits)


def test_all_parts_of_a_smaller_model_know_its_width(llama, ids):
    smaller = pk.remove_neurons(llama, 0.3, calibrate(llama, ids))
    mlp = smaller.model.layers[0].mlp
    assert smaller.model.config is smaller.config and mlp.config is smaller.config
    assert mlp.intermediate_size == 96 and llama.model.layers[0].mlp.intermediate_size == 160


def test_half_a_gated_mlp_is_none():
    from prunekit.model.structure import find_mlps

    assert find_mlps(nn.ModuleDict({"up_proj": nn.Linear(4, 8), "down_proj": nn.Linear(8, 4)})) == []
