"""Magnitude, Wanda and SparseGPT against what defines them: sorting, and least squares over the inputs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import PrunekitError
from prunekit.method.baselines import magnitude_mask, sparsegpt, wanda_mask
from prunekit.method.masks import exact_mask, nm_mask, sparsity_of

seeds = st.integers(0, 2**32 - 1)


def weight(seed, rows=8, columns=24, dtype=torch.float32):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def correlated_inputs(seed, columns=24, tokens=400):
    """Inputs whose features share a few directions, of unlike strength."""
    g = torch.Generator().manual_seed(seed)
    shared = torch.randn(tokens, 6, generator=g) @ torch.randn(6, columns, generator=g)
    return (shared + 0.5 * torch.randn(tokens, columns, generator=g)) * torch.rand(columns, generator=g).mul(3).exp()


def output_error(X, W, new):
    return ((W.double() - new.double()) @ X.double().T).square().sum()


# Magnitude: one threshold for the whole layer.


def check_magnitude(function):
    """`function` keeps the largest of the layer, wherever they lie, and exactly as many as asked."""
    W = weight(0) * torch.logspace(-2, 2, 8)[:, None]
    for thousandths in (0, 200, 500, 700):
        before = W.clone()
        keep = function(W, thousandths / 1000)
        assert torch.equal(W, before) and keep.dtype == torch.bool and keep.shape == W.shape
        assert (~keep).sum() == thousandths * W.numel() // 1000
        if thousandths:
            assert W.abs()[~keep].max() <= W.abs()[keep].min()


def test_magnitude_keeps_the_layers_largest():
    check_magnitude(magnitude_mask)


def test_magnitude_by_groups_keeps_each_groups_largest():
    W = weight(1, rows=7)
    groups = W.abs().unflatten(1, (-1, 4))
    expected = groups > groups.sort(-1).values[..., 1:2]
    assert torch.equal(magnitude_mask(W, pattern="2:4"), expected.flatten(1))


# Wanda: one threshold for each output row, inputs weighed in.


def check_wanda(function):
    """`function` keeps in each row the largest ``|W| ||X||``, computed here from the inputs themselves."""
    X, W = correlated_inputs(0), weight(2) * torch.logspace(-2, 2, 8)[:, None]
    E = X.square().mean(0)
    importance = W.double().abs() * X.double().norm(dim=0)
    for thousandths in (0, 200, 500, 700):
        before = W.clone(), E.clone()
        keep = function(W, E, thousandths / 1000)
        assert torch.equal(W, before[0]) and torch.equal(E, before[1])
        assert keep.dtype == torch.bool and keep.shape == W.shape
        for row, kept in zip(importance, keep):
            assert (~kept).sum() == thousandths * 24 // 1000
            assert not thousandths or row[~kept].max() <= row[kept].min() * (1 + 1e-5)


def test_wanda_keeps_each_rows_largest_weight_times_input():
    check_wanda(wanda_mask)


def test_wanda_by_groups_keeps_each_groups_largest():
    W, E = weight(3, rows=7), correlated_inputs(3).square().mean(0)
    groups = (W.abs() * E.sqrt()).unflatten(1, (-1, 4))
    expected = groups > groups.sort(-1).values[..., 1:2]
    assert torch.equal(wanda_mask(W, E, pattern="2:4"), expected.flatten(1))


@given(seeds, st.floats(0.1, 0.9))
def test_with_equal_inputs_wanda_is_magnitude_within_each_row(seed, sparsity):
    W = weight(seed)
    assert torch.equal(wanda_mask(W, torch.full((24,), 4.0), sparsity), exact_mask(W.abs(), sparsity))
    assert torch.equal(wanda_mask(W, torch.ones(24), pattern="1:4"), magnitude_mask(W, pattern="1:4"))


def test_wanda_prunes_dead_inputs_first():
    E = torch.ones(24)
    E[[1, 5, 9]] = 0
    keep = wanda_mask(weight(4), E, 3 / 24)
    assert not keep[:, [1, 5, 9]].any() and keep.sum() == 8 * 21


# SparseGPT: what is lost is made up for, by the weights further right.


def refit(X, w, j):
    """The row with weight `j` zero, those to its left as they were, those to its right fitted anew."""
    X, w = X.double(), w.double().clone()
    loss = X[:, j] * w[j]
    w[j] = 0
    if j + 1 < len(w):
        w[j + 1 :] += torch.linalg.lstsq(X[:, j + 1 :], loss[:, None]).solution[:, 0]
    return w


def check_one_removal(function):
    """`function` removes a row's cheapest weight and updates those to its right as least squares would."""
    for seed in range(12):
        X, W = correlated_inputs(seed, columns=8), weight(seed, 1, 8)
        before, H = W.clone(), X.T @ X
        gram = H.clone()
        new, keep = function(W, H, sparsity=1 / 8, damping=0.0)
        assert torch.equal(W, before) and torch.equal(H, gram)
        assert (~keep).sum() == 1 and new[~keep] == 0
        options = [refit(X, W[0], j) for j in range(8)]
        costs = torch.stack([output_error(X, W[0], option) for option in options])
        removed = (~keep[0]).nonzero().item()
        assert costs[removed] <= costs.min() * 1.001
        torch.testing.assert_close(new[0].double(), options[removed], rtol=1e-3, atol=1e-4)
        assert torch.equal(new[0, :removed], W[0, :removed])


