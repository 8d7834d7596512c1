"""Widgets in a real JupyterLab in headless Chromium: a control moves, and the picture changes."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from reading import FOLDER, NAMES, needed, source
from test_trade_off import POINTS

from prunekit.course import build
from prunekit.course.grading.guesses import guesses
from prunekit.course.grading.handed_in import Copy

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
PATIENCE = 900  # seconds; generous, for machines that do other things as well

selenium = pytest.importorskip("selenium", reason="the browser test needs selenium")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="the browser test needs chromium and chromedriver (Debian: chromium-driver)"
)

from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import WebDriverException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

# The open notebook; the shell's current widget is none while the page has no focus.
PANEL = "[...jupyterapp.shell.widgets('main')].find(widget => widget.context)"
# Where a widget's picture is, and the controls in the order in which they are tried.
PICTURE = ".jp-OutputArea .widget-html img"
CONTROLS = (
    ".noUi-handle",
    ".widget-toggle-buttons button:not(.mod-active)",
    "button.widget-toggle-button",
    ".widget-checkbox input",
    ".jp-OutputArea button.widget-button",
)


def widget_cells(notebook):
    """Indices of the cells that show one of the course's widgets."""
    return [
        index
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and re.search(r"course\.widgets\.\w+\(|LiveFigure\(", cell.source)
    ]


def excerpt(name, index):
    """The notebook cut down to one widget's cell and the cells that it needs, without outputs.

    The trade-off explorer shows points that take minutes to measure: here it gets others.
    """
    notebook = source(name)
    if (call := "course.widgets.trade_off(points)") in notebook.cells[index].source:
        cells = [notebook.cells[i] for i in needed(notebook, index, "course")]
        cells.append(nbformat.v4.new_code_cell(f"points = {POINTS!r}\n{call}"))
        return nbformat.from_dict(notebook | {"cells": cells})
    keep = [*needed(notebook, index, notebook.cells[index].source), index]
    return nbformat.from_dict(notebook | {"cells": [notebook.cells[i] for i in keep]})


WIDGETS = [(name, index) for name in NAMES for index in widget_cells(source(name))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def lab(folder, tmp_path_factory):
    """The address of a JupyterLab that serves `folder` on this machine alone, with settings of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = tmp_path_factory.mktemp("settings")
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    options = {
        "ServerApp.port": port,
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.root_dir": folder,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "",
        "LabApp.expose_app_in_browser": True,
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", *(f"--{k}={v}" for k, v in options.items())]
    with open(settings / "log.txt", "w") as log:
        env = os.environ | {key: str(settings / key) for key in own}
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(lambda: _answers(f"{address}/api"), f"JupyterLab to start (see {settings}/log.txt)")
            yield address
        finally:
            server.terminate()
            server.wait(30)


def _answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def _wait(condition, what, seconds=PATIENCE):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            value = condition()
        except WebDriverException:  # the page is drawing itself anew
            value = None
        if value:
            return value
        time.sleep(0.3)
    pytest.fail(f"waited {seconds} s in vain for {what}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1400,1800"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(PATIENCE)
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


@pytest.fixture
def run_all(lab, browser, folder):
    """Open a notebook in JupyterLab and run all its cells; its kernel is shut down after the test."""

    def open_and_run(notebook, name):
        nbformat.write(notebook, folder / f"{name}.ipynb")
        browser.get(f"{lab}/lab/tree/{name}.ipynb?reset")
        ready = (
            f"const panel = window.jupyterapp && {PANEL};"
            "return !!(panel && panel.context && panel.context.isReady && panel.sessionContext.session"
            " && panel.sessionContext.session.kernel && panel.sessionContext.session.kernel.status === 'idle');"
        )
        _wait(lambda: browser.execute_script(ready), f"{name} to open")
        browser.execute_script("jupyterapp.commands.execute('notebook:run-all-cells'); return true;")

    yield open_and_run
    browser.execute_async_script(
        "const done = arguments[0]; jupyterapp.serviceManager.sessions.shutdownAll().then(() => done(), () => done());"
    )


# The page may draw itself anew at any moment, so that elements are read where they are, in one go.


def _sources(browser):
    return browser.execute_script(f"return [...document.querySelectorAll('{PICTURE}')].map(picture => picture.src);")


def _alternative_text(browser):
    return browser.execute_script(f"return document.querySelector('{PICTURE}').alt;")


def _move(browser, control):
    """Move one control: a slider by arrow keys, anything else by a click."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", control)
    if "noUi-handle" in control.get_attribute("class"):
        where = float(control.get_attribute("aria-valuenow")), float(control.get_attribute("aria-valuemax"))
        key = Keys.ARROW_LEFT if where[0] >= where[1] else Keys.ARROW_RIGHT
        for _ in range(3):
            control.send_keys(key)
    else:
        control.click()


