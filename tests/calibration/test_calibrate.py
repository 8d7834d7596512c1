"""Calibration against plain averages, and when it stops."""

import importlib
from importlib import import_module

import pytest
import torch

from prunekit.calibration.calibrate import calibrate, few_rows
from prunekit.calibration.observe import gram, observing
from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.model import modes
from prunekit.model.linear import linear_layers
from prunekit.system.machine import fast_bfloat16

each_kind = pytest.mark.parametrize("kind", ["llama", "gpt2"])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 9, 64])
def test_a_matrix_of_inner_products_of_any_width(size):
    x = torch.randn(20, size, generator=torch.Generator().manual_seed(size))
    torch.testing.assert_close(gram(x), x.T @ x)


def squares(model, ids, batch):
    """For each layer the mean squares of its inputs, one vector a batch: ``[batches, in]``."""
    seen, hooks = {}, []
    for name, layer in linear_layers(model).items():

        def look(_, args, name=name):
            seen.setdefault(name, []).append(args[0].float().reshape(-1, args[0].shape[-1]).pow(2).mean(0))

        hooks.append(layer.register_forward_pre_hook(look))
    for window in ids.split(batch):
        model(window)
    for hook in hooks:
        hook.remove()
    return {name: torch.stack(values) for name, values in seen.items()}


@each_kind
@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_energy_is_the_weighted_mean_of_the_batches(tiny_models, ids, kind, batch, decay):
    model = tiny_models[kind]
    found = calibrate(model, ids, stop=False, decay=decay, batch_tokens=batch * ids.shape[1], prior=0, bfloat16=False)
    assert found.tokens == ids.numel() and found.changes == [] and found.seconds > 0
    expected = squares(model, ids, batch)
    assert list(found.energy) == list(linear_layers(model)) == list(expected)
    for name, E in expected.items():
        share = decay ** torch.arange(len(E) - 1, -1, -1.0)
        mean = (share[:, None] * E).sum(0) / share.sum()
        assert found.energy[name].dtype == torch.float32
        torch.testing.assert_close(found.energy[name], mean, rtol=1e-4, atol=1e-6)


def test_with_a_decay_near_1_every_batch_counts_the_same(llama, ids):
    found = calibrate(llama, ids, stop=False, decay=0.9999, prior=0, bfloat16=False)
    for name, E in squares(llama, ids, len(ids)).items():
        torch.testing.assert_close(found.energy[name], E[0], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("prior", [1.0, 128.0, 1e9])
def test_the_prior_draws_towards_the_median(llama, ids, prior):
    raw = calibrate(llama, ids, stop=False, prior=0)
    found = calibrate(llama, ids, stop=False, prior=prior)
    for name, E in raw.energy.items():
        tokens = ids.numel()
        expected = (tokens * E + prior * E.median()) / (tokens + prior)
        torch.testing.assert_close(found.energy[name], expected)
    if prior == 1e9:
        E = found.energy["model.layers.0.mlp.down_proj"]
        assert E.max() < 1.001 * E.min()


def test_it_stops_once_the_decisions_hold_still(llama, ids):
    long = ids.repeat(4, 1)
    batch = 2 * ids.shape[1]
    eager = calibrate(llama, long, tolerance=1.0, batch_tokens=batch)
    assert eager.tokens == 2 * batch and len(eager.changes) == 1  # two batches are needed to compare
    never = calibrate(llama, long, tolerance=0.0, batch_tokens=batch)
    assert never.tokens == long.numel() and len(never.changes) == len(long) // 2 - 1
    usual = calibrate(llama, long, batch_tokens=batch)
    assert usual.tokens == batch * (len(usual.changes) + 1) < long.numel()
    assert usual.changes[-1] < 0.04 and all(change >= 0.04 for change in usual.changes[:-1])
    assert usual.changes == never.changes[: len(usual.changes)]


def test_it_uses_all_of_the_text_if_told_to(llama, ids):
    long = ids.repeat(4, 1)
    assert calibrate(llama, long, stop=False, tolerance=1.0).tokens == long.numel()


def test_text_that_repeats_itself_changes_nothing(llama, ids):
    found = calibrate(llama, ids[:2].repeat(3, 1), tolerance=0.0, prior=0, batch_tokens=2 * ids.shape[1])
    assert found.changes == [0.0, 0.0]


def test_one_window_is_enough(llama, ids):
    found = calibrate(llama, ids[:1])
    assert found.tokens == ids.shape[1] and found.changes == []


def test_layers_with_the_same_input_have_the_same_energy(llama, ids):
    energy = calibrate(llama, ids).energy
    for block in ("model.layers.0", "model.layers.1"):
        q, k, v, o = (energy[f"{block}.self_attn.{x}_proj"] for x in "qkvo")
        assert torch.equal(q, k) and torch.equal(q, v) and not torch.equal(q, o)
        assert torch.equal(energy[f"{block}.mlp.gate_proj"], energy[f"{block}.mlp.up_proj"])
        assert not torch.equal(q, energy[f"{block}.mlp.gate_proj"])


def test_layers_with_the_same_input_share_one_statistic(llama, ids):
    calls, taken = [], []

    def observe(x):
        calls.append(x.shape)
        return x.sum()

    layers = linear_layers(llama)
    with observing(layers, observe, lambda name, value: taken.append(name)):
        llama(ids[:2])
    assert taken == list(layers)
    assert len(calls) == 8  # of 14: q, k and v see one input, gate and up see one
    assert all(shape in [(64, 64), (64, 160)] for shape in calls)


class Experts(torch.nn.Module):
    """Two layers that share out the tokens: low ones to the first, high ones to the second, none or all."""

    def __init__(self, empty):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(8, 16)
        self.low, self.high = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)
        self.empty = empty  # whether a layer without tokens is called all the same

    def forward(self, ids, use_cache=False):
        for layer, mine in ((self.low, ids < 4), (self.high, ids >= 4)):
            if self.empty or mine.any():
                layer(self.embedding(ids[mine]))


