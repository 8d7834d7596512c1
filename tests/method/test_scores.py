"""Scores against explicit loops, Wanda's order, and what a removed weight really costs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import PrunekitError
from prunekit.method import fp8
from prunekit.method.scores import METRICS, column_factors, contribution, keep_score, magnitude, rank_one, score

seeds = st.integers(0, 2**32 - 1)


def layer(seed, rows=5, columns=7):
    """A weight and the mean squares of its inputs, over a few orders of magnitude."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=g), torch.randn(columns, generator=g).mul(2).exp()


def check_contribution(function):
    """`function` multiplies each squared weight with its input's mean square, and orders as Wanda does."""
    W, E = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, -4.0]]), torch.tensor([4.0, 9.0, 0.25])
    before = W.clone(), E.clone()
    L = function(W, E)
    assert torch.equal(W, before[0]) and torch.equal(E, before[1])
    assert L.dtype == torch.float32 and L.shape == W.shape
    for i in range(2):
        for j in range(3):
            assert L[i, j] == W[i, j] ** 2 * E[j]
    # Whole numbers, so that both orders are free of rounding and have the same ties.
    g = torch.Generator().manual_seed(0)
    W, norm = torch.randint(-9, 10, (20, 30), generator=g), torch.randint(0, 9, (30,), generator=g)
    L, wanda = function(W.float(), norm.float() ** 2), W.abs() * norm
    for row, expected in zip(L, wanda):
        assert torch.equal(row[:, None] < row, expected[:, None] < expected)


def test_contribution_is_the_squared_weight_times_its_inputs_mean_square():
    check_contribution(contribution)


def test_contribution_is_each_weights_share_of_the_output_when_inputs_are_uncorrelated():
    W, E = layer(0)
    X = torch.linalg.qr(torch.randn(64, 7, generator=torch.Generator().manual_seed(1))).Q * (64 * E).sqrt()
    torch.testing.assert_close(contribution(W, E).sum(1), (X @ W.T).square().mean(0))


@given(seeds)
def test_magnitude_orders_as_the_absolute_weight(seed):
    W, _ = layer(seed)
    assert torch.equal(magnitude(W), W * W)
    assert torch.equal(magnitude(W).argsort(stable=True), W.abs().argsort(stable=True))


@given(seeds)
def test_rank_one_follows_its_formula(seed):
    W, E = layer(seed)
    w, e = W.double(), E.double()
    expected = w**2 / (1 - e / e.sum())
    torch.testing.assert_close(rank_one(W, E).double(), expected, rtol=1e-4, atol=0)


@given(seeds)
def test_rank_one_does_not_depend_on_the_unit_of_the_inputs(seed):
    W, E = layer(seed)
    for power in (20, -40, -100):
        assert torch.equal(rank_one(W, E), rank_one(W, E * 2.0**power))


@pytest.mark.parametrize("E", [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1e-38, 0.0, 0.0], [3e38, 3e38, 3e38]])
def test_rank_one_stays_finite_where_one_input_or_none_carries_all_energy(E):
    L = rank_one(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor(E))
    assert L.isfinite().all() and L[0, 2] == 0 and L[0, 0] >= 1


def test_rank_one_counts_an_input_that_carries_all_energy_as_the_rounding_of_one():
    assert column_factors(torch.tensor([0.0, 3.0]), "rank-one").tolist() == [1, 1 / torch.finfo(torch.float32).eps]


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_a_factor_for_each_column(metric):
    W, E = layer(3)
    named = {"contribution": contribution, "magnitude": lambda W, E: magnitude(W), "rank-one": rank_one}
    f = column_factors(E, metric)
    assert f.dtype == torch.float32 and f.shape == E.shape
    assert torch.equal(f, column_factors(E)) == (metric == "contribution")
    assert torch.equal(score(W, f), named[metric](W, E))


@pytest.mark.parametrize("metric", METRICS)
def test_factors_are_no_view_of_the_energies(metric):
    E = torch.tensor([1.0, 2.0])
    column_factors(E, metric).zero_()
    assert E.tolist() == [1, 2]


def test_an_unknown_metric_is_named_with_the_known_ones():
    with pytest.raises(PrunekitError, match=r"'wanda'.*contribution, magnitude, rank-one"):
        column_factors(torch.ones(3), "wanda")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("metric", METRICS)
def test_narrow_weights_are_widened_before_squaring(dtype, metric):
    # 300^2 overflows float16; 1.0078125^2 has no exact bfloat16.
    W, E = torch.tensor([[300.0, 1.0078125, 1e-3]], dtype=dtype), torch.tensor([1.0, 2.0, 3.0])
    L = score(W, column_factors(E, metric))
    assert L.dtype == torch.float32
    assert torch.equal(L, score(W.float(), column_factors(E, metric)))
    assert L[0, 0] >= 90_000
    assert column_factors(E.to(dtype), metric).dtype == torch.float32


