"""Files that describe the same thing agree, and importing stays cheap."""

import subprocess
import sys
from pathlib import Path

import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import pytest

    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parent.parent


def test_environment_yml_lists_the_packages_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"] + sum((project["optional-dependencies"][e] for e in ("course", "test")), [])
    conda = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    listed = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert sorted(listed) == sorted(wanted)
    assert f"python{project['requires-python']}" in conda


def test_import_pulls_in_nothing_heavy():
    code = (
        "import sys, prunekit; print([m for m in ('torch', 'transformers', 'numba', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_public_name_exists_and_is_documented():
    import prunekit as pk

    for name in pk.__all__:
        assert getattr(pk, name).__doc__, name
