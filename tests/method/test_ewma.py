"""The moving threshold against its rule as a plain loop, against sorting, and against its target."""

from math import ceil, erf, exp, log, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import PrunekitError
from prunekit.method import ewma
from prunekit.method.ewma import BatchEWMA, mean_mask, quantile_mask, start_threshold, step_size, step_tables
from prunekit.method.masks import exact_mask, sparsity_of

seeds = st.integers(0, 2**32 - 1)
shares = st.floats(0.05, 0.95)
TARGETS = (0.2, 0.5, 0.7, 0.9)


def gaussian(rows, columns, seed=0):
    """Scores of Gaussian weights."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).square()


def heavy_tailed(rows, columns, seed=0):
    """Scores whose mean lies far above their median."""
    return gaussian(rows, columns, seed) / gaussian(rows, columns, seed + 1).clamp_min(0.0025)


def unlike_scales(rows):
    """A factor for each row, from 1e-20 to 1e20."""
    return torch.logspace(-20, 20, rows)[:, None]


def row_by_row(L, s, rate=0.01, block=64):
    """The rule as its docstring states it, one weight at a time, in float32; its constants as they were chosen.

    Returns the mask, and for each row the thresholds before each block of the scan that decides and after it.
    """
    masks, thresholds = [], []
    step, spread = min(0.2, rate / (4 * s * (1 - s))), 4 * s * (1 - s)
    for row in L.float().clamp(1e-30, 1e30).numpy():
        columns, total = len(row), np.float32(0)
        whole = [row[j : j + block] for j in range(0, columns, block) if j == 0 or j + block <= columns]
        first = next((part for part in whole if (part > np.float32(1e-30)).any()), whole[-1])
        for x in first:
            total += x
        q, seen = total * np.float32(ewma.gaussian_share(s) / len(first)), 0
        scans = max(3, ceil(1024 / columns))
        for scan in range(scans + 1):
            qs, kept = [q], []
            for j in range(0, columns, block):
                part = row[j : j + block]
                hits = 0
                for x in part:
                    hits += int(x < q)
                    kept.append(not x < q)
                seen += len(part)
                eta = max(step, min(0.2, 16 / spread / seen)) if scan < scans else step
                q = q * np.float32(exp(eta * (len(part) * s - hits)))
                qs.append(q)
        masks.append(kept)
        thresholds.append(qs)
    return torch.tensor(masks), thresholds


def settled_within(columns, s, block=64):
    """Bound on ``|achieved - s|`` in a row of equal scores: how far q can lie from their value, in steps."""
    seen = max(3, ceil(1024 / columns)) * columns
    last_warmup_step = max(step_size(s), min(0.2, 16 / (4 * s * (1 - s)) / seen))
    return last_warmup_step / step_size(s) * min(block, columns) / columns + 1e-6


def check_quantile_rule(select):
    """`select` hits its target in all and in each row, whatever the row's scale, and agrees with sorting."""
    L = heavy_tailed(48, 576) * unlike_scales(48)
    for s in TARGETS:
        before = L.clone()
        keep = select(L, s)
        assert torch.equal(L, before)
        assert keep.dtype == torch.bool and keep.shape == L.shape
        assert abs(sparsity_of(keep) - s) < 0.003
        assert ((~keep).float().mean(1) - s).abs().max() < 0.02
        assert (keep != exact_mask(L, s)).float().mean() < 0.02
        assert torch.equal(select(L * 2.0**-10, s), keep)
        for value in (0.0, 3.0):
            assert abs(sparsity_of(select(torch.full((1, 576), value), s)) - s) < settled_within(576, s)


def test_quantile_mask_passes_the_check_of_its_rule():
    check_quantile_rule(quantile_mask)


@pytest.mark.parametrize("block", [1, 5, 64])
@given(seed=seeds, columns=st.integers(1, 150), s=shares, rate=st.sampled_from([0.003, 0.01, 0.05]))
def test_quantile_mask_is_the_plain_loop_and_its_updates_telescope(block, seed, columns, s, rate):
    L = heavy_tailed(2, columns, seed)
    keep, thresholds = row_by_row(L, s, rate, block)
    assert torch.equal(quantile_mask(L, s, rate, block), keep)
    for kept, qs in zip(keep, thresholds):
        missed = (log(qs[0]) - log(qs[-1])) / (step_size(s, rate) * columns)
        assert sparsity_of(kept) - s == pytest.approx(missed, abs=1e-4)


