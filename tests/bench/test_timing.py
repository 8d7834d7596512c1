import pytest

from prunekit.bench import timing
from prunekit.bench.timing import Timing, cache_bytes, fastest, rotating, speedup, time_in_turn
from prunekit.errors import PrunekitError


@pytest.fixture
def fake_clock(monkeypatch):
    """A clock that moves only when a call says so: no test here depends on the real one."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def order():
    """The names of the calls so far."""
    return []


@pytest.fixture
def call(fake_clock, order):
    """``call(name, seconds)`` is a function that takes so long by the clock."""

    def make(name, seconds):
        def run():
            order.append(name)
            fake_clock[0] += seconds

        return run

    return make


def test_candidates_take_turns_and_samples_last_long_enough(call, order):
    result = time_in_turn({"a": call("a", 1e-3), "b": call("b", 4e-3)}, rounds=3, warmup=2, sample_s=2e-3)
    assert "".join(order[4:]) == "aab" * 3
    assert result["a"].median == pytest.approx(1e-3) and result["b"].median == pytest.approx(4e-3)
    assert result["a"].calls_per_sample == 2 and len(result["b"].samples) == 3
    assert speedup(result["b"], result["a"])[0] == pytest.approx(4)


def test_slow_calls_may_have_fewer_rounds_and_no_warm_up(call, order):
    calls = {"quick": call("q", 1.0), "slow": call("s", 100.0)}
    result = time_in_turn(calls, rounds={"quick": 3, "slow": 2}, warmup={"quick": 1, "slow": 0})
    assert "".join(order) == "q" + "qs" * 2 + "q"
    assert result["quick"].samples == (1, 1, 1) and result["slow"].samples == (100, 100)
    with pytest.raises(PrunekitError):
        time_in_turn(calls, rounds={"quick": 3, "slow": 0})


def test_median_and_spread():
    t = Timing((1.0, 2.0, 3.0, 4.0, 100.0), 1, "cpu")
    assert t.median == 3 and t.quartiles == (2, 4)
    assert Timing((5.0,), 1, "cpu").quartiles == (5, 5)
    assert str(Timing((2e-6,), 1, "cpu")).startswith("2.0 us")


def test_speedups_are_compared_round_by_round():
    slow = Timing((2.0, 20.0, 4.0), 1, "cpu")
    fast = Timing((1.0, 10.0, 2.0), 1, "cpu")
    assert speedup(slow, fast) == (2, 2, 2)
    with pytest.raises(PrunekitError):
        speedup(slow, Timing((1.0,), 1, "cpu"))


def test_rounds_that_others_slow_down_do_not_move_the_ratio_of_the_fastest():
    slow = Timing((2.0, 20.0, 4.0, 2.0, 2.0, 6.0), 1, "cpu")
    fast = Timing((1.0, 1.0, 9.0, 1.0, 2.0, 8.0), 1, "cpu")
    assert fastest(slow, fast, parts=3) == (2, 1.5, 2)  # 2 / 1, 2 / 1, 2 / 2
    with pytest.raises(PrunekitError):
        fastest(slow, Timing((1.0,) * 3, 1, "cpu"), parts=3)
    with pytest.raises(PrunekitError):
        fastest(slow, fast, parts=7)


def test_nothing_to_time():
    with pytest.raises(PrunekitError):
        time_in_turn({})
    with pytest.raises(PrunekitError):
        time_in_turn({"a": int}, rounds=0)


def test_buffers_rotate_over_more_than_the_cache(monkeypatch):
    monkeypatch.setattr(timing, "cache_bytes", lambda device: 1000)
    made = []
    following = rotating(lambda: made.append(0) or len(made), nbytes=100)
    assert len(made) * 100 > 2 * 1000
    seen = [following() for _ in range(2 * len(made))]
    assert seen == list(range(1, len(made) + 1)) * 2
    made.clear()
    rotating(lambda: made.append(0), nbytes=100, max_bytes=500)
    assert len(made) == 5


def test_this_machine_answers():
    assert cache_bytes() >= 1 << 20
    assert timing.clock_note()
