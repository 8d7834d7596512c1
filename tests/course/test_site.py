"""The course as static pages: what is written, and all of it in headless Chromium."""

import functools
import http.server
import shutil
import threading
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from reading import NAMES, ROOT

from prunekit.course.publish import site
from prunekit.errors import PrunekitError

pytest.importorskip("myst_nb", reason="the site needs the extra site")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
NARROW = 400  # pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("site") / "html"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return site.build_site(target)


class Page(HTMLParser):
    """Links, anchors and images of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.images, self.folded = [], set(), [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        self.links += [found["href"]] if tag == "a" and found.get("href") else []
        self.images += [(found.get("src", ""), found.get("alt"))] if tag == "img" else []
        self.folded += tag == "details"


def test_every_page_is_there_and_every_link_anchor_and_image_leads_somewhere(folder):
    pages = {path.name: Page(path.read_text("utf-8")) for path in folder.glob("*.html")}
    assert {f"{name}.html" for name in (*NAMES, *site.PAGES, "index", "search")} <= pages.keys()
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or name in ("genindex.html", "search.html"):
                continue
            target = unquote(parts.path) or name
            assert (folder / target).is_file(), f"{name}: {link}"
            if parts.fragment and target.endswith(".html"):
                assert unquote(parts.fragment) in pages[target].anchors, f"{name}: {link}"
        for source, alt in page.images:
            assert source.startswith("data:image/") or (folder / source).is_file(), f"{name}: {source}"
            assert alt, f"{name}: a picture without alternative text"
        if name[:-5] in NAMES:
            assert page.folded >= 3, f"{name}: solutions do not fold"


def test_nothing_is_fetched_from_elsewhere(folder):
    for path in folder.glob("*.html"):
        for line in path.read_text("utf-8").split("<"):
            if line.startswith(("script", 'link rel="stylesheet', "img")):
                assert 'src="http' not in line and 'href="http' not in line, line[:120]


def test_a_link_that_leads_nowhere_is_a_fault(tmp_path, monkeypatch):
    for name in ("notebooks", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(site, "PAGES", ("CHOICES",))  # to which the others' links now lead nowhere
    with pytest.raises(PrunekitError, match=r"(?s)the site has faults.*GLOSSARY"):
        site.build_site(tmp_path / "out")


def test_outside_of_the_repository_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert site.main() == 2 and "there are no notebooks" in capsys.readouterr().err


@pytest.fixture(scope="module")
def address(folder):
    """The site, served on this machine alone."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="the crawl needs selenium")
    if not (CHROMIUM and DRIVER):
        pytest.skip("the crawl needs chromium and chromedriver (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={NARROW + 100},900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(300)
    yield driver
    driver.quit()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_in_a_browser_have_no_errors_and_fit_a_narrow_screen(browser, address, folder, theme):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": NARROW, "height": 900, "deviceScaleFactor": 1, "mobile": True},
    )
    browser.get(f"{address}/index.html")
    browser.execute_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
    for path in sorted(folder.glob("*.html")):
        browser.get(f"{address}/{path.name}")
        errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert errors == [], path.name
        assert browser.execute_script("return document.documentElement.dataset.theme") == theme
        broken = browser.execute_script(
            "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 80))"
        )
        assert broken == [], path.name
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= NARROW, f"{path.name} is {wide} pixels wide on a screen of {NARROW}"
