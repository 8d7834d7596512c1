"""Retention above chance, and what lies beside what."""

from math import isnan, nan

import pytest
import torch

from prunekit.evaluation.tasks.compare import above_chance, compare_tasks
from prunekit.evaluation.tasks.run import Done


def drawn(n, right, agree, choices, seed=0):
    """Hits of a dense and of another model, which are both right where `agree` says so, and the chances."""
    rng = torch.Generator().manual_seed(seed)
    dense = torch.rand(n, generator=rng) < right
    same = torch.rand(n, generator=rng) < agree
    hits = torch.where(same, dense, torch.rand(n, generator=rng) < right / 2)
    chance = 1 / torch.tensor(choices)[torch.arange(n) % len(choices)]
    return hits.double(), dense.double(), chance.double()


def test_retention_above_chance_by_hand():
    one = torch.ones
    assert above_chance(one(4), one(4), one(4) / 4) == (1.0, 0.0)
    hits, dense = torch.tensor([1.0, 0, 1, 0]), torch.tensor([1.0, 1, 1, 0])
    value, _ = above_chance(hits, dense, torch.full((4,), 0.25))
    assert value == pytest.approx((0.5 - 0.25) / (0.75 - 0.25))
    assert all(map(isnan, above_chance(hits, torch.zeros(4), torch.full((4,), 0.25))))


@pytest.mark.parametrize(("agree", "choices"), [(0.9, [4]), (0.5, [2, 4, 5]), (0.0, [3])])
def test_its_error_is_what_drawing_the_items_again_gives(agree, choices):
    hits, dense, chance = drawn(2000, 0.7, agree, choices)
    value, error = above_chance(hits, dense, chance)
    draws = torch.randint(len(hits), (2000, len(hits)), generator=torch.Generator().manual_seed(1))
    a, b = (hits - chance)[draws].mean(1), (dense - chance)[draws].mean(1)
    assert error == pytest.approx((a / b).std().item(), rel=0.06)
    assert value == pytest.approx((a / b).mean().item(), abs=3 * error / 2000**0.5 + 1e-3)


def test_shared_items_make_it_surer_than_two_errors_put_together():
    hits, dense, chance = drawn(1000, 0.7, 0.95, [4])
    value, error = above_chance(hits, dense, chance)
    a, b = hits - chance, dense - chance
    apart = value * ((a.std() / a.mean()) ** 2 + (b.std() / b.mean()) ** 2).sqrt().item() / 1000**0.5
    assert 0 < error < 0.6 * apart


def test_rows_are_laid_beside_their_own():
    hits, dense, chance = drawn(40, 0.7, 0.9, [2, 4])
    row = lambda task, metric, *more: Done(task, metric, 0.5, 0.1, 40, 0, None, *more)  # noqa: E731
    found = [row("a", "acc", hits, chance), row("a", "acc_norm", dense, chance), row("b", "word_perplexity")]
    base = [row("b", "word_perplexity"), row("a", "acc", dense, chance), row("c", "acc", dense, chance)]
    first, second, third = compare_tasks(found, base)
    assert first.dense is base[1] and first.kept == above_chance(hits, dense, chance)
    assert first.chance == pytest.approx(0.375)
    assert second.dense is None and second.kept is None
    assert third.dense is base[0] and third.kept is None and third.chance is None
    assert [row.dense for row in compare_tasks(found)] == [None, None, None]
    worthless = compare_tasks(found[:1], [row("a", "acc", torch.zeros(40), chance)])[0]
    assert worthless.kept == pytest.approx((nan, nan), nan_ok=True)
