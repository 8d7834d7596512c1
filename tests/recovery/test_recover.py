"""Recovery: zeros stay, the divergence falls, and an interruption changes nothing."""

import gc
import importlib
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from math import log

import pytest
import torch
from tiny import cast_parameters

from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.evaluation.evaluate import evaluate
from prunekit.kernels import cpu
from prunekit.method import fp8
from prunekit.model.fp8_linear import Fp8Linear
from prunekit.model.linear import exact_dtype, linear_layers, weight_of
from prunekit.recovery.recover import recover
from prunekit.recovery.student.student import Student
from prunekit.recovery.student.trained_layer import TrainedLayer, straight_through

module, run_module = import_module("prunekit.recovery.recover"), import_module("prunekit.recovery.run")
RECIPES = [
    {"sparsity": 0.5},
    {"pattern": "2:4"},
    {"sparsity": 0.5, "fp8": "e4m3"},
    {"pattern": "2:4", "fp8": "e5m2", "granularity": "tensor"},
    {"sparsity": 0.7, "fp8": "e4m3", "granularity": "block"},
]


def weights(model):
    return {name: weight_of(layer).clone() for name, layer in linear_layers(model).items()}


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)), name


class Clock:
    """Stands for `perf_counter`: a second later at each look, or more."""

    def __init__(self, tick=1):
        self.now, self.tick = 0.0, tick

    def __call__(self):
        self.now += self.tick
        return self.now


def mean_divergence(student, teacher, ids):
    with torch.no_grad():
        return module.loss(student, teacher, ids, 0.0).item()


def test_the_text_itself_is_learnt_only_if_it_has_a_share(llama, ids):
    result = compress(llama, ids, sparsity=0.5)
    nll = {}
    for share in (0.0, 0.5):
        better = recover(result, llama, ids, steps=30, rate=3e-3, text_share=share)
        nll[share] = log(evaluate(better.model, ids)["perplexity"])
    assert nll[0.5] < nll[0.0] - 0.1


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_zeros_stay_codes_are_valid_and_the_divergence_falls(make_model, ids, kind, recipe):
    dense = make_model(kind)
    result = compress(dense, ids, **recipe)
    before = state_of(dense), state_of(result.model)
    better = recover(result, dense, ids, steps=30, rate=3e-3, text_share=0.0)
    assert_same(state_of(dense), before[0])
    assert_same(state_of(result.model), before[1])
    assert mean_divergence(better.model, dense, ids) < 0.9 * mean_divergence(result.model, dense, ids)
    old, new = weights(result.model), weights(better.model)
    for name in old:
        assert (new[name][old[name] == 0] == 0).all()
        assert not torch.equal(new[name], old[name])
        layer = better.model.get_submodule(name)
        if recipe.get("fp8"):
            assert isinstance(layer, Fp8Linear) and layer.weight.dtype == fp8.format_named(recipe["fp8"]).dtype
            assert torch.isfinite(new[name]).all()
    assert result.sparsity <= better.sparsity < result.sparsity + 0.01
    assert better.seconds["recover"] > 0


@pytest.mark.parametrize("fast", [False, True])
def test_it_works_whether_or_not_the_cpu_is_fast_in_bfloat16(llama, ids, monkeypatch, fast):
    for name in ("model.modes", "recovery.recover", "kernels.cpu"):
        monkeypatch.setattr(import_module(f"prunekit.{name}"), "fast_bfloat16", lambda: fast)
    result = compress(llama, ids, sparsity=0.5, fp8="e4m3", compensate=True)
    better = recover(result, llama, ids, steps=30, rate=3e-3, text_share=0.0)
    assert mean_divergence(better.model, llama, ids) < 0.9 * mean_divergence(result.model, llama, ids)


def test_weights_are_cast_in_the_last_fifth_of_the_steps_only(llama, ids, monkeypatch):
    result, casts, original = compress(llama, ids, pattern="2:4", fp8="e4m3"), [0], cpu.round_trip

    def counted(*arguments):
        casts[-1] += 1
        return original(*arguments)

    def step(*arguments):
        casts.append(0)
        return loss(*arguments)

    loss = module.loss
    monkeypatch.setattr(cpu, "round_trip", counted)
    monkeypatch.setattr(module, "loss", step)
    recover(result, llama, ids, steps=10)
    assert casts == [0] * 9 + [len(result.layers)] * 2


def test_the_same_steps_give_the_same_model_and_another_seed_another(llama, ids):
    result = compress(llama, ids, sparsity=0.5)
    one, two, other = (state_of(recover(result, llama, ids, steps=5, seed=s).model) for s in (0, 0, 1))
    assert_same(one, two)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_minutes_end_in_time_and_progress_is_told(llama, ids, monkeypatch):
    lines = []
    monkeypatch.setattr(run_module, "perf_counter", Clock())
    result = compress(llama, ids, sparsity=0.5)
    better = recover(result, llama, ids, minutes=0.25, watch=ids[:2], report=lines.append)
    assert better.seconds["recover"] == 15 and better.steps == 15
    assert len(lines) == 10 and all("perplexity" in line and "step" in line for line in lines)


