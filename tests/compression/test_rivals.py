"""Wanda, SparseGPT and magnitude through `compress`, against plain code and against one another."""

import copy

import pytest
import torch
from test_compress import HALF, PAIRS, each_kind
from tiny import cast_parameters
from torch import nn

from prunekit.compression.compress import compress
from prunekit.method import fp8
from prunekit.method.baselines import wanda_mask
from prunekit.model.linear import linear_layers, weight_of


def test_magnitude_prunes_the_smallest_of_the_layer(llama):
    result = compress(llama, sparsity=0.3, method="magnitude")
    for name, layer in linear_layers(llama).items():
        W, new = weight_of(layer), weight_of(result.model.get_submodule(name))
        assert W[new == 0].abs().max() <= W[new != 0].abs().min()
        assert (new == 0).sum() == int(0.3 * W.numel())


def inputs_by_hand(model, names, ids):
    """Inputs ``[tokens, in]`` of layers, from whole runs of the model."""
    seen = {name: [] for name in names}
    hooks = [
        model.get_submodule(n).register_forward_pre_hook(lambda _, args, n=n: seen[n].append(args[0].flatten(0, -2)))
        for n in names
    ]
    for window in ids.split(1):
        model(window)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(x) for name, x in seen.items()}


def set_weight(model, name, W):
    layer = model.get_submodule(name)
    layer.weight = nn.Parameter((W if isinstance(layer, nn.Linear) else W.T).contiguous(), requires_grad=False)


def wanda_by_hand(model, ids, sparsity=None, pattern=None, fmt=None):
    """Wanda in its plainest form: for each block a run of the whole model, whose earlier blocks are pruned."""
    model = copy.deepcopy(model)
    names = list(linear_layers(model))
    for index in ("0", "1"):
        mine = [name for name in names if name.split(".")[2] == index]
        inputs = inputs_by_hand(model, mine, ids)
        for name in mine:
            W = weight_of(model.get_submodule(name)).clone()
            L = W.abs() * inputs[name].norm(dim=0)
            if pattern:
                n, m = map(int, pattern.split(":"))
                groups = L.unflatten(1, (-1, m))
                drop = torch.zeros_like(groups, dtype=torch.bool)
                drop.scatter_(-1, groups.sort(dim=-1).indices[..., : m - n], True)
                drop = drop.flatten(1)
            else:
                drop = torch.zeros_like(W, dtype=torch.bool)
                drop.scatter_(1, L.sort(dim=1).indices[:, : int(sparsity * W.shape[1])], True)
            if fmt:
                scale = W.masked_fill(drop, 0).abs().amax(1, keepdim=True) / fmt.max
                W = (W / scale).to(fmt.dtype).float() * scale
            set_weight(model, name, W.masked_fill(drop, 0))
    return model


@pytest.mark.parametrize("target", [HALF, {"sparsity": 0.7}, PAIRS], ids=str)
@pytest.mark.parametrize("fmt", [None, fp8.E4M3], ids=["uncast", "e4m3"])
@each_kind
def test_wanda_equals_a_plain_reimplementation(tiny_models, ids, kind, fmt, target):
    model = tiny_models[kind]
    expected = wanda_by_hand(model, ids, fmt=fmt, **target)
    result = compress(model, ids, method="wanda", fp8=fmt and fmt.name, **target)
    assert result.tokens == ids.numel()
    for name in linear_layers(model):
        a, b = weight_of(expected.get_submodule(name)), weight_of(result.model.get_submodule(name))
        differ = ((a == 0) != (b == 0)).float().mean()
        assert differ < 1e-3, name  # sums in another order may turn a tie
        both = (a != 0) & (b != 0)
        torch.testing.assert_close(a[both], b[both], rtol=0.13 if fmt else 0, atol=0)
    torch.testing.assert_close(expected(ids).logits, result.model(ids).logits, rtol=0.02, atol=0.02)


def test_wanda_sees_its_pruned_predecessors(llama, ids):
    """With the dense model's inputs everywhere, the second block would be pruned otherwise."""
    name = "model.layers.1.mlp.down_proj"
    X = inputs_by_hand(llama, [name], ids)[name]
    W = weight_of(llama.get_submodule(name))
    naive = wanda_mask(W, X.square().mean(0), 0.7)
    result = compress(llama, ids, sparsity=0.7, method="wanda")
    assert ((weight_of(result.model.get_submodule(name)) != 0) != naive).float().mean() > 0.01


@pytest.mark.parametrize("target", [HALF, PAIRS], ids=str)
@each_kind
def test_sparsegpt_beats_wanda_and_wanda_beats_magnitude_on_layer_outputs(tiny_models, ids, kind, target):
    model = tiny_models[kind]
    names = [name for name in linear_layers(model) if name.split(".")[2] == "0"]  # its inputs are the dense ones
    inputs = inputs_by_hand(model, names, ids)

    def errors(method):
        new = compress(model, ids, method=method, **target).model
        loss = {}
        for name in names:
            X, W, V = inputs[name], weight_of(model.get_submodule(name)), weight_of(new.get_submodule(name))
            loss[name] = (X @ (W - V).T).square().mean() / (X @ W.T).square().mean()
        return loss

    sparsegpt, wanda, magnitude = errors("sparsegpt"), errors("wanda"), errors("magnitude")
    for name in names:
        assert sparsegpt[name] < 0.9 * wanda[name], name
    assert sum(wanda.values()) < sum(magnitude.values())


def test_models_in_float16_use_all_of_its_digits(make_model, ids):
    model = cast_parameters(make_model(dtype=torch.bfloat16), torch.float16)
    result = compress(model, ids, sparsity=0.5, method="sparsegpt")
    new = torch.cat([weight_of(result.model.get_submodule(name)).flatten() for name in linear_layers(model)])
    assert not torch.equal(new.bfloat16().half(), new)


def test_sparsegpt_does_not_widen_weights_that_fit_bfloat16(make_model, ids):
    model = cast_parameters(make_model(dtype=torch.bfloat16), torch.float32)
    result = compress(model, ids, sparsity=0.5, method="sparsegpt")
    for name, layer in linear_layers(model).items():
        W, V = weight_of(layer), weight_of(result.model.get_submodule(name))
        assert torch.equal(V.bfloat16().float(), V)
        assert not torch.equal(V[V != 0], W[V != 0])  # it does update


def test_ewma_costs_little_against_exact_selection(llama, ids):
    X = inputs_by_hand(llama, linear_layers(llama), ids)
    loss = {}
    for select in ("ewma", "exact"):
        new = compress(llama, ids, sparsity=0.5, select=select, stop=False).model
        loss[select] = sum(
            (X[n] @ (weight_of(m) - weight_of(new.get_submodule(n))).T).square().sum()
            for n, m in linear_layers(llama).items()
        )
    assert loss["ewma"] < 1.15 * loss["exact"]
