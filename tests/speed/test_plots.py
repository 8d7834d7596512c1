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
