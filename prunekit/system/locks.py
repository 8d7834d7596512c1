"""Who lives: names for unfinished work, and locks that the operating system drops with the process that holds them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

MARK = ".prunekit-tmp-"
_LOCK = re.compile(rf"({re.escape(MARK)}[0-9a-f]{{16}})\.lock")
_mine: set[str] = set()  # names in use here: some network file systems do not keep threads apart


@contextmanager
def own_name(folder: Path) -> Iterator[Path]:
    """A name for something unfinished that no other process or thread has, and nobody can foresee.

    A locked file beside it says that its owner lives. What killed owners have left in the folder is removed first.

    Args:
        folder: where the name is to be; it exists.
    """
    sweep(folder)
    name = folder / f"{MARK}{token_hex(8)}"
    _mine.add(name.name)
    try:
        with locked(_lock_of(name)):
            yield name
    finally:
        with suppress(OSError):
            _lock_of(name).unlink(missing_ok=True)
        _mine.discard(name.name)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a file, which is made if need be, until the block or the process ends.

    Args:
        path: the file to lock.
        wait: until others give it back.

    Yields:
        False if it is not held: by another's hold, for want of permission, or on a file system without locks.
    """
    from filelock import FileLock

    lock = FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    try:
        lock.acquire()
    except (OSError, NotImplementedError):  # filelock's Timeout is an OSError
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def moved_away(name: Path, target: Path) -> Path:
    """Where `target` waits while another folder takes its place; it comes back if the owner of `name` is killed.

    Args:
        name: from `own_name`, in the same folder as `target`.
        target: what is moved.
    """
    return name.with_name(f"{name.name}-old-{target.name}")


def sweep(folder: Path) -> None:
    """Remove what killed processes have left in a folder, and put back what they had moved away."""
    for path in folder.glob(f"{MARK}*.lock"):
        match = _LOCK.fullmatch(path.name)
        if match is None or match[1] in _mine or path.is_symlink():
            continue
        with locked(path, wait=False) as held:
            if not held:
                continue
            with suppress(OSError):  # some of it may be somebody else's
                _clear(folder, match[1])
                path.unlink(missing_ok=True)


def _clear(folder: Path, name: str) -> None:
    old = f"{name}-old-"
    for path in folder.glob(f"{name}*"):
        if path == _lock_of(folder / name):
            continue  # last: without it nobody would come back for the others
        if path.name.startswith(old) and not (folder / path.name[len(old) :]).exists():
            path.rename(folder / path.name[len(old) :])
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _lock_of(name: Path) -> Path:
    return name.with_name(f"{name.name}.lock")
