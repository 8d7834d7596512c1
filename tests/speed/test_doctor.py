from types import SimpleNamespace

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


def test_the_fastest_copy_counts_with_what_it_reads_and_what_it_writes(monkeypatch):
    clock = iter([0.0, 0.0, 1.0, 3.0, 3.0, 4.0, 4.5, 4.5, 5.0, 6.0, 99.0])  # copies of 2, 0.5 and 1 seconds
    monkeypatch.setattr(doctor, "time", SimpleNamespace(perf_counter=clock.__next__))
    assert doctor.copy_bandwidth(megabytes=1, seconds=10) == pytest.approx(2 * 1e6 / 0.5 / 1e9)


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert doctor._nvidia_smi("name") == []
