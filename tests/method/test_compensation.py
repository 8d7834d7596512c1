"""Weights that stay make up for those that go: the solve, the plain update, the fused one, and whole models."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.calibration.calibrate import calibrate
from prunekit.calibration.samples import Samples
from prunekit.compression.compress import compress
from prunekit.compression.recipe import Recipe
from prunekit.errors import PrunekitError
from prunekit.kernels import cpu
from prunekit.method import fp8, one_pass
from prunekit.method.compensation import SAMPLES, compensate, response
from prunekit.method.fp8 import E4M3, E5M2
from prunekit.method.masks import exact_mask
from prunekit.method.scores import contribution
from prunekit.model.linear import linear_layers, weight_of

seeds = st.integers(0, 2**31 - 1)


def inputs(seed, tokens, columns, directions=3):
    """Inputs that have a few directions in common, as those of language models do: ``[tokens, columns]``."""
    g = torch.Generator().manual_seed(seed)
    common = torch.randn(directions, columns, generator=torch.Generator().manual_seed(seed + 1))
    return torch.randn(tokens, columns, generator=g) + 2 * torch.randn(tokens, directions, generator=g) @ common


@given(seeds, st.integers(1, 12), st.integers(1, 20), st.floats(0.1, 30))
def test_the_response_solves_the_ridge_problem(seed, samples, columns, ridge):
    """With nothing pruned the share is exact; then least squares over the stacked system must agree."""
    g = torch.Generator().manual_seed(seed)
    X, E = torch.randn(samples, columns, generator=g), torch.rand(columns, generator=g) + 0.1
    error = torch.randn(samples, generator=g)
    t = ridge * ((X / E) @ X.T).diagonal().mean()
    stacked = torch.cat([X, torch.diag((t * E).sqrt())]).double()
    wanted = torch.cat([error, torch.zeros(columns)]).double()
    best = torch.linalg.lstsq(stacked, wanted[:, None]).solution[:, 0]
    torch.testing.assert_close((error @ response(X, E, 0.0, ridge)).double(), best, rtol=1e-3, atol=1e-5)


@given(seeds, st.integers(1, 12), st.integers(1, 20), st.floats(0, 0.95), st.sampled_from([1.0, 4.0, 9.0]))
def test_the_response_takes_the_share_that_stays_of_the_product(seed, samples, columns, pruned, ridge):
    g = torch.Generator().manual_seed(seed)
    X, E = torch.randn(samples, columns, generator=g), torch.rand(columns, generator=g) + 0.1
    scaled = X.double() / E
    product = (1 - pruned) * (X.double() @ scaled.T)
    t = ridge * product.trace() / samples
    expected = torch.linalg.solve(product + t * torch.eye(samples), scaled)
    torch.testing.assert_close(response(X, E, pruned, ridge).double(), expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(response(X, E, pruned), response(X, E, pruned, 4.0))


@given(seeds, st.integers(1, 6), st.integers(1, 9), st.integers(1, 5))
def test_a_row_changes_by_what_its_pruned_weights_gave_the_samples_times_the_response(seed, rows, columns, samples):
    g = torch.Generator().manual_seed(seed)
    W, X, Z = (torch.randn(*shape, generator=g) for shape in ((rows, columns), (samples, columns), (samples, columns)))
    keep = torch.rand(rows, columns, generator=g) < 0.5
    expected = W.double()
    for i, j, k, l in itertools.product(range(rows), range(columns), range(samples), range(columns)):
        if not keep[i, j]:
            expected[i, l] += W[i, j].double() * X[k, j] * Z[k, l]
    torch.testing.assert_close(compensate(W, keep, X, Z).double(), expected, rtol=1e-4, atol=1e-5)


@given(seeds, st.sampled_from([0.3, 0.5, 0.7]))
def test_outputs_for_new_inputs_come_nearer(seed, share):
    X, new = inputs(seed, 64, 96), inputs(seed, 400, 96)[64:]
    E = X.square().mean(0)
    W = torch.randn(32, 96, generator=torch.Generator().manual_seed(seed))
    keep = exact_mask(contribution(W, E), share)
    changed = compensate(W, keep, X, response(X, E, share))

    def error(V):
        return ((V * keep - W) @ new.T).square().sum()

    assert error(changed) < 0.9 * error(W)


@given(seeds)
def test_what_is_pruned_alone_decides(seed):
    """Nothing pruned, nothing changed; all pruned in one row, only that row changed; arguments stay."""
    X = inputs(seed, 8, 24)
    W = torch.randn(4, 24, generator=torch.Generator().manual_seed(seed)).bfloat16()
    keep = torch.ones(4, 24, dtype=torch.bool)
    Z = response(X, X.square().mean(0), 0.5)
    before = [t.clone() for t in (W, keep, X, Z)]
    assert torch.equal(compensate(W, keep, X, Z), W.float())
    assert all(torch.equal(a, b) for a, b in zip(before, (W, keep, X, Z)))
    keep[2] = False
    changed = compensate(W, keep, X, Z)
    assert changed.dtype == torch.float32
    assert torch.equal(changed[[0, 1, 3]], W[[0, 1, 3]].float()) and not torch.equal(changed[2], W[2].float())


def test_silent_and_few_inputs_give_finite_weights():
    X = torch.zeros(4, 8)
    assert torch.equal(response(X, torch.zeros(8), 0.5), torch.zeros(4, 8))
    X[0, 0] = 1e-20
    assert response(X, X.square().mean(0), 0.999).isfinite().all()


@settings(max_examples=40)
@given(seeds, st.integers(1, 9), st.sampled_from([8, 64, 132, 200]), st.sampled_from([E4M3, E5M2]), st.booleans())
def test_the_fused_pass_is_the_plain_one_but_for_bfloat16(seed, rows, columns, fmt, pairs):
    target = {"pattern": "2:4"} if pairs else {"sparsity": 0.5}
    X = inputs(seed, 16, columns)
    E = X.square().mean(0)
    W = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.1
    Z = response(X, E, 0.5)
    keep, codes, scale = cpu.select_compensate_cast(W, E, X, Z, **target, fmt=fmt)
    assert torch.equal(keep, one_pass.select_compensate_cast(W, E, X, Z, **target, fmt=fmt)[0])
    exact = compensate(W, keep, X, Z)
    change = (exact - W).abs().amax() + 1e-6
    got = fp8.uncast(codes, scale)
    assert (got[~keep] == 0).all() and (codes.view(torch.uint8)[~keep] == 0).all()
    step = 2.0 ** -(fmt.mantissa_bits + 1)
    bound = exact.abs() * step + scale * 2.0 ** (fmt.min_exponent - fmt.mantissa_bits) + 0.05 * change
    assert ((got - exact).abs() <= bound)[keep].all()


@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"pattern": "2:4"}], ids=["half", "2:4"])
@pytest.mark.parametrize("cast", [{}, {"fp8": "e4m3"}, {"fp8": "e4m3", "granularity": "block"}], ids=str)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_whole_model_comes_nearer_to_the_dense_one(tiny_models, ids, kind, target, cast):
    model = tiny_models[kind]
    calibration = calibrate(model, ids, stop=False, samples=SAMPLES)
    bare, changed = (compress(model, calibration=calibration, compensate=c, **target, **cast) for c in (False, True))
    assert changed.sparsity == pytest.approx(bare.sparsity, abs=1e-3)
    dense, moved = model(ids).logits, 0
    for name, layer in linear_layers(changed.model).items() if not cast else ():
        before, after = weight_of(bare.model.get_submodule(name)), weight_of(layer)
        assert torch.equal(after == 0, before == 0)
        moved += not torch.equal(after, before)
    assert cast or moved
    errors = [(r.model(ids).logits - dense).square().mean() for r in (bare, changed)]
    assert errors[1] < errors[0]


def test_samples_come_from_all_batches_alike():
    kept = Samples(8)
    for batch in range(4):
        x = torch.full((20, 3), float(batch))
        rows = kept.pick(x)
        kept.take("a", rows)
        kept.take("b", rows)
        kept.take("c", kept.pick(x))
        kept.batches += 1
    by_layer = kept.by_layer()
    assert by_layer["a"] is by_layer["b"] and by_layer["a"] is not by_layer["c"]
    assert by_layer["a"].shape == (8, 3)
    assert sorted(by_layer["a"][:, 0].unique().tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("batches", [2, 3, 16, 50, 64, 128])
def test_no_batch_counts_much_more_than_another(batches):
    kept = Samples(SAMPLES)
    for batch in range(batches):
        kept.take("a", kept.pick(torch.full((256, 2), float(batch))))
        kept.batches += 1
    counts = torch.bincount(kept.by_layer()["a"][:, 0].long(), minlength=batches)
    assert counts.sum() in (SAMPLES - 1, SAMPLES)
    assert counts.max() <= 2 * SAMPLES / batches + 3
    early, late = (half.sum().item() for half in counts.split([batches // 2, batches - batches // 2]))
    expected = SAMPLES * (batches // 2) / batches
    assert abs(early - expected) <= 5 and abs(late - (SAMPLES - expected)) <= 5


def test_samples_are_inputs_of_the_layers(llama, ids):
    calibration = calibrate(llama, ids, stop=False, samples=5)
    name, seen = "model.layers.0.self_attn.q_proj", []
    hook = llama.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(0, -2)))
    llama(ids)
    hook.remove()
    for row in calibration.samples[name]:
        assert (seen[0] - row).abs().amax(1).min() < 0.05
    assert calibration.samples[name] is calibration.samples[name.replace("q_", "k_")]
    assert calibrate(llama, ids, stop=False).samples == {}


def test_where_it_does_not_belong_it_is_refused(llama, ids):
    for options in ({"method": "wanda"}, {"metric": "magnitude"}, {"sparsity": 0.0}):
        with pytest.raises(PrunekitError, match="compensate belongs"):
            Recipe(**{"sparsity": 0.5, "compensate": True} | options)
    with pytest.raises(PrunekitError, match="samples=64"):
        compress(llama, calibration=calibrate(llama, ids), sparsity=0.5, compensate=True)


def test_each_layer_makes_up_for_its_own_share(llama, ids):
    """A layer's share decides how much it is changed, not the average, nor that of layers with the same input."""
    layers = linear_layers(llama)
    budget = {name: 0.25 if "q_proj" in name else 0.75 for name in layers}
    mixed = compress(llama, ids, sparsity=0.6, budget=budget, compensate=True, stop=False)
    for share, chosen in ((0.25, "q_proj"), (0.75, "k_proj")):
        calibration = calibrate(llama, ids, stop=False, samples=SAMPLES)
        same = compress(llama, sparsity=share, calibration=calibration, compensate=True)
        for name in layers:
            if chosen in name:
                assert torch.equal(mixed.model.get_submodule(name).weight, same.model.get_submodule(name).weight)


