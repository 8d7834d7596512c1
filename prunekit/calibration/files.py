"""Files that somebody named as a text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import PrunekitError


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a text that somebody named.

    Raises:
        PrunekitError: it is no ordinary file, or cannot be read.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise PrunekitError(f"{path} is no ordinary file, and a text is read more than once: write it to one first.")
    try:
        with open(path, "rb") as stream:
            yield stream
    except OSError as error:
        raise PrunekitError(
            f"cannot read the text {path}: {error.strerror}; expected wikipedia, news, press, speeches, wikitext or a "
            "UTF-8 file."
        ) from None


def read_whole(path: Path) -> str:
    """A UTF-8 text, its lines ended as everywhere.

    Raises:
        PrunekitError: as `reading`, or it is not UTF-8, or empty.
    """
    with reading(path) as stream:
        raw = stream.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PrunekitError(
            f"{path} is not UTF-8 text (byte {error.start} cannot be decoded): convert it to UTF-8 first."
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise PrunekitError(f"the text {path} is empty: give a file with some running text.")
    return text