@pytest.mark.parametrize("recipe", [{"sparsity": 0.5}, {"pattern": "2:4", "fp8": "e4m3"}], ids=str)
def test_steps_of_no_length_change_nothing(llama, ids, recipe):
    result = compress(llama, ids, **recipe)
    assert torch.equal(recover(result, llama, ids, steps=2, rate=1e-30).model(ids).logits, result.model(ids).logits)


def test_the_rate_rises_and_falls_gradients_are_clipped_and_zeros_get_none(llama, ids, monkeypatch):
    seen = []

    class Watched(torch.optim.AdamW):
        def step(self):
            ps = self.param_groups[0]["params"]
            norm = torch.stack([p.grad.norm() for p in ps]).norm().item()
            zeros = all((p.grad[p == 0] == 0).all() for p in ps)
            seen.append((self.param_groups[0]["lr"], norm, zeros))
            super().step()

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    monkeypatch.setattr(module, "CLIP", 1e-3)
    recover(compress(llama, ids, pattern="2:4", fp8="e4m3"), llama, ids, steps=100, rate=1e-6)
    rates, norms, zeros = zip(*seen)
    top = rates.index(max(rates))
    assert 3 <= top <= 6 and 0.9e-6 < rates[top] <= 1e-6
    assert list(rates[:top]) == sorted(rates[:top]) and list(rates[top:]) == sorted(rates[top:], reverse=True)
    assert rates[0] < 0.2e-6 and rates[-1] < 0.02e-6
    assert max(norms) == pytest.approx(1e-3, rel=1e-2) and all(zeros)


def test_each_round_takes_all_windows_in_another_order():
    rounds = [[module._order(step, 2, 7, 0).tolist() for step in range(3 * r, 3 * r + 3)] for r in range(2)]
    for windows in rounds:
        taken = sum(windows, [])
        assert len(set(taken)) == 6 and set(taken) <= set(range(7))
    assert rounds[0] != rounds[1] and module._order(0, 2, 7, 1).tolist() != rounds[0][0]


def test_gradients_pass_the_cast_as_if_it_were_not_there():
    g = torch.Generator().manual_seed(0)
    W, gradient = torch.randn(4, 8, generator=g).requires_grad_(), torch.randn(4, 8, generator=g)
    keep = torch.ones(4, 8, dtype=torch.bool)
    cast = straight_through(W, keep, "e4m3", "row")
    cast.backward(gradient)
    assert torch.equal(W.grad, gradient) and not torch.equal(cast, W)
    scale = fp8.scales(W.detach(), fp8.E4M3, "row")
    assert torch.equal(cast, fp8.uncast(fp8.cast(W.detach(), scale, fp8.E4M3), scale))


def test_embeddings_stay_and_norms_move(llama, ids):
    result = compress(llama, ids, sparsity=0.5)
    better = recover(result, llama, ids, steps=5, rate=0.05).model
    assert better.model.embed_tokens is result.model.model.embed_tokens
    assert not torch.equal(better.model.norm.weight, llama.model.norm.weight)


def test_norms_stay_as_precise_as_they_were(make_model, ids):
    dense = make_model(dtype=torch.bfloat16).float()  # as a checkpoint in bfloat16 is opened on a CPU
    better = recover(compress(dense, ids, sparsity=0.5, fp8="e4m3"), dense, ids, steps=5, rate=0.05).model
    norm = better.model.norm.weight
    assert norm.dtype == torch.float32 and exact_dtype(norm) == torch.bfloat16
    assert not torch.equal(norm, dense.model.norm.weight)


