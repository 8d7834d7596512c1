"""Figures on whole models: they say where their numbers are from, and show the numbers that they were given."""

import pytest

from prunekit.speed.whole import plots
from prunekit.speed.whole.throughput import predict_model


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.fixture(scope="module")
def answer():
    return predict_model("RTX 4090", "fp8", "Qwen2.5-7B", prompt=16, batch=64, written=256)


def test_pairs_show_both_gains():
    figure = plots.pairs({("RTX 4090", "reading"): (2.006, 1.504), ("RTX 5080", "writing"): (1.5, 0.9)})
    assert [text.strip() for text in texts(figure.axes[0])] == ["2.01", "1.50", "1.50", "0.90"]
    assert "published" in figure.axes[0].get_xlabel()


def test_the_terms_of_a_step_are_as_long_as_the_step(answer):
    runs = answer.dense, answer.sparse24
    found = {phase: tuple(getattr(run, phase) for run in runs) for phase in ("prefill", "decode")}
    axes = plots.steps(found, "a model").axes[0]
    assert "predicted" in axes.get_xlabel()
    ends = {}
    for bar in axes.patches:
        ends[bar.get_y()] = ends.get(bar.get_y(), 0.0) + bar.get_width()
    busy = [step.us if step.decode else step.gpu_us for both in found.values() for step in both]
    whole = [both[0].us for both in found.values() for _ in both]
    assert [end for _, end in sorted(ends.items())] == pytest.approx([us / of for us, of in zip(busy, whole)])
    assert [text.strip() for text in texts(axes)] == [f"{s.us / 1e3:.1f} ms" for both in found.values() for s in both]


def test_the_parts_of_a_step_are_all_of_it(answer):
    for step in (answer.dense.prefill, answer.dense.decode, answer.sparse24.decode):
        parts = plots.parts(step)
        assert list(parts) == [*plots.TERMS, "host"]
        assert sum(parts.values()) == pytest.approx(step.gpu_us + step.host_us)


def test_the_host_beside_the_gpu_is_a_line(answer):
    step = answer.dense.prefill
    (line,) = plots.steps({"reading": (step, answer.sparse24.prefill)}, "a model").axes[0].lines[:1]
    assert line.get_xdata()[0] == pytest.approx(step.host_us / step.us)


def test_stages_end_with_what_was_published():
    found = {
        card: {"reading": {"product": 2.0, "model": 1.5}, "writing": {"product": 1.6, "model": 1.2}} for card in "AB"
    }
    told = {(card, task): 1.1 for card in "AB" for task in ("reading", "writing")}
    figure = plots.stages(found, told, "a model")
    assert len(figure.axes) == 2 and "published" in figure.get_suptitle()
    assert texts(figure.axes[0]) == ["2.00", "1.50", "1.10", "1.60", "1.20", "1.10"]