@pytest.mark.parametrize("empty", [False, True])
def test_an_expert_may_have_no_tokens_in_a_batch(empty):
    ids = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7], [1, 2, 6, 7]])
    model = Experts(empty)
    energy = calibrate(model, ids, batch_tokens=4, stop=False, decay=0.999999, prior=0).energy
    x = model.embedding.weight.detach()[[4, 5, 6, 7, 6, 7]].square()
    torch.testing.assert_close(energy["high"], (x[:4].mean(0) + x[4:].mean(0)) / 2, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(calibrate(model, ids, batch_tokens=4).energy["high"]).all()
    with pytest.raises(PrunekitError, match="does not reach the layer high"):
        calibrate(model, ids[:2], batch_tokens=4)


def test_what_was_found_can_be_used_like_any_tensor(llama, ids):
    found = calibrate(llama, ids, samples=8)
    name = next(iter(found.energy))
    W = torch.randn(4, 64, requires_grad=True)
    (W @ found.samples[name].T).square().sum().backward()
    assert W.grad is not None and found.energy[name].mul_(2).isfinite().all()


def test_rows_that_decide_when_to_stop_hold_no_whole_weight():
    rows = few_rows(torch.randn(640, 64))
    assert rows.untyped_storage().nbytes() == rows.nbytes


def test_a_batch_holds_whole_windows_and_at_least_one(llama, ids):
    for tokens, windows in ((1, 1), (ids.shape[1], 1), (3 * ids.shape[1] - 1, 2), (10**9, 8)):
        found = calibrate(llama, ids, tolerance=0.0, batch_tokens=tokens)
        assert found.tokens == ids.numel() and len(found.changes) == 8 // windows - 1


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("llama", torch.float32),
        ("gpt2", torch.float32),
        ("llama", torch.bfloat16),
        ("gpt2", torch.bfloat16),
        ("llama", torch.float16),
        ("gpt2", torch.float16),
    ],
    ids=str,
)
def test_products_in_bfloat16_change_little(make_model, ids, kind, dtype):
    model = make_model(kind, dtype=dtype)
    exact = calibrate(model, ids, stop=False, bfloat16=False)
    fast = calibrate(model, ids, stop=False, bfloat16=True)
    for name, E in exact.energy.items():
        assert fast.energy[name].dtype == torch.float32
        torch.testing.assert_close(fast.energy[name], E, rtol=0.1, atol=0.02)