def test_bad_arguments_get_one_sentence(llama, ids, tmp_path):
    result = compress(llama, ids, sparsity=0.5)
    for options, message in [
        ({}, "either steps or minutes"),
        ({"steps": 1, "minutes": 1}, "either steps or minutes"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1, "batch": 2.5}, "batch is 2.5"),
        ({"minutes": -1}, "above 0"),
        ({"steps": 1, "rate": 0}, "above 0"),
        ({"steps": 1, "text_share": 1.5}, "text_share is 1.5"),
        ({"steps": 1, "batch": 10_000}, "do not fill a batch"),
    ]:
        with pytest.raises(PrunekitError, match=message):
            recover(result, llama, ids, **options)
    state = tmp_path / "state"
    state.write_text("no state")
    with pytest.raises(PrunekitError, match="cannot go on"):
        recover(result, llama, ids, steps=1, state=state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_models_in_half_precision_recover(make_model, ids, kind, dtype):
    dense, lines = make_model(kind, dtype=dtype), []
    result = compress(dense, ids, pattern="2:4")
    better = recover(result, dense, ids, steps=30, rate=3e-3, text_share=0.0, watch=ids[:2], report=lines.append)
    assert len(lines) == 10
    before, after = state_of(dense), state_of(better.model)
    assert {name: value.dtype for name, value in after.items()} == {n: value.dtype for n, value in before.items()}
    assert mean_divergence(better.model, dense, ids) < 0.9 * mean_divergence(result.model, dense, ids)


def test_any_whole_number_is_a_seed(llama, ids):
    result = compress(llama, ids, sparsity=0.5)
    for seed in (-1, 10**20):
        recover(result, llama, ids, steps=1, seed=seed)


def test_recovered_weights_that_fit_bfloat16_still_do(make_model, ids):
    dense = cast_parameters(make_model(dtype=torch.bfloat16), torch.float32)
    better = recover(compress(dense, ids, sparsity=0.5), dense, ids, steps=2, rate=1e-2).model
    assert all(exact_dtype(layer.weight) == torch.bfloat16 for layer in linear_layers(better).values())


@pytest.mark.parametrize("granularity", fp8.GRANULARITIES)
def test_the_cast_in_training_is_that_of_the_recipe(granularity):
    W = torch.randn(130, 140, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, 130)[:, None]
    scale = fp8.scales(W, fp8.E4M3, granularity)
    cast = straight_through(W, torch.ones_like(W, dtype=torch.bool), "e4m3", granularity)
    assert torch.equal(cast, fp8.uncast(fp8.cast(W, scale, fp8.E4M3), scale))


@pytest.mark.parametrize("recipe", [{"sparsity": 0.5}, {"sparsity": 0.5, "fp8": "e4m3"}], ids=str)
def test_a_layer_in_training_computes_what_it_computed(gpt2, ids, recipe):
    result, x = compress(gpt2, ids, **recipe), torch.randn(3, 64)
    layer = result.model.transformer.h[0].mlp.c_fc
    torch.testing.assert_close(TrainedLayer(layer, result.recipe)(x), layer(x))


def test_a_recovered_model_gets_no_gradients(llama, ids):
    better = recover(compress(llama, ids, sparsity=0.5), llama, ids, steps=1)
    assert not any(p.requires_grad for p in better.model.parameters())


def test_what_compress_found_stays_known(llama, ids):
    result = compress(llama, ids, sparsity=0.5)
    better = recover(result, llama, ids, steps=1)
    assert better.tokens == result.tokens and better.recipe == result.recipe
    assert better.seconds.keys() == result.seconds.keys() | {"recover"}


def test_weights_do_not_decay(llama, ids, monkeypatch):
    seen = []

    class Watched(torch.optim.AdamW):
        def step(self):
            seen.append(self.param_groups[0]["weight_decay"])
            super().step()

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    recover(compress(llama, ids, sparsity=0.5), llama, ids, steps=1)
    assert seen == [0]


def test_each_step_draws_another_part_of_the_vocabulary(llama, ids, monkeypatch):
    module, seeds = importlib.import_module("prunekit.recovery.recover"), []
    original = module.loss
    monkeypatch.setattr(module, "loss", lambda *a: seeds.append(a[-1]) or original(*a))
    recover(compress(llama, ids, sparsity=0.5), llama, ids, steps=4)
    assert len(set(seeds)) == 4


def test_the_given_model_may_have_gradients(make_model, ids):
    dense = make_model()
    result = compress(dense, ids, sparsity=0.5)
    result.model.requires_grad_(True)
    recover(result, dense, ids, steps=1)
    assert all(p.requires_grad and p.grad is None for p in result.model.parameters())


def test_text_alone_may_be_the_aim(llama, ids):
    recover(compress(llama, ids, sparsity=0.5), llama, ids, steps=1, text_share=1)


def test_a_loss_that_is_no_number_ends_the_training(llama, ids, monkeypatch):
    module = importlib.import_module("prunekit.recovery.recover")
    monkeypatch.setattr(module, "loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(PrunekitError, match="the loss is nan at step 0: try a lower rate"):
        recover(compress(llama, ids, sparsity=0.5), llama, ids, steps=2)


def test_it_runs_in_another_thread(llama, ids):
    result = compress(llama, ids, sparsity=0.5)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(recover, result, llama, ids, steps=1).result().steps == 1


def test_what_was_in_training_is_gone_when_nobody_needs_it(llama, ids):
    result = compress(llama, ids, sparsity=0.5)
    student = Student(result.model, [layer["name"] for layer in result.layers], result.recipe)
    student.model(ids).logits.sum().backward()
    seen = [weakref.ref(weight) for weight in student.moving.values()]
    gc.collect()
    gc.disable()
    try:
        del student
        assert len(seen) > 14 and not any(ref() is not None for ref in seen)
    finally:
        gc.enable()