@given(st.lists(st.sampled_from([0.0, 1e-35, 0.5, 1.0, 1e35]), min_size=1, max_size=80), shares)
def test_quantile_mask_is_the_plain_loop_with_ties_zeros_and_extremes(row, s):
    L = torch.tensor([row])
    assert torch.equal(quantile_mask(L, s), row_by_row(L, s)[0])


@pytest.mark.parametrize("s", [0.1, 0.5, 0.8])
def test_quantile_mask_as_it_is_called_is_the_plain_loop_on_rows_of_any_width(s):
    for columns in (330, 350, 520, 1100):  # the warm-up scans a row three times or more, up to 1024 scores
        L = heavy_tailed(1, columns, columns)
        assert torch.equal(quantile_mask(L, s), row_by_row(L, s)[0])


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([1, 4, 5]), st.sampled_from(TARGETS), seeds)
def test_a_row_that_begins_with_zeros_is_the_plain_loop_too(dead, alive, block, s, seed):
    L = torch.cat([torch.zeros(1, dead), gaussian(1, alive, seed)], 1)
    assert torch.equal(quantile_mask(L, s, block=block), row_by_row(L, s, block=block)[0])


@pytest.mark.parametrize("power", [-30, 30])
@pytest.mark.parametrize("s", TARGETS)
def test_scores_beyond_the_limits_count_as_these(power, s):
    spread = torch.rand(4, 200, generator=torch.Generator().manual_seed(power + 30)) * 2 - 1
    L = 10.0 ** (power + spread)  # from a tenth of the limit to ten times as much
    assert torch.equal(quantile_mask(L, s), row_by_row(L, s)[0])
    assert torch.equal(mean_mask(L, s), mean_mask(L.clamp(1e-30, 1e30), s))


def test_a_score_that_equals_its_threshold_stays():
    equals = 0
    for seed in range(10):
        L = heavy_tailed(1, 32, seed)
        q = row_by_row(L, 0.5, block=8)[1][0][-2]  # what the last block is compared with
        L[0, -1] = q.item()
        keep, thresholds = row_by_row(L, 0.5, block=8)
        if thresholds[0][-2] == q:  # the change did not move it
            equals += 1
            assert keep[0, -1] and quantile_mask(L, 0.5, block=8)[0, -1]
    assert equals