@given(seeds, st.sampled_from(list(fp8.FORMATS.values())), st.sampled_from(fp8.GRANULARITIES))
def test_keep_score_lies_between_nothing_and_the_whole_score(seed, fmt, granularity):
    W, E = layer(seed)
    W = W**7  # many weights so small that the cast makes them zero
    scale = fp8.scales(W, fmt, granularity)
    Wq = fp8.uncast(fp8.cast(W, scale, fmt), scale)
    L = keep_score(W, Wq, E)
    assert (L >= 0).all() and (score(W, E) - L >= 0).all()
    assert (L[Wq == 0] == 0).all()
    assert torch.equal(keep_score(W, W, E), score(W, E))


@pytest.mark.parametrize("shape", [(1,), (5,), (8,), (5, 7), ()], ids=str)
def test_factors_that_do_not_fit_are_refused_even_where_they_would_broadcast(shape):
    W = torch.ones(5, 7)
    for call in (score, contribution, rank_one, lambda W, f: keep_score(W, W, f)):
        with pytest.raises(PrunekitError, match=r"E has the shape .* expected \[7\]"):
            call(W, torch.ones(shape))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_scores_are_float32_whatever_comes_in(dtype):
    W, E = layer(4)
    W, Wq, E = W.to(dtype), W.round().to(dtype), E.to(dtype)
    for L in (score(W, E), contribution(W, E), magnitude(W), rank_one(W, E), keep_score(W, Wq, E)):
        assert L.dtype == torch.float32
    assert torch.equal(score(W.float(), E), score(W.float(), E.float()))
    assert torch.equal(keep_score(W.float(), Wq, E), keep_score(W.float(), Wq.float(), E.float()))


def test_magnitudes_lie_where_the_weight_lies():
    assert magnitude(torch.ones(5, 7, device="meta")).is_meta


def test_keep_score_is_the_loss_of_pruning_minus_the_loss_of_casting():
    W, Wq, f = (
        torch.tensor([[3.0, -1.0, 0.5]]),
        torch.tensor([[2.0, -1.5, 0.0]]),
        torch.tensor([1.0, 2.0, 8.0]),
    )
    assert keep_score(W, Wq, f).tolist() == [[9 - 1, 2 * (1 - 0.25), 0]]
    assert keep_score(W.bfloat16(), Wq.bfloat16(), f).dtype == torch.float32


# What a removed weight costs, found by fitting the other weights anew.


def cost_after_refit(X, w, j):
    """Mean square error of the output once weight `j` is zero and the others have made up for it."""
    others = [k for k in range(len(w)) if k != j]
    target = X @ w
    refit = torch.linalg.lstsq(X[:, others], target[:, None]).solution
    return (target - X[:, others] @ refit[:, 0]).square().mean()


def inputs(seed, correlated):
    """200 inputs of 6 features, float64."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(200, 6, generator=g, dtype=torch.float64)
    if correlated:
        return X @ torch.randn(6, 6, generator=g, dtype=torch.float64)
    return torch.linalg.qr(X).Q * torch.arange(1, 7)


@given(seeds)
def test_contribution_is_the_cost_of_a_weight_when_inputs_are_uncorrelated(seed):
    W, X = layer(seed, rows=1, columns=6)[0], inputs(seed, correlated=False)
    costs = [cost_after_refit(X, W[0].double(), j) for j in range(6)]
    L = contribution(W, X.square().mean(0))[0]
    torch.testing.assert_close(L.double(), torch.stack(costs), rtol=1e-5, atol=1e-12)


@given(seeds)
def test_the_cost_of_a_weight_with_correlated_inputs_takes_the_inverse_hessian(seed):
    w, X = layer(seed, rows=1, columns=6)[0][0].double(), inputs(seed, correlated=True)
    costs = torch.stack([cost_after_refit(X, w, j) for j in range(6)])
    H = X.T @ X / len(X)
    torch.testing.assert_close(w**2 / torch.linalg.inv(H).diagonal(), costs, rtol=1e-6, atol=1e-12)
    # Others can make up for a part of the loss, never add to it.
    assert (costs <= contribution(w[None], H.diagonal())[0].double() * (1 + 1e-5)).all()


# What a wrong implementation looks like, and that the check above would notice.


def without_the_square(W, E):
    return W.abs() * E


def with_the_root_of_the_energy(W, E):
    return W * W * E.sqrt()


def without_the_inputs(W, E):
    return W * W


def divided_by_the_energy(W, E):
    return W * W / E.clamp_min(1e-6)


def squares_in_place(W, E):
    return W.mul_(W).mul_(E)


@pytest.mark.parametrize(
    "wrong",
    [
        without_the_square,
        with_the_root_of_the_energy,
        without_the_inputs,
        divided_by_the_energy,
        squares_in_place,
    ],
)
def test_the_check_of_contribution_rejects(wrong):
    with pytest.raises(AssertionError):
        check_contribution(wrong)


def test_keep_score_of_narrow_weights_is_taken_in_float32():
    W, Wq = torch.tensor([[300.0, 1.0078125]]), torch.tensor([[288.0, 1.0]])
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(
            keep_score(W.to(dtype), Wq.to(dtype), torch.ones(2)), keep_score(W.to(dtype).float(), Wq, torch.ones(2))
        )
