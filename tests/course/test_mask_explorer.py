"""The mask explorer: its numbers are those of the plain functions, and its picture follows the controls."""

import math
from importlib import import_module

import pytest
import torch
from safetensors.torch import save_file

import prunekit as pk
from prunekit import course
from prunekit.course.lessons import layouts
from prunekit.errors import PrunekitError
from prunekit.speed.published import published_rows

module = import_module("prunekit.course.widgets.mask_explorer")


@pytest.fixture(scope="module")
def layer():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(24, 64, generator=rng).bfloat16().float(), torch.rand(64, generator=rng)


@pytest.fixture(scope="module")
def explorer(layer):
    return course.widgets.mask_explorer(*layer, tokens=4, rounds=1)


def test_controls_change_the_picture(explorer):
    seen = set()
    for pattern in module.PATTERNS:
        for sparsity in (0.2, 0.7):
            explorer.controls["pattern"].value = pattern
            explorer.controls["sparsity"].value = sparsity
            seen.add(explorer.image)
            shown = {"dense": "0.0", "2:4": "0.5"}.get(pattern, str(sparsity))
            assert f"pattern {pattern} at sparsity {shown}" in explorer.alt
    assert len(seen) == 6  # the slider has no effect on dense and 2:4


def test_published_times_of_few_and_of_many_tokens_are_shown_for_2_4(explorer):
    explorer.controls["pattern"].value = "2:4"
    layer = [r for r in published_rows("RTX 4090", "fp8") if (r.model, r.N, r.K) == ("Llama3.2-1B", 2048, 8192)]
    tokens = {row.M: row for row in layer}
    assert len(tokens) == len(layer) > 1
    assert explorer.alt.count("published") == 2
    for M in (min(tokens), max(tokens)):
        shown = f"RTX 4090, {M} tokens {tokens[M].speedup:.2f} published"
        assert shown in explorer.alt
        assert (f"{shown} (slower)" in explorer.alt) == (tokens[M].speedup < 1 / module.WORSE)


def test_masks_are_those_of_the_library(layer):
    W, E = layer
    weight = module._Weight(W, E, tokens=2, rounds=1)
    for sparsity in (0.0, 0.3, 0.5, 0.9):
        exact = pk.exact_mask(pk.contribution(W, E), round(sparsity * 64) / 64)
        assert torch.equal(weight.mask("unstructured", sparsity), exact)
        columns = weight.mask("neurons", sparsity)
        assert (columns == columns[0]).all() and int(columns[0].sum()) == 64 - round(sparsity * 64)
    assert torch.equal(weight.mask("2:4", 0.1), pk.nm_mask(pk.contribution(W, E), 2, 4))
    assert weight.mask("dense", 0.7).all()


def test_bytes_are_those_of_real_files(layer, tmp_path):
    W, E = layer
    weight = module._Weight(W, E, tokens=2, rounds=1)
    columns = weight.mask("neurons", 0.5)[0]
    save_file({"weight": W.bfloat16()[:, columns].contiguous()}, tmp_path / "cut")
    assert weight.bytes["neurons", 0.5] == (tmp_path / "cut").stat().st_size
    assert weight.bytes["zeros", 0.9] == weight.bytes["dense", 0.0]
    assert weight.bytes["rows", 0.1] > weight.bytes["dense", 0.0]
    forms = weight.forms("2:4", 0.5)
    assert forms["zeros stored"][0] == 1 and math.isnan(forms["packed 2:4"][1])
    header = 200  # a safetensors file begins with the names and shapes
    assert abs(weight.bytes["2:4", 0.5] - 24 * 64 * 2 * 9 / 16) < header


def test_packing_and_back(layer):
    W, _ = layer
    sparse = W * pk.nm_mask(W.abs(), 2, 4)
    sparse[0, :8] = 0  # groups with more zeros than they must have
    sparse[1, 5] = 0
    packed = layouts.pack24(sparse)
    assert packed["values"].shape == (24, 32) and packed["places"].shape == (24, 8)
    assert torch.equal(layouts.unpack24(**packed), sparse)
    with pytest.raises(PrunekitError, match="two zeros"):
        layouts.pack24(W)
    csr = layouts.compressed_rows(sparse)
    rows = torch.repeat_interleave(torch.arange(24), csr["rows"].diff())
    assert torch.equal(torch.zeros_like(sparse).index_put((rows, csr["columns"].long()), csr["values"]), sparse)
    assert layouts.bitmap(sparse)["bits"].numel() * 8 == sparse.numel()


def test_what_does_not_fit_is_said(layer):
    W, E = layer
    explore = course.widgets.mask_explorer
    for bad in ((W[:, :12], E[:12]), (W, E[:5]), (W[0], E)):
        with pytest.raises(PrunekitError, match="needs W"):
            explore(*bad)
    for options in ({"pattern": "3:4"}, {"sparsity": 0.95}):
        with pytest.raises(PrunekitError, match="multiple"):
            explore(W, E, **options)
