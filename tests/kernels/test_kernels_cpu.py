"""The fused CPU kernels, bit for bit against the plain page."""

import math
import os
import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import ROOT

from prunekit.errors import PrunekitError
from prunekit.kernels import cpu, numba_loops
from prunekit.method import fp8, one_pass
from prunekit.method.ewma import quantile_mask
from prunekit.method.fp8 import E4M3, E5M2
from prunekit.method.masks import exact_mask
from prunekit.method.scores import score

both = pytest.mark.parametrize("fmt", [E4M3, E5M2], ids=lambda f: f.name)
formats = st.sampled_from([E4M3, E5M2])
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(
    st.sampled_from([1, 2, 5, 129]), st.sampled_from([1, 2, 3, 12, 63, 64, 65, 120, 127, 128, 129, 257, 576])
)
shares = st.one_of(st.sampled_from([0, 0.2, 0.5, 0.9]), st.floats(0, 0.99))


@st.composite
def layers(draw):
    """A weight with zeros, also in front, equals, outliers and a row of another scale, and column factors."""
    g = torch.Generator().manual_seed(draw(seeds))
    rows, columns = draw(shapes)
    W = torch.randn(rows, columns, generator=g)
    W[torch.rand(W.shape, generator=g) < 0.1] = 0.0
    W[torch.rand(W.shape, generator=g) < 0.1] = -0.0
    W[torch.rand(W.shape, generator=g) < 0.1] = 0.5
    W[:, columns // 2] *= draw(st.sampled_from([1, 50, 4000]))
    W[rows // 2] *= draw(st.sampled_from([0.0, 2.0**-10, 1.0, 2.0**9]))
    W[rows // 3 :, : draw(st.sampled_from([0, 64, 130]))] = 0.0
    f = torch.randn(columns, generator=g).exp() * (torch.rand(columns, generator=g) < 0.95)
    return W.clamp(-60_000, 60_000).to(draw(dtypes)), f


@st.composite
def targets(draw, columns):
    """Either a share or a pattern that fits the width."""
    m = draw(st.sampled_from([m for m in (1, 2, 3, 4, 8, 13) if columns % m == 0]))
    n = draw(st.integers(1, m))
    return draw(st.one_of(st.builds(lambda s: {"sparsity": s}, shares), st.just({"pattern": f"{n}:{m}"})))


def assert_same(got, expected):
    for a, b in zip(got, expected):
        assert a.dtype == b.dtype and a.shape == b.shape
        bits = {torch.float32: torch.int32}.get(a.dtype, torch.uint8)
        assert torch.equal(a.view(bits), b.view(bits))


def check_select_cast(function):
    """`function` is the plain joint pass bit for bit, and leaves its arguments alone."""
    g = torch.Generator().manual_seed(0)
    W, f = torch.randn(6, 132, generator=g), torch.rand(132, generator=g)
    # An outlier that does not matter: it is pruned; until then it makes the cast of all others coarse.
    W[:, 17], f[17] = 1e5, 1e-12
    W[3] = 0
    W[4] *= 1e-3
    for fmt in (E4M3, E5M2):
        for target in ({"sparsity": 0.5}, {"sparsity": 0.0}, {"pattern": "2:4"}, {"pattern": "1:3"}):
            before = W.clone(), f.clone()
            got = function(W, f, fmt=fmt, **target)
            assert_same((W, f), before)
            assert_same(got, one_pass.select_cast(W, f, fmt=fmt, **target))


def test_select_cast_passes_its_check():
    check_select_cast(cpu.select_cast)


@settings(max_examples=150)
@given(layers(), formats, st.data())
def test_select_cast_is_the_plain_joint_pass(layer, fmt, data):
    W, f = layer
    target = data.draw(targets(W.shape[1]))
    assert_same(cpu.select_cast(W, f, fmt=fmt, **target), one_pass.select_cast(W, f, fmt=fmt, **target))


@settings(max_examples=150)
@given(layers(), st.data())
def test_select_is_the_plain_mask_of_the_plain_score(layer, data):
    W, f = layer
    target = data.draw(targets(W.shape[1]))
    assert_same([cpu.select(W, f, **target)], [one_pass.select(W, f, **target)])


@settings(max_examples=150)
@given(layers(), formats, st.sampled_from(fp8.GRANULARITIES), st.data())
def test_select_and_cast_with_scales_of_every_granularity(layer, fmt, granularity, data):
    W, f = layer
    target = data.draw(targets(W.shape[1]))
    scale = fp8.scales(W, fmt, granularity)
    keep = cpu.select(W, f, joint=(fmt, scale), **target)
    assert_same([keep], [one_pass.select(W, f, **target, joint=(fmt, scale))])
    scale = fp8.scales(W, fmt, granularity, keep)
    assert_same([cpu.cast(W, keep, scale, fmt)], [fp8.cast(W, scale, fmt, keep)])
    assert_same([cpu.cast(W, keep, scale / 3, fmt)], [fp8.cast(W, scale / 3, fmt, keep)])


@settings(max_examples=100)
@given(layers(), formats)
def test_round_trip_is_the_plain_cast_and_back(layer, fmt):
    W, _ = layer
    scale = fp8.scales(W, fmt)
    assert torch.equal(cpu.round_trip(W, fmt), fp8.uncast(fp8.cast(W, scale, fmt), scale))


def example(seed=0, rows=7, columns=130):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=g), torch.rand(columns, generator=g)


@both
@pytest.mark.parametrize("granularity", fp8.GRANULARITIES)
def test_every_bfloat16_is_rounded_as_torch_rounds_it(fmt, granularity):
    W = torch.arange(2**16).to(torch.int32).to(torch.int16).view(torch.bfloat16)
    W = W[W.isfinite()].reshape(-1, 255)
    keep = torch.ones_like(W, dtype=torch.bool)
    shape = {"tensor": (1, 1), "row": (len(W), 1), "block": (-(-len(W) // 128), 2)}[granularity]
    scale = torch.ones(shape)
    assert_same([cpu.cast(W, keep, scale, fmt)], [fp8.cast(W, scale, fmt)])
    assert_same([cpu.cast(W, keep, scale, fmt).view(torch.uint8)], [fp8.encode(W, fmt)])


@both
def test_halfway_ties_are_rounded_to_even(fmt):
    codes = fp8.decode(torch.arange(128).to(torch.uint8), fmt)
    codes = codes[codes.isfinite()]
    middle = (codes[:-1] + codes[1:]) / 2
    W = torch.stack([middle, -middle, middle.nextafter(codes[:-1]), middle.nextafter(codes[1:])])
    keep = torch.ones_like(W, dtype=torch.bool)
    assert_same([cpu.cast(W, keep, torch.ones(4, 1), fmt)], [fp8.cast(W, torch.ones(4, 1), fmt)])


@both
def test_weights_too_small_to_have_a_scale_come_out_as_from_the_plain_pass(fmt):
    W, f = example()
    W *= torch.tensor([1, 1e-20, 1e-36, 1e-38, 1e-40, 1e-44, 0.0])[:, None]
    got = cpu.select_cast(W, f, sparsity=0.5, fmt=fmt)
    assert_same(got, one_pass.select_cast(W, f, sparsity=0.5, fmt=fmt))
    assert got[1].float().isfinite().all() and (got[2] > 0).all()


@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"pattern": "2:4"}])
def test_arguments_that_are_views_give_what_their_copies_give(target):
    W, f = example(columns=256)
    for view, factors in ((W[:, ::2], f[::2]), (W.T, f[:7].repeat(2)[::2]), (W[1:, 4:132], f[4:132])):
        if "pattern" in target and view.shape[1] % 4:
            continue
        before = W.clone(), f.clone()
        copy = view.clone(memory_format=torch.contiguous_format)
        assert_same(cpu.select_cast(view, factors, **target), cpu.select_cast(copy, factors.clone(), **target))
        assert_same([cpu.select(view, factors, **target)], [cpu.select(copy, factors.clone(), **target)])
        keep = torch.ones(view.shape, dtype=torch.bool)
        scale = fp8.scales(view)
        assert_same([cpu.cast(view, keep, scale)], [cpu.cast(copy, keep, scale)])
        assert_same((W, f), before)


@both
def test_results_are_written_where_asked(fmt):
    W, f = example()
    out = torch.ones(W.shape).bool(), torch.ones(W.shape).to(fmt.dtype), torch.full((7, 1), -1.0)
    got = cpu.select_cast(W, f, sparsity=0.5, fmt=fmt, out=out)
    assert all(a is b for a, b in zip(got, out))
    assert_same(out, one_pass.select_cast(W, f, sparsity=0.5, fmt=fmt))
    mask = torch.zeros(W.shape, dtype=torch.bool)
    assert cpu.select(W, f, sparsity=0.5, out=mask) is mask
    assert_same([mask], [quantile_mask(score(W, f), 0.5)])


@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"sparsity": 0}, {"pattern": "1:2"}])
def test_arguments_are_left_alone(target):
    W, f = example()
    scale, keep = fp8.scales(W), torch.rand(W.shape) < 0.5
    arguments = W, f, scale, keep
    before = [t.clone() for t in arguments]
    cpu.select(W, f, joint=(E4M3, scale), **target)
    cpu.select_cast(W, f, **target)
    cpu.cast(W, keep, scale)
    assert_same(arguments, before)