def test_only_the_layers_asked_for_are_observed(llama, ids):
    layers = linear_layers(llama, include=["down_proj"])
    found = calibrate(llama, ids, layers)
    assert list(found.energy) == list(layers)
    assert all(E.shape == (160,) for E in found.energy.values())


@each_kind
def test_the_model_and_the_ids_are_left_as_they_were(tiny_models, ids, kind):
    model = tiny_models[kind]
    before, text = {k: v.clone() for k, v in model.state_dict().items()}, ids.clone()
    calibrate(model, ids)
    assert torch.equal(ids, text)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_hooks_are_removed_after_an_interruption_too(make_model, ids):
    def stop(*_):
        raise KeyboardInterrupt

    model = make_model()
    model.model.norm.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        calibrate(model, ids)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("supported", "processor", "fast"),
    [
        ((), "AMD EPYC", False),
        (("avx512_bf16",), "AMD EPYC", True),
        (("avx512_bf16",), "Intel(R) Xeon(R) Processor", False),  # a virtual machine that hides AMX
        (("avx512_bf16", "amx_tile"), "Intel(R) Xeon(R) Processor", True),
    ],
)
def test_which_cpus_are_fast_in_bfloat16(monkeypatch, supported, processor, fast):
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in supported, raising=False)
    monkeypatch.setattr(import_module("prunekit.system.machine"), "cpu_name", lambda: processor)
    assert fast_bfloat16.__wrapped__() == fast


def test_imagined_tokens_count_where_most_features_are_silent():
    x = torch.rand(32, 10)
    x[:, :7] = 0
    layer = torch.nn.Sequential(torch.nn.Linear(10, 4))
    energy = calibrate(Reading(layer, x), torch.zeros(1, 32, dtype=torch.int64)).energy["inner.0"]
    assert (energy > 0).all() and (energy[:7] < energy[7:].min()).all()


class Reading(torch.nn.Module):
    """Gives its layers the same input, whatever it reads."""

    def __init__(self, inner, x):
        super().__init__()
        self.inner, self.x = inner, x

    def forward(self, ids, use_cache):
        return self.inner(self.x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_pays_on_a_fast_cpu_where_it_loses_no_digits_that_count(monkeypatch, dtype, fast):
    monkeypatch.setattr(modes, "fast_bfloat16", lambda: fast)
    pays = modes.bfloat16_pays(torch.nn.Linear(2, 2, dtype=dtype))
    assert pays == (fast and dtype in (torch.float32, torch.bfloat16))


def test_decisions_are_sampled_at_the_share_that_is_pruned(llama, ids, monkeypatch):
    module, seen = importlib.import_module("prunekit.calibration.calibrate"), []
    original = module._decisions
    monkeypatch.setattr(module, "_decisions", lambda s, e, share: seen.append(share) or original(s, e, share))
    compress(llama, ids.repeat(2, 1), sparsity=0.7)
    compress(llama, ids.repeat(2, 1), pattern="1:4")
    assert set(seen) == {0.7, 0.75}


def test_decisions_take_the_prior_into_account(llama, ids):
    long = ids.repeat(4, 1)
    found = calibrate(llama, long, tolerance=0.0, prior=1e12, batch_tokens=64)
    assert max(found.changes) < 1e-3


def test_decisions_are_compared_with_those_of_the_batch_before(llama, ids):
    changes = calibrate(llama, ids, tolerance=0.0, batch_tokens=32).changes
    assert changes[-1] < changes[0]


def test_rows_that_decide_are_spread_over_the_layer():
    from prunekit.calibration.calibrate import few_rows

    W = torch.arange(64.0)[:, None].expand(64, 3)
    assert few_rows(W)[:, 0].tolist() == [0, 8, 16, 24, 32, 40, 48, 56]


def test_inner_products_of_narrow_inputs_are_summed_in_float32():
    x = torch.randn(300, 9, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(gram(x.to(dtype)), gram(x.to(dtype).float()))
