"""Write files and folders so that a crash leaves the old state or the new one, never a half of it."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..errors import PrunekitError
from .locks import moved_away, own_name


def cache_dir() -> Path:
    """Where prunekit keeps what it has converted: ``$PRUNEKIT_CACHE``, or the user's cache directory."""
    base = os.environ.get("PRUNEKIT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "prunekit"
    return Path(os.path.expanduser(base))


@contextmanager
def new_folder(target: Path, keep_existing: bool = False) -> Iterator[Path]:
    """Fill a temporary folder beside `target`, then give it that name in one step.

    Args:
        target: a path that does not exist yet, or an empty folder.
        keep_existing: if another process has made `target` meanwhile, keep that one instead of failing.

    Raises:
        PrunekitError: the place cannot be written, or `target` holds something.
    """
    if not (keep_existing and target.is_dir()):
        check_free(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrunekitError(f"cannot write to {target.parent}: {error.strerror}; choose another folder.") from None
    with own_name(target.parent) as temporary:
        try:
            temporary.mkdir()
        except OSError as error:
            raise PrunekitError(f"cannot write to {target.parent}: {error.strerror}; choose another folder.") from None
        try:
            yield temporary
            _grant(temporary)
            _settle(temporary, target, keep_existing)
        except OSError as error:
            if error.errno is None:  # a library's own, and not about this place
                raise
            raise PrunekitError(
                f"cannot write {target}: {error.strerror}; free some space or choose another."
            ) from None
        except SafetensorError as error:  # a full disk, for one
            raise PrunekitError(f"cannot write {target}: {error}; free some space or choose another.") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _settle(temporary: Path, target: Path, keep_existing: bool) -> None:
    """Bring a folder to the disk, then give it its name."""
    sync_folder(temporary)
    if os.name == "nt" and target.is_dir() and not keep_existing:
        target.rmdir()  # an empty one, which elsewhere is replaced
    try:
        os.rename(temporary, target)  # replaces an empty folder, refuses a full one
    except OSError as error:
        if not (keep_existing and target.is_dir()):
            raise PrunekitError(f"cannot create {target}: {error.strerror}; choose another folder.") from None
    with suppress(OSError):  # not every system can do this with a folder
        _sync(target.parent, os.O_RDONLY)


def _grant(folder: Path) -> None:
    """Let others read the files of a new folder as the umask says: safetensors writes them for their owner alone."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def sync_folder(folder: Path) -> None:
    """Bring all files of a folder to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)


def check_free(target: Path) -> None:
    """Raise `PrunekitError` if `target` is a file or a folder that is not empty."""
    if os.path.isdir(target):
        if not os.access(target, os.R_OK):
            raise PrunekitError(f"the folder {target} exists and you may not look into it: choose another.")
        if any(target.iterdir()):
            raise PrunekitError(f"the folder {target} exists and is not empty: choose another, or empty it first.")
    elif os.path.exists(target):
        raise PrunekitError(f"{target} exists and is not a folder: choose another name.")


def check_writable(target: Path) -> None:
    """Raise `PrunekitError` unless `target` can be created, before hours of work depend on it."""
    if os.path.ismount(target) or os.path.islink(target) or os.path.abspath(target) == os.getcwd():
        kind = "a mount point, a link or the current folder"
        raise PrunekitError(f"cannot put anything in the place of {target}, {kind}: give a new name.")
    _check_parent(target)


def check_space(target: Path, needed: int) -> None:
    """Raise `PrunekitError` if fewer than `needed` bytes are free where `target` is to be."""
    free = shutil.disk_usage(_existing_parent(target)).free
    if free < needed:
        raise PrunekitError(
            f"{target} will take {needed / 1e9:.1f} GB or more, and {free / 1e9:.1f} GB are free there: free some "
            "space or choose another."
        )


def _existing_parent(target: Path) -> Path:
    """The nearest folder above `target` that exists."""
    parent = target.absolute().parent
    while not os.path.exists(parent) and parent != parent.parent:
        parent = parent.parent
    return parent


def _check_parent(target: Path) -> None:
    parent = _existing_parent(target)  # where the temporary one goes
    if not (os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK)):
        raise PrunekitError(f"cannot create {target}: {parent} is not a folder you may write to; choose another.")


def check_writable_file(path: Path) -> None:
    """Raise `PrunekitError` unless `path` can be written as a file, new or in place of an old one."""
    if os.path.isdir(path):
        raise PrunekitError(f"{path} is a folder: give the name of a file.")
    if os.path.exists(path) and not os.path.isfile(path):
        raise PrunekitError(f"{path} is no ordinary file: give the name of one.")
    _check_parent(path)
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise PrunekitError(f"cannot write {path}: you may not write to it; choose another file.")


@contextmanager
def temporary_file(target: Path) -> Iterator[Path]:
    """Write a file in a temporary folder beside `target`, then move it there in one step.

    Raises:
        PrunekitError: the place cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with own_name(target.parent) as folder:
            folder.mkdir()  # libraries put names of their own beside the file that they write
            try:
                yield folder / target.name
                _grant(folder)
                _sync(folder / target.name)
                os.replace(folder / target.name, target)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise PrunekitError(f"cannot write {target}: {error.strerror}; choose another file.") from None
    except SafetensorError as error:  # a full disk, for one
        raise PrunekitError(f"cannot write {target}: {error}; free some space or choose another file.") from None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, see `temporary_file`."""
    with temporary_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, see `temporary_file`. JSON has no NaN and no infinity: null stands in their place."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """The same value without NaN and infinity."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A name for a new folder, which then takes the place of `target`; an old one there stays whole until then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with own_name(target.parent) as name:
        new, old = name, moved_away(name, target)
        try:
            yield new
            if target.exists():
                os.rename(target, old)
            os.rename(new, target)
        finally:
            if old.exists() and not target.exists():  # interrupted between the two
                os.rename(old, target)
            for folder in (new, old):
                shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path, access: int = os.O_RDWR) -> None:
    descriptor = os.open(path, access)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