def test_a_parameter_that_needs_gradients_is_taken_as_it_is():
    W, f = example()
    parameter = torch.nn.Parameter(W.clone())
    assert_same(cpu.select_cast(parameter, f, sparsity=0.5), cpu.select_cast(W, f, sparsity=0.5))
    assert not cpu.select_cast(parameter, f, sparsity=0.5)[2].requires_grad


def test_one_thread_decides_as_two():
    W, f = example(rows=50)
    both = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            both.append(cpu.select_cast(W, f, sparsity=0.6))
    finally:
        torch.set_num_threads(threads)
    assert_same(*both)


def test_bad_targets_are_refused_as_by_the_plain_functions():
    W, f = example(columns=12)
    for call in (cpu.select, cpu.select_cast):
        for target, message in [
            ({"sparsity": 1.0}, "sparsity is 1.0"),
            ({"sparsity": float("nan")}, "sparsity is nan"),
            ({}, "not neither"),
            ({"pattern": "4:2"}, "1 <= N <= M"),
            ({"pattern": "2:5"}, "groups of 5"),
        ]:
            with pytest.raises(PrunekitError, match=message):
                call(W, f, **target)


def wrong_shapes(*right):
    """Shapes with one more or one less of something, one dimension more, none, or as many numbers in another order."""
    near = [tuple(n + step * (i == j) for j, n in enumerate(right)) for i in range(len(right)) for step in (1, -1)]
    return [shape for shape in (*near, (*right, 1), (math.prod(right),), right[::-1], ()) if shape != right]


