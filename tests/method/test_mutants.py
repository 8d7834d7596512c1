"""The tests of the mathematics find every change in it, but for those that `survivors.json` gives a reason for.

A reason begins with equivalent (no input can tell), rounding only, memory only, speed only or GPU only.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 60  # of each module, or all that it has: some 25 minutes on two quiet cores
HERE = Path(__file__).parent
SURVIVORS = json.loads((HERE / "survivors.json").read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a mutant runs in a fork of a process that has imported torch")
@pytest.mark.parametrize("module", SURVIVORS)
def test_no_change_survives_without_a_reason(module):
    command = [sys.executable, str(HERE / "mutants.py"), module, str(COUNT)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert len(found["tried"]) > 10
    assert set(found["survived"]) == {*SURVIVORS[module]} & {*found["tried"]}


def test_every_listed_survivor_is_a_change_of_the_code_as_it_is():
    from mutants import ROOT, mutants

    for module, reasons in SURVIVORS.items():
        made = {name for name, _ in mutants((ROOT / f"prunekit/method/{module}.py").read_text("utf-8"))}
        assert {*reasons} <= made, "a line that changed takes its reason with it"
        kinds = ("equivalent", "rounding only", "memory only", "speed only", "GPU only")
        assert all(reason.startswith(kinds) for reason in reasons.values())
