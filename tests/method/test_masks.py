"""Exact selection and N:M groups, against sorting each row or group in plain Python."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import PrunekitError
from prunekit.method.masks import exact_mask, nm_mask, sparsity_of
from prunekit.method.targets import check_sparsity, check_width, parse_pattern

# Few distinct values, so that ties are the rule.
values = st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(0, 1e6, width=32))
any_width = st.integers(1, 24)


@st.composite
def score_tensors(draw, widths=any_width):
    columns = draw(widths)
    row = st.lists(values, min_size=columns, max_size=columns)
    return torch.tensor(draw(st.lists(row, min_size=1, max_size=4)))


def random_scores(rows, columns):
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(0))


def kept_by_sorting(scores: list[float], count: int) -> list[bool]:
    """The `count` highest, of equals the ones further left."""
    best = sorted(range(len(scores)), key=lambda j: (-scores[j], j))[:count]
    return [j in best for j in range(len(scores))]


def check_exact(select, L, thousandths):
    """`select` prunes exactly the floor of the share per row, the lowest scores, ties from the right."""
    before = L.clone()
    keep = select(L, thousandths / 1000)
    columns = L.shape[1]
    pruned = thousandths * columns // 1000
    assert torch.equal(L, before)
    assert keep.dtype == torch.bool and keep.shape == L.shape
    assert ((~keep).sum(1) == pruned).all()
    for scores, kept in zip(L, keep):
        if 0 < pruned < columns:
            assert scores[~kept].max() <= scores[kept].min()
        assert kept.tolist() == kept_by_sorting(scores.tolist(), columns - pruned)


def check_nm(select, L, n, m):
    """`select` keeps the n highest of every m neighbours in a row, ties from the left."""
    before = L.clone()
    keep = select(L, n, m)
    assert torch.equal(L, before)
    assert keep.dtype == torch.bool and keep.shape == L.shape
    for scores, kept in zip(L, keep):
        for j in range(0, L.shape[1], m):
            assert kept[j : j + m].tolist() == kept_by_sorting(scores[j : j + m].tolist(), n)


def check_exact_on_examples(select):
    rows_of_unlike_scale = random_scores(6, 30) * 10.0 ** torch.arange(6)[:, None]
    for L in (rows_of_unlike_scale, torch.ones(2, 10), torch.zeros(2, 10), torch.tensor([[3.0]])):
        for thousandths in (0, 200, 500, 550, 999):
            check_exact(select, L, thousandths)


def check_nm_on_examples(select):
    L = random_scores(12, 24)
    for n, m in ((2, 4), (1, 4), (3, 4), (4, 8), (1, 1), (3, 3)):
        check_nm(select, L, n, m)
        check_nm(select, L.mul(3).round(), n, m)


@given(score_tensors(), st.integers(0, 999))
def test_exact_mask_agrees_with_sorting(L, thousandths):
    check_exact(exact_mask, L, thousandths)


def test_exact_mask_counts_shares_that_binary_cannot_hold():
    # 0.29 * 100, for one, is 28.999999999999996 in floating point.
    for columns in range(1, 101):
        L = random_scores(1, columns)
        counts = [exact_mask(L, pruned / columns).sum() for pruned in range(columns)]
        assert counts == list(range(columns, 0, -1))


@pytest.mark.parametrize("columns", [1, 7, 1000])
def test_exact_mask_rounds_a_share_that_falls_short_down(columns):
    for pruned in {1, columns // 2 + 1, columns}:
        L = random_scores(2, columns)
        assert (exact_mask(L, pruned / columns * (1 - 1e-9)).sum(1) == columns - pruned + 1).all()


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_nm_mask_agrees_with_sorting_for_any_n_and_m(m, groups, data):
    n = data.draw(st.integers(1, m))
    check_nm(nm_mask, data.draw(score_tensors(st.just(m * groups))), n, m)


def test_masks_pass_on_examples():
    check_exact_on_examples(exact_mask)
    check_nm_on_examples(nm_mask)


def test_groups_may_be_wide():
    check_nm(nm_mask, random_scores(2, 600), 150, 300)


def test_ties_keep_the_weight_further_left():
    assert exact_mask(torch.ones(1, 4), 0.5).tolist() == [[True, True, False, False]]
    assert nm_mask(torch.zeros(1, 4), 1, 4).tolist() == [[True, False, False, False]]


@given(score_tensors(), st.integers(0, 999))
def test_exact_selection_on_a_pruned_weight_keeps_the_same_zeros(L, thousandths):
    keep = exact_mask(L + 1, thousandths / 1000)
    assert torch.equal(exact_mask((L + 1) * keep, thousandths / 1000), keep)


@given(score_tensors(st.sampled_from([4, 8, 12])), st.integers(1, 4))
def test_nm_selection_on_a_pruned_weight_keeps_the_same_zeros(L, n):
    keep = nm_mask(L + 1, n, 4)
    assert torch.equal(nm_mask((L + 1) * keep, n, 4), keep)


@given(score_tensors(), st.integers(0, 998))
def test_a_higher_share_prunes_a_superset(L, thousandths):
    assert (exact_mask(L, thousandths / 1000) >= exact_mask(L, (thousandths + 1) / 1000)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_masks_take_any_float_dtype(dtype):
    L = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]], dtype=dtype)
    assert exact_mask(L, 0.5).tolist() == [[False, False, True, False, True, True, False, True]]
    assert nm_mask(L, 2, 4).tolist() == [[True, False, True, False, False, True, False, True]]


def test_sparsity_of_counts_what_a_mask_prunes():
    assert sparsity_of(torch.tensor([[True, False], [False, False]])) == 0.75
    full, one, none = (sparsity_of(torch.ones(shape, dtype=torch.bool)) for shape in ((3, 3), (1, 1), (0, 4)))
    assert (full, one, none) == (0, 0, 1) and type(full) is float


def test_masks_lie_where_the_scores_lie():
    L = torch.ones(2, 8, device="meta")
    assert exact_mask(L, 0.5).is_meta and nm_mask(L, 2, 4).is_meta


@pytest.mark.parametrize("pattern", ["4:2", "0:4", "2:0", "2", "a:b", "", ":", "2:4:8", "-2:4", "1.5:4", None, 24])
def test_a_bad_pattern_is_named_and_an_example_given(pattern):
    with pytest.raises(PrunekitError) as error:
        parse_pattern(pattern)
    assert repr(pattern) in str(error.value) and "2:4" in str(error.value)


def test_a_good_pattern_is_two_numbers():
    assert parse_pattern("2:4") == (2, 4) and parse_pattern("16:16") == (16, 16)


@pytest.mark.parametrize("sparsity", [float("nan"), -0.1, 1, 1.5, "x", None, float("inf")])
def test_a_bad_sparsity_is_named_and_an_example_given(sparsity):
    for call in (check_sparsity, lambda s: exact_mask(torch.ones(1, 4), s)):
        with pytest.raises(PrunekitError) as error:
            call(sparsity)
        assert repr(sparsity) in str(error.value) and "0.5" in str(error.value)


@given(st.floats(0, 1, exclude_max=True))
def test_a_good_sparsity_comes_back_as_it_is(sparsity):
    assert check_sparsity(sparsity) == sparsity


def test_a_width_that_groups_do_not_fill_is_named_with_a_way_out():
    with pytest.raises(PrunekitError, match=r"q_proj has 12 .* groups of 5 .* divides 12, .*--exclude"):
        check_width(12, 5, "q_proj")
    with pytest.raises(PrunekitError, match="groups of 5"):
        nm_mask(torch.ones(2, 12), 2, 5)
    with pytest.raises(PrunekitError, match="1 <= N <= M"):
        nm_mask(torch.ones(2, 12), 5, 4)


# What a wrong implementation looks like, and that the checks above would notice.


def over_the_whole_layer(L, s):
    return exact_mask(L.reshape(1, -1), s).reshape(L.shape)


def ties_pruned_on_both_sides(L, s):
    last_pruned = L.sort(dim=1).values[:, max(0, int(s * L.shape[1] + 1e-9) - 1), None]
    return ~(last_pruned >= L) if s else torch.ones_like(L, dtype=torch.bool)


def ties_kept_on_both_sides(L, s):
    first_kept = L.sort(dim=1).values[:, int(s * L.shape[1] + 1e-9), None]
    return first_kept <= L


def ties_pruned_from_the_left(L, s):
    return exact_mask(L.flip(1), s).flip(1)


def share_rounded_up(L, s):
    return exact_mask(L, min(-(-s * L.shape[1] // 1) / L.shape[1], 0.999))


def highest_pruned(L, s):
    return exact_mask(-L, s)


def writes_into_its_argument(L, s):
    keep = exact_mask(L, s)
    L.mul_(keep)
    return keep


@pytest.mark.parametrize(
    "wrong",
    [
        over_the_whole_layer,
        ties_pruned_on_both_sides,
        ties_kept_on_both_sides,
        ties_pruned_from_the_left,
        share_rounded_up,
        highest_pruned,
        writes_into_its_argument,
    ],
)
def test_the_check_of_exact_selection_rejects(wrong):
    with pytest.raises(AssertionError):
        check_exact_on_examples(wrong)


def along_the_output_axis(L, n, m):
    return nm_mask(L.T.contiguous(), n, m).T


def groups_interleaved(L, n, m):
    spread = L.reshape(len(L), m, -1).transpose(1, 2)
    return nm_mask(spread.reshape(L.shape), n, m).reshape(spread.shape).transpose(1, 2).reshape(L.shape)


def prunes_n_of_m(L, n, m):
    return ~nm_mask(-L.flip(1), n, m).flip(1)


def groups_keep_all_ties(L, n, m):
    g = L.unflatten(1, (-1, m))
    return (g >= g.topk(n).values[..., -1:]).flatten(1)


def groups_by_share_of_the_row(L, n, m):
    return exact_mask(L, 1 - n / m)


@pytest.mark.parametrize(
    "wrong",
    [
        along_the_output_axis,
        groups_interleaved,
        prunes_n_of_m,
        groups_keep_all_ties,
        groups_by_share_of_the_row,
    ],
)
def test_the_check_of_groups_rejects(wrong):
    with pytest.raises(AssertionError):
        check_nm_on_examples(wrong)


def test_a_pattern_of_odd_digits():
    with pytest.raises(PrunekitError):
        parse_pattern("²:4")
