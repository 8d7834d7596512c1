"""What a compression is said to take beforehand."""

from dataclasses import replace

import pytest
from tiny import tiny_llama

from prunekit.compression.fit.memory import BASE, Sizes, disk, streamed_memory, whole_memory
from prunekit.compression.fit.seconds import Rates, seconds
from prunekit.compression.recipe import Recipe
from prunekit.storage.streamed.skeletons import open_skeleton

FAST = Recipe(sparsity=0.5, fp8="e4m3", compensate=True)
ADMM = Recipe(pattern="2:4", method="admm")


@pytest.fixture
def sizes(tmp_path):
    tiny_llama(num_hidden_layers=3).save_pretrained(tmp_path)
    return Sizes.of(open_skeleton(tmp_path, "float32"))


def test_sizes_are_those_of_the_model(sizes):
    model = tiny_llama(num_hidden_layers=3)
    assert sizes.total == sum(p.numel() for p in model.parameters())
    assert sizes.block == sum(p.numel() for p in model.model.layers[0].parameters())
    assert (sizes.blocks, sizes.outside, sizes.width) == (3, 300 * 64, 64)
    assert sorted(sizes.inputs) == [64, 64, 64, 160] and len(sizes.shapes) == 7


@pytest.mark.parametrize("recipe", [FAST, ADMM, Recipe(sparsity=0.5, method="wanda")], ids=["fast", "admm", "wanda"])
def test_block_by_block_the_number_of_blocks_does_not_matter(sizes, recipe):
    more = replace(sizes, blocks=300, total=100 * sizes.total)
    assert streamed_memory(more, 4, recipe, False) == streamed_memory(sizes, 4, recipe, False) > BASE
    assert whole_memory(more, 4, recipe, False) > whole_memory(sizes, 4, recipe, False)
    assert streamed_memory(more, 4, recipe, False) < whole_memory(more, 4, recipe, False)


def test_disk_and_time_grow_with_the_model(sizes):
    more = replace(sizes, blocks=6, total=2 * sizes.total)
    rates = Rates(1e9, 1e8, 1e9, 1e9, 1e8)
    for recipe in (FAST, ADMM):
        assert disk(sizes, recipe, False) < disk(sizes, recipe, True) < disk(more, recipe, True)
        assert 0 < seconds(sizes, recipe, rates, 10**6) < seconds(more, recipe, rates, 2 * 10**6)
        faster = replace(rates, products=2e9)
        assert seconds(sizes, recipe, faster, 10**6) < seconds(sizes, recipe, rates, 10**6)


def test_training_of_blocks_takes_time_and_disk_with_its_steps_and_memory_with_the_block(sizes):
    rates = Rates(1e9, 1e8, 1e9, 1e9, 1e8)
    for recipe in (FAST, ADMM):
        found = [seconds(sizes, recipe, rates, 10**6, steps) for steps in (0, 8, 16)]
        assert found[2] - found[1] == pytest.approx(8 * (found[2] - found[0]) / 16, rel=0.1) and found[1] > found[0]
        assert disk(sizes, recipe, True) < disk(sizes, recipe, True, 8) < disk(sizes, recipe, True, 16)
        more = replace(sizes, blocks=300, total=100 * sizes.total)
        trained = [streamed_memory(each, 4, recipe, False, trains=True) for each in (sizes, more)]
        assert trained[0] == trained[1] > streamed_memory(sizes, 4, recipe, False)
