"""The trade-off explorer says the right configuration, redraws once for a change, and shows where no kernel runs."""

import random
from itertools import combinations
from math import dist, log

import pytest

from prunekit import course
from prunekit.course.figures.front import AXES, spread
from prunekit.course.lessons.points import pareto, standing
from prunekit.course.widgets.trade_off import COSTS, QUALITIES, cheapest, in_words
from prunekit.errors import PrunekitError


def a_point(method, pattern, fp8, megabytes, packed, kept, perplexity, seconds, sparsity=0.0):
    noise = [(7 * window + sum(map(ord, method))) % 5 - 2 for window in range(16)]  # another for each method
    return {
        "method": method,
        "pattern": pattern,
        "fp8": fp8,
        "bytes": megabytes * 10**6,
        "packed": packed * 10**6,
        "retention": kept,
        "margin": 0.0 if method == "dense" else 0.02,
        "perplexity": perplexity,
        "seconds": seconds,
        "sparsity": sparsity,
        "tokens": 2048,
        "hits": [48 * kept + each for each in noise],
        "nll": [log(perplexity) + 0.02 * each for each in noise],
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


DENSE, CAST, EWMA20, EWMA50, N24, MAGNITUDE, SPARSEGPT = range(7)
ON_DISK, PACKED, LEFT, SECONDS = COSTS
RETENTION, PERPLEXITY = QUALITIES


@pytest.mark.parametrize(
    ("cost", "quality", "least", "most", "chosen", "perhaps"),
    [
        (ON_DISK, RETENTION, 70, 300, [CAST, EWMA20], []),  # equally large on disk, and too close to tell apart
        (ON_DISK, PERPLEXITY, 70, 300, [CAST], []),
        (PACKED, RETENTION, 70, 300, [EWMA50, SPARSEGPT], []),
        (PACKED, PERPLEXITY, 70, 300, [SPARSEGPT], []),
        (PACKED, RETENTION, 77, 300, [EWMA20], [EWMA50, SPARSEGPT]),  # 77 and 78, both within 2 of the limit
        (PACKED, RETENTION, 90, 300, [EWMA20], []),
        (SECONDS, RETENTION, 70, 200, [CAST], []),
        (SECONDS, RETENTION, 99.5, 200, [], [CAST]),
        (ON_DISK, RETENTION, 99.5, 300, [DENSE], [CAST]),
        (ON_DISK, RETENTION, 70, 100, [], []),
    ],
)
def test_the_cheapest_satisfies_the_limits_beyond_its_margin(cost, quality, least, most, chosen, perhaps):
    assert cheapest(POINTS, cost, quality, least, most) == (chosen, perhaps)


def test_what_was_timed_once_is_equally_cheap_within_noise():
    points = [{**POINTS[EWMA50], "seconds": seconds} for seconds in (2.0, 2.9, 3.1)]
    assert cheapest(points, SECONDS, RETENTION, 70, 300) == ([0, 1], [])


def test_words_name_the_configuration_or_say_that_none_can_be_told():
    words = in_words(POINTS, PACKED, RETENTION, 90, 300)
    assert "by MB if zeros were packed: EWMA 20 %." in words and "97.0% ± 2.0%" in words and "perplexity 36.0" in words
    words = in_words(POINTS, ON_DISK, RETENTION, 70, 300)
    assert "cannot tell" in words and "FP8 alone, EWMA 20 %." in words and "It keeps" not in words
    words = in_words(POINTS, PACKED, RETENTION, 77, 300)
    assert "EWMA 20 %." in words and "cannot tell whether it keeps enough: EWMA 50 %, SparseGPT 50 %." in words
    assert "No point" in in_words(POINTS, ON_DISK, RETENTION, 70, 100)


def test_it_opens_on_what_is_written():
    live = course.widgets.trade_off(POINTS)
    assert live.values["cost"] == ON_DISK and "cannot tell" in live.image


def test_the_front_leads_beyond_the_margin():
    found = standing(POINTS, [AXES[ON_DISK](p) for p in POINTS])
    assert found == ["cannot tell"] * 3 + ["beaten"] * 4
    found = standing(POINTS, [AXES[PACKED](p) for p in POINTS])
    assert found == ["cannot tell", "cannot tell", "front", "cannot tell", "beaten", "beaten", "cannot tell"]
    found = standing(POINTS, [AXES[PACKED](p) for p in POINTS], "perplexity")
    assert found[SPARSEGPT] == "front" and found[EWMA50] == "beaten"


@pytest.mark.parametrize("seed", range(20))
def test_no_marker_hides_another(seed):
    rng = random.Random(seed)
    places = [(rng.choice([0.0, 3.0, 200.0]), rng.uniform(0, 60)) for _ in range(15)]
    aside = spread(places, 17)
    moved = [(a + dx, b) for (a, b), dx in zip(places, aside)]
    assert all(dist(one, other) > 16.9 for one, other in combinations(moved, 2))
    assert aside[0] == 0  # and whoever is alone stays
    assert spread([(0, 0), (100, 0), (50, 17)], 17) == [0, 0, 0]


def test_controls_change_the_picture_and_its_alternative_text():
    live = course.widgets.trade_off(POINTS)
    before, alt = live.image, live.alt
    live.controls["least"].value = 97
    assert live.image != before and live.alt != alt and "20 %" in live.alt
    for name, value in (("cost", COSTS[3]), ("quality", QUALITIES[1]), ("most", 163)):
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
