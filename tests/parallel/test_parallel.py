"""Two processes find, hold and write what one does, and end with one sentence where one of them cannot go on."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import program
import pytest
import torch
from tiny import ROOT

from prunekit.cli.main import main
from prunekit.storage.load import load

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCH_CPP_LOG_LEVEL": "ERROR"}


@pytest.fixture(scope="module")
def one_thread():
    """What is to be equal to the last bit is computed by one thread here, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def both(tmp_path_factory, folders, text_file, one_thread):
    """What one process finds, what each of two finds, and the folder in which these have left what they wrote."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, program.__file__, folder, folders.llama, text_file]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE) as two:
        alone = program.results()
        error = two.communicate(timeout=400)[1]
    assert two.returncode == 0, error.decode()
    assert json.loads((folder / "found.codes").read_text()) == [0, 0], (folder / "found.0.err").read_text()
    first, second = (torch.load(folder / f"{rank}.pt") for rank in range(2))
    return SimpleNamespace(folder=folder, alone=alone, first=first, second=second)


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and torch.equal(one[name].contiguous().view(torch.uint8), other[name].contiguous().view(torch.uint8))
        for name in one
    )


def test_both_processes_hold_the_same(both):
    for part in both.first.keys() - {"sums"}:
        assert same(both.first[part], both.second[part]), part


def test_sums_are_those_of_one_process(both):
    found = both.second["sums"] | both.first["sums"]  # each prunes, and so is shown, some of the layers
    assert found.keys() == both.alone["sums"].keys()
    for name, x in both.alone["sums"].items():
        assert (found[name] - x).norm() <= 1e-5 * x.norm(), name


def test_energies_samples_and_the_stop_are_equal_to_those_of_one_process(both):
    assert same(both.alone["energies"], both.first["energies"])
    assert both.alone["energies"]["told"][0] < 4 * program.IDS.numel()  # or else nothing has stopped


@pytest.mark.parametrize("part", ["compressed", "transposed"])
def test_the_model_is_that_of_one_process(both, part):
    for name, x in both.alone[part].items():
        y = both.first[part][name]
        if name.startswith(("fast", "cast")):  # whose energies are equal
            assert same({name: x}, {name: y}), name
        else:  # sums in another order, and so a weight on the border here and there
            assert ((x == 0) != (y == 0)).float().mean() < 0.01, name
            assert (x.float() - y.float()).norm() < 0.05 * x.float().norm(), name


@pytest.mark.parametrize("fp8", [None, "e4m3"])
@pytest.mark.parametrize("way", ["parallel", "sharded"])
def test_recovery_ends_where_that_of_one_process_ends(both, way, fp8):
    alone, two = ({n: x for n, x in its["recovered"].items() if str(fp8) in n} for its in (both.alone, both.first))
    assert abs(two[f"{way} {fp8} loss"] - alone[f"{way} {fp8} loss"]) < 1e-3
    assert abs(two[f"sharded {fp8} loss"] - two[f"parallel {fp8} loss"]) < 1e-3
    for name, x in alone.items():
        if "layers" in name and name.startswith(way) and x.ndim == 2:
            assert ((x == 0) == (two[name] == 0)).float().mean() > 0.999, name


def test_interrupted_recoveries_end_where_whole_ones_end(both):
    assert same(both.first["resumed"], both.first["recovered"])


def ended(both, job):
    """The codes of two processes, what the first printed, and what both said on standard error."""
    said = {kind: [(both.folder / f"{job}.{rank}.{kind}").read_text() for rank in range(2)] for kind in ("out", "err")}
    assert said["out"][1] == ""
    return json.loads((both.folder / f"{job}.codes").read_text()), said["out"][0], "".join(said["err"])


def files(folder):
    """Their bytes by name, in reports without what the clock or memory says."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("job", ["whole", "streamed", "streamed admm"])
def test_one_process_writes_what_one_process_alone_writes(both, folders, text_file, tmp_path, one_thread, job):
    codes, out, error = ended(both, job)
    assert (codes, error) == ([0, 0], "") and out.count("saved to") == 1
    arguments, _ = program.commands(folders.llama, text_file)[job]
    assert main([str(a) for a in (*arguments, "--out", tmp_path / job)]) == 0
    assert files(tmp_path / job) == files(both.folder / job)
    assert not (both.folder / f"{job}.partial").exists()


def test_recovery_runs_from_the_command_line(both):
    weights = []
    for job in ("recovered", "sharded"):
        codes, out, error = ended(both, job)
        assert (codes, error) == ([0, 0], "") and len(re.findall("recover: 100 %, step 4", out)) == 1
        assert not (both.folder / f"{job}.recovery").exists()
        weights.append(load(str(both.folder / job))[0].state_dict())
    for name, x in weights[0].items():
        assert (weights[1][name].float() - x.float()).abs().mean() < 0.01 * x.float().abs().mean(), name


@pytest.mark.parametrize(
    "job, codes, why",
    [
        ("refused", [2, 2], "no/such/model"),
        ("unknown", [2, 2], "--nosuch"),
        ("another", [2, 2], "torchrun is for compress"),
        ("one fails", [2, 2], "the layer is broken"),
        ("one is killed", [2, -9], "another of the processes ended"),
    ],
)
def test_what_ends_one_process_ends_both_with_one_sentence(both, job, codes, why):
    found, _, error = ended(both, job)
    assert found == codes and error.count("\n") == 1 and error.startswith("prunekit: ") and why in error, error
    assert not (both.folder / job).exists()


def test_a_bug_in_one_process_is_shown_once(both):
    codes, _, error = ended(both, "one is buggy")
    assert codes == [2, 1] and error.count("Traceback") == 1 and "no layer of that name" in error


def test_torchrun_starts_them(folders, text_file, tmp_path, one_thread):
    run = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "prunekit")
    options = ("compress", folders.llama, "--pattern", "2:4", "--method", "wanda", "--calibration-text", text_file)
    options += ("--calibration-tokens", "2048")
    outputs = ("--out", tmp_path / "two", "--json", tmp_path / "report.json")
    command = [sys.executable, *run, *map(str, (*options, *outputs))]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(re.findall("saved to", done.stdout)) == 1
    assert json.loads((tmp_path / "report.json").read_text())["sparsity"] == 0.5
    assert main([str(a) for a in (*options, "--out", tmp_path / "one")]) == 0
    assert files(tmp_path / "one").keys() == files(tmp_path / "two").keys()
