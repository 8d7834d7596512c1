"""Channel permutation: the model stays the same function, and an N:M pattern keeps more."""

import importlib
from itertools import pairwise, permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_family

import prunekit as pk
from prunekit.calibration.calibrate import calibrate
from prunekit.compression.compress import compress
from prunekit.compression.permute import _heads, _order_in_heads, channel_order, permute_channels
from prunekit.errors import PrunekitError
from prunekit.evaluation.evaluate import evaluate
from prunekit.method.masks import nm_mask
from prunekit.method.scores import contribution
from prunekit.model.copies import replace_layers
from prunekit.model.fp8_linear import Fp8Linear
from prunekit.model.linear import linear_layers, weight_of
from prunekit.model.structure import find_mlps


def kept(L, n, m):
    return (L * nm_mask(L, n, m)).sum().item()


@given(
    st.integers(0, 10_000), st.sampled_from([(2, 4), (1, 4), (3, 4), (4, 8), (1, 2), (4, 4), (1, 1)]), st.integers(1, 6)
)
def test_an_order_is_a_permutation_that_never_keeps_less(seed, pattern, groups):
    n, m = pattern
    L = torch.randn(5, groups * m, generator=torch.Generator().manual_seed(seed)).square()
    before = L.clone()
    order = channel_order(L, n, m)
    assert torch.equal(order.sort().values, torch.arange(groups * m)) and torch.equal(L, before)
    values = [kept(L[:, channel_order(L, n, m, rounds)], n, m) for rounds in range(4)]
    assert values[0] == kept(L, n, m)
    assert all(b >= a * (1 - 1e-5) for a, b in pairwise(values))


def test_it_finds_the_best_order_of_two_small_groups():
    g = torch.Generator().manual_seed(0)
    for _ in range(5):
        L = torch.rand(3, 6, generator=g)
        best = max(kept(L[:, list(order)], 1, 3) for order in permutations(range(6)))
        assert kept(L[:, channel_order(L, 1, 3, rounds=40)], 1, 3) == pytest.approx(best)


