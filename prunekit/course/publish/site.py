"""The course as static pages, from the outputs that the notebooks hold: ``python -m prunekit.course.publish.site``.

Sphinx with myst-nb and a book theme (extra ``site``); nothing is executed, and nothing is fetched.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ...errors import PrunekitError
from ..build import REPOSITORY

FOLDER, TARGET = Path("notebooks"), Path("dist/site")
PAGES = ("CHOICES", "RESULTS", "GLOSSARY", "BIBLIOGRAPHY", "TEACHING")

# With the address set, a button on each notebook opens it on Colab.
COLAB = {
    "repository_url": REPOSITORY,
    "path_to_docs": "notebooks",
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
}

CONF = """\
project = "prunekit"
author = ""
copyright = "MIT licence"
extensions = ["myst_nb"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = False
suppress_warnings = ["myst.header"]
html_theme = "sphinx_book_theme"
html_title = "prunekit: compressing language models"
html_theme_options = {"use_download_button": False, "use_fullscreen_button": False, "show_toc_level": 2, **{colab}}
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_favicon = "_static/icon.svg"
html_context = {"default_mode": "auto"}
html_sourcelink_suffix = ""
"""

# Four weights, two of them pruned.
ICON = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">
<path fill="#0072B2" d="M1 1h6v6H1zM9 9h6v6H9z"/>
<path fill="none" stroke="#D55E00" d="M9.5 1.5h5v5h-5zM1.5 9.5h5v5h-5z"/>
</svg>
"""

CSS = """\
/* Pictures have a white ground of their own, and their tables and folds follow the theme. */
.cell_output img { background: white; border-radius: 4px; padding: 4px; }
html[data-theme="dark"] .bd-content div.cell_output .text_html { background: transparent; color: inherit; }
.cell_output table { display: block; overflow-x: auto; width: max-content; max-width: 100%; }
.cell_output details, article details { margin: 0.5em 0; }
article details > summary { cursor: pointer; }
pre, code { overflow-wrap: anywhere; }
html[data-theme="dark"] .bd-content img:not(.only-dark):not(.dark-light) { background: white; }
"""


def build_site(target: Path = TARGET) -> Path:
    """Write the pages.

    Args:
        target: a folder; what is in it is replaced.

    Returns:
        The folder, with ``index.html``.

    Raises:
        PrunekitError: Sphinx and its extensions are not installed, the working directory is no repository, or a page
            has a link that leads nowhere.
    """
    if not find_spec("myst_nb") or not find_spec("sphinx_book_theme"):
        raise PrunekitError("the site is made by Sphinx with myst-nb: pip install 'prunekit[site]', or make site.")
    if not FOLDER.is_dir():
        raise PrunekitError(f"there are no notebooks in {FOLDER.resolve()}: run this in the repository.")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        write_source(source)
        shutil.rmtree(target, ignore_errors=True)
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(source), str(target)]
        done = subprocess.run([*command, "-d", f"{scratch}/doctrees"], capture_output=True, text=True)
    if done.returncode:
        said = re.sub(rf"{re.escape(str(source))}/?", "", done.stderr).strip()
        raise PrunekitError(f"the site has faults, each on a line:\n{said}")
    return target


def write_source(folder: Path) -> None:
    """Write what Sphinx reads: pages and notebooks, an index, settings."""
    (folder / "_static").mkdir(parents=True)
    for name, text in (("course.css", CSS), ("icon.svg", ICON)):
        (folder / "_static" / name).write_text(text, "utf-8")
    settings = CONF.replace("{colab}", repr(COLAB if REPOSITORY else {}))
    (folder / "conf.py").write_text(settings, "utf-8")
    notebooks = sorted(FOLDER.glob("[0-9]*.ipynb"))
    for path in (*notebooks, *(FOLDER / f"{name}.md" for name in PAGES), FOLDER / "kept.svg"):
        shutil.copy(path, folder)
    (folder / "index.md").write_text(index(Path("README.md").read_text("utf-8"), [n.stem for n in notebooks]), "utf-8")


def index(readme: str, notebooks: list[str]) -> str:
    """The first page: README up to its commands, with links into the site, and the table of contents.

    Args:
        readme: README's text.
        notebooks: their names, in order.
    """
    text = readme.split("\n## Your own model")[0].replace("](notebooks/", "](")
    return f"{text}\n\n{_contents('The course', notebooks)}\n\n{_contents('Beside it', PAGES)}\n"


def _contents(caption: str, names: list[str] | tuple[str, ...]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```"])


def main() -> int:
    """The command line; returns the exit code."""
    try:
        print(f"wrote {build_site()}/index.html")
    except PrunekitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
