"""The page that holds the whole method is made of its steps, put together in the right order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import PrunekitError
from prunekit.kernels import cpu
from prunekit.method import ewma, fp8, masks, one_pass
from prunekit.method.compensation import compensate, response
from prunekit.method.fp8 import E4M3, E5M2
from prunekit.method.scores import keep_score, score

TARGETS = [{"sparsity": 0.5}, {"sparsity": 0.0}, {"sparsity": 0.83}, {"pattern": "2:4"}, {"pattern": "1:3"}]
RULES = [ewma.quantile_mask, ewma.mean_mask, masks.exact_mask]
each_target = pytest.mark.parametrize("target", TARGETS, ids=str)
each_format = pytest.mark.parametrize("fmt", [E4M3, E5M2], ids=lambda fmt: fmt.name)


def example(seed=0, rows=7, columns=132, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(rows, columns, generator=g)
    W[:, 17] *= 50
    W[rows // 2] = 0
    return W.to(dtype), torch.randn(columns, generator=g).exp(), torch.randn(16, columns, generator=g)


def mask_of(L, sparsity=None, pattern=None, rule=ewma.quantile_mask):
    return rule(L, sparsity) if pattern is None else masks.nm_mask(L, *map(int, pattern.split(":")))


@each_target
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_selection_is_score_then_rule(target, dtype, rule):
    W, f, _ = example(dtype=dtype)
    assert torch.equal(one_pass.select(W, f, **target, rule=rule), mask_of(score(W, f), **target, rule=rule))


def test_a_rule_gets_the_scores_and_the_share_as_a_number():
    W, f, _ = example()
    seen = []
    for joint in (None, (E5M2, fp8.scales(W, E5M2))):
        one_pass.select(W, f, sparsity="0.25", joint=joint, rule=lambda L, s: seen.append((L, s)))
        kept = W if joint is None else fp8.uncast(fp8.cast(W, joint[1], E5M2), joint[1])
        L, share = seen.pop()
        assert share == 0.25 and torch.equal(L, keep_score(W, kept, f))


def test_what_is_not_said_is_the_moving_average_and_e4m3():
    W, f, X = example()
    Z = response(X, f, 0.5)
    assert torch.equal(one_pass.select(W, f, sparsity=0.5), ewma.quantile_mask(score(W, f), 0.5))
    for default, said in (
        (one_pass.select_cast(W, f, sparsity=0.5), one_pass.select_cast(W, f, sparsity=0.5, fmt=E4M3)),
        (
            one_pass.select_compensate_cast(W, f, X, Z, sparsity=0.5),
            one_pass.select_compensate_cast(W, f, X, Z, sparsity=0.5, fmt=E4M3),
        ),
        (one_pass.cast_kept(W, W > 0), one_pass.cast_kept(W, W > 0, E4M3)),
    ):
        for a, b in zip(default, said):
            assert a.dtype == b.dtype and torch.equal(a.float(), b.float())


@each_target
@each_format
@pytest.mark.parametrize("granularity", fp8.GRANULARITIES)
def test_what_the_cast_loses_anyway_is_weighed_in(target, fmt, granularity):
    W, f, _ = example()
    scale = fp8.scales(W, fmt, granularity)
    L = keep_score(W, fp8.uncast(fp8.cast(W, scale, fmt), scale), f)
    assert torch.equal(one_pass.select(W, f, **target, joint=(fmt, scale)), mask_of(L, **target))


@each_target
@each_format
def test_the_provisional_scale_is_the_whole_row_s_and_the_final_one_the_survivors(target, fmt):
    W, f, _ = example()
    f[17] = 1e-12  # the outlier goes, and must not set the scale
    keep, codes, scale = one_pass.select_cast(W, f, fmt=fmt, **target)
    assert torch.equal(keep, one_pass.select(W, f, **target, joint=(fmt, fp8.scales(W, fmt))))
    assert torch.equal(scale, fp8.scales(W, fmt, "row", keep))
    assert torch.equal(codes.float(), fp8.cast(W, scale, fmt, keep).float())
    assert (codes.float()[~keep] == 0).all() and codes.dtype == fmt.dtype
    if target.get("sparsity"):
        loud = torch.arange(len(W)) != len(W) // 2  # the other row is zero, and where all are equal all stay
        assert not keep[loud, 17].any() and (scale[loud] * fmt.max).max() < W.abs().max()


@each_target
@each_format
def test_compensation_comes_after_selection_and_before_the_cast(target, fmt):
    W, f, X = example()
    Z = response(X, f, 0.5)
    keep, codes, scale = one_pass.select_compensate_cast(W, f, X, Z, fmt=fmt, **target)
    assert torch.equal(keep, one_pass.select_cast(W, f, fmt=fmt, **target)[0])
    changed = compensate(W, keep, X, Z)
    assert torch.equal(scale, fp8.scales(changed, fmt, "row", keep))
    assert torch.equal(codes.float(), fp8.cast(changed, scale, fmt, keep).float())
    if target != {"sparsity": 0.0}:
        assert not torch.equal(codes.float() * scale, fp8.uncast(*one_pass.select_cast(W, f, fmt=fmt, **target)[1:]))


@given(st.integers(1, 5), st.integers(1, 90), st.floats(0, 0.99), st.integers(0, 2**32 - 1))
def test_arguments_stay_as_they_are(rows, columns, sparsity, seed):
    g = torch.Generator().manual_seed(seed)
    W, f, X = (torch.rand(*shape, generator=g) for shape in ((rows, columns), (columns,), (4, columns)))
    Z = response(X, f + 0.1, sparsity)
    before = [t.clone() for t in (W, f, X, Z)]
    keep, *_ = one_pass.select_compensate_cast(W, f, X, Z, sparsity=sparsity)
    assert all(torch.equal(a, b) for a, b in zip((W, f, X, Z), before))
    assert keep.shape == W.shape and keep.dtype == torch.bool


@pytest.mark.parametrize(
    "target, said",
    [
        ({}, "either a sparsity or a pattern"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "either a sparsity or a pattern"),
        ({"sparsity": 1.0}, "expected a number from 0"),
        ({"pattern": "2:5"}, "groups of 5 do not fill"),
        ({"pattern": "4"}, "is not N:M"),
    ],
    ids=str,
)
@pytest.mark.parametrize("function", [one_pass.select, one_pass.select_cast], ids=lambda f: f.__name__)
def test_bad_targets_get_one_sentence(function, target, said):
    W, f, _ = example()
    with pytest.raises(PrunekitError, match=said):
        function(W, f, **target)


def test_factors_of_another_width_are_refused():
    W, f, _ = example()
    with pytest.raises(PrunekitError, match="expected \\[132\\]"):
        one_pass.select(W, f[:-1], sparsity=0.5)


@each_target
@pytest.mark.parametrize("passes", [one_pass, cpu], ids=["plain", "fused"])
@pytest.mark.parametrize("shape", [(3, 0), (0, 12), (0, 0)])
def test_a_weight_without_rows_or_columns_has_an_empty_mask(passes, target, shape):
    W, f = torch.empty(shape), torch.empty(shape[1])
    assert passes.select(W, f, **target).shape == shape
    if shape[1]:  # else there is no largest weight
        assert passes.select_cast(W, f, **target)[1].shape == shape


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rules_take_scores_without_columns(rule):
    assert rule(torch.empty(3, 0), 0.5).shape == (3, 0)
