"""Compiled blocks compute what plain ones do, and where nothing can be compiled all goes on without."""

import os
from importlib import import_module

import pytest
import torch

from prunekit.compression.compress import compress
from prunekit.model.linear import linear_layers
from prunekit.recovery import compiled
from prunekit.recovery.compiled import with_compiled_blocks
from prunekit.recovery.distillation import loss
from prunekit.recovery.recover import recover

module = import_module("prunekit.recovery.recover")


@pytest.fixture(scope="module")
def compiler():
    """Something that torch.compile can work with."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(3))
    except Exception as error:
        pytest.skip(f"nothing can be compiled here: {type(error).__name__}")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_compiled_blocks_compute_what_plain_ones_do(make_model, ids, compiler, kind):
    model = make_model(kind)
    fast = with_compiled_blocks(model, linear_layers(model))
    blocks = [[m for m in each.modules() if m._compiled_call_impl] for each in (model, fast)]
    assert [len(found) for found in blocks] == [0, 1]  # of two blocks the second
    torch.testing.assert_close(fast(ids).logits, model(ids).logits)
    assert [p.data_ptr() for p in fast.parameters()] == [p.data_ptr() for p in model.parameters()]


def test_recovery_with_compiled_blocks_resumes_where_it_was(llama, ids, tmp_path, monkeypatch, compiler, stop_recovery):
    result, lines = compress(llama, ids, pattern="2:4", fp8="e4m3"), []
    plain = recover(result, llama, ids, steps=8)
    monkeypatch.setattr(module, "COMPILE_FROM", 0)
    whole = recover(result, llama, ids, steps=8, report=lines.append)
    assert not any("does not work" in line for line in lines)
    calls = stop_recovery(2 + 5)  # two of them try out what was compiled
    with pytest.raises(KeyboardInterrupt):
        recover(result, llama, ids, steps=8, state=tmp_path / "state")
    resumed = recover(result, llama, ids, steps=8, state=tmp_path / "state")
    assert len(calls) == 7 + 2 + 4
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name].view(torch.uint8), value.view(torch.uint8)), name
    losses = [loss(each.model, llama, ids).item() for each in (result, plain, whole)]
    assert losses[2] == pytest.approx(losses[1], abs=0.05 * (losses[0] - losses[1]))


def test_compiled_code_lies_in_the_users_cache_and_not_where_all_may_write(llama, tmp_path, monkeypatch):
    place = "TORCHINDUCTOR_CACHE_DIR"
    monkeypatch.delenv(place, raising=False)
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path))
    seen = []
    for _ in range(2):
        compiled.compiled([llama], linear_layers(llama), lambda _: seen.append(os.environ[place]), print)
        monkeypatch.setenv(place, str(tmp_path / "mine"))
    assert seen == [str(tmp_path / "inductor"), str(tmp_path / "mine")]  # what the user says goes before


def test_where_compiling_fails_it_is_said_and_the_outcome_is_that_of_plain_blocks(llama, ids, monkeypatch):
    def no_compiler(*_):
        raise RuntimeError("no compiler")

    result, lines = compress(llama, ids, sparsity=0.5), []
    plain = recover(result, llama, ids, steps=3)
    monkeypatch.setattr(module, "COMPILE_FROM", 0)
    monkeypatch.setattr(compiled, "with_compiled_blocks", no_compiler)
    without = recover(result, llama, ids, steps=3, report=lines.append)
    assert "torch.compile does not work here (RuntimeError" in lines[0] and "takes longer" in lines[0]
    assert torch.equal(without.model(ids).logits, plain.model(ids).logits)


def test_models_without_a_list_of_blocks_stay_as_they_are(llama):
    models = llama, llama
    assert compiled.compiled(models, ["lm_head"], pytest.fail, pytest.fail) is models


@pytest.mark.parametrize("budget, pays", [({"steps": 4}, False), ({"steps": 5}, True), ({"minutes": 0.05}, False)])
def test_short_recoveries_are_not_worth_compiling(llama, ids, monkeypatch, budget, pays):
    tried = []
    monkeypatch.setattr(module, "COMPILE_FROM", 5)
    monkeypatch.setattr(module, "compiled", lambda models, *_: tried.append(1) or models)
    recover(compress(llama, ids, sparsity=0.5), llama, ids, **budget)
    assert tried == [1] * pays
