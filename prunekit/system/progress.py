"""Progress bars, only where somebody watches, and seconds by stage."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], what: str) -> Iterable[T]:
    """Iterate with a bar that appears after two seconds; silent in notebooks, pipes and tests."""
    from tqdm import tqdm

    return tqdm(items, desc=what, delay=2, leave=False, disable=not sys.stderr.isatty())


class Stages:
    """Times named stages: ``with stages("load"): ...`` adds to ``stages.seconds["load"]``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - begin
