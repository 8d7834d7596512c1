"""Progress bars on standard error, only where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], what: str) -> Iterable[T]:
    """Iterate with a bar that appears after two seconds; silent in notebooks, pipes and tests."""
    from tqdm import tqdm

    return tqdm(items, desc=what, delay=2, leave=False, disable=not sys.stderr.isatty())
