"""Recovery: zeros stay, the divergence falls, and an interruption changes nothing."""

import importlib
import signal
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from importlib import import_module
from math import inf, log
from types import SimpleNamespace

import pytest
import torch
from conftest import VOCABULARY, cast_parameters
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn.functional import kl_div

from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.evaluation.evaluate import evaluate
from prunekit.kernels import cpu
from prunekit.method import fp8
from prunekit.model.fp8_linear import Fp8Linear
from prunekit.model.linear import exact_dtype, linear_layers, weight_of
from prunekit.recovery.distillation import chances, draw, speaking
from prunekit.recovery.recover import recover
from prunekit.recovery.state import undisturbed
from prunekit.recovery.trained_layer import TrainedLayer, straight_through

module, state_module = import_module("prunekit.recovery.recover"), import_module("prunekit.recovery.state")
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


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_loss_and_gradient_are_those_of_the_plain_formula(share):
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 50, (3, 19), generator=g)
    outputs = [torch.randn(3, 19, 50, generator=g) * 4 for _ in range(2)]
    teacher, student = outputs[0], outputs[1].requires_grad_()
    models = [lambda *_, x=x, **__: SimpleNamespace(logits=x.clone()) for x in (student, teacher)]
    value = module.loss(*models, ids, share)
    (gradient,) = torch.autograd.grad(2 * value, student)
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    weight = torch.full((3, 19), float(share))
    weight[:, -1] = 0
    kl = kl_div(q, p, log_target=True, reduction="none").sum(-1)
    ce = -q.gather(-1, ids.roll(-1, 1)[..., None])[..., 0]
    plain = ((1 - weight) * kl + weight * ce).mean()
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(gradient, torch.autograd.grad(2 * plain, student)[0])


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=40), data=st.data())
def test_chances_follow_the_counts_and_add_up(counts, data):
    wanted = data.draw(st.integers(1, len(counts)))
    ids = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    chance = chances(ids, len(counts), wanted)
    assert (chance > 0).all() and (chance <= 1).all()
    assert chance.sum().item() == pytest.approx(wanted, rel=1e-5)
    more = torch.tensor(counts) + 1
    ratio = chance / more
    torch.testing.assert_close(ratio[chance < 1], ratio.max().expand_as(ratio[chance < 1]))  # of those below 1 the same


