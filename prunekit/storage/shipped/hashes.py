"""The list of hashes in a folder that prunekit wrote, by which every file in it can be checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ...errors import PrunekitError, first_line
from ...system.files import write_json

NAME = "hashes.json"
_READ = (".safetensors", ".json", ".jinja", ".txt", ".model", ".py", ".bin", ".pt")  # what opening a model may read


def write_hashes(folder: Path) -> None:
    """Write the SHA-256 of every file in a folder, as the last file in it."""
    found = {path.name: _hash(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != NAME}
    (folder / NAME).write_text(json.dumps({"version": 1, "sha256": found}, indent=2) + "\n", "utf-8")


def renew_hash(path: Path) -> None:
    """Note what a file that was changed on purpose now holds, where its folder has a list.

    Args:
        path: of the file.
    """
    listed = path.parent / NAME
    if listed.is_file():
        hashes = json.loads(listed.read_text("utf-8"))
        hashes["sha256"][path.name] = _hash(path)
        write_json(listed, hashes)


def check_hashes(folder: Path) -> int:
    """Compare every file with the list; gives how many there are.

    Raises:
        PrunekitError: there is no list or it is damaged, a file is missing or changed, or one lies there that the list
            does not name and that would be read.
    """
    try:
        listed = json.loads((folder / NAME).read_text("utf-8"))["sha256"]
        items = sorted(listed.items())
    except OSError as error:
        reason = f"{folder} has no {NAME} to check it by ({error.strerror})"
        raise PrunekitError(f"{reason}: save the model again.") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PrunekitError(f"{folder / NAME} is damaged ({first_line(error)}): save the model again.") from None
    for name, wanted in items:
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise PrunekitError(f"{path} is missing: copy the folder again, or save the model again.")
        if _hash(path) != wanted:
            raise PrunekitError(f"{path} is not what was written: copy the folder again, or save the model again.")
    for path in sorted(folder.iterdir()):
        if path.name not in listed and path.name != NAME and path.suffix in _READ:
            raise PrunekitError(f"{path} was not written with the model: remove it.")
    return len(items)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
