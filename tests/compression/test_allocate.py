"""A budget over layers: it averages to the target, and the estimate that it rests on is the loss's own."""

from copy import deepcopy
from importlib import import_module

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import prunekit as pk
from prunekit.compression.allocate import sensitivities
from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.model.linear import linear_layers, weight_of
from prunekit.recovery.recover import recover


def average(sparsity, layers):
    size = {name: layer.weight.numel() for name, layer in layers.items()}
    return sum(sparsity[name] * size[name] for name in size) / sum(size.values())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("target, reach", [(0.5, 0.1), (0.2, 0.2), (0.05, 0.1), (0.95, 0.1)])
def test_sparsities_average_to_the_target_within_reach(make_model, ids, kind, target, reach):
    model = make_model(kind)
    found = pk.allocate(model, ids, target, reach=reach)
    layers = linear_layers(model)
    assert found.sparsity.keys() == layers.keys()
    assert average(found.sparsity, layers) == pytest.approx(target, abs=1e-6)
    assert all(max(0, target - reach) - 1e-9 <= s <= min(0.99, target + reach) + 1e-9 for s in found.sparsity.values())
    assert found.after <= found.before
    assert found.before == pytest.approx(sum(found.cost.values()), rel=1e-6)
    assert all(not p.requires_grad for p in model.parameters())


def test_no_exchange_between_two_layers_would_be_cheaper(llama, ids):
    """Brute force: moving a little sparsity from any layer to any other does not lower the estimate."""
    found = pk.allocate(llama, ids, 0.5)
    layers = linear_layers(llama)
    E, G = sensitivities(llama, ids, layers)

    def cost(name, share):
        W = weight_of(layers[name]).float()
        keep = pk.quantile_mask(pk.contribution(W, E[name]), share)
        return 0.5 * ((W**2).masked_fill(keep, 0) @ E[name] @ G[name]).item()

    assert sum(cost(name, 0.5) for name in layers) == pytest.approx(found.before, rel=0.02)
    assert sum(cost(name, s) for name, s in found.sparsity.items()) == pytest.approx(found.after, rel=0.02)
    step, compared, size = 0.025, 0, {name: layer.weight.numel() for name, layer in layers.items()}
    spared = {n: s for n, s in found.sparsity.items() if s - step >= 0.4}
    pruned = {n: s for n, s in found.sparsity.items() if s + step <= 0.6}
    gain = {n: (cost(n, s) - cost(n, s - step)) / size[n] for n, s in spared.items()}
    price = {n: (cost(n, s + step) - cost(n, s)) / size[n] for n, s in pruned.items()}
    for a in spared:
        for b in pruned.keys() - {a}:
            square = layers[a].weight.shape == layers[b].weight.shape == (64, 64)
            assert gain[a] <= price[b] * (1.1 if square else 1.5)  # rows are short, so steps are rough
            compared += 1
    assert compared


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_sensitivities_are_the_mean_squares_that_autograd_gives(make_model, ids, kind, monkeypatch):
    model = make_model(kind)
    monkeypatch.setattr(import_module("prunekit.compression.allocate"), "bfloat16_pays", lambda _: False)
    layers = linear_layers(model)
    E, G = sensitivities(model, ids[:2], layers)
    inputs, outputs, hooks = {}, {}, []
    for name, layer in layers.items():

        def keep(_, args, output, name=name):
            inputs[name] = args[0].detach()
            output.retain_grad()
            outputs[name] = output

        hooks.append(layer.register_forward_hook(keep))
    try:
        wanted_E, wanted_G = {n: 0.0 for n in layers}, {n: 0.0 for n in layers}
        for window in ids[:2]:
            embedded = model.get_input_embeddings()(window[None]).detach().requires_grad_()
            logits = model(inputs_embeds=embedded).logits[0]
            cross_entropy(logits[:-1], window[1:], reduction="sum").backward()
            for name in layers:
                wanted_E[name] = wanted_E[name] + inputs[name].square().flatten(0, -2).mean(0) / 2
                wanted_G[name] = wanted_G[name] + outputs[name].grad.square().flatten(0, -2).mean(0) / 2
    finally:
        for hook in hooks:
            hook.remove()
    for name in layers:
        torch.testing.assert_close(E[name], wanted_E[name])
        torch.testing.assert_close(G[name], wanted_G[name], rtol=1e-4, atol=1e-12)


class _Routed(torch.nn.Module):
    """Two equal experts: one sees every fourth token, the other the rest."""

    def __init__(self, expert):
        super().__init__()
        self.few, self.many = expert, deepcopy(expert)

    def forward(self, x):
        rare = torch.arange(x.shape[1]) % 4 == 0
        few, many = self.few(x[:, rare]), self.many(x[:, ~rare])
        y = few.new_empty(x.shape)
        y[:, rare], y[:, ~rare] = few, many
        return y


def test_an_expert_counts_by_the_tokens_that_it_sees(make_model, ids):
    def cost(model, name):
        layers = linear_layers(model)
        E, G = sensitivities(model, ids, layers)
        return {n: (weight_of(layers[n]).square() @ E[n] @ G[n]).item() for n in layers if name in n}

    model = make_model()
    (whole,) = cost(model, "layers.1.mlp.up_proj").values()
    model.model.layers[1].mlp = _Routed(model.model.layers[1].mlp)
    few, many = (cost(model, f"layers.1.mlp.{expert}.up_proj").popitem()[1] for expert in ("few", "many"))
    assert few + many == pytest.approx(whole, rel=0.1) and few < 0.6 * many


