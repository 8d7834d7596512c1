"""The replay along a row: it is the library's rule, it answers to its controls, and it takes any row."""

import math

import pytest
import torch

import prunekit as pk
from prunekit.course.widgets import ewma_replay
from prunekit.course.widgets.ewma_replay import draw, scan


def row(n=200, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)) ** 2


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("n", [20, 300, 1100])
def test_it_replays_the_librarys_rule(n, sparsity):
    x = row(n)
    path = torch.tensor(scan(x.double().tolist(), sparsity, 0.01, warm_up=True), dtype=torch.float64)
    kept = x.double() >= path[:-1]
    expected = pk.quantile_mask(x[None], sparsity, rate=0.01, block=1)[0]
    assert (kept == expected).double().mean() > 0.995  # float32 may decide a score at the threshold otherwise


@pytest.mark.parametrize("warm_up", [True, False])
def test_its_threshold_telescopes(warm_up):
    x = row(100).tolist()
    path = scan(x, 0.5, 0.1, warm_up)
    share = sum(a < q for a, q in zip(x, path)) / 100
    assert share == pytest.approx(0.5 - math.log(path[-1] / path[0]) / (0.1 * 100))
    assert warm_up or path[0] == pytest.approx(x[0])


def test_every_control_changes_the_picture():
    live = ewma_replay(row(), sparsity=0.5)
    assert list(live.controls) == ["position", "rate", "sparsity", "warm_up"]
    assert live.values["sparsity"] == 0.5 and "<img alt=" in live.image
    for name, value in [("position", 20), ("rate", 0.1), ("sparsity", 0.8), ("warm_up", False)]:
        before = live.image
        live.controls[name].value = value
        assert live.values[name] == value and live.image != before
    assert "20 of 200 weights met" in live.alt and "asked for 0.8" in live.alt


def test_it_has_a_static_picture():
    data, metadata = ewma_replay(row())._repr_mimebundle_()
    assert data["image/png"] and metadata["image/png"]["alt"].startswith("Scores along a row")


@pytest.mark.parametrize("x", [torch.zeros(10), torch.ones(2), torch.full((5,), 1e38), row(5000), row(30).bfloat16()])
def test_any_row_can_be_replayed(x):
    live = ewma_replay(x, sparsity=0.05)
    live.controls["position"].value = live.controls["position"].max
    assert live.controls["position"].max == min(len(x), 4096)
    assert "<img" in live.image


@pytest.mark.parametrize("x", [torch.ones(1), torch.ones(2, 2), torch.tensor([1.0, float("nan")])])
def test_a_row_that_is_none_is_refused(x):
    with pytest.raises(pk.PrunekitError, match="expected one row"):
        ewma_replay(x)


def test_the_numbers_under_the_picture_are_those_of_the_masks():
    x = [1.0, 9.0, 2.0, 8.0]
    _, alt = draw(x, position=4, rate=0.5, sparsity=0.5, warm_up=True)
    assert "4 of 4 weights met: pruned 0.500, by a sort 0.500, asked for 0.5; step 0.2; 0 decisions differ" in alt
    assert "exact quantile 2." in alt