@given(counts=st.lists(st.integers(0, 50), min_size=8, max_size=40), data=st.data())
def test_as_many_tokens_are_drawn_in_each_step_those_of_its_text_among_them(counts, data):
    wanted = data.draw(st.integers(4, len(counts)))
    text = torch.tensor(data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=wanted // 3)))
    ids = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    chance = chances(ids, len(counts), wanted)
    part, raised = draw(chance, text, data.draw(st.integers(0, 1000)))
    assert torch.equal(part, part.unique())
    assert torch.isin(text, part).all()
    assert (raised[torch.isin(part, text)] == 0).all() and (raised >= 0).all()
    lowered = (-raised).exp() / chance[part]
    others = lowered[~torch.isin(part, text)]
    if len(others):
        assert 0.5 - 1e-6 <= others.min() <= others.max() <= 1 + 1e-6
        torch.testing.assert_close(others, others.mean().expand_as(others))
        if others.min() > 0.5 + 1e-6:
            assert len(part) == wanted


def test_tokens_are_drawn_as_often_as_their_chance_says():
    chance, text = chances(torch.arange(60).repeat_interleave(torch.arange(60)), 60, 20), torch.tensor([3, 50])
    often, expected = torch.zeros(60), torch.zeros(60)
    for seed in range(2000):
        part, raised = draw(chance, text, seed)
        often[part] += 1
        expected[part] = (-raised).exp()
    assert (expected > 0).all()
    torch.testing.assert_close(often / 2000, expected, atol=0.05, rtol=0)  # four and a half standard errors
    assert expected.sum().item() == pytest.approx(20)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_a_part_of_the_vocabulary_has_the_logits_that_it_has_in_the_whole(make_model, ids, kind):
    bends = {"final_logit_softcapping": 0.5, "initializer_range": 0.3}  # logits, after the output embedding
    model = make_model(kind, **(bends if kind == "gemma2" else {}))
    part = torch.tensor([0, 3, 4, 77, 299])
    whole = model(ids).logits
    torch.testing.assert_close(speaking(model, part)(ids).logits, whole[..., part])
    assert torch.equal(model(ids).logits, whole)


def test_a_certain_vocabulary_has_the_loss_of_the_whole_one(llama, ids):
    student = compress(llama, ids, sparsity=0.5).model
    whole = module.loss(student, llama, ids, 0.3)
    torch.testing.assert_close(module.loss(student, llama, ids, 0.3, torch.ones(VOCABULARY)), whole)


def test_parts_of_the_vocabulary_have_the_loss_of_the_whole_one_on_average(llama, ids):
    student, chance = compress(llama, ids, pattern="2:4").model, chances(ids, VOCABULARY, 200)
    window = ids[:1, :6]  # few tokens, so that most of the vocabulary hangs on the draw
    for share in (0.0, 1.0):
        drawn = torch.stack([module.loss(student, llama, window, share, chance, seed) for seed in range(300)])
        whole = module.loss(student, llama, window, share)
        assert drawn.std() > 0
        assert drawn.mean().item() == pytest.approx(whole.item(), rel=0.02)


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


def test_the_state_takes_twelve_bytes_for_each_weight(llama, ids, tmp_path):
    result = compress(llama, ids, sparsity=0.5)
    recover(result, llama, ids, steps=1, state=tmp_path / "state")
    numbers = sum(p.numel() for n, p in llama.named_parameters() if "embed" not in n and "lm_head" not in n)
    assert (tmp_path / "state").stat().st_size == pytest.approx(12 * numbers, rel=0.1)


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


@pytest.mark.parametrize("at", [0, 1, 4, 7])
@pytest.mark.parametrize("recipe", [RECIPES[1], RECIPES[2]], ids=str)
def test_interrupted_and_resumed_ends_where_the_whole_run_ends(
    llama, ids, tmp_path, monkeypatch, stop_recovery, recipe, at
):
    monkeypatch.setattr(module, "VOCABULARY", 100)
    result = compress(llama, ids, **recipe)
    whole = recover(result, llama, ids, steps=8)
    state, calls = tmp_path / "state.safetensors", stop_recovery(at + 1)
    with pytest.raises(KeyboardInterrupt):
        recover(result, llama, ids, steps=8, state=state)
    assert state.exists()
    resumed = recover(result, llama, ids, steps=8, state=state)
    assert len(calls) == 1 + 8
    assert_same(state_of(resumed.model), state_of(whole.model))
    again = recover(result, llama, ids, steps=8, state=state)  # it is done, and nothing is trained
    assert len(calls) == 1 + 8
    assert_same(state_of(again.model), state_of(whole.model))


@pytest.fixture
def ctrl_c():
    """Python's own handler, which a process that was started in the background may lack."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_during_an_update_waits_for_its_end(llama, ids, tmp_path, monkeypatch, ctrl_c):
    result, state = compress(llama, ids, sparsity=0.5), tmp_path / "state"
    whole = recover(result, llama, ids, steps=5)
    steps = []

    class Interrupted(torch.optim.AdamW):
        def step(self):
            super().step()
            steps.append(1)
            if len(steps) == 3:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(torch.optim, "AdamW", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        recover(result, llama, ids, steps=5, state=state)
    resumed = recover(result, llama, ids, steps=5, state=state)
    assert len(steps) == 5
    assert_same(state_of(resumed.model), state_of(whole.model))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_not_lost_if_the_update_fails(ctrl_c):
    with pytest.raises(KeyboardInterrupt), undisturbed():
        signal.raise_signal(signal.SIGINT)
        raise MemoryError


def test_a_kill_between_two_saves_loses_only_what_came_after(llama, ids, tmp_path, monkeypatch, stop_recovery):
    result = compress(llama, ids, sparsity=0.5)
    whole = recover(result, llama, ids, steps=6)
    monkeypatch.setattr(state_module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(state_module, "SAVE_REST", 0.0)
    state, calls = tmp_path / "state.safetensors", stop_recovery(4, SystemExit)  # not caught: nothing is written then
    with pytest.raises(SystemExit):
        recover(result, llama, ids, steps=6, state=state)
    assert state.exists()
    assert_same(state_of(recover(result, llama, ids, steps=6, state=state).model), state_of(whole.model))
    assert len(calls) == 4 + 3


def test_saving_takes_no_more_than_a_tenth_of_the_time(llama, ids, tmp_path, monkeypatch):
    clock, saves = Clock(tick=10), []

    def slow(*arguments):
        saves.append(clock.now)
        clock.now += 60

    monkeypatch.setattr(state_module, "perf_counter", clock)
    monkeypatch.setattr(state_module, "save_state", slow)
    monkeypatch.setattr(module, "COMPILE_FROM", inf)
    recover(compress(llama, ids, sparsity=0.5), llama, ids, minutes=30, rate=1e-6, state=tmp_path / "state")
    first, second, *_ = saves
    assert 120 < first <= 150 and 600 < second - (first + 60) <= 750  # each look at the clock takes ten seconds


def test_minutes_end_in_time_and_progress_is_told(llama, ids, monkeypatch):
    lines = []
    monkeypatch.setattr(state_module, "perf_counter", Clock())
    result = compress(llama, ids, sparsity=0.5)
    better = recover(result, llama, ids, minutes=0.25, watch=ids[:2], report=lines.append)
    assert better.seconds["recover"] == 15 and better.steps == 15
    assert len(lines) == 10 and all("perplexity" in line and "step" in line for line in lines)


def test_minutes_go_on_where_they_were_interrupted(llama, ids, tmp_path, monkeypatch, stop_recovery):
    monkeypatch.setattr(state_module, "perf_counter", Clock())
    result = compress(llama, ids, sparsity=0.5)
    whole = recover(result, llama, ids, minutes=0.2, state=tmp_path / "whole")
    stop_recovery(4)
    with pytest.raises(KeyboardInterrupt):
        recover(result, llama, ids, minutes=0.2, state=tmp_path / "state")
    resumed = recover(result, llama, ids, minutes=0.2, state=tmp_path / "state")
    assert resumed.steps == whole.steps == 7
    assert 12 <= resumed.seconds["recover"] <= 13


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


def test_the_state_of_another_recovery_is_refused(llama, ids, tmp_path, stop_recovery):
    result = compress(llama, ids, sparsity=0.5)
    state = tmp_path / "state"
    stop_recovery(1)
    with pytest.raises(KeyboardInterrupt):
        recover(result, llama, ids, steps=3, state=state)
    other = compress(llama, ids, sparsity=0.5, metric="magnitude")
    for changed in (other, compress(llama, ids, pattern="2:4")):
        with pytest.raises(PrunekitError, match=rf"^{state} holds the state of another recovery"):
            recover(changed, llama, ids, steps=3, state=state)
    layer = next(iter(linear_layers(result.model).values()))
    kept = layer.weight.clone()
    layer.weight.data[0] = 0
    with pytest.raises(PrunekitError, match="another mask"):
        recover(result, llama, ids, steps=3, state=state)
    layer.weight.data = kept
    for options in ({"steps": 4}, {"seed": 1}, {"rate": 1e-3}, {"batch": 1}, {"text_share": 0}):
        with pytest.raises(PrunekitError, match=rf"^{state} holds the state of another recovery"):
            recover(result, llama, ids, **{"steps": 3} | options, state=state)
    with pytest.raises(PrunekitError, match=rf"^{state} holds the state of another recovery"):
        recover(result, llama, ids[:4], steps=3, state=state)


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


def test_a_full_disk_does_not_end_the_training(llama, ids, tmp_path, monkeypatch):
    result, lines = compress(llama, ids, sparsity=0.5), []
    original, failures = state_module.save_state, [1, 1]
    whole = recover(result, llama, ids, steps=4)

    def full(*arguments):
        if failures:
            failures.pop()
            raise PrunekitError("cannot write the state: no space left; free some space.")
        original(*arguments)

    monkeypatch.setattr(state_module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(state_module, "SAVE_REST", 0.0)
    monkeypatch.setattr(state_module, "save_state", full)
    recover(result, llama, ids, steps=4, state=tmp_path / "state", report=lines.append)
    assert sum("no space left" in line for line in lines) == 2
    failures = [1] * 9  # the last time, too
    better = recover(result, llama, ids, steps=4, state=tmp_path / "none", report=lines.append)
    assert_same(better.model.state_dict(), whole.model.state_dict())


def test_what_gets_no_gradient_is_resumed_as_it_was(llama, ids, tmp_path, stop_recovery):
    dense = deepcopy(llama)
    dense.unread = torch.nn.LayerNorm(8)  # as a vision tower's, where there is text only
    result = compress(dense, ids, sparsity=0.5)
    whole = recover(result, dense, ids, steps=4)
    stop_recovery(3)
    with pytest.raises(KeyboardInterrupt):
        recover(result, dense, ids, steps=4, state=tmp_path / "state")
    resumed = recover(result, dense, ids, steps=4, state=tmp_path / "state")
    assert_same(resumed.model.state_dict(), whole.model.state_dict())


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


def test_a_state_knows_its_text(llama, ids, tmp_path, stop_recovery):
    result, state = compress(llama, ids, sparsity=0.5), tmp_path / "state"
    recover(result, llama, ids, steps=2, state=state)
    other = ids.clone()
    other[0, 0] += 1
    with pytest.raises(PrunekitError, match="another recovery"):
        recover(result, llama, other, steps=2, state=state)


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


@pytest.mark.parametrize("metadata", [{"plan": "{"}, None])
def test_a_state_with_a_damaged_plan(llama, ids, tmp_path, metadata):
    save_file({}, tmp_path / "state", metadata=metadata)
    with pytest.raises(PrunekitError, match="remove it to begin anew"):
        recover(compress(llama, ids, sparsity=0.5), llama, ids, steps=1, state=tmp_path / "state")


def test_it_runs_in_another_thread(llama, ids):
    result = compress(llama, ids, sparsity=0.5)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(recover, result, llama, ids, steps=1).result().steps == 1


def test_where_ctrl_c_is_ignored_it_stays_so():
    import signal

    from prunekit.recovery.state import undisturbed

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