def assert_size_refused(name, call, *arguments, **options):
    with pytest.raises(PrunekitError, match=rf"^{name} is torch\.\w+ \[.*\]: expected .*\[.*\]\.$"):
        call(*arguments, **options)


@pytest.mark.parametrize("shape", wrong_shapes(130), ids=str)
def test_factors_of_another_size_are_refused(shape):
    W, _ = example()
    f, X = torch.ones(shape), torch.ones(3, 130)
    for target in ({"sparsity": 0.5}, {"pattern": "1:2"}):
        assert_size_refused("f", cpu.select, W, f, **target)
        assert_size_refused("f", cpu.select, W, f, joint=(E4M3, fp8.scales(W)), **target)
        assert_size_refused("f", cpu.select_cast, W, f, **target)
        assert_size_refused("f", cpu.select_compensate_cast, W, f, X, X, **target)


@pytest.mark.parametrize("shape", [(3, 129), (3, 131), (2, 130), (3, 1), (130,)], ids=str)
def test_samples_of_another_size_are_refused(shape):
    W, f = example()
    X, other = torch.ones(3, 130), torch.ones(shape)
    assert_size_refused("Z", cpu.select_compensate_cast, W, f, X, other, sparsity=0.5)
    if len(shape) != 2 or shape[1] != 130:
        assert_size_refused("X", cpu.select_compensate_cast, W, f, other, other, sparsity=0.5)


@pytest.mark.parametrize("shape", wrong_shapes(7, 130), ids=str)
def test_masks_of_another_size_are_refused(shape):
    W, f = example()
    mask = torch.ones(shape, dtype=torch.bool)
    assert_size_refused("keep", cpu.cast, W, mask, fp8.scales(W))
    assert_size_refused("out", cpu.select, W, f, sparsity=0.5, out=mask)


def test_masks_of_another_dtype_are_refused():
    W, f = example()
    for dtype in (torch.uint8, torch.int32, torch.float32):
        mask = torch.ones(W.shape, dtype=dtype)
        assert_size_refused("keep", cpu.cast, W, mask, fp8.scales(W))
        assert_size_refused("out", cpu.select, W, f, sparsity=0.5, out=mask)


WRONG_OUT = [(0, torch.bool, shape) for shape in wrong_shapes(7, 130)] + [(0, torch.uint8, (7, 130))]
WRONG_OUT += [(1, E4M3.dtype, shape) for shape in wrong_shapes(7, 130)] + [(1, E5M2.dtype, (7, 130))]
WRONG_OUT += [(2, torch.float32, shape) for shape in wrong_shapes(7, 1)] + [(2, torch.float64, (7, 1))]


