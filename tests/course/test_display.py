"""Pictures, predictions and live figures: what Jupyter gets to show."""

import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace
from xml.etree import ElementTree

import ipywidgets
import pytest

from prunekit import PrunekitError, course
from prunekit.course import predict as predict_function
from prunekit.course import style
from prunekit.course.style import FIGURES, bundle, subplots
from prunekit.course.widgets.live import LiveFigure

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def shown(monkeypatch):
    """What was displayed: pairs of data and metadata."""
    import IPython.display

    seen = []

    def display(data, metadata, raw, display_id=None):
        seen.append((data, metadata))
        place = len(seen) - 1
        return SimpleNamespace(update=lambda data, metadata, raw: seen.__setitem__(place, (data, metadata)))

    monkeypatch.setattr(style, "_in_ipython", lambda: True)
    monkeypatch.setattr(IPython.display, "display", display)
    return seen


def _line(height=1.0):
    figure, axes = subplots()
    axes.plot([0, height], marker="o")
    return figure


def test_without_a_notebook_there_is_plain_text(capsys):
    course.show(_line(), alt="A line of two points.")
    assert capsys.readouterr().out == "[Picture: A line of two points.]\n"


def test_a_picture_is_shown_as_html_and_png_with_alternative_text(shown):
    course.show(_line(), alt='A "rising" line of two points.')
    data, metadata = shown[0]
    assert 'alt="A &quot;rising&quot; line of two points."' in data["text/html"]
    assert data["image/png"] in data["text/html"]
    assert metadata["image/png"]["alt"] == 'A "rising" line of two points.'
    assert len(data["image/png"]) < 60_000


def test_figures_are_written_as_svg_where_that_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv(FIGURES, str(tmp_path))
    for height in (1.0, 2.0):
        course.show(_line(height), alt="A line of two points.")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["01.svg", "02.svg"]
    assert all(ElementTree.parse(file).getroot().tag.endswith("svg") for file in files)


def test_a_picture_without_alternative_text_is_refused(shown):
    for alt in ("", "plot", None):
        with pytest.raises(PrunekitError, match="alternative text"):
            course.show(_line(), alt=alt)


def test_show_closes_figures_of_pyplot(shown):
    import matplotlib.pyplot as plt

    figure, _ = plt.subplots()
    course.show(figure, alt="an empty pair of axes")
    assert not plt.fignum_exists(figure.number)


def test_the_same_figure_gives_the_same_bytes():
    assert bundle(_line(), "a line up") == bundle(_line(), "a line up")


def test_palette_stays_apart_in_grey_print():
    def luminance(color):
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    levels = sorted(luminance(course.COLORS[name]) for name in ("ink", "keep", "accent", "yellow"))
    assert all(high - low > 35 for low, high in pairwise(levels))


def test_a_prediction_is_compared_afterwards(shown):
    course.predict("test", "How many?", ["few", "half", "all"])
    data, _ = shown[0]
    assert VIEW in data and "How many?" in data["text/plain"] and "half" in data["text/html"]
    course.reveal("test", "half", "It was 0.500.")
    assert "No prediction was made" in shown[1][0]["text/plain"]
    _buttons().value = "few"
    course.reveal("test", "half", "It was 0.500.")
    assert "You predicted: few" in shown[2][0]["text/plain"]
    _buttons().value = "half"
    course.reveal("test", "half", "It was 0.500.")
    assert "As you predicted" in shown[3][0]["text/plain"]
    assert "Answer: half. It was 0.500." in shown[3][0]["text/plain"]


def test_a_choice_stays_when_its_cell_runs_again_and_goes_with_another_question(shown):
    course.predict("again", "Which?", ["a", "b"])
    _buttons().value = "a"
    course.predict("again", "Which?", ["a", "b"])
    assert _buttons().value == "a"
    course.reveal("again", "a", "It was a.")
    assert "As you predicted" in shown[-1][0]["text/plain"]
    course.predict("again", "Which one?", ["a", "b"])
    assert _buttons().value is None
    course.reveal("again", "a", "It was a.")
    assert "No prediction was made" in shown[-1][0]["text/plain"]


