"""Where a compressed model comes from: the dense model's name and licence, and the command that was given."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..embedded import CACHED

_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_LICENSE = re.compile(r"[\w.-]{1,40}")
_PLACES = ("--out", "--json")  # that say nothing of the model
_MOST = 1 << 20  # bytes of a card that are read


@dataclass(frozen=True)
class Origin:
    """Of what model something was made, and how it was asked for.

    Attributes:
        name: of the dense model, without its place.
        model: its name on the Hugging Face hub; None where that is not known.
        license: its licence; None where that is not known.
        command: the command line; None where Python was used.
    """

    name: str
    model: str | None = None
    license: str | None = None
    command: str | None = None


EMBEDDED = Origin("SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")


def origin_of(source: str, command: Sequence[str] = ()) -> Origin:
    """The origin of what is made from a folder or a model on the hub.

    Args:
        source: as transformers noted it when it opened the dense model; empty where it was made in Python.
        command: what was given on the command line.
    """
    said = without_places(command) if command else None
    if Path(source).name == CACHED:
        return replace(EMBEDDED, command=said)
    if os.path.isdir(source):
        return Origin(Path(os.path.abspath(source)).name, None, _license(Path(source) / "README.md"), said)
    if _HUB.fullmatch(source):
        return Origin(source.partition("/")[2], source, _license_on_hub(source), said)
    return Origin("A model made in Python", None, None, said)


def without_places(command: Sequence[str]) -> str:
    """A command line as one can give it elsewhere: without the folders of the machine on which it was given.

    Args:
        command: the words behind `prunekit`.
    """
    words, skip = ["prunekit"], False
    for word in command:
        option, is_given, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if skip:
            skip = False
        elif option in _PLACES:
            skip = not is_given
        elif word.startswith("--") and not is_given:
            words.append(word)
        else:
            words.append((f"{option}=" if is_given else "") + _placeless(value))
    return shlex.join(words)


def _placeless(word: str) -> str:
    """The last part of a path; what is none stays, a model on the hub among it."""
    seems_path = os.sep in word and (os.path.exists(os.path.expanduser(word)) or not _HUB.fullmatch(word))
    return Path(word.rstrip(os.sep)).name if seems_path else word


def _license(card: Path) -> str | None:
    """What a model card says of the licence, if it says so plainly."""
    from huggingface_hub import metadata_load

    try:
        if not card.is_file() or card.stat().st_size > _MOST:
            return None
        found = (metadata_load(card) or {}).get("license")
    except Exception:  # whatever stands there: nobody needs it
        return None
    return found if isinstance(found, str) and _LICENSE.fullmatch(found) else None


def _license_on_hub(name: str) -> str | None:
    """The same of a model on the hub whose card was fetched before; nothing is fetched for it."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, "README.md")
    return _license(Path(path)) if isinstance(path, str) else None
