import pytest

from prunekit.errors import PrunekitError
from prunekit.speed import plots
from prunekit.speed.shapes import model_layers


def text_of(figure):
    figure.draw_without_rendering()
    axes = figure.axes[0]
    legend = [t.get_text() for t in axes.get_legend().get_texts()]
    return " ".join([axes.get_title(), axes.get_xlabel(), *legend, *(t.get_text() for t in axes.texts)])


def test_the_roofline_holds_every_layer():
    figure = plots.roofline("RTX 4090", "fp8", model_layers(), (1, 4096))
    text = text_of(figure)
    assert "predicted" in text and "data sheet" in text and "M = 4096, 4 shapes" in text
    _, *points = figure.axes[0].lines
    assert len(points) == 2 and all(len(line.get_xdata()) == 4 for line in points)
    assert len({line.get_marker() for line in points}) == 2  # never colour alone
    for line in points:  # cold weights: nothing lies above the roof
        for x, y in zip(line.get_xdata(), line.get_ydata()):
            assert y <= min(330.4, x * 1.008) * 1.02


def test_prediction_beside_publication():
    text = text_of(plots.speedup_by_batch("H100", "bf16", "Qwen2.5-7B"))
    assert "published" in text and "predicted" in text and "arXiv 2603.05232" in text and "H100 PCIe" in text


def test_nothing_published():
    with pytest.raises(PrunekitError, match="RTX 5090"):
        plots.speedup_by_batch("RTX 5090", "fp8")


@pytest.mark.parametrize(("gpu", "dtype", "bars"), [("RTX 4090", "bf16", 14), ("T4", "fp16", 7)])
def test_where_the_time_goes(gpu, dtype, bars):
    figure = plots.token_time(gpu, dtype, model_layers())
    text = text_of(figure)
    assert "predicted" in text and "in all" in text
    assert len(figure.axes[0].patches) == bars