def test_a_choice_is_kept_in_the_outputs_and_nothing_where_there_is_none(shown):
    course.predict("kept", "Which?", ["a < b", "c"])
    course.reveal("kept", "c", "It was c.")
    before = [data["text/plain"] for data, _ in shown]
    assert [metadata for _, metadata in shown] == [{}, {}] and "(x)" not in before[0]
    _buttons().value = "a < b"
    course.reveal("kept", "c", "It was c.")
    told = {"key": "kept", "question": "Which?", "guess": "a < b"}
    assert shown[0][1] == {"prunekit": told | {"answer": ""}}
    assert shown[2][1] == {"prunekit": told | {"answer": "c"}}
    data = shown[0][0]
    assert VIEW in data and "  (x) a < b\n  ( ) c" in data["text/plain"] and "a &lt; b</b>, your" in data["text/html"]
    _buttons().value = None
    assert (shown[0][0]["text/plain"], shown[0][1]) == (before[0], {})


def _buttons():
    every = getattr(ipywidgets.widgets.widget, "_instances", None) or ipywidgets.Widget.widgets  # 8, or 7
    return [widget for widget in every.values() if isinstance(widget, ipywidgets.RadioButtons)][-1]


def test_reveal_alone_is_fine_but_its_answer_must_be_a_choice(shown):
    course.reveal("never asked", "x", "It was x.")
    course.predict("asked", "Which?", ["a", "b"])
    with pytest.raises(PrunekitError, match="none of the choices"):
        course.reveal("asked", "c", "It was c.")
    with pytest.raises(PrunekitError, match="two or more"):
        course.predict("one", "Which?", ["a"])


def test_names_are_functions_even_where_a_module_has_the_same_name():
    assert callable(course.predict) and predict_function is course.predict
    with pytest.raises(AttributeError):
        _ = course.figures.no_such_topic
    assert "check" in dir(course)


def test_importing_the_course_pulls_in_nothing_heavy():
    heavy = "[m for m in ('torch', 'matplotlib', 'ipywidgets', 'numpy') if m in sys.modules]"
    code = f"import sys; from prunekit import course; course.COLORS; course.predict; print({heavy})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_live_figure_draws_anew_when_a_control_moves():
    def draw(height, kind):
        return _line(height), f"A {kind} line up to {height}."

    live = LiveFigure(draw, height=ipywidgets.FloatSlider(value=0.5), kind=ipywidgets.Dropdown(options=["a", "b"]))
    before = live.image
    assert '<img alt="A a line up to 0.5."' in before
    live.controls["height"].value = 0.25
    assert live.image != before and live.alt == "A a line up to 0.25."
    live.controls["kind"].value = "b"
    assert live.values == {"height": 0.25, "kind": "b"} and "A b line" in live.image


def test_a_live_figure_has_a_static_picture_in_the_same_output():
    live = LiveFigure(lambda height: (_line(height), "A line of some height."), height=ipywidgets.FloatSlider())
    data, metadata = live._repr_mimebundle_()
    assert {VIEW, "image/png", "text/html", "text/plain"} <= set(data)
    assert metadata["image/png"]["alt"] == "A line of some height."


def test_a_slow_picture_is_drawn_when_the_slider_is_let_go(monkeypatch):
    from prunekit.course.widgets import live as module

    monkeypatch.setattr(module, "FAST", 0.0)
    live = LiveFigure(lambda height: (_line(height), "A line."), height=ipywidgets.FloatSlider())
    live.draw_now()
    assert live.controls["height"].continuous_update is False


def test_a_table_is_html_in_a_notebook_and_aligned_text_elsewhere(shown):
    from prunekit.course import table

    head, rows = ["rule", "share", "n"], [["sort", 0.5, 7], ["mean < d", 0.54321, 12]]
    table(head, rows, "measured on one row")
    ((content, _),) = shown
    page = content["text/html"]
    assert page.count("<tr>") == 3 and "mean &lt; d" in page and "<caption>measured on one row</caption>" in page
    assert page.count('"text-align: right"') == 6  # two columns of numbers, head and rows
    lines = content["text/plain"].splitlines()
    assert lines[1:] == ["rule       share   n", "sort         0.5   7", "mean < d  0.5432  12"]