@pytest.mark.parametrize("method", ["ewma", "admm", "wanda", "sparsegpt", "magnitude"])
def test_compress_prunes_each_layer_by_the_budget(llama, ids, method):
    budget = {name: 0.3 + 0.05 * (i % 7) for i, name in enumerate(linear_layers(llama))}
    result = compress(llama, ids, sparsity=0.45, method=method, budget=budget)
    for layer in result.layers:
        assert layer["sparsity"] == pytest.approx(budget[layer["name"]], abs=0.04)


def test_the_reason_is_shown(llama, ids):
    found = pk.allocate(llama, ids, 0.5)
    text = str(found)
    assert f"{found.after:.4f}" in text and f"{found.before:.4f}" in text
    dearest = max(found.cost, key=found.cost.get)
    assert f"{found.sparsity[dearest]:.1%}  {dearest}" in text
    size = {name: layer.weight.numel() for name, layer in linear_layers(llama).items()}
    low, high = (choose(found.cost, key=lambda n: found.cost[n] / size[n]) for choose in (min, max))
    assert found.sparsity[high] < 0.5 < found.sparsity[low]


def test_bad_arguments_get_one_sentence(llama, ids):
    for arguments, message in [
        ({"sparsity": 0}, "nothing to allocate"),
        ({"sparsity": 1.2}, "sparsity"),
        ({"sparsity": 0.5, "reach": 0}, "reach is 0"),
        ({"sparsity": 0.5, "include": ["nowhere"]}, "nowhere"),
    ]:
        with pytest.raises(PrunekitError, match=message):
            pk.allocate(llama, ids, **arguments)
    with pytest.raises(PrunekitError, match="leave the budget out"):
        compress(llama, ids, pattern="2:4", budget=dict.fromkeys(linear_layers(llama), 0.5))
    with pytest.raises(PrunekitError, match="only one of them"):
        compress(llama, ids, sparsity=0.5, budget={"lm_head": 0.5})


def test_outputs_may_be_changed_in_place(llama, ids, monkeypatch):
    def forward(mlp, x):
        output = mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x))
        output += 0.0
        return output

    expected = pk.allocate(llama, ids, 0.5)
    monkeypatch.setattr(type(llama.model.layers[0].mlp), "forward", forward)
    assert pk.allocate(llama, ids, 0.5) == expected


def test_gradients_that_are_not_finite_are_named(make_model, ids):
    model = make_model()
    model.model.norm.weight.data[0] = float("inf")
    with pytest.raises(PrunekitError, match="not finite"):
        pk.allocate(model, ids, 0.5)


def test_a_layer_that_text_does_not_reach_is_named(llama, ids):
    model = deepcopy(llama)
    model.model.layers[0].mlp.spare = torch.nn.Linear(4, 4)
    with pytest.raises(PrunekitError, match=r"does not reach the layer .*\.spare"):
        pk.allocate(model, ids[:2], 0.5)
    assert pk.allocate(model, ids[:2], 0.5, exclude=["spare"]).sparsity


def test_the_model_may_have_gradients_of_its_own(llama, ids):
    model = deepcopy(llama).requires_grad_()
    pk.allocate(model, ids[:2], 0.5)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("target", [0.99, 0.995])
def test_nearly_everything_may_go(llama, ids, target):
    found = pk.allocate(llama, ids, target)
    assert all(0.89 - 1e-9 <= s <= target + 1e-9 for s in found.sparsity.values())


def test_gradients_may_be_off(llama, ids):
    expected = pk.allocate(llama, ids[:2], 0.5)
    with torch.no_grad():
        assert pk.allocate(llama, ids[:2], 0.5) == expected


def test_the_loss_of_a_narrow_model_is_taken_in_float32(make_model, ids):
    seen, original, model = [], nn.functional.cross_entropy, make_model(dtype=torch.bfloat16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "cross_entropy", lambda x, *a, **k: seen.append(x.dtype) or original(x, *a, **k))
        sensitivities(model, ids[:1], linear_layers(model))
    assert set(seen) == {torch.float32}


def test_windows_of_one_token_are_refused(llama, ids):
    for call in (
        lambda: pk.allocate(llama, ids[:, :1], 0.5),
        lambda: recover(compress(llama, ids, sparsity=0.5), llama, ids[:, :1], steps=1),
    ):
        with pytest.raises(PrunekitError, match="context >= 2"):
            call()


def test_a_layer_that_reads_something_else_is_named(make_model, ids):
    model = make_model()
    model.model.layers[0].mlp.spare = nn.Linear(4, 4)

    def feed(mlp, _):
        mlp.spare(torch.ones(1, 4))

    model.model.layers[0].mlp.register_forward_pre_hook(feed)
    with pytest.raises(PrunekitError, match=r"does not reach the layer .*\.spare"):
        pk.allocate(model, ids[:2], 0.5)


def test_the_dearest_and_the_cheapest_are_shown(llama, ids):
    found = pk.allocate(llama, ids, 0.5)
    dearest = sorted(found.cost, key=found.cost.get, reverse=True)
    shown = [line.split()[-1] for line in str(found).splitlines()[2:]]
    assert shown == dearest[:5] + dearest[-5:]
