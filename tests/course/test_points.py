"""What notebook 04 measures: the three orders agree with the plain functions, and points say what is so."""

import pytest
import torch

import prunekit as pk
from prunekit.course.lessons import pipeline, points
from prunekit.errors import PrunekitError
from prunekit.evaluation import answers as told


def answers(hits, nll=1.0):
    hits = torch.tensor(hits, dtype=torch.bool)
    return told.Answers(torch.full(hits.shape, nll), hits)


def test_retention_is_a_ratio_of_hits_and_its_margin_vanishes_where_windows_agree():
    dense, half = answers([[1, 1, 0], [1, 1, 0]]), answers([[1, 0, 0], [0, 1, 0]])
    assert told.retention(half, dense) == (0.5, 0.0)
    assert told.retention(dense, dense) == (1.0, 0.0)
    ratio, margin = told.retention(answers([[1, 1, 1], [0, 0, 0]]), dense)
    assert ratio == 0.75 and margin == pytest.approx(1.5)


def test_the_gap_of_log_perplexities_is_paired():
    one, other = answers([[1], [0]], 2.0), answers([[1], [0]], 1.5)
    assert told.log_gap(one, other) == (0.5, 0.0)
    assert one.perplexity == pytest.approx(torch.tensor(2.0).exp().item())


def test_judging_gives_what_evaluate_gives(llama):
    ids = torch.randint(0, llama.config.vocab_size, (5, 12), generator=torch.Generator().manual_seed(0))
    ours, theirs = told.judge(llama, ids, batch=2), pk.evaluate(llama, ids)
    assert ours.nll.shape == ours.hits.shape == (5, 11)
    assert ours.perplexity == pytest.approx(theirs["perplexity"], rel=0.02)


def test_orders_differ_in_mask_and_scale_as_they_should():
    rng = torch.Generator().manual_seed(0)
    W, E = torch.randn(8, 256, generator=rng), torch.rand(256, generator=rng)
    keep, codes, scale = pipeline.in_order(W, E, pipeline.PRUNE_FIRST, 0.5)
    assert torch.equal(keep, pk.quantile_mask(pk.contribution(W, E), 0.5))
    assert torch.equal(scale, pk.scales(W, keep=keep))
    keep, codes, scale = pipeline.in_order(W, E, pipeline.CAST_FIRST, 0.5)
    assert torch.equal(scale, pk.scales(W))
    assert torch.equal(keep, pk.quantile_mask(pk.contribution(pk.uncast(pk.cast(W, scale), scale), E), 0.5))
    assert not codes.view(torch.uint8)[~keep].any()
    with pytest.raises(PrunekitError, match="unknown order"):
        pipeline.in_order(W, E, "both at once", 0.5)


def test_packed_zeros_take_one_bit_each(llama):
    layers = pk.linear_layers(llama)
    weights = sum(layer.weight.numel() for layer in layers.values())
    half = pk.compress(llama, metric="magnitude", select="exact", sparsity=0.5, fp8="e4m3").model
    zeros = weights // 2
    saved = pk.stored_bytes(half) - points.packed_bytes(half)
    assert saved == pytest.approx(zeros - weights / 8, rel=0.02)
    assert points.packed_bytes(llama) == pk.stored_bytes(llama)


def test_a_point_says_what_was_done(llama, capsys):
    ids = torch.randint(0, llama.config.vocab_size, (4, 12), generator=torch.Generator().manual_seed(0))
    dense = told.judge(llama, ids)
    done = [pk.compress(llama, metric="magnitude", fp8="e4m3", **t) for t in ({"sparsity": 0.5}, {"sparsity": 0})]
    made = [points.measure(result, ids, dense) for result in done]
    assert [(p["method"], p["pattern"], p["fp8"]) for p in made] == [
        ("EWMA", "50 %", True),
        ("FP8 alone", "dense", True),
    ]
    assert points.find(made, "EWMA", "50 %") is made[0]
    points.table(made, "Measured: a tiny model")
    assert "retention" in capsys.readouterr().out


def test_time_is_that_of_the_processor(monkeypatch):
    monkeypatch.setattr(points, "process_time", iter([1.0, 3.5]).__next__)
    assert points.timed(lambda: "made") == ("made", 2.5)


def test_a_lead_is_paired():
    one, other = ({"hits": [a, b, c], "nll": [a, b, c]} for a, b, c in ((3, 5, 9), (2, 4, 8)))
    assert points.lead(one, other) == (1, 0.0) and points.lead(one, other, "perplexity") == (-1, 0.0)
    gap, margin = points.lead({"hits": [2, 0]}, {"hits": [0, 0]})
    assert gap == 1 and margin == pytest.approx(2.0)
    assert points.standing([one, other], [1, 1]) == ["front", "beaten"]
    assert points.standing([one, other], [2, 1]) == ["front", "front"]
    assert points.standing([one, one], [1, 1]) == ["cannot tell", "cannot tell"]
