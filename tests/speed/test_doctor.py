import pytest

from prunekit.speed import doctor

YES, NO = {"works": True, "detail": ""}, {"works": False, "detail": "no"}


def card(bf16, sparse24, fp8):
    return {"name": "some card", "bf16": bf16, "sparse24": sparse24, "fp8": fp8}


def report(gpu=None, unusable=()):
    return {"gpu": gpu, "unusable_gpu": list(unusable)}


@pytest.mark.parametrize(
    ("found", "live", "shown"),
    [
        (report(card(YES, YES, YES)), "dense FP16, 2:4, FP8 products measured live", None),
        (report(card(YES, NO, NO)), "with dense FP16 products measured live", "2:4 or FP8 is shown"),
        (report(), "on this CPU", "published RTX 4090"),
        (report(unusable=["RTX 4090"]), "this torch cannot use it", "published RTX 4090"),
    ],
)
def test_the_summary_separates_live_from_published(found, live, shown):
    text = doctor.summarise(found)
    assert live in text
    assert text.count(".") == 1
    assert shown is None or shown in text


def test_a_product_that_fails_or_is_wrong_is_reported():
    def fails():
        raise RuntimeError("no kernel\nlong trace")

    assert doctor._attempt(fails) == {"works": False, "detail": "no kernel"}
    assert doctor._attempt(lambda: 0.5)["works"] is False
    assert doctor._attempt(lambda: float("nan"))["works"] is False
    assert doctor._attempt(lambda: 1e-3)["works"] is True


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert doctor._nvidia_smi("name") == []
