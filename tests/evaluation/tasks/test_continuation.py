"""The task that needs no network: its items come from the test articles, and only one choice goes on."""

import json
from math import sqrt

import pytest

from prunekit.calibration.corpus import documents
from prunekit.evaluation.tasks.continuation import ITEMS, items, write_task


@pytest.fixture(scope="module")
def articles():
    return documents("wikipedia", "test")


@pytest.fixture(scope="module")
def found(articles):
    return items(articles)


def test_there_are_enough_for_a_standard_error_of_two_points(found):
    assert 0.98 * ITEMS < len(found) <= ITEMS
    assert sqrt(0.25 / (len(found) - 1)) < 0.0201


def test_the_right_choice_follows_in_the_article_and_the_others_are_from_elsewhere_in_it(found, articles):
    texts = [" ".join(article.split()) for article in articles]
    for item in found:
        choices, right = item["choices"], item["choices"][item["label"]]
        assert len(set(choices)) == 4 and all(len(choice.split()) == 4 for choice in choices)
        assert len(item["passage"].split()) == 12
        (home,) = {i for i, text in enumerate(texts) if f"{item['passage']} {right}" in text}
        assert all(choice in texts[home] for choice in choices)


def test_labels_are_spread_and_passages_are_all_over_the_articles(found, articles):
    labels = [item["label"] for item in found]
    assert all(abs(labels.count(label) - len(found) / 4) < 10 for label in range(4))
    assert len({item["passage"] for item in found}) == len(found)
    texts = [" ".join(article.split()) for article in articles]
    assert all(any(item["passage"] in text for item in found) for text in texts)


def test_the_same_articles_give_the_same_items(found, articles):
    assert items(articles) == found
    assert items(articles, 10) != found[:10] and len(items(articles, 10)) == 10
    assert items(["a few words only"]) == [] and items(["same " * 500]) == []


def test_it_is_written_once(found, tmp_path):
    path = write_task(tmp_path / "tasks")
    assert [json.loads(line) for line in (tmp_path / "tasks" / "continuation.jsonl").open()] == found
    before = {each: each.stat().st_mtime_ns for each in path.parent.iterdir()}
    assert len(before) == 2
    assert write_task(path.parent) == path
    assert {each: each.stat().st_mtime_ns for each in path.parent.iterdir()} == before
    path.write_text("damaged")
    write_task(path.parent)
    assert json.loads(path.read_text("utf-8"))["task"] == "continuation"