@pytest.mark.parametrize(("place", "dtype", "shape"), WRONG_OUT, ids=str)
def test_results_of_another_size_or_dtype_are_refused_before_anything_is_written(place, dtype, shape):
    W, f = example()
    out = [torch.ones(W.shape).bool(), torch.ones(W.shape).to(E4M3.dtype), torch.full((7, 1), -1.0)]
    out[place] = torch.ones(shape).to(dtype)
    before = [t.clone() for t in out]
    assert_size_refused(rf"out\[{place}\]", cpu.select_cast, W, f, sparsity=0.5, out=tuple(out))
    for a, b in zip(out, before):
        assert torch.equal(a.float(), b.float())


@pytest.mark.parametrize("shape", [*wrong_shapes(7, 1), (2, 2), (1, 3), (0, 2), (1, 2, 1), (7, 130)], ids=str)
def test_scales_of_no_granularity_are_refused(shape):
    W, f = example()  # two blocks of 128, side by side
    scale, keep = torch.ones(shape), torch.ones(W.shape, dtype=torch.bool)
    codes = fp8.cast(W, fp8.scales(W))
    refusal = re.escape(f"the scale has the shape {list(shape)}: expected [1, 1], [7, 1] or one for each block")
    for target in ({"sparsity": 0.5}, {"pattern": "1:2"}):
        with pytest.raises(PrunekitError, match=refusal):
            cpu.select(W, f, joint=(E4M3, scale), **target)
    for call in (lambda: cpu.cast(W, keep, scale), lambda: cpu.uncast(codes, scale)):
        with pytest.raises(PrunekitError, match=refusal):
            call()


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(fp8.GRANULARITIES))
def test_blocks_of_a_scale_are_those_that_it_was_made_for(rows, columns, granularity):
    W = torch.rand(rows, columns, generator=torch.Generator().manual_seed(0))
    scale = fp8.scales(W, E4M3, granularity)
    height, width = fp8.scale_blocks(scale, W.shape)
    i, j = torch.arange(rows)[:, None] // height, torch.arange(columns) // width
    assert torch.equal(scale[i, j], fp8.expand_scale(scale, W.shape).expand(W.shape))


# What a wrong implementation looks like, and that the check above would notice.


def scale_from_all_weights(W, f, *, fmt, **target):
    scale = fp8.scales(W, fmt)
    keep = one_pass.select(W, f, **target, joint=(fmt, scale))
    return keep, fp8.cast(W, scale, fmt, keep), scale


def casting_error_ignored(W, f, *, fmt, **target):
    keep = one_pass.select(W, f, **target)
    scale = fp8.scales(W, fmt, "row", keep)
    return keep, fp8.cast(W, scale, fmt, keep), scale


def pruned_weights_cast_too(W, f, **target):
    keep, _, scale = one_pass.select_cast(W, f, **target)
    return keep, fp8.cast(W, scale, target["fmt"]), scale


def inputs_ignored(W, f, **target):
    return one_pass.select_cast(W, torch.ones_like(f), **target)


def sorted_instead(W, f, *, fmt, sparsity=None, pattern=None):
    if pattern is not None:
        return one_pass.select_cast(W, f, fmt=fmt, pattern=pattern)
    keep = one_pass.select(W, f, sparsity=sparsity, joint=(fmt, fp8.scales(W, fmt)), rule=exact_mask)
    scale = fp8.scales(W, fmt, "row", keep)
    return keep, fp8.cast(W, scale, fmt, keep), scale


def one_scale_for_all_rows(W, f, **target):
    keep, _, scale = one_pass.select_cast(W, f, **target)
    scale = scale.amax().expand_as(scale).contiguous()
    return keep, fp8.cast(W, scale, target["fmt"], keep), scale


def weight_pruned_in_place(W, f, **target):
    result = one_pass.select_cast(W, f, **target)
    W.mul_(result[0])
    return result


@pytest.mark.parametrize(
    "wrong",
    [
        scale_from_all_weights,
        casting_error_ignored,
        pruned_weights_cast_too,
        inputs_ignored,
        sorted_instead,
        one_scale_for_all_rows,
        weight_pruned_in_place,
    ],
)
def test_the_check_of_the_joint_pass_rejects(wrong):
    with pytest.raises(AssertionError):
        check_select_cast(wrong)


def test_loops_compile_where_their_code_cannot_be_kept(monkeypatch):
    asked = []

    def njit(function, cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return function

    monkeypatch.setattr(numba_loops, "njit", njit)
    assert numba_loops._jit(max) is max and asked == [True, False]


FORKED = """
import os, signal, sys
import torch
from prunekit.kernels import cpu
torch.set_num_threads(2)
W, f = torch.randn(64, 128), torch.rand(128)
before = cpu.select(W, f, sparsity=0.5)
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(int(not torch.equal(cpu.select(W, f, sparsity=0.5), before)))
assert torch.equal(cpu.select(W, f, sparsity=0.5), before)
sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_selects_as_its_parent_does():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
