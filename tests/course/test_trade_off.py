"""The trade-off explorer says the right configuration, redraws once for a change, and shows where no kernel runs."""

import pytest

from prunekit import course
from prunekit.course.lessons.points import pareto
from prunekit.course.widgets.trade_off import COSTS, QUALITIES, cheapest, in_words
from prunekit.errors import PrunekitError


def a_point(method, pattern, fp8, megabytes, packed, kept, perplexity, seconds, sparsity=0.0):
    return {
        "method": method,
        "pattern": pattern,
        "fp8": fp8,
        "bytes": megabytes * 10**6,
        "packed": packed * 10**6,
        "retention": kept,
        "margin": 0.02,
        "perplexity": perplexity,
        "seconds": seconds,
        "sparsity": sparsity,
        "tokens": 2048,
    }


POINTS = [
    a_point("dense", "dense", False, 269, 269, 1.0, 34, 0),
    a_point("FP8 alone", "dense", True, 163, 163, 0.98, 35, 0.2),
    a_point("EWMA", "20 %", True, 163, 155, 0.97, 36, 2, 0.2),
    a_point("EWMA", "50 %", True, 163, 124, 0.77, 78, 2, 0.5),
    a_point("EWMA", "2:4", True, 163, 124, 0.55, 198, 3, 0.5),
    a_point("magnitude", "50 %", True, 163, 124, 0.37, 503, 5, 0.5),
    a_point("SparseGPT", "50 %", True, 163, 124, 0.78, 70, 40, 0.5),
]


def test_the_front_is_what_nothing_beats():
    assert pareto([1, 2, 2, 3, 3], [1, 2, 1, 2, 3]) == [True, True, False, False, True]
    assert pareto([1, 1], [5, 5]) == [True, True]
    assert pareto([], []) == []


def test_the_cheapest_satisfies_the_limits_and_ties_go_to_the_better():
    packed, on_disk, seconds = COSTS[1], COSTS[0], COSTS[3]
    assert cheapest(POINTS, packed, 70, 300) == 6
    assert cheapest(POINTS, packed, 96, 300) == 2
    assert cheapest(POINTS, on_disk, 70, 300) == 1
    assert cheapest(POINTS, seconds, 70, 130) == 3
    assert cheapest(POINTS, packed, 99, 200) is None
    assert cheapest(POINTS, packed, 100, 300) == 0


def test_words_name_the_configuration_or_say_that_there_is_none():
    words = in_words(POINTS, COSTS[3], 70, 130)
    assert "EWMA 50 %, FP8" in words and "77.0%" in words and "perplexity 78.0" in words
    assert "no point" in in_words(POINTS, COSTS[1], 99, 200)


def test_controls_change_the_picture_and_its_alternative_text():
    live = course.widgets.trade_off(POINTS)
    before, alt = live.image, live.alt
    live.controls["least"].value = 96
    assert live.image != before and live.alt != alt and "20 %" in live.alt
    for name, value in (("cost", COSTS[3]), ("quality", QUALITIES[1]), ("most", 130)):
        before = live.image
        live.controls[name].value = value
        assert live.image != before
    assert "alt=" in live.image


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("quality", QUALITIES)
def test_every_pair_of_axes_draws(cost, quality):
    assert "<img" in course.widgets.trade_off(POINTS, cost, quality).image


def test_it_shows_without_a_kernel():
    content, metadata = course.widgets.trade_off(POINTS)._repr_mimebundle_()
    assert content["image/png"] and metadata["image/png"]["alt"]


def test_a_change_draws_once():
    live = course.widgets.trade_off(POINTS)
    draw, drawn = live.draw, []
    live.draw = lambda **values: drawn.append(values) or draw(**values)
    live.controls["least"].value = 96
    assert [values["least"] for values in drawn] == [96]


def test_one_point_is_enough_and_none_is_refused():
    assert "<img" in course.widgets.trade_off(POINTS[:1]).image
    with pytest.raises(PrunekitError, match="at least one point"):
        course.widgets.trade_off([])
    with pytest.raises(PrunekitError, match="unknown axis"):
        course.widgets.trade_off(POINTS, cost="money")
