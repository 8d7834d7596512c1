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
    assert "a lie: 12.0 times as fast, it claims" in capsys.readouterr().out
    assert "measured" in text_of(speed.clinic(patient.found))


def test_interrupted_samples_do_not_count(monkeypatch):
    old, new = ([8.0, 800.0, 9.0] * 15, [2.0, 2.0, 900.0] * 15)
    turns = {"old": Timing(tuple(old), 1, "cpu"), "new": Timing(tuple(new), 1, "cpu")}
    monkeypatch.setattr(clinic, "time_in_turn", lambda *_, **__: turns)
    assert clinic.times_faster(lambda: None, lambda: None) == (4.0, 4.0, 4.0)


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
    sizes = {size: [0.9, 1.2, 1.9] for size in (64, 128)}
    assert "published" in text_of(speed.gains({"RTX 4090": {"BF16": sizes, "FP8": sizes}}))
    assert "predicted" in text_of(speed.staircase(find_gpu("RTX 4090")))
    gains = {"2:4": None, "FP8": 1.9, "FP8 + 2:4": None}
    assert "predicted, not measured" in text_of(speed.cards({"T4": {1: gains, 64: gains}}, "one layer"))
    rows = published_rows("RTX 4090", "bf16")[:2]
    assert "published" in text_of(speed.terms(rows, lambda row: {"one": row.dense_us, "two": row.dense_us / 2}))


def test_a_median_is_written_beside_its_line_and_what_no_kernel_does_is_said():
    by = {"BF16": {64: [1.0, 1.5, 1.6], 128: [1.0, 2.0, 2.1]}, "FP8": {64: [0.5, 0.7, 0.9], 128: [1.0, 1.2, 1.3]}}
    texts = [text.get_text() for text in speed.gains({"RTX 4090": by}).axes[0].texts]
    assert {"1.50", "2.00", "0.70", "1.20"} < set(texts)
    cards = speed.cards({"T4": {1: {"2:4": None, "FP8": 1.99}, 64: {"2:4": None, "FP8": None}}}, "one layer")
    assert [[text.get_text() for text in axes.texts] for axes in cards.axes] == [
        ["no kernel", "1.99"],
        ["no kernel"] * 2,
    ]


def test_numbers_in_words():
    assert speed.said({"dense": 1, "2:4": 1.506}) == "dense 1.00, 2:4 1.51"
    assert speed.said({("A", 64): (2.0, 1.5)}) == "A 64 2.00 and 1.50"
    assert speed.said({"A": {"x": None}, "B": {"y": 3.0}}) == "A: x none; B: y 3.00"


def test_waves_by_hand():
    assert waves(2, 3, 1, 1, 4) == (2, 0.75)  # 6 tiles for 4 multiprocessors
    assert waves(128, 128, 128, 128, 1) == (1, 1.0)
    assert waves(129, 128, 128, 128, 1) == (2, 129 / 256)
