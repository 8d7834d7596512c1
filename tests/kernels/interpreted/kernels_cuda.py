"""The Triton kernel in Triton's interpreter, bit for bit against the plain page.

`test_kernels_cuda.py` runs this file in a process of its own, since the interpreter must be chosen before
triton is imported.
"""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from test_kernels_cpu import assert_same, check_select_cast

from prunekit.errors import PrunekitError
from prunekit.kernels import cuda
from prunekit.method import ewma, fp8, one_pass
from prunekit.method.fp8 import E4M3, E5M2
from prunekit.model.fp8_linear import Fp8Linear

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHARES = [{"sparsity": 0.5}, {"sparsity": 0.9}, {"sparsity": 0.0}]


@pytest.fixture(autouse=True)
def short_warm_up(request, monkeypatch):
    """Narrow rows warm up over a thousand scores, step by step: too slow here. Both sides read the same tables."""
    ewma.step_tables.cache_clear()
    if "as_it_is" not in request.node.name:
        monkeypatch.setattr(ewma, "WARMUP_SCORES", 8, raising=False)
    yield
    ewma.step_tables.cache_clear()


def layer(rows, columns, dtype=torch.float32, seed=0):
    """A weight with zeros of both signs, equals, an outlier column and a row of another scale; column factors."""
    g = torch.Generator().manual_seed(seed + 1000 * rows + columns)
    W = torch.randn(rows, columns, generator=g)
    for value, share in ((0.0, 0.1), (-0.0, 0.1), (0.5, 0.1)):
        W[torch.rand(W.shape, generator=g) < share] = value
    W[:, columns // 2] *= 50
    W[rows // 2] *= (0.0, 2.0**-10, 1.0)[seed % 3]
    f = torch.randn(columns, generator=g).exp() * (torch.rand(columns, generator=g) < 0.95)
    return W.to(dtype), f


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (17, 1), (1, 63), (5, 65), (18, 130), (3, 200)])
def test_a_share_of_odd_shapes(rows, columns, dtype):
    for seed, target in enumerate(SHARES):
        W, f = layer(rows, columns, dtype, seed)
        fmt = (E4M3, E5M2)[seed % 2]
        assert_same(cuda.select_cast(W, f, fmt=fmt, **target), one_pass.select_cast(W, f, fmt=fmt, **target))
        assert_same([cuda.select(W, f, **target)], [one_pass.select(W, f, **target)])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rows", "columns", "pattern"),
    [
        (5, 4, "2:4"), (9, 520, "2:4"), (3, 130, "1:2"), (2, 39, "1:3"), (2, 39, "2:3"), (3, 26, "5:13"),
        (2, 16, "4:8"), (1, 7, "7:7"), (1, 33, "10:33"), (2, 100, "20:50"), (1, 1, "1:1"),
    ],
)  # fmt: skip
def test_patterns_of_odd_shapes(rows, columns, pattern, dtype):
    for seed, fmt in enumerate((E4M3, E5M2)):
        W, f = layer(rows, columns, dtype, seed)
        assert_same(
            cuda.select_cast(W, f, fmt=fmt, pattern=pattern), one_pass.select_cast(W, f, fmt=fmt, pattern=pattern)
        )
        assert_same([cuda.select(W, f, pattern=pattern)], [one_pass.select(W, f, pattern=pattern)])


def test_it_passes_the_check_of_the_cpu_kernel():
    check_select_cast(cuda.select_cast)


def test_the_warm_up_as_it_is():
    W, f = layer(4, 200)
    assert_same(cuda.select_cast(W, f, sparsity=0.6), one_pass.select_cast(W, f, sparsity=0.6))


def test_rows_that_begin_with_zeros():
    W, f = layer(5, 200)
    W[1:3, :64], W[3:, :130] = 0, 0
    assert_same(cuda.select_cast(W, f, sparsity=0.7), one_pass.select_cast(W, f, sparsity=0.7))
    assert_same([cuda.select(W, f, sparsity=0.7)], [one_pass.select(W, f, sparsity=0.7)])


@pytest.mark.parametrize("granularity", fp8.GRANULARITIES)
@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"pattern": "2:4"}], ids=str)
def test_scales_of_every_granularity(granularity, target):
    for rows, columns, fmt in ((3, 132, E4M3), (129, 64, E5M2)):
        W, f = layer(rows, columns)
        scale = fp8.scales(W, fmt, granularity)
        keep = cuda.select(W, f, joint=(fmt, scale), **target)
        assert_same([keep], [one_pass.select(W, f, **target, joint=(fmt, scale))])