@pytest.mark.parametrize("columns", [3, 40, 300])
def test_scores_that_equal_the_first_threshold_do_not_lower_it(columns):
    s = erf(sqrt(0.5))  # where the Gaussian share is one: a row of equal scores begins at that score
    L = torch.full((1, columns), 2.0)
    assert start_threshold(L, s).item() == 2
    assert torch.equal(quantile_mask(L, s), row_by_row(L, s)[0])
    L[0, columns // 2 :] = heavy_tailed(1, columns - columns // 2, 0)
    assert torch.equal(quantile_mask(L, s), row_by_row(L, s)[0])


@pytest.mark.parametrize("mask", [quantile_mask, mean_mask])
def test_the_default_dtype_changes_nothing(mask):
    L = torch.cat([torch.zeros(4, 40), heavy_tailed(4, 200, 0)], 1)
    kept = mask(L, 0.5)
    step_tables.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(mask(L, 0.5), kept)
        assert {table.dtype for table in step_tables(240, 0.5)} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("rows", [64, 256])
@pytest.mark.parametrize("s", TARGETS)
@pytest.mark.parametrize("scores", [gaussian, heavy_tailed])
def test_quantile_mask_lands_within_a_third_of_a_point_of_its_target(scores, rows, s):
    assert abs(sparsity_of(quantile_mask(scores(rows, 576), s)) - s) < 0.003


@given(seeds, st.integers(-40, 40), st.sampled_from(TARGETS))
def test_quantile_mask_does_not_see_a_rows_scale(seed, power, s):
    L = gaussian(3, 100, seed).clamp_min(1e-9)
    assert torch.equal(quantile_mask(L * 2.0**power, s), quantile_mask(L, s))


@given(seeds, st.sampled_from(TARGETS))
def test_rows_do_not_see_each_other(seed, s):
    L = gaussian(4, 90, seed) * unlike_scales(4)
    assert torch.equal(quantile_mask(L, s), torch.cat([quantile_mask(row[None], s) for row in L]))


@given(st.sampled_from([0.0, 1e-25, 1.0, 7e20, 1e38]), st.integers(1, 700), shares)
def test_equal_scores_are_split_as_well_as_the_telescope_permits(value, columns, s):
    share = sparsity_of(quantile_mask(torch.full((1, columns), value), s))
    assert abs(share - s) <= settled_within(columns, s)


def test_scores_that_grow_along_the_row_still_hit_the_target():
    drift = torch.logspace(-1, 1, 2048)
    for L in (gaussian(32, 2048) * drift, gaussian(32, 2048) * drift.flip(0)):
        assert abs(sparsity_of(quantile_mask(L, 0.5)) - 0.5) < 0.01


@pytest.mark.parametrize("s", TARGETS)
def test_quantile_mask_decides_nearly_as_sorting_does_on_smooth_scores(s):
    L = gaussian(64, 576)
    differs = quantile_mask(L, s) != exact_mask(L, s)
    assert differs.float().mean() < 0.015
    # Where the two differ, the score lies close to the row's exact threshold.
    cut = L.sort(1).values[:, int(s * 576), None].expand_as(L)
    assert (L / cut)[differs].log().abs().max() < 0.5


@pytest.mark.parametrize("mask", [quantile_mask, mean_mask])
def test_no_sparsity_keeps_everything_and_a_bad_one_is_refused(mask):
    kept = mask(gaussian(3, 5), 0.0)
    assert mask(torch.zeros(3, 5), 0).all() and kept.shape == (3, 5) and kept.all()
    for bad in (1, -0.1, float("nan"), "x", None):
        with pytest.raises(PrunekitError, match="sparsity is"):
            mask(gaussian(3, 5), bad)


@pytest.mark.parametrize("mask", [quantile_mask, mean_mask])
def test_what_keeps_everything_lies_where_the_scores_lie(mask):
    assert mask(torch.ones(3, 5, device="meta"), 0).is_meta


@pytest.mark.parametrize("mask", [quantile_mask, mean_mask])
def test_one_column_and_narrow_dtypes(mask):
    assert mask(gaussian(6, 1), 0.5).shape == (6, 1)
    L = gaussian(8, 200).bfloat16()
    before = L.clone()
    assert torch.equal(mask(L, 0.5), mask(L.float(), 0.5))
    assert torch.equal(L, before)


# The numbers behind the rule.


@given(shares)
def test_the_threshold_starts_where_it_should_be_for_gaussian_weights(s):
    c = ewma.gaussian_share(s)
    assert erf(sqrt(c / 2)) == pytest.approx(s, rel=1e-13)
    L = gaussian(3, 100)
    assert start_threshold(L, s, 64) == pytest.approx((c * L[:, :64].mean(1)).numpy(), rel=1e-5)
    assert start_threshold(L[:, :10], s, 64) == pytest.approx((c * L[:, :10].mean(1)).numpy(), rel=1e-5)
    assert torch.equal(start_threshold(L, s, 1), L[:, 0] * torch.tensor(c).float())


def sum_by_halves(x):
    """The sum of float32 numbers, rounded as a tree of equal halves rounds it."""
    half = len(x) // 2
    return x[0] if len(x) == 1 else sum_by_halves(x[:half] + x[half:])


@given(seeds, st.integers(1, 150), st.sampled_from([1, 2, 5, 64]), shares)
def test_the_first_scores_are_summed_by_halves(seed, columns, block, s):
    L = heavy_tailed(1, columns, seed)
    first = np.zeros(2 ** ceil(log(block, 2)), dtype=np.float32)
    count = min(block, columns)
    first[:count] = L[0, :count]
    expected = sum_by_halves(first) * np.float32(ewma.gaussian_share(s) / count)
    assert start_threshold(L, s, block).item() == expected
    if block == 64:
        assert torch.equal(start_threshold(L, s), start_threshold(L, s, 64))


@pytest.mark.parametrize(("columns", "dead"), ((160, 64), (576, 64), (1000, 100), (1536, 300)))
def test_a_row_that_begins_with_zeros_still_loses_its_share(columns, dead):
    L = gaussian(16, columns)
    L[:, :dead] = 0
    for s in (0.5, 0.8):  # of which zeros go first
        assert 1 - quantile_mask(L, s).float().mean().item() == pytest.approx(s, abs=0.05)
    assert not quantile_mask(torch.zeros(2, columns), 0.5).all()


@given(shares)
def test_steps_are_longer_towards_the_outer_quantiles(s):
    assert step_size(0.5) == 0.01 and step_size(0.5, 0.03) == 0.03
    assert step_size(s) == pytest.approx(min(0.2, 0.01 / (4 * s * (1 - s))))
    assert step_size(s) == pytest.approx(step_size(1 - s))
    assert step_size(0.5) <= step_size(s) <= step_size(0.9 * min(s, 1 - s)) <= 0.2
    assert step_size(1e-6) == step_size(0.5, rate=9) == 0.2


@given(st.integers(1, 1500), shares, st.sampled_from([1, 7, 64, 100]))
def test_a_blocks_step_is_what_its_single_steps_add_up_to(columns, s, block):
    warmup, decision = step_tables(columns, s, 0.01, block)
    if block == 64:
        assert all(torch.equal(*pair) for pair in zip((warmup, decision), step_tables(columns, s)))
    blocks, last = ceil(columns / block), (columns - 1) % block + 1
    assert decision.shape == (blocks, block + 1)
    assert warmup.shape == (max(3, ceil(1024 / columns)) * blocks, block + 1)
    up, down = (step_tables(1, s, 0.01, 1)[1][0, hit].item() for hit in (0, 1))
    for hits in {0, last // 2, last}:
        assert decision[-1, hits].item() == pytest.approx(up ** (last - hits) * down**hits, rel=1e-4)
    # The warm-up's steps fall, from no more than 0.2 down to no less than the step that decides.
    lengths = torch.tensor([block] * (blocks - 1) + [last]).repeat(len(warmup) // blocks).double()
    steps = (16 / (4 * s * (1 - s)) / lengths.cumsum(0)).clamp(step_size(s), 0.2)
    expected = steps[:, None] * (lengths[:, None] * s - torch.arange(block + 1))
    torch.testing.assert_close(warmup.double().log(), expected, rtol=1e-5, atol=1e-6)


def test_the_mean_deviation_of_squared_gaussian_weights():
    expected = 4 * exp(-0.5) / sqrt(2 * pi)
    measured = (gaussian(1, 1_000_000) - 1).abs().mean().item()
    assert abs(ewma.MEAN_DEVIATION - expected) < 1e-9
    assert abs(ewma.MEAN_DEVIATION - measured) < 0.01


# The lesson: what has a target hits it; what has none does not.


@pytest.mark.parametrize("s", TARGETS)
def test_mean_mask_misses_its_target_on_heavy_tails_where_quantile_mask_does_not(s):
    L = heavy_tailed(128, 576)
    assert abs(sparsity_of(mean_mask(L, s)) - s) > 0.02
    assert abs(sparsity_of(quantile_mask(L, s)) - s) < 0.003


@pytest.mark.parametrize("s", TARGETS)
def test_mean_mask_comes_close_on_the_gaussian_weights_that_it_was_set_for(s):
    assert abs(sparsity_of(mean_mask(gaussian(128, 576), s)) - s) < 0.06


@given(seeds, st.sampled_from(TARGETS))
def test_mean_mask_is_its_plain_loop(seed, s):
    L = heavy_tailed(2, 100, seed)
    k = (1 - ewma.gaussian_share(s)) / ewma.MEAN_DEVIATION
    for row, kept in zip(L.double(), mean_mask(L, s, rate=0.1, deviation_rate=0.02)):
        m = row[:64].mean()
        d = (row[:64] - m).abs().mean()
        for x, stays in zip(row, kept):
            assert stays == (x >= m - k * d) or abs(x - (m - k * d)) < 1e-4 * x
            m, d = m + 0.1 * (x - m), d + 0.02 * ((x - m).abs() - d)
    assert torch.equal(mean_mask(L, s), mean_mask(L, s, 0.05, 0.05))


# Averages over batches.


def check_batch_average(make):
    """The average is the explicit, normalized weighted sum, from the first batch on."""
    batches = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    for decay in (0.0, 0.5, 0.9, 0.99):
        average, constant = make(decay), make(decay)
        for t in range(1, len(batches) + 1):
            before = batches.clone()
            average.update_(batches[t - 1])
            constant.update_(torch.tensor([2.0, -3.0]))
            assert torch.equal(batches, before)
            weights = torch.tensor([decay ** (t - i) for i in range(1, t + 1)])
            expected = (weights[:, None] * batches[:t]).sum(0) / weights.sum()
            torch.testing.assert_close(average.value, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(constant.value, torch.tensor([2.0, -3.0]), rtol=1e-4, atol=0)
        if decay == 0:
            assert torch.equal(average.value, batches[-1])


def test_the_average_over_batches_is_the_explicit_weighted_sum():
    check_batch_average(BatchEWMA)


def test_the_average_counts_its_batches_and_has_no_value_before_the_first():
    average = BatchEWMA()
    assert average.decay == 0.99
    with pytest.raises(ValueError, match="no batch yet"):
        average.value  # noqa: B018
    average.update_(torch.ones(2, 2))
    average.update_(torch.ones(2, 2))
    assert average.batches == 2 and average.value.shape == (2, 2)


def test_the_average_holds_no_view_of_a_batch():
    average, batch = BatchEWMA(0.0), torch.ones(3)
    average.update_(batch)
    batch.zero_()
    average.value.zero_()
    assert average.value.tolist() == [1, 1, 1]


# What a wrong implementation looks like, and that the checks above would notice.


def variant(L, s, *, sign=1, warm_up=True, moves=True, shared=False, clamp=True, rate=ewma.RATE, target=None):
    """The rule with one thing wrong."""
    keep = torch.ones_like(L, dtype=torch.bool)
    L = L.clamp(ewma.LOW, ewma.HIGH) if clamp else L
    target = s if target is None else target
    q = start_threshold(L, s)
    step, seen = step_size(s, rate), 0
    scans = 3 if warm_up else 1
    for scan in range(scans):
        for j in range(0, L.shape[1], ewma.BLOCK):
            hit = L[:, j : j + ewma.BLOCK] < q[:, None]
            keep[:, j : j + ewma.BLOCK] = ~hit
            seen += hit.shape[1]
            eta = step if scan == scans - 1 else max(step, min(0.2, 16 / (4 * s * (1 - s)) / seen))
            surplus = target - hit.float().mean(1)
            if shared:
                surplus = surplus.mean().expand_as(surplus)
            if moves:
                q = q * (sign * eta * hit.shape[1] * surplus).exp()
    return keep


def threshold_not_updated(L, s):
    return variant(L, s, moves=False)


def updated_with_the_wrong_sign(L, s):
    return variant(L, s, sign=-1)


def no_warm_up(L, s):
    return variant(L, s, warm_up=False)


def steps_too_long(L, s):
    return variant(L, s, rate=0.2)


def one_surplus_for_all_rows(L, s):
    return variant(L, s, shared=True)


def zeros_not_clamped(L, s):
    return variant(L, s, clamp=False)


def share_kept_instead_of_pruned(L, s):
    return variant(L, s, target=1 - s)


def one_threshold_for_the_whole_layer(L, s):
    return exact_mask(L.reshape(1, -1), s).reshape(L.shape)


def mask_inverted(L, s):
    return ~quantile_mask(L, s)


@pytest.mark.parametrize(
    "wrong",
    [
        threshold_not_updated,
        updated_with_the_wrong_sign,
        no_warm_up,
        steps_too_long,
        one_surplus_for_all_rows,
        zeros_not_clamped,
        share_kept_instead_of_pruned,
        one_threshold_for_the_whole_layer,
        mask_inverted,
        mean_mask,
    ],
)
def test_the_check_of_the_quantile_rule_rejects(wrong):
    with pytest.raises(AssertionError):
        check_quantile_rule(wrong)


def test_the_variants_are_wrong_only_by_what_is_changed_in_them():
    check_quantile_rule(variant)


class NoCorrection(BatchEWMA):
    @property
    def value(self):
        return self._raw


class CorrectedOnceOnly(BatchEWMA):
    @property
    def value(self):
        return self._raw / (1 - self.decay)


class DecayOnTheNewBatch(BatchEWMA):
    def __init__(self, decay):
        super().__init__(1 - decay if decay else 0.0)


class PlainMean(BatchEWMA):
    def update_(self, x):
        self.decay = 1 - 1 / (self.batches + 1)
        self._raw = x / (self.batches + 1) + (0 if self._raw is None else self.decay * self._raw)
        self.batches += 1

    @property
    def value(self):
        return self._raw


@pytest.mark.parametrize("wrong", [NoCorrection, CorrectedOnceOnly, DecayOnTheNewBatch, PlainMean])
def test_the_check_of_the_batch_average_rejects(wrong):
    with pytest.raises(AssertionError):
        check_batch_average(wrong)


def test_equal_scores_all_stay_by_the_rule_of_the_mean():
    assert mean_mask(torch.full((2, 100), 3.0), 0.5).all()


def test_the_rule_of_the_mean_takes_infinite_scores():
    L = torch.ones(1, 200)
    L[0, 3] = torch.inf
    assert mean_mask(L, 0.5)[0, 3]


@pytest.mark.parametrize("decay", [1, 1.5, -0.1, float("nan")])
def test_a_bad_decay_is_refused(decay):
    with pytest.raises(PrunekitError, match="decay is"):
        BatchEWMA(decay)
