"""Two processes find what one finds, and hold the same model afterwards."""

import os
import subprocess
import sys

import program
import pytest
import torch
from tiny import ROOT

from prunekit.compression import blockwise

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What one process finds, and what each of two finds."""
    folder, threads, size = tmp_path_factory.mktemp("two"), torch.get_num_threads(), blockwise.BATCH_TOKENS
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, program.__file__, folder], env=environment, stderr=subprocess.PIPE) as two:
        alone = program.results()
        torch.set_num_threads(threads)
        blockwise.BATCH_TOKENS = size
        error = two.communicate(timeout=300)[1]
    assert two.returncode == 0, error.decode()
    return alone, *(torch.load(folder / f"{rank}.pt") for rank in range(2))


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and torch.equal(one[name].contiguous().view(torch.uint8), other[name].contiguous().view(torch.uint8))
        for name in one
    )


def test_both_processes_hold_the_same(both):
    _, first, second = both
    for part in ("energies", "compressed", "transposed"):
        assert same(first[part], second[part]), part


def test_sums_are_those_of_one_process(both):
    alone, *two = both
    found = two[1]["sums"] | two[0]["sums"]  # each prunes, and so is shown, some of the layers
    assert found.keys() == alone["sums"].keys()
    for name, x in alone["sums"].items():
        assert (found[name] - x).norm() <= 1e-5 * x.norm(), name


def test_energies_samples_and_the_stop_are_equal_to_those_of_one_process(both):
    alone, first, _ = both
    assert same(alone["energies"], first["energies"])
    assert alone["energies"]["told"][0] < 4 * program.IDS.numel()  # or else nothing has stopped


@pytest.mark.parametrize("part", ["compressed", "transposed"])
def test_the_model_is_that_of_one_process(both, part):
    alone, first, _ = both
    for name, x in alone[part].items():
        y = first[part][name]
        if name.startswith(("fast", "cast")):  # whose energies are equal
            assert same({name: x}, {name: y}), name
        else:  # sums in another order, and so a weight on the border here and there
            assert ((x == 0) != (y == 0)).float().mean() < 0.01, name
            assert (x.float() - y.float()).norm() < 0.05 * x.float().norm(), name
