"""The house: a folder imports only folders that stand below it, imports inside functions and for types included."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from tiny import ROOT

FOLDERS = (
    *("course", "cli", "bench", "recovery", "storage", "compression", "evaluation", "calibration"),
    *("speed", "model", "kernels", "method", "system"),
)
PACKAGE = ROOT / "prunekit"
LAZY = {PACKAGE, PACKAGE / "course", PACKAGE / "course" / "figures", PACKAGE / "course" / "widgets"}


def imported(path, source):
    """Dotted names that a module imports, those that it gives to `import_module` included."""
    package = ["prunekit", *path.parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
            dots = len(name) - len(name.lstrip("."))
            yield ".".join([*package[: len(package) - dots + 1], name[dots:]]) if dots else name


def imports_upward(files):
    """What some modules, sources by path below the package, import of folders that do not stand below their own."""
    for path, source in files.items():
        mine = path.parts[0]
        for name in imported(path, source) if len(path.parts) > 1 else ():
            package, folder, *_ = [*name.split("."), ""]
            if package != "prunekit" or folder in (mine, "errors"):
                continue
            # What is no folder is the whole package, which only the course may use.
            if mine != "course" if folder not in FOLDERS else FOLDERS.index(folder) < FOLDERS.index(mine):
                yield f"{path} imports {name}"


def file_graph(files):
    """By module, the modules that it imports; sources by path below the package."""
    modules = {".".join(["prunekit", *path.with_suffix("").parts]): path for path in files}
    parents = lambda name: (name, name.rpartition(".")[0])  # noqa: E731
    return {
        module: {found for name in imported(path, files[path]) for found in parents(name) if found in modules}
        for module, path in modules.items()
    }


def sources():
    return {path.relative_to(PACKAGE): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def test_folders_import_only_folders_below_them():
    found = sources()
    assert {path.parts[0] for path in found if len(path.parts) > 1} == set(FOLDERS)
    assert list(imports_upward(found)) == []


def test_no_modules_import_one_another_in_a_circle():
    list(TopologicalSorter(file_graph(sources())).static_order())


@pytest.mark.parametrize(
    "path, code, upward",
    [
        ("method/a.py", "from ..model import linear", True),
        ("method/a.py", "def f():\n    from ..kernels.cpu import select", True),
        ("method/a.py", "if TYPE_CHECKING:\n    from prunekit.storage.load import load", True),
        ("method/a.py", "import prunekit.cli.main", True),
        ("method/a.py", "import_module('..kernels.cpu', __package__)", True),
        ("cli/compress/a.py", "from ...course import style", True),
        ("model/a.py", "import prunekit as pk", True),
        ("model/a.py", "from .. import compress", True),
        ("model/a.py", "from ..errors import PrunekitError\nfrom . import linear\nfrom ..method import fp8", False),
        ("course/figures/a.py", "import prunekit as pk\nfrom ...cli.main import main", False),
        ("cli/a.py", "import torch\nfrom importlib import import_module", False),
    ],
)
def test_an_import_that_points_upward_is_noticed(path, code, upward):
    assert bool(list(imports_upward({Path(path): code}))) == upward


def test_a_circle_is_noticed():
    circle = {
        Path("model/a.py"): "from .b import f",
        Path("model/b.py"): "def f():\n    from . import c",
        Path("model/c.py"): "if TYPE_CHECKING:\n    from prunekit.model.a import g",
    }
    with pytest.raises(CycleError):
        list(TopologicalSorter(file_graph(circle)).static_order())


def test_a_folder_is_small_and_says_what_it_is():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 9, f"{folder.name} has {len(modules)} modules: a subfolder is the way out"
        body = ast.parse((folder / "__init__.py").read_text("utf-8")).body
        assert isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
        assert len(body) == 1 or folder in LAZY
