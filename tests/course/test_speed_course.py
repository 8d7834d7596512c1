"""What notebook 05 uses: the clinic, and figures that say where their numbers are from. No test looks at a clock."""

import torch
from matplotlib.figure import Figure

from prunekit.bench.timing import Timing
from prunekit.course.checks.speed import waves
from prunekit.course.figures import speed
from prunekit.course.lessons import clinic
from prunekit.speed.devices import find_gpu
from prunekit.speed.published import published_rows


def text_of(figure):
    assert isinstance(figure, Figure)
    texts = [axes.get_title() + axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes]
    return " ".join([*texts, figure.get_suptitle()]).lower()


def test_the_clinic_keeps_what_was_claimed_and_what_is_true(capsys):
    patient = clinic.Clinic()
    patient.diagnose("a lie", 12.0, lambda: None, lambda: None)
    claimed, (middle, low, high) = patient.found["a lie"]
    assert claimed == 12 and low <= middle <= high
    assert "a lie: claimed 12.0 x" in capsys.readouterr().out
    assert "measured" in text_of(speed.clinic(patient.found))


def test_compressed_rows_hold_the_same_matrix(recwarn):
    weight = torch.tensor([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
    assert torch.equal(clinic.as_csr(weight).to_dense(), weight)
    assert not recwarn.list


def test_without_a_gpu_it_says_what_it_would_do(capsys):
    clinic.measure_gpu(None)
    assert capsys.readouterr().out.startswith("No GPU: with one,")


def test_figures_say_where_their_numbers_are_from():
    timing = Timing((1e-3, 1.1e-3, 1.2e-3), 1, "cpu")
    assert "measured on this cpu" in text_of(speed.timings({"one": timing, "two": timing}, "Two things"))
    assert "published" in text_of(speed.gains("RTX 4090"))
    assert "predicted" in text_of(speed.staircase(find_gpu("RTX 4090")))
    assert "predicted, not measured" in text_of(speed.cards(["T4", "RTX 4090"], (1, 64), 4096, 4096))
    rows = published_rows("RTX 4090", "bf16")[:2]
    assert "published" in text_of(speed.terms(rows, lambda row: {"one": row.dense_us, "two": row.dense_us / 2}))


def test_cards_without_a_unit_gain_nothing_from_it():
    assert set(speed.card_gains("T4", 16, 4096, 4096).values()) == {None}
    ampere = speed.card_gains("RTX 3090", 16, 4096, 4096)
    assert ampere["2:4"] > 1 and ampere["FP8"] is None and ampere["FP8 + 2:4"] is None
    assert all(gain > 1 for gain in speed.card_gains("RTX 4090", 16, 4096, 4096).values())


def test_one_token_gains_by_bytes_where_a_weight_only_kernel_exists():
    for name in ("T4", "RTX 3090"):
        gains = speed.card_gains(name, 1, 18944, 3584)
        assert gains["FP8"] > 1.7 and gains["FP8 + 2:4"] is None
    assert speed.card_gains("T4", 1, 18944, 3584)["2:4"] is None


def test_waves_by_hand():
    assert waves(2, 3, 1, 1, 4) == (2, 0.75)  # 6 tiles for 4 multiprocessors
    assert waves(128, 128, 128, 128, 1) == (1, 1.0)
    assert waves(129, 128, 128, 128, 1) == (2, 129 / 256)
