"""The table of kernels for zeros: each row has a source in the bibliography, and quotes what the data here say."""

import re

import pytest
from reading import FOLDER

from prunekit.course.lessons.kernels_for_zeros import ENTRIES, show_kernels_for_zeros
from prunekit.speed.published import published_rows

SECTIONS = dict(re.findall(r"^## (.+)\n((?:.|\n)*?)(?=^## |\Z)", (FOLDER / "BIBLIOGRAPHY.md").read_text("utf-8"), re.M))


@pytest.mark.parametrize("entry", ENTRIES, ids=[f"{entry.who}-{entry.source}" for entry in ENTRIES])
def test_every_row_has_its_source_and_date_in_the_bibliography(entry):
    assert entry.label in ("published", "as reported")
    assert re.fullmatch(r"(\w+ )?20\d\d", entry.date)
    section = " ".join(SECTIONS[entry.entry].split())
    for number in re.findall(r"\d{4}\.\d{5}|(?:issue|request) \d+", entry.source):
        assert number in section or number in SECTIONS["vllmbench"]


def test_what_is_quoted_of_cusparselt_is_what_the_stored_timings_say():
    speeds = [row.speedup for row in published_rows("RTX 4090", "fp8")]
    assert f"{min(speeds):.2f} to {max(speeds):.2f} times as fast" in ENTRIES[0].gain
    assert ENTRIES[0].who == "cuSPARSELt"


def test_the_table_shows_every_row(capsys):
    show_kernels_for_zeros()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ENTRIES) + 2 and "in 2026" in lines[0]
    assert all(entry.source in line and entry.label in line for entry, line in zip(ENTRIES, lines[2:]))
