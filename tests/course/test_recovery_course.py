"""What notebook 07 measures: divergences beside hits, errors of means, differences in pairs, kinds of token."""

import pytest
import torch
from tiny import tiny_llama

import prunekit as pk
from prunekit.course import figures
from prunekit.course.lessons import recovery
from prunekit.evaluation.answers import Answers, judge, retention


@pytest.fixture(scope="module")
def compared():
    dense, other = tiny_llama(0), tiny_llama(1)
    ids = torch.randint(0, 300, (5, 12), generator=torch.Generator().manual_seed(0))
    return dense, other, ids, recovery.compare({"other": other}, dense, ids)


def test_comparing_gives_what_evaluate_gives(compared):
    dense, other, ids, found = compared
    ours, theirs = found["other"], pk.evaluate(other, ids, dense)
    assert ours.kl.shape == ours.hits.shape == ours.nll.shape == (5, 11)
    assert ours.perplexity == pytest.approx(theirs["perplexity"], rel=0.02)
    assert recovery.mean(ours.kl)[0] == pytest.approx(theirs["kl"], rel=0.03)
    assert torch.equal(ours.hits, judge(other, ids, batch=4).hits)


def test_the_dense_model_is_no_way_from_itself(compared):
    assert compared[-1]["dense"].kl.abs().max() < 1e-5


def test_an_error_is_twice_the_windows_standard_error():
    value, off = recovery.mean(torch.tensor([[1.0, 3.0], [4.0, 4.0], [6.0, 6.0]]))
    assert value == 4.0
    assert off == pytest.approx(2 * 2 / 3**0.5)  # of the means 2, 4 and 6
    assert recovery.mean(torch.tensor([[1.0, 3.0], [2.0, 2.0]])) == (2.0, 0.0)  # within a window nothing counts


def _answers(hits):
    hits = torch.tensor(hits, dtype=torch.bool)
    return Answers(torch.ones(hits.shape), hits)


def test_what_two_models_share_does_not_make_their_difference_unsure():
    dense = _answers([[1, 1, 1, 1]] * 3)
    one, two = _answers([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]), _answers([[1, 1, 0, 0], [1, 1, 1, 0], [1] * 4])
    assert retention(one, dense)[1] > 0.2
    assert recovery.more_kept(two, one, dense) == (0.25, 0.0)
    assert recovery.more_kept(one, two, dense) == (-0.25, 0.0)


def test_retention_of_some_tokens_counts_no_others():
    dense, found = _answers([[1, 1, 0], [1, 1, 1]]), _answers([[1, 0, 1], [0, 1, 1]])
    which = torch.tensor([[1, 0, 0], [1, 0, 1]], dtype=torch.bool)
    assert recovery.kept_of(which, found, dense)[0] == pytest.approx(2 / 3)


def test_perplexities_are_said_with_both_ends():
    said = recovery.perplexities(Answers(torch.tensor([[2.0, 2.0], [3.0, 3.0]]), torch.ones(2, 2, dtype=torch.bool)))
    assert said == "12, between 4 and 33"  # exp of 2.5, 1.5 and 3.5


def test_each_text_has_a_panel_and_the_alternative_text_has_the_numbers():
    panels = {"Wikipedia": {"one pass": (0.75, 0.04), "ADMM": (0.79, 0.03)}, "news": {"one pass": (0.72, 0.04)}}
    figure, alt = figures.recovery.bars(panels, "retention", "half")
    assert [axes.get_title() for axes in figure.axes] == list(panels)
    assert "Wikipedia: one pass 0.75 ± 0.04, ADMM 0.79 ± 0.03; news: one pass 0.72 ± 0.04" in alt
    points = {"Wikipedia": [("fast", 2.0, 0.767), ("best", 1158.0, 0.948, 0.01)]}
    figure, alt = figures.recovery.minutes(points | {"news": points["Wikipedia"]}, "title", 0.9157)
    assert len(figure.axes) == 2 and "fast 76.7% in 2 s, best 94.8% ± 1.0% in 1158 s" in alt