def check_pruned_layer(function):
    """Zeros match the mask, the share is exact, the output stays closer to the old one than Wanda's."""
    for seed in range(4):
        X, W = correlated_inputs(seed), weight(seed)
        H = X.T @ X
        before = W.clone(), H.clone()
        for target in ({"sparsity": 0.5}, {"sparsity": 0.7}, {"pattern": "2:4"}, {"pattern": "1:3"}):
            new, keep = function(W, H, **target)
            assert torch.equal(W, before[0]) and torch.equal(H, before[1])
            assert new.dtype == W.dtype and keep.dtype == torch.bool and new.shape == keep.shape == W.shape
            assert (new[~keep] == 0).all() and (new[keep] != 0).all()
            if "pattern" in target:
                n, m = int(target["pattern"][0]), int(target["pattern"][2])
                assert (keep.unflatten(1, (-1, m)).sum(-1) == n).all()
            else:
                assert (~keep).sum() == int(target["sparsity"] * W.numel() + 1e-9)
            wanda = W * wanda_mask(W, H.diagonal(), **target)
            assert output_error(X, W, new) < output_error(X, W, wanda)
            # The update is what helps: the same mask without it is worse.
            assert output_error(X, W, new) < 0.9 * output_error(X, W, W * keep)


def column_by_column(W, H, sparsity=None, pattern=None, block=128, damping=0.01):
    """SparseGPT without Cholesky's factor: the inverse over the columns that are left, anew for each, in float64."""
    W, H = W.double(), H.double().clone()
    dead = H.diagonal() == 0
    W = torch.where(dead, 0, W)
    H.diagonal()[dead] = 1
    H += damping * H.diagonal().mean() * torch.eye(len(H))
    left = [torch.linalg.inv(H[j:, j:]) for j in range(len(H))]
    keep = torch.ones(W.shape, dtype=torch.bool)
    if pattern:
        n, block = map(int, pattern.split(":"))
    for j in range(len(H)):
        if j % block == 0:
            part = slice(j, min(j + block, len(H)))
            cost = W[:, part] ** 2 / torch.stack([inverse[0, 0] for inverse in left[part]])
            if pattern:
                keep[:, part] = nm_mask(cost, n, block)
            else:
                keep[:, part] = exact_mask(cost.reshape(1, -1), sparsity).reshape(cost.shape)
        lost = torch.where(keep[:, j], 0, W[:, j])
        W[:, j:] -= lost[:, None] * left[j][0] / left[j][0, 0]
    return W * keep, keep


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 0.5},
        {"sparsity": 0.3, "block": 10},
        {"sparsity": 0.7, "block": 8, "damping": 0.1},
        {"pattern": "2:4"},
        {"pattern": "1:3", "block": 7},
    ],
    ids=str,
)
def test_sparsegpt_is_its_plain_loop(options, seed):
    X, W = correlated_inputs(seed), weight(seed)
    X[:, [0, 7]] = 0
    H = X.T @ X * 1e-8  # so small that the 1 that stands for a dead input counts in the damping
    expected, mask = column_by_column(W, H, **options)
    new, keep = sparsegpt(W, H, **options)
    assert torch.equal(keep, mask)
    torch.testing.assert_close(new.double(), expected, rtol=1e-4, atol=1e-5)


def test_sparsegpt_takes_128_columns_at_a_time_and_damps_by_a_hundredth():
    X, W = correlated_inputs(5, columns=140), weight(5, columns=140)
    for a, b in zip(sparsegpt(W, X.T @ X, 0.5), sparsegpt(W, X.T @ X, 0.5, block=128, damping=0.01)):
        assert torch.equal(a, b)


