"""The picture of README shows the stored measurements."""

import re

import pytest
from tiny import ROOT

from prunekit.bench import picture


def test_the_picture_and_its_alternative_text_show_the_stored_numbers():
    drawn = re.findall(r"<text[^>]*>([^<]+)</text>", (ROOT / picture.PLACE).read_text("utf-8"))
    alt = re.search(r"!\[([^]]+)\]\(notebooks/kept\.svg\)", (ROOT / "README.md").read_text("utf-8"))[1]
    wanted = [f"{100 * kept:.0f}" for patterns in picture.rows().values() for kept, _ in patterns.values()]
    numbers = [text for text in drawn if text.isdecimal()]
    assert len(wanted) == 15
    assert sorted(numbers) == sorted(wanted + ["0", "20", "40", "60", "80", "100"]), "python -m prunekit.bench.picture"
    took = [[seconds for _, seconds in patterns.values()] for patterns in picture.rows().values()]
    assert {picture.span(min(each), max(each)) for each in took} <= set(drawn), "python -m prunekit.bench.picture"
    assert re.findall(r"\b\d+\b(?=,|;| in)", alt.split("pruned:")[1]) == wanted


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(1.8, 2.4, "2 s"), (47, 50, "47 to 50 s"), (488, 1158, "8 to 19 min")],
)
def test_times_are_seconds_or_minutes(low, high, said):
    assert picture.span(low, high) == said
