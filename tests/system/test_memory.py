"""How much memory there is, and how much this process has taken."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import ROOT

from prunekit.system import memory
from prunekit.system.memory import peak_rss


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({".": "300000"}, 300_000),  # a container
        ({"jobs": "max", "jobs/7": "300000", "jobs/7/step": "max", "jobs/8": "5"}, 300_000),  # a job
        ({"jobs/7": "max"}, math.inf),
    ],
    ids=str,
)
def test_a_container_or_a_job_may_be_limited(tmp_path, limits, expected):
    for group, limit in limits.items():
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / "memory.max").write_text(f"{limit}\n")
    mine = tmp_path / "mine"
    mine.write_text("0::/\n" if "." in limits else "1:cpu:/other\n0::/jobs/7/step\n")
    assert memory.memory_limit(tmp_path, mine) == expected
    assert memory.memory_limit(tmp_path, tmp_path / "none") == math.inf


def test_what_lies_above_the_groups_is_no_limit(tmp_path):
    (tmp_path / "memory.max").write_text("5")
    (tmp_path / "groups").mkdir()
    (tmp_path / "mine").write_text("0::/\n")
    assert memory.memory_limit(tmp_path / "groups", tmp_path / "mine") == math.inf


@pytest.mark.parametrize(("limit", "expected"), [(math.inf, 8e9), (3e9, 3e9), (9e9, 8e9)])
def test_the_memory_of_a_machine_is_what_a_job_may_use_of_it(monkeypatch, limit, expected):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(total=8_000_000_000, available=1))
    monkeypatch.setattr(memory, "memory_limit", lambda: limit)
    assert memory.memory_of(torch.device("cpu")) == expected


def test_the_memory_of_a_gpu_is_its_own(monkeypatch):
    cards = {torch.device("cuda", i): SimpleNamespace(total_memory=i * 10**9) for i in (1, 2)}
    monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)
    monkeypatch.setattr(memory, "memory_limit", lambda: 5)
    assert [memory.memory_of(device) for device in cards] == [1e9, 2e9]


def test_peak_memory_is_in_bytes():
    assert 50e6 < peak_rss() < 1e12


def test_what_this_process_holds_is_not_free(monkeypatch):
    from prunekit.system import memory

    own = memory.psutil.Process().memory_info().rss
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=10**15))
    monkeypatch.setattr(memory, "memory_limit", lambda: 2 * own)
    assert 0.5 * own < memory.memory_free(torch.device("cpu")) < 1.5 * own


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="elsewhere the system counts otherwise")
def test_the_peak_is_not_that_of_the_process_that_started_this_one():
    ballast = torch.ones(500_000_000 // 4)
    code = "from prunekit.system.memory import peak_rss; print(peak_rss())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(run.stdout) < peak_rss() - 0.9 * ballast.nbytes
