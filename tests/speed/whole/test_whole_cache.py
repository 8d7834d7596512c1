import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.speed.devices import find_gpu
from prunekit.speed.whole.cache import BLOCK, Memory, decode_us, memory
from prunekit.speed.whole.model import find_model


def test_memory_adds_up():
    gpu, model = find_gpu("RTX 4090"), find_model("Qwen2.5-7B")
    m = memory(gpu, "fp8", model, False)
    assert m.server == 0.8 * 24 * 2**30
    assert 0 <= m.cache - m.tokens * model.cache_bytes < BLOCK * model.cache_bytes
    assert memory(gpu, "fp8", model, True).tokens > m.tokens > memory(gpu, "bf16", model, False).tokens
    assert memory(find_gpu("RTX 4060"), "bf16", model, False).tokens == 0
    assert Memory(1.0, 0.5, 0.0, 64).holds(17) == 2  # whole blocks of 16


def one_by_one(batch, prompt, written, room, step_us):
    """The same without groups and without jumps: each sequence by itself."""
    end, time = prompt + written, 0.0
    waiting, running = [prompt] * batch, []

    def blocks(length):
        return -(-(length + 1) // BLOCK) * BLOCK

    while waiting or running:
        full = False
        while sum(map(blocks, running)) > room:
            waiting.insert(0, running.pop())
            full = True
        again = 0
        while waiting and not full and sum(map(blocks, running)) + blocks(waiting[0]) <= room:
            running.append(waiting.pop(0))
            again += running[-1] if running[-1] > prompt else 0
        time += step_us(len(running), sum(running), again)
        running = [length + 1 for length in running if length + 1 < end]
    return time


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 12))
def test_groups_and_jumps_change_nothing(batch, prompt, written, spare):
    def step_us(sequences, tokens, again):
        return 100 + 3 * sequences + 0.1 * tokens + 7 * again

    room = (-(-(prompt + written) // BLOCK) + spare) * BLOCK
    expected = one_by_one(batch, prompt, written, room, step_us)
    assert decode_us(batch, prompt, written, room, step_us) == pytest.approx(expected)


def test_a_cache_without_room_for_one():
    assert decode_us(2, 30, 10, 32, lambda *_: 1.0) is None
    assert decode_us(2, 30, 10, 48, lambda *_: 1.0) == 20  # one after the other


def test_more_room_never_takes_more_steps():
    steps = [decode_us(32, 16, 256, room * BLOCK, lambda *_: 1.0) for room in range(18, 600, 30)]
    assert steps == sorted(steps, reverse=True) and steps[-1] == 256