def _changed(browser, before, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now = _sources(browser)
        if now and now != before:
            return True
        time.sleep(0.3)
    return False


def _some_control_changes_the_picture(browser):
    before = _sources(browser)
    for kind in CONTROLS:
        for control in browser.find_elements(By.CSS_SELECTOR, kind):
            try:
                _move(browser, control)
            except WebDriverException:  # hidden, or redrawn meanwhile
                continue
            if _changed(browser, before, 20):
                return True
    return False


@pytest.mark.parametrize("name, index", WIDGETS, ids=[f"{name}-{index}" for name, index in WIDGETS])
def test_moving_a_control_changes_the_picture(name, index, run_all, browser):
    run_all(excerpt(name, index), f"{name}-{index}")
    _wait(lambda: _sources(browser), "the widget's picture")
    assert len(_wait(lambda: _alternative_text(browser), "its alternative text").split()) >= 3
    assert _some_control_changes_the_picture(browser)


def _small(*code):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in code])
    notebook.metadata["kernelspec"] = build.KERNEL
    return notebook


def test_a_choice_is_kept_and_compared(run_all, browser, folder):
    run_all(
        _small(
            "from prunekit import course\ncourse.predict('k', 'Which?', ['first', 'second'])",
            "course.reveal('k', 'second', 'It was so.')",
        ),
        "predict",
    )
    _wait(lambda: "No prediction was made" in _text(browser), "the answer")
    _wait(lambda: browser.find_elements(By.CSS_SELECTOR, ".widget-radio input"), "the choices")[1].click()
    _wait(lambda: _guesses(browser, folder / "predict.ipynb") == [("second", "")], "the choice in the notebook")
    chosen = "return [...document.querySelectorAll('.widget-radio input')].map(button => button.checked);"
    _wait(lambda: browser.execute_script(chosen) == [False, True], "the buttons as they were left")
    browser.execute_script(f"{PANEL}.content.activeCellIndex = 1; jupyterapp.commands.execute('notebook:run-cell');")
    _wait(lambda: "As you predicted" in _text(browser), "the comparison")
    _wait(
        lambda: _guesses(browser, folder / "predict.ipynb") == [("second", "second")], "what came out in the notebook"
    )


def _guesses(browser, path):
    """What the stored notebook tells of predictions, once it is saved."""
    browser.execute_script("jupyterapp.commands.execute('docmanager:save');")
    return [(each.guess, each.answer) for each in guesses(Copy("someone", "predict", path))]


def _text(browser):
    return browser.find_element(By.TAG_NAME, "body").text


def test_a_slider_that_is_dragged_draws_anew(run_all, browser):
    run_all(
        _small(
            "import ipywidgets\nfrom prunekit import course\n"
            "def draw(height):\n    figure, axes = course.subplots()\n    axes.plot([0, height])\n"
            "    return figure, f'A line up to {height:.2f}.'\n"
            "course.widgets.live.LiveFigure(draw, height=ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.05))"
        ),
        "live",
    )
    _wait(lambda: _sources(browser), "the picture")
    assert _some_control_changes_the_picture(browser)
    last = "A line up to 0.65."
    _wait(lambda: _alternative_text(browser) == last, "the picture of the last position")


def test_a_picture_has_its_alternative_text_in_jupyterlab(run_all, browser):
    run_all(
        _small(
            "from prunekit import course\nfigure, axes = course.subplots()\naxes.plot([0, 1])\n"
            "course.show(figure, alt='A line that rises.')"
        ),
        "show",
    )
    picture = _wait(lambda: browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea img"), "the picture")[0]
    assert picture.get_attribute("alt") == "A line that rises."
    assert int(picture.get_property("naturalWidth")) > 600


def test_every_widget_of_the_course_is_in_a_notebook():
    used = "".join(source(name).cells[index].source for name, index in WIDGETS)
    for widget in ("ewma_replay", "mask_explorer", "fp8_bits", "trade_off"):
        assert f"course.widgets.{widget}(" in used, f"{widget} is in no notebook of {FOLDER}"