def test_sparsegpt_removes_one_weight_as_least_squares_would():
    check_one_removal(sparsegpt)


def test_sparsegpt_prunes_a_layer_closer_to_its_output_than_wanda():
    check_pruned_layer(sparsegpt)


@given(seeds, st.sampled_from([4, 8, 10, 24, 128]))
def test_sparsegpt_prunes_the_exact_share_of_every_block(seed, block):
    X, W = correlated_inputs(seed), weight(seed)
    _, keep = sparsegpt(W, X.T @ X, sparsity=0.3, block=block)
    for part in keep.split(block, 1):
        assert (~part).sum() == 3 * part.numel() // 10


@pytest.mark.parametrize("block", [1, 3, 4, 6, 24, 128])
def test_sparsegpt_fills_every_group_whatever_the_block(block):
    X, W = correlated_inputs(1), weight(1)
    new, keep = sparsegpt(W, X.T @ X, pattern="2:4", block=block)
    assert (keep.unflatten(1, (-1, 4)).sum(-1) == 2).all()
    # Groups are decided from left to right in any case, so that the block is only a matter of speed.
    whole, _ = sparsegpt(W, X.T @ X, pattern="2:4")
    torch.testing.assert_close(new, whole, rtol=1e-3, atol=1e-4)


@given(seeds)
def test_uncorrelated_inputs_leave_nothing_to_make_up_for(seed):
    W, E = weight(seed), correlated_inputs(seed).square().mean(0)
    new, keep = sparsegpt(W, E.diag(), pattern="2:4", damping=0.0)
    assert torch.equal(keep, wanda_mask(W, E, pattern="2:4"))
    assert torch.equal(new, W * keep)


@given(seeds, st.integers(-20, 8))
def test_sparsegpt_does_not_see_the_scale_of_its_gram_matrix(seed, power):
    X, W = correlated_inputs(seed), weight(seed)
    H = X.T @ X
    for a, b in zip(sparsegpt(W, H, sparsity=0.5), sparsegpt(W, H * 4.0**power, sparsity=0.5)):
        assert torch.equal(a, b)


def test_sparsegpt_with_nothing_to_prune_changes_nothing():
    X, W = correlated_inputs(0), weight(0)
    new, keep = sparsegpt(W, X.T @ X, sparsity=0)
    assert torch.equal(new, W) and keep.all()


@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"pattern": "2:4"}])
def test_dead_inputs_lose_their_weights_and_disturb_no_others(target):
    X, W = correlated_inputs(2), weight(2)
    X[:, [0, 7]] = 0
    new, keep = sparsegpt(W, X.T @ X, **target)
    assert new.isfinite().all() and (new[:, [0, 7]] == 0).all()
    assert sparsity_of(keep) == 0.5
    assert output_error(X, W, new) < output_error(X, W, W * keep)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_come_back_in_their_dtype_all_is_reckoned_in_float32(dtype):
    X, W = correlated_inputs(3), weight(3, dtype=dtype).requires_grad_()
    H = (X.T @ X).to(dtype if dtype == torch.float64 else torch.bfloat16)
    new, keep = sparsegpt(W, H, sparsity=0.5)
    plain, mask = sparsegpt(W.float(), H.float(), sparsity=0.5)
    assert new.dtype == dtype and torch.equal(keep, mask) and torch.equal(new, plain.to(dtype))
    assert not new.requires_grad


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", [(0, 0), (5, 5), (23, 23), (3, 4)])
def test_a_gram_matrix_that_is_not_finite_is_refused(bad, place):
    H = torch.eye(24)
    H[place] = H[place[::-1]] = bad
    with pytest.raises(PrunekitError, match=r"not positive definite.*calibration tokens"):
        sparsegpt(weight(0), H, sparsity=0.5)


def test_a_gram_matrix_with_a_negative_direction_is_refused():
    H = torch.eye(24)
    H[0, 1] = H[1, 0] = 2.0
    with pytest.raises(PrunekitError, match="not positive definite"):
        sparsegpt(weight(0), H, sparsity=0.5)


def test_bad_targets_are_refused():
    W, E = weight(0), torch.ones(24)
    for call in (
        magnitude_mask,
        lambda W, **t: wanda_mask(W, E, **t),
        lambda W, **t: sparsegpt(W, E.diag(), **t),
    ):
        for target, message in [
            ({"sparsity": 1.0}, "sparsity is 1.0"),
            ({}, "not neither"),
            ({"sparsity": 0.5, "pattern": "2:4"}, "not both"),
            ({"pattern": "4:2"}, "1 <= N <= M"),
            ({"pattern": "2:5"}, "groups of 5"),
        ]:
            with pytest.raises(PrunekitError, match=message):
                call(W, **target)