def test_two_loud_channels_of_three_do_not_share_a_group():
    L = torch.tensor([[9.0, 8.0, 7.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    assert kept(L, 2, 4) == 17
    assert kept(L[:, channel_order(L, 2, 4)], 2, 4) == 25


READERS = {  # by what their channels are: the residual stream, values of a head, neurons
    "stream": ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"),
    "values": ("self_attn.o_proj", "self_attn.out_proj"),
    "neurons": ("down_proj", "mlp.c_proj", "fc2", "dense_4h_to_h"),
}


def share_kept(model, ids):
    """Of the contribution of all weights the share that 2:4 keeps, by kind of channels that can be reordered."""
    layers = linear_layers(model)
    energy = calibrate(model, ids, layers, stop=False, bfloat16=False).energy
    free = {
        "stream": any(name.endswith("up_proj") for name in layers),
        "values": any(name.endswith("attn.v_proj") for name in layers),
        "neurons": bool(find_mlps(model)),
    }
    shares = {}
    for part, ends in READERS.items():
        scores = [contribution(weight_of(m), energy[n]) for n, m in layers.items() if n.endswith(ends)]
        if scores and free[part]:
            shares[part] = sum(kept(L / L.mean(), 2, 4) / L.numel() for L in scores) / len(scores)
    return shares


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "qwen3", "gemma2", "opt", "phi", "phi3", "gpt_neox"])
def test_the_function_stays_and_the_pattern_keeps_more(make_model, kind):
    model = make_model(kind) if kind in ("llama", "gpt2") else tiny_family(kind)
    ids = torch.randint(1, 99, (8, 32), generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    permuted = permute_channels(model, ids, "2:4")
    assert type(permuted) is type(model)
    torch.testing.assert_close(permuted(ids).logits, model(ids).logits, rtol=1e-3, atol=1e-3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    old, new = linear_layers(model), linear_layers(permuted)
    changed = {name.split(".")[-1] for name in old if not torch.equal(weight_of(old[name]), weight_of(new[name]))}
    if kind in ("llama", "qwen2", "qwen3", "gemma2"):
        assert changed == {f"{x}_proj" for x in ("q", "k", "v", "o", "gate", "up", "down")}
        tied = model.lm_head.weight is model.model.embed_tokens.weight
        assert (permuted.lm_head.weight is permuted.model.embed_tokens.weight) == tied
    else:
        expected = {
            "gpt2": {"c_fc", "c_proj"},
            "opt": {"fc1", "fc2", "v_proj", "out_proj"},
            "phi": {"fc1", "fc2"},
            "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
            "gpt_neox": {"dense_h_to_4h", "dense_4h_to_h"},
        }
        assert changed >= expected[kind]
    before, after = (share_kept(x, ids) for x in (model, permuted))
    assert before and all(after[part] > before[part] for part in before)


@pytest.mark.parametrize("method", ["ewma", "admm", "wanda"])
def test_compress_permutes_before_it_prunes(llama, ids, method):
    options = {"pattern": "2:4", "method": method}
    permuted = compress(permute_channels(llama, ids, "2:4"), ids, **options)
    result = compress(llama, ids, **options, permute=True)
    for name, layer in linear_layers(result.model).items():
        assert torch.equal(layer.weight, permuted.model.get_submodule(name).weight)
    assert result.sparsity == 0.5 and result.recipe.permute and "permute" in result.seconds
    if method == "ewma":
        plain = compress(llama, ids, **options)
        assert evaluate(result.model, ids, llama)["kl"] < evaluate(plain.model, ids, llama)["kl"]


def test_channels_that_are_no_multiple_of_the_pattern_stay(llama, ids):
    permuted = permute_channels(llama, ids, "20:40")  # the model is 64 wide, its heads 16, its MLPs 160
    torch.testing.assert_close(permuted(ids).logits, llama(ids).logits, rtol=1e-3, atol=1e-3)
    old, new = linear_layers(llama), linear_layers(permuted)
    changed = {name.split(".")[-1] for name in old if not torch.equal(weight_of(old[name]), weight_of(new[name]))}
    assert changed == {"gate_proj", "up_proj", "down_proj"}


def test_a_layer_of_zeros_has_no_say(make_model, ids):
    model = make_model()
    model.model.layers[0].self_attn.q_proj.weight.zero_()
    torch.testing.assert_close(permute_channels(model, ids, "2:4")(ids).logits, model(ids).logits, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_permuted_says_so(llama, ids):
    with pytest.raises(PrunekitError, match="permute belongs to a pattern"):
        compress(llama, ids, sparsity=0.5, permute=True)
    with pytest.raises(PrunekitError, match="pass ids"):
        compress(llama, pattern="2:4", method="magnitude", permute=True)
    codes = compress(llama, ids, sparsity=0.5, fp8="e4m3").model
    assert isinstance(codes.model.layers[0].mlp.down_proj, Fp8Linear)
    with pytest.raises(PrunekitError, match="FP8 already"):
        permute_channels(codes, ids, "2:4")

    class Gated(torch.nn.Module):
        """Weighs each channel by its place, as no layer shows."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, hidden_states, **options):
            output, *rest = self.inner(hidden_states, **options)
            return (output * torch.linspace(0, 3, output.shape[-1]), *rest)

    odd = replace_layers(llama, {"model.layers.0.self_attn": Gated(llama.model.layers[0].self_attn)})
    with pytest.raises(PrunekitError, match="cannot be reordered"):
        permute_channels(odd, ids, "2:4")


@pytest.mark.parametrize("off, same", [(0.049, True), (0.051, False), (-0.051, False), (float("nan"), False)])
def test_logits_may_differ_by_a_twentieth_and_no_more(llama, ids, off, same):
    """Of their norm; rounding in bfloat16 stays far below that."""
    first = llama.model.embed_tokens.weight[:, 0]

    class Reordered(type(llama)):
        """Its logits are `off` too large, by that share, once its channels have another order."""

        def forward(self, *arguments, **options):
            output = super().forward(*arguments, **options)
            moved = not torch.equal(self.model.embed_tokens.weight[:, 0], first)
            output.logits = output.logits * (1 + off * moved)
            return output

    odd = replace_layers(llama, {"lm_head": llama.lm_head})
    odd.__class__ = Reordered
    if same:
        permuted = permute_channels(odd, ids, "2:4")
        torch.testing.assert_close(permuted(ids).logits, odd(ids).logits * (1 + off), rtol=1e-3, atol=1e-3)
    else:
        with pytest.raises(PrunekitError, match="cannot be reordered"):
            permute_channels(odd, ids, "2:4")


def test_values_that_a_gate_weighs_stay():
    class Attention(torch.nn.Module):
        head_dim = 4

        def __init__(self, **sizes):
            super().__init__()
            for name, out in sizes.items():
                setattr(self, name, torch.nn.Linear(8, out))

    plain = {"q_proj": 8, "v_proj": 8, "o_proj": 8}
    kinds = (plain, plain | {"q_proj": 16}, plain | {"gate_proj": 8})  # 16 queries: half of them are a gate
    found = [_heads(torch.nn.ModuleDict({"attn": Attention(**sizes)})) for sizes in kinds]
    assert found == [[("attn.v_proj", "attn.o_proj", 4)], [], []]


def test_hooks_of_the_permuted_model_are_its_own(llama, ids):
    permuted = permute_channels(llama, ids, "2:4")
    permuted.model.norm.register_forward_hook(lambda *_: pytest.fail("the dense model ran it"))
    llama(ids[:1])


def test_neurons_that_are_no_multiple_of_the_pattern_stay(llama, ids):
    permuted = permute_channels(llama, ids, "32:64")  # the model is 64 wide, its MLPs 160
    torch.testing.assert_close(permuted(ids).logits, llama(ids).logits, rtol=1e-3, atol=1e-3)


def test_a_permuted_model_gets_no_gradients(llama, ids):
    assert not any(p.requires_grad for p in permute_channels(llama, ids, "2:4").parameters())


def test_all_heads_that_read_values_have_a_say():
    L = torch.zeros(1, 16)  # one head of values, 8 wide, read by two heads
    L[0, 8:] = torch.tensor([9.0, 8.0, 7.0, 6.0, 0.0, 0.0, 0.0, 0.0])
    rows, columns = _order_in_heads(L, 8, 8, 2, 4)
    first = rows[:4].tolist()
    assert sum(i < 4 for i in first) == 2
    assert columns.tolist() == rows.tolist() + (8 + rows).tolist()


def test_the_energy_of_channels_counts_for_their_order(make_model, ids):
    model = make_model()
    layer = model.model.layers[0].mlp
    with torch.no_grad():  # neurons 0 to 3 are loud, and 4 to 7 silent with large weights
        layer.up_proj.weight[4:8] *= 1e-6
        layer.down_proj.weight[:, 4:8] *= 100
    from prunekit.method.masks import nm_mask

    E = calibrate(model, ids, stop=False).energy["model.layers.0.mlp.down_proj"]
    permuted = permute_channels(model, ids, "2:4")
    E2 = calibrate(permuted, ids, stop=False).energy["model.layers.0.mlp.down_proj"]

    def share(m, E):
        L = pk.contribution(m.model.layers[0].mlp.down_proj.weight, E)
        return ((L * nm_mask(L, 2, 4)).sum() / L.sum()).item()

    assert share(permuted, E2) > share(model, E) + 0.02


def test_no_reader_outweighs_the_others(make_model, ids):
    model = make_model()
    plain = permute_channels(model, ids, "2:4").model.embed_tokens.weight.clone()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight *= 1e3
        model.model.layers[0].mlp.down_proj.weight /= 1e3
    assert torch.equal(permute_channels(model, ids, "2:4").model.embed_tokens.weight, plain)


def test_of_many_groups_all_exchange_channels():
    L = torch.rand(4, 4 * 200, generator=torch.Generator().manual_seed(0))
    groups = {tuple(sorted(group)) for group in channel_order(L, 2, 4, rounds=1).view(-1, 4).tolist()}
    assert len(groups & {tuple(range(j, j + 4)) for j in range(0, 800, 4)}) < 20


def test_of_many_groups_each_may_exchange_with_any():
    from prunekit.method.masks import nm_mask

    L = torch.zeros(1, 4 * 256)
    L[:, :512] = 1 + torch.rand(512, generator=torch.Generator().manual_seed(0))
    before, after = ((x * nm_mask(x, 2, 4)).sum() for x in (L, L[:, channel_order(L, 2, 4)]))
    assert after > 1.3 * before


def test_channels_are_ordered_by_contribution(llama, ids, monkeypatch):
    seen, name = [], "model.layers.0.mlp.down_proj"
    module = importlib.import_module("prunekit.compression.permute")
    monkeypatch.setattr(module, "channel_order", lambda L, n, m: seen.append(L) or torch.arange(L.shape[1]))
    permute_channels(llama, ids, "2:4")
    L = contribution(llama.get_submodule(name).weight, calibrate(llama, ids, stop=False).energy[name])
    assert any(torch.equal(L, other) for other in seen)
