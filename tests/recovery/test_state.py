"""A recovery that is interrupted goes on, and ends where the whole one ends."""

import os
import signal
from copy import deepcopy
from math import inf

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from test_recover import RECIPES, Clock, assert_same, module, run_module, state_of

from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.model.linear import linear_layers
from prunekit.recovery.recover import recover
from prunekit.recovery.state import undisturbed


def test_the_state_takes_twelve_bytes_for_each_weight(llama, ids, tmp_path):
    result = compress(llama, ids, sparsity=0.5)
    recover(result, llama, ids, steps=1, state=tmp_path / "state")
    numbers = sum(p.numel() for n, p in llama.named_parameters() if "embed" not in n and "lm_head" not in n)
    assert (tmp_path / "state").stat().st_size == pytest.approx(12 * numbers, rel=0.1)


def test_the_state_takes_twice_that_while_it_is_rewritten(llama, ids, tmp_path, monkeypatch, stop_recovery):
    result, state, sizes, replace = compress(llama, ids, sparsity=0.5), tmp_path / "state", [], os.replace

    def measured(*names):
        sizes.append(sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))
        replace(*names)

    monkeypatch.setattr(os, "replace", measured)
    stop_recovery(2)
    with pytest.raises(KeyboardInterrupt):
        recover(result, llama, ids, steps=2, state=state)
    recover(result, llama, ids, steps=2, state=state)
    numbers = sum(p.numel() for n, p in llama.named_parameters() if "embed" not in n and "lm_head" not in n)
    assert [size / numbers for size in sizes] == pytest.approx([12, 24], rel=0.1)
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


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
    monkeypatch.setattr(run_module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(run_module, "SAVE_REST", 0.0)
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

    monkeypatch.setattr(run_module, "perf_counter", clock)
    monkeypatch.setattr(run_module, "save_state", slow)
    monkeypatch.setattr(module, "COMPILE_FROM", inf)
    recover(compress(llama, ids, sparsity=0.5), llama, ids, minutes=30, rate=1e-6, state=tmp_path / "state")
    first, second, *_ = saves
    assert 120 < first <= 150 and 600 < second - (first + 60) <= 750  # each look at the clock takes ten seconds


def test_minutes_go_on_where_they_were_interrupted(llama, ids, tmp_path, monkeypatch, stop_recovery):
    monkeypatch.setattr(run_module, "perf_counter", Clock())
    result = compress(llama, ids, sparsity=0.5)
    whole = recover(result, llama, ids, minutes=0.2, state=tmp_path / "whole")
    stop_recovery(4)
    with pytest.raises(KeyboardInterrupt):
        recover(result, llama, ids, minutes=0.2, state=tmp_path / "state")
    resumed = recover(result, llama, ids, minutes=0.2, state=tmp_path / "state")
    assert resumed.steps == whole.steps == 7
    assert 12 <= resumed.seconds["recover"] <= 13


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


def test_a_full_disk_does_not_end_the_training(llama, ids, tmp_path, monkeypatch):
    result, lines = compress(llama, ids, sparsity=0.5), []
    original, failures = run_module.save_state, [1, 1]
    whole = recover(result, llama, ids, steps=4)

    def full(*arguments):
        if failures:
            failures.pop()
            raise PrunekitError("cannot write the state: no space left; free some space.")
        original(*arguments)

    monkeypatch.setattr(run_module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(run_module, "SAVE_REST", 0.0)
    monkeypatch.setattr(run_module, "save_state", full)
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


def test_a_state_knows_its_text_and_its_teacher(llama, ids, make_model, tmp_path):
    result, state = compress(llama, ids, sparsity=0.5), tmp_path / "state"
    recover(result, llama, ids, steps=2, state=state)
    more, exchanged = ids.clone(), ids.clone()
    more[0, 0] += 1
    exchanged[0, :2] = ids[0, [1, 0]]
    assert ids[0, 0] != ids[0, 1]
    teacher = make_model()
    teacher.model.norm.weight[3] += 1
    for dense, text in ((llama, more), (llama, exchanged), (llama, ids.flip(0)), (teacher, ids)):
        with pytest.raises(PrunekitError, match="another recovery"):
            recover(result, dense, text, steps=2, state=state)
    recover(result, make_model(), ids, steps=2, state=state)  # the same once more


@pytest.mark.parametrize("metadata", [{"plan": "{"}, {"plan": "[" * 100_000}, None], ids=lambda m: str(m)[:20])
def test_a_state_with_a_damaged_plan(llama, ids, tmp_path, metadata):
    save_file({}, tmp_path / "state", metadata=metadata)
    with pytest.raises(PrunekitError, match="remove it to begin anew"):
        recover(compress(llama, ids, sparsity=0.5), llama, ids, steps=1, state=tmp_path / "state")


DAMAGES = {
    "flat": lambda tensors, about: tensors.update({UP: tensors[UP].flatten()}),
    "one number": lambda tensors, about: tensors.update({UP: tensors[UP][:1, :1].clone()}),  # which would be spread
    "other moments": lambda tensors, about: tensors.update({f"{UP}:exp_avg": tensors[f"{UP}:exp_avg"][:1].clone()}),
    "half of the moments": lambda tensors, about: tensors.pop(f"{UP}:exp_avg_sq"),
    "before the first step": lambda tensors, about: about.update(step="-1"),
    "no step": lambda tensors, about: about.pop("step"),
    "no time": lambda tensors, about: about.update(seconds="nan"),
}
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_refused(llama, ids, tmp_path, damage):
    result, state = compress(llama, ids, sparsity=0.5), tmp_path / "state"
    recover(result, llama, ids, steps=2, state=state)
    with safe_open(state, "pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    DAMAGES[damage](tensors, about)
    save_file(tensors, state, about)
    with pytest.raises(PrunekitError, match=f"^cannot go on from {state}: .*; remove it to begin anew"):
        recover(result, llama, ids, steps=2, state=state)


def test_where_ctrl_c_is_ignored_it_stays_so():
    import signal

    from prunekit.recovery.state import undisturbed

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