def test_bad_blocks_and_statistics_of_other_inputs_are_refused():
    W = weight(0)
    for block in (0, 2.5, -1):
        with pytest.raises(PrunekitError, match="block is"):
            sparsegpt(W, torch.eye(24), 0.5, block=block)
    for shape in ((23, 23), (24, 23), (1, 1)):
        with pytest.raises(PrunekitError, match=r"H has the shape .* expected \[24, 24\]"):
            sparsegpt(W, torch.ones(shape), 0.5)
    for shape in ((23,), (1,)):
        with pytest.raises(PrunekitError, match=r"E has the shape .* expected \[24\]"):
            wanda_mask(W, torch.ones(shape), 0.5)


# What a wrong implementation looks like, and that the checks above would notice.


def magnitude_by_row(W, sparsity):
    return exact_mask(W.abs(), sparsity)


def magnitude_with_signs(W, sparsity):
    return exact_mask(W.reshape(1, -1), sparsity).reshape(W.shape)


@pytest.mark.parametrize("wrong", [magnitude_by_row, magnitude_with_signs])
def test_the_check_of_magnitude_rejects(wrong):
    with pytest.raises(AssertionError):
        check_magnitude(wrong)


def wanda_over_the_layer(W, E, sparsity):
    return exact_mask((W.abs() * E.sqrt()).reshape(1, -1), sparsity).reshape(W.shape)


def wanda_without_inputs(W, E, sparsity):
    return exact_mask(W.abs(), sparsity)


def wanda_with_the_squared_norm(W, E, sparsity):
    return exact_mask(W.abs() * E, sparsity)


@pytest.mark.parametrize("wrong", [wanda_over_the_layer, wanda_without_inputs, wanda_with_the_squared_norm])
def test_the_check_of_wanda_rejects(wrong):
    with pytest.raises(AssertionError):
        check_wanda(wrong)


def no_update(W, H, **target):
    _, keep = sparsegpt(W, H, **target)
    return W * keep, keep


def update_with_the_wrong_sign(W, H, **target):
    new, keep = sparsegpt(W, H, **target)
    return 2 * W * keep - new, keep


def correlations_ignored(W, H, **target):
    return sparsegpt(W, H.diagonal().diag(), **target)


def inverse_instead_of_hessian(W, H, **target):
    return sparsegpt(W, torch.linalg.inv(H), **target)


def pruned_weights_not_zeroed(W, H, **target):
    new, keep = sparsegpt(W, H, **target)
    return new + 1e-3 * W, keep


def hessian_damped_in_place(W, H, **target):
    H.diagonal().mul_(1.01)
    return sparsegpt(W, H, **target)


@pytest.mark.parametrize(
    "wrong",
    [
        no_update,
        update_with_the_wrong_sign,
        correlations_ignored,
        inverse_instead_of_hessian,
        pruned_weights_not_zeroed,
        hessian_damped_in_place,
    ],
)
def test_the_checks_of_sparsegpt_reject(wrong):
    for check in (check_one_removal, check_pruned_layer):
        with pytest.raises(AssertionError):
            check(wrong)


def test_dead_inputs_without_damping():
    g = torch.Generator().manual_seed(0)
    X, W = torch.randn(400, 24, generator=g), torch.randn(8, 24, generator=g)
    X[:, [0, 7]] = 0
    new, _ = sparsegpt(W, X.T @ X, sparsity=0.5, damping=0.0)
    assert new.isfinite().all() and (new[:, [0, 7]] == 0).all()


@pytest.mark.parametrize("target", [{"pattern": "1:2"}, {"sparsity": 0.5, "block": 2}])
def test_later_masks_are_chosen_by_the_weights_as_updated(target):
    # Inputs 1 and 3 are nearly the same: what goes with 1 comes back on 3, which is then worth more than 2.
    H = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0.99], [0, 0, 1, 0], [0, 0.99, 0, 1]])
    new, keep = sparsegpt(torch.tensor([[3.0, 2.0, 1.0, 0.1]]), H, **target, damping=0.0)
    assert keep.tolist() == [[True, False, False, True]]
    assert new[0, 3] == pytest.approx(0.1 + 0.99 * 2, rel=1e-4)
