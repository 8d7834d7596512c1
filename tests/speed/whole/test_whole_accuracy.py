from dataclasses import replace

import pytest

from prunekit.speed.whole.accuracy import CACHE, FITTED, FITTED_ON, comparisons, fit, format_regimes, loss, regimes
from prunekit.speed.whole.published import OUTLIERS, published_settings
from prunekit.speed.whole.step import SERVER


def test_the_published_file_is_whole():
    settings = published_settings()
    assert len(settings) == 206 and {s.dtype for s in settings} == {"fp8", "int8"}
    assert len(published_settings("RTX 5080", "FP8")) == 46
    first = published_settings("rtx4090")[0]
    assert (first.phase, first.M, first.task, first.dense) == ("decode", 64, (16, 64, 256), 7541.672)
    assert next(s for s in settings if s.phase == "prefill" and s.M == 8192).task == (1024, 8, 1)


@pytest.mark.parametrize("gpu", ["RTX4090", "RTX5080"])
def test_medians(gpu):
    found = {r.bound: r for r in regimes(gpu)}
    assert set(found) == {"host", "arithmetic or memory", CACHE}
    for kind, r in found.items():
        assert r.tokens_per_s <= 0.15
        assert kind == "host" or r.gain <= 0.08


def test_where_the_card_ran_out_of_memory_is_where_the_cache_is_said_to_bind():
    bound = {c.setting.model for c in comparisons("RTX4090") if c.dense_bound == CACHE and c.setting.M < 512}
    assert bound == {"Qwen2.5-14B"}


def test_outliers_are_named():
    wild = {
        (c.setting.gpu, c.setting.model, c.setting.M)
        for gpu in ("RTX4090", "RTX5080")
        for c in comparisons(gpu)
        if c.setting.phase == "prefill" and max(abs(c.dense or 0), abs(c.sparse24 or 0)) > 0.5
    }
    assert wild == set(OUTLIERS)


def test_a_fit_finds_its_way_back():
    """From a wrong start, one round on the card that was fitted comes nearer to what was published there."""
    wrong = replace(SERVER, element_share=2 * SERVER.element_share)
    found = fit(FITTED_ON, wrong, rounds=1)
    assert loss(FITTED_ON, found) < 0.9 * loss(FITTED_ON, wrong)
    assert {name for name in vars(SERVER) if getattr(found, name) != getattr(wrong, name)} <= set(FITTED)


def test_the_text_says_what_was_fitted():
    text = format_regimes()
    assert "RTX4090  host: 1420 us a block; fitted on this card" in text
    assert "RTX5080  host: 350 us a block; only the host's figure fitted on this card" in text
