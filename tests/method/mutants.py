"""Change one place of a module's code at a time, and let the module's own tests run: which changes do they miss?

Run as a program it prints the survivors as JSON: ``python tests/method/mutants.py masks 40``.
"""

import ast
import copy
import importlib.machinery
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 600  # after which a mutant that does not end counts as found

OPERATORS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
NAMES = {
    "amax": "amin", "amin": "amax", "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum",
    "floor": "ceil", "ceil": "floor", "any": "all", "all": "any", "zeros": "ones", "ones": "zeros",
    "sum": "mean", "mean": "sum", "square": "abs", "abs": "neg", "sqrt": "square", "zeros_like": "ones_like",
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Fields of a place in the code, and what they may become."""
    for field, value in ast.iter_fields(node):
        for at, each in enumerate(value) if isinstance(value, list) else ((None, value),):
            for new in _replacements(each):
                yield field, new if at is None else [*value[:at], new, *value[at + 1 :]]
    if isinstance(node, ast.Call):
        for index, keyword in enumerate(node.keywords):
            if keyword.arg != "device":  # tests run on a CPU
                yield "keywords", node.keywords[:index] + node.keywords[index + 1 :]
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        yield "test", ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield "attr", NAMES[node.attr]
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield "id", NAMES[node.id]


def _replacements(node: object) -> Iterator[ast.AST]:
    """What may stand in the place of an operator, a constant, a sign or a statement."""
    if type(node) in OPERATORS:
        yield OPERATORS[type(node)]()
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield ast.Constant(node.value * 1.5 or 1.0)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BinOp):
        yield node.left
    elif isinstance(node, ast.AugAssign | ast.Raise) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()


def mutants(source: str) -> list[tuple[str, str]]:
    """All of them: what changes, as ``function: line -> line``, and the whole new source."""
    tree = ast.parse(source)
    before = ast.unparse(tree).splitlines()
    found = {}
    for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
        for node in [n for part in function.body for n in ast.walk(part)]:
            for field, new in changes(node):
                old = getattr(node, field)
                setattr(node, field, new)
                code = ast.unparse(ast.fix_missing_locations(copy.deepcopy(tree)))
                setattr(node, field, old)
                after = code.splitlines()
                start = next((i for i, (a, b) in enumerate(zip(before, after)) if a != b), None)
                if start is not None:
                    found[f"{function.name}: {before[start].strip()} -> {after[start].strip()}"] = code
    return sorted(found.items())


class Changed(importlib.machinery.SourceFileLoader):
    """Imports one module from other code than its file holds."""

    def __init__(self, name: str, path: str, code: str) -> None:
        super().__init__(name, path)
        self.changed = code

    def get_code(self, fullname: str):
        return compile(self.changed, self.path, "exec")


class Finder:
    """Finds that module before others do."""

    def __init__(self, name: str, path: Path, code: str) -> None:
        self.name, self.loader = name, Changed(name, str(path), code)

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self.loader, origin=self.loader.path) if name == self.name else None


def killed(module: str, code: str) -> bool:
    """Whether the module's own tests find the change; they run in a fork of this process, which has imported torch."""
    child = os.fork()
    if not child:
        _run_tests(module, code)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _run_tests(module: str, code: str) -> None:
    """Run them and leave: with 0 where all pass."""
    import pytest

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    if code:
        name = f"prunekit.method.{module}"
        sys.meta_path.insert(0, Finder(name, ROOT / f"prunekit/method/{module}.py", code))
    tests = str(ROOT / f"tests/method/test_{module}.py")
    os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", tests]))


def survivors(module: str, count: int) -> dict[str, list[str]]:
    """The mutants that were tried, and those that no test found, of `count` chosen by a fixed seed."""
    import torch
    import transformers

    _ = (
        torch.zeros(1),
        transformers.LlamaForCausalLM,
        transformers.GPT2LMHeadModel,
        transformers.PreTrainedTokenizerFast,
    )
    made = mutants((ROOT / f"prunekit/method/{module}.py").read_text("utf-8"))
    chosen = random.Random(0).sample(made, min(count, len(made)))
    if killed(module, ""):
        raise SystemExit(f"the tests of {module} fail without any change")
    return {"tried": [name for name, _ in chosen], "survived": [n for n, code in chosen if not killed(module, code)]}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print(json.dumps(survivors(sys.argv[1], int(sys.argv[2])), indent=1))
