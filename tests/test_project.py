"""Files that describe the same thing agree, and importing stays cheap."""

import ast
import inspect
import re
import subprocess
import sys

import yaml
from tiny import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import pytest

    tomllib = pytest.importorskip("tomli")


def test_environment_yml_lists_the_packages_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"] + sum(
        (project["optional-dependencies"][e] for e in ("course", "site", "test")), []
    )
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


def undocumented(function):
    """What the docstring of a function leaves out, or names and is not there."""
    documentation, signature = inspect.getdoc(function) or "", inspect.signature(function)
    sections = dict(re.findall(r"^(Args|Returns):\n((?: .*\n|\n)+)", documentation + "\n", re.M))
    named = re.findall(r"^ {4}\*{0,2}(\w+):", sections.get("Args", ""), re.M)
    wrong = {*named} ^ {*signature.parameters}
    if signature.parameters and signature.return_annotation not in (None, "None") and "Returns" not in sections:
        wrong.add("Returns")
    return sorted(wrong)


def test_type_checkers_see_every_public_name_where_it_is():
    import prunekit as pk

    stub = ast.parse((ROOT / "prunekit" / "__init__.pyi").read_text("utf-8"))
    seen = {alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == pk.HOME


def test_every_public_name_exists_and_every_parameter_and_result_is_documented():
    import prunekit as pk

    public = {name: getattr(pk, name) for name in pk.__all__}
    assert [name for name, value in public.items() if not value.__doc__] == []
    functions = {name: value for name, value in public.items() if inspect.isroutine(value)}
    assert {name: wrong for name, function in functions.items() if (wrong := undocumented(function))} == {}


def test_what_a_docstring_leaves_out_is_noticed():
    def complete(a: int, *b: int, c: int = 0) -> int:
        """Summary.

        Args:
            a: one thing, which takes
                two: lines.
            b: another.

            c: and a third.

        Returns:
            A number.
        """

    def partly(a: int, b: int) -> None:
        pass

    partly.__doc__ = "Summary.\n\nArgs:\n    a: one thing, not b: two.\n    old: no longer there.\n"

    def bare(a: int) -> int:
        """Summary that has a: and no section."""

    def nothing() -> int:
        """Summary."""

    found = [undocumented(function) for function in (complete, partly, bare, nothing)]
    assert found == [[], ["b", "old"], ["Returns", "a"], []]