@pytest.mark.parametrize("fmt", [E4M3, E5M2], ids=lambda f: f.name)
def test_every_bfloat16_of_a_row_is_rounded_as_torch_rounds_it(fmt):
    W = torch.arange(2**16).to(torch.int32).to(torch.int16).view(torch.bfloat16)
    W = W[W.isfinite() & (W.abs() <= fmt.max)]
    W = torch.cat([W, torch.full((-len(W) % 4096,), fmt.max)]).reshape(-1, 4096)
    W[:, 0] = fmt.max  # which makes the scale 1
    _, codes, scale = cuda.select_cast(W, torch.ones(4096), pattern="1:1", fmt=fmt)
    assert torch.equal(scale, torch.ones_like(scale))
    assert_same([codes.view(torch.uint8)], [fp8.encode(W, fmt)])


def test_weights_too_small_to_have_a_scale():
    W, f = layer(7, 64)
    W *= torch.tensor([1, 1e-20, 1e-36, 1e-38, 1e-40, 1e-44, 0.0])[:, None]
    assert_same(cuda.select_cast(W, f, sparsity=0.5), one_pass.select_cast(W, f, sparsity=0.5))


def test_views_and_parameters_are_taken_as_they_are_and_left_alone():
    W, f = layer(64, 12)
    view, before = W.T[:, ::2], W.clone()
    assert_same(cuda.select_cast(view, f.repeat(3)[:32], pattern="2:4"),
                one_pass.select_cast(view, f.repeat(3)[:32], pattern="2:4"))  # fmt: skip
    got = cuda.select_cast(torch.nn.Parameter(W), f, pattern="2:4")
    assert not got[2].requires_grad
    assert_same([W], [before])


def test_results_are_written_where_asked():
    W, f = layer(5, 64)
    out = torch.ones(W.shape).bool(), torch.ones(W.shape).to(E4M3.dtype), torch.full((5, 1), -1.0)
    got = cuda.select_cast(W, f, sparsity=0.5, out=out)
    assert all(a is b for a, b in zip(got, out))
    assert_same(out, one_pass.select_cast(W, f, sparsity=0.5))
    with pytest.raises(PrunekitError, match="contiguous"):
        cuda.select(W, f, sparsity=0.5, out=torch.ones(64, 5).bool().T)


def test_bad_arguments_are_refused():
    W, f = layer(2, 12)
    for call in (cuda.select, cuda.select_cast):
        for target, message in [({"sparsity": 1.0}, "sparsity is 1.0"), ({}, "neither"), ({"pattern": "2:5"}, "of 5")]:
            with pytest.raises(PrunekitError, match=message):
                call(W, f, **target)
        for factors in (f[:5], f.repeat(2), f[:, None]):
            with pytest.raises(PrunekitError, match=r"^f is"):
                call(W, factors, sparsity=0.5)
        assert call(W[:0], f, pattern="2:4") is not None
    right = [W.bool(), W.to(E4M3.dtype), W[:, :1].clone()]
    for shape in ((1, 12), (3, 12), (2, 11), (2, 13), (12, 2), (24,)):
        with pytest.raises(PrunekitError, match=r"^out is"):
            cuda.select(W, f, sparsity=0.5, out=torch.ones(shape).bool())
        with pytest.raises(PrunekitError, match="the scale has the shape"):
            cuda.select(W, f, sparsity=0.5, joint=(E4M3, torch.ones(shape)))
        for place, tensor in enumerate(right):
            out = [*right[:place], torch.ones(shape).to(tensor.dtype), *right[place + 1 :]]
            with pytest.raises(PrunekitError, match=rf"^out\[{place}\] is"):
                cuda.select_cast(W, f, sparsity=0.5, out=tuple(out))


@pytest.mark.parametrize("options", [{"fp8": "e4m3"}, {"fp8": "e4m3", "granularity": "tensor"}, {}], ids=str)
def test_compress_uses_it(options, monkeypatch):
    module, E = torch.nn.Linear(64, 8).requires_grad_(False), torch.rand(64)
    compress_layer = import_module("prunekit.compression.layer")
    recipe = compress_layer.Recipe(sparsity=0.5, **options)
    expected = compress_layer.compress_layer(module, E, recipe)
    calls = []
    spied = type(cuda)("spied")
    spied.select = lambda *a, **k: calls.append(1) or cuda.select(*a, **k)
    spied.select_cast = lambda *a, **k: calls.append(1) or cuda.select_cast(*a, **k)
    monkeypatch.setattr(compress_layer, "fastest", lambda device: spied)
    got = compress_layer.compress_layer(module, E, recipe)
    assert calls and type(got) is type(expected) and isinstance(got, Fp8Linear) == ("fp8" in options)
    bits = (lambda w: w.view(torch.uint8)) if "fp8" in options else (lambda w: w)
    assert torch.equal(bits(got.weight), bits(expected.weight))