def test_a_budget_may_leave_a_layer_whole(llama, ids):
    budget = dict.fromkeys(linear_layers(llama), 0.5) | {"model.layers.0.mlp.up_proj": 0.0}
    result = compress(llama, ids, sparsity=0.5, budget=budget, compensate=True)
    name = "model.layers.0.mlp.up_proj"
    assert torch.equal(result.model.get_submodule(name).weight, llama.get_submodule(name).weight)


def test_the_more_is_pruned_the_further_the_others_move():
    X = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))
    E = X.square().mean(0)
    torch.testing.assert_close(response(X, E, 0.75), 4 * response(X, E, 0.0))


def test_the_response_is_that_for_the_share_that_is_pruned(llama, ids):
    calibration = calibrate(llama, ids, stop=False, samples=SAMPLES)
    result = compress(llama, calibration=calibration, sparsity=0.8, compensate=True)
    name = "model.layers.0.self_attn.q_proj"
    W, V = weight_of(llama.get_submodule(name)), weight_of(result.model.get_submodule(name))
    X, E = calibration.samples[name], calibration.energy[name]
    expected = compensate(W, V != 0, X, response(X, E, 0.8))
    torch.testing.assert_close(V, expected * (V != 0), rtol=1e-4, atol=1e-5)


def test_samples_of_a_batch_are_spread_over_it():
    kept = Samples(4)
    assert kept.pick(torch.arange(10.0)[:, None])[:, 0].tolist() == [0, 3, 6, 9]


def test_samples_are_kept_in_float32():
    assert Samples(4).pick(torch.ones(10, 2, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_all_is_reckoned_in_float32(dtype):
    X = torch.randn(8, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    E, W = X.square().mean(0), X[:4] + 1
    Z, keep = response(X.float(), E.float(), 0.5), W > 1
    assert torch.equal(response(X, E, 0.5), Z)
    assert torch.equal(compensate(W, keep, X, Z), compensate(W.float(), keep, X.float(), Z))


def test_bad_shares_and_statistics_of_other_inputs_are_refused():
    X = torch.ones(8, 24)
    for pruned in (1.0, -0.1, None):
        with pytest.raises(PrunekitError, match="pruned is"):
            response(X, torch.ones(24), pruned)
    for shape in ((1,), (8,), (8, 24), ()):
        with pytest.raises(PrunekitError, match=r"E has the shape .* expected \[24\]"):
            response(X, torch.ones(shape), 0.5)
