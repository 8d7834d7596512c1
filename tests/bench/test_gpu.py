"""`bench gpu`: its measuring functions run on this CPU with small shapes; without a GPU the command says so."""

import json

import pytest

from prunekit.bench import gpu
from prunekit.cli.main import main


def test_without_a_gpu_one_sentence_and_exit_code_2(capsys, tmp_path):
    file = tmp_path / "out.json"
    assert main(["bench", "gpu", "--json", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "8.0" in err and "8.9" in err and "prunekit predict" in err and not file.exists()


def test_the_pass_is_timed_and_compared():
    rows = gpu.measure_pass((40, 128), "cpu", copy_gbs=10.0, rounds=2)
    assert [r["name"] for r in rows] == [
        "select share 0.5", "select and cast share 0.5", "select 2:4", "select and cast 2:4",
    ]  # fmt: skip
    assert all(r["equal"] and r["us"] > 0 for r in rows)
    for r in rows:
        nbytes = 40 * 128 * (4 if "cast" in r["name"] else 3)
        assert r["gbs"] == pytest.approx(nbytes / r["us"] / 1e3)
        assert r["copy_share"] == pytest.approx(r["gbs"] / 10)
    text = "\n".join(gpu.describe_passes(rows))
    assert "measured" in text and "DIFFERS" not in text
    assert "DIFFERS" in "\n".join(gpu.describe_passes([rows[0] | {"equal": False}]))
    json.dumps(rows)


def test_layers_are_timed_against_dense(monkeypatch):
    monkeypatch.setattr("prunekit.bench.timing.cache_bytes", lambda device: 1 << 14)
    rows = gpu.measure_layers((64, 64), (1, 20), "cpu", rounds=2)
    by = {(r["kind"], r["M"]): r for r in rows}
    assert set(by) == {(kind, M) for kind in ("dense", "fp8", "2:4", "fp8 2:4") for M in (1, 20)}
    for M in (1, 20):
        assert by["dense", M]["speedup"] == 1 and by["dense", M]["within_bound"]
        assert by["fp8", M]["within_bound"] and by["fp8", M]["us"] > 0
        assert by["2:4", M]["missing"] and by["fp8 2:4", M]["missing"]  # there are no such kernels for CPUs
    json.dumps(rows)


def test_the_report_says_where_something_is_slower_and_what_is_missing():
    about = {"shape": [64, 64], "dtype": "bfloat16"}
    timed = {"us": 1.0, "quartiles_us": [1.0, 1.0], "speedup_quartiles": [1.0, 1.0], "within_bound": True} | about
    rows = [
        {"kind": "dense", "M": 1, "speedup": 1.0} | timed,
        {"kind": "fp8", "M": 1, "speedup": 0.8} | timed | {"within_bound": False},
        {"kind": "2:4", "M": 1, "missing": "no kernel"} | about,
    ]
    text = gpu.describe_layers(rows)
    assert "slower than dense: fp8 at 64x64, M 1" in text
    assert "2:4 does not run here: no kernel" in text
    assert sum("OUTSIDE ITS BOUND" in line for line in text) == 1
    assert "slower than dense: nothing" in gpu.describe_layers(rows[:1])
