"""Recovery: zeros stay, the divergence falls, and an interruption changes nothing."""

from importlib import import_module

import pytest
import torch

from prunekit import fp8
from prunekit import recover as recover_function
from prunekit.compress import compress
from prunekit.errors import PrunekitError
from prunekit.linear import Fp8Linear, linear_layers, weight_of

module = import_module("prunekit.recover")
recover = recover_function
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


def mean_divergence(student, teacher, ids):
    with torch.no_grad():
        return module.divergence(student, teacher, ids).item()


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_zeros_stay_codes_are_valid_and_the_divergence_falls(make_model, ids, kind, recipe):
    dense = make_model(kind)
    result = compress(dense, ids, **recipe)
    before = state_of(dense), state_of(result.model)
    better = recover(result, dense, ids, steps=30, rate=3e-3)
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


def test_the_same_steps_give_the_same_model_and_another_seed_another(llama, ids):
    result = compress(llama, ids, sparsity=0.5)
    one, two, other = (state_of(recover(result, llama, ids, steps=5, seed=s).model) for s in (0, 0, 1))
    assert_same(one, two)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("at", [0, 1, 4, 7])
@pytest.mark.parametrize("recipe", [RECIPES[1], RECIPES[2]], ids=str)
def test_interrupted_and_resumed_ends_where_the_whole_run_ends(llama, ids, tmp_path, monkeypatch, recipe, at):
    result = compress(llama, ids, **recipe)
    whole = recover(result, llama, ids, steps=8)
    state, original, calls = tmp_path / "state.safetensors", module.divergence, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == at + 1:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "divergence", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recover(result, llama, ids, steps=8, state=state)
    assert state.exists()
    resumed = recover(result, llama, ids, steps=8, state=state)
    assert len(calls) == 1 + 8
    assert_same(state_of(resumed.model), state_of(whole.model))
    assert not state.exists()


def test_a_kill_between_two_saves_loses_only_what_came_after(llama, ids, tmp_path, monkeypatch):
    result = compress(llama, ids, sparsity=0.5)
    whole = recover(result, llama, ids, steps=6)
    state, original, calls = tmp_path / "state.safetensors", module.divergence, []
    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise SystemExit  # not caught: nothing is written at the end
        return original(*arguments)

    monkeypatch.setattr(module, "divergence", killed)
    with pytest.raises(SystemExit):
        recover(result, llama, ids, steps=6, state=state)
    assert_same(state_of(recover(result, llama, ids, steps=6, state=state).model), state_of(whole.model))


def test_minutes_end_in_time_and_progress_is_told(llama, ids):
    lines = []
    result = compress(llama, ids, sparsity=0.5)
    better = recover(result, llama, ids, minutes=0.02, watch=ids[:2], report=lines.append)
    assert 1.0 < better.seconds["recover"] < 20
    assert lines and all("perplexity" in line and "step" in line for line in lines)


def test_embeddings_stay_and_norms_move(llama, ids):
    result = compress(llama, ids, sparsity=0.5)
    better = recover(result, llama, ids, steps=5).model
    assert better.model.embed_tokens is result.model.model.embed_tokens
    assert not torch.equal(better.model.norm.weight, llama.model.norm.weight)


def test_bad_arguments_get_one_sentence(llama, ids, tmp_path):
    result = compress(llama, ids, sparsity=0.5)
    for options, message in [
        ({}, "either steps or minutes"),
        ({"steps": 1, "minutes": 1}, "either steps or minutes"),
        ({"steps": 0}, "above 0"),
        ({"minutes": -1}, "above 0"),
        ({"steps": 1, "rate": 0}, "above 0"),
        ({"steps": 1, "batch": 10_000}, "do not fill a batch"),
    ]:
        with pytest.raises(PrunekitError, match=message):
            recover(result, llama, ids, **options)
    state = tmp_path / "state"
    state.write_text("no state")
    with pytest.raises(PrunekitError, match="cannot go on"):
        recover(result, llama, ids, steps=1, state=state)


def test_the_state_of_another_recovery_is_refused(llama, ids, tmp_path, monkeypatch):
    result = compress(llama, ids, sparsity=0.5)
    state = tmp_path / "state"

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "divergence", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recover(result, llama, ids, steps=3, state=state)
    with pytest.raises(PrunekitError, match="another recovery"):
        recover(result, llama, ids, steps=4, state=state)
