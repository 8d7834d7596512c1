"""The lines of a JSONL file: conversations and documents, each looked at before anything is made of it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PrunekitError
from .files import reading


@dataclass(frozen=True)
class Line:
    """A line of the file.

    Attributes:
        number: from 1.
        said: a document, or the messages of a conversation.
        tools: what the conversation may call, or None.
    """

    number: int
    said: str | list[dict]
    tools: list[dict] | None = None


def is_jsonl(name: str | Path) -> bool:
    """Whether a file holds conversations or documents line by line, by its name."""
    return str(name).lower().endswith(".jsonl")


def index(path: Path) -> tuple[array, array]:
    """Where the lines begin that are not blank, in bytes, and their numbers; memory holds one of them at a time.

    Raises:
        PrunekitError: the file cannot be read, or has no line but blank ones, or a line is bad: the first is named.
    """
    starts, numbers, place = array("q"), array("q"), 0
    with reading(path) as stream:
        for number, raw in enumerate(stream, 1):
            if parsed(path, number, raw):
                starts.append(place)
                numbers.append(number)
            place += len(raw)
    if not numbers:
        raise PrunekitError(f"the text {path} is empty: give lines of JSON with messages or text.")
    return starts, numbers


def lines_at(path: Path, places: Iterable[tuple[int, int]]) -> Iterator[tuple[Line, int]]:
    """The lines that begin at some places and have some numbers, and their bytes."""
    with reading(path) as stream:
        for place, number in places:
            stream.seek(place)
            raw = stream.readline()
            if line := parsed(path, number, raw):
                yield line, len(raw)


def parsed(path: Path, number: int, raw: bytes) -> Line | None:
    """A line, or None where it is blank."""
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    if not raw.strip():
        return None
    try:
        said, tools = _read(raw)
    except _Bad as what:
        raise PrunekitError(
            f'line {number} of {path} {what}: expected {{"messages": [{{"role": ..., "content": ...}}, ...]}} or '
            '{"text": ...}.'
        ) from None
    return Line(number, said, tools)


class _Bad(Exception):
    """What is wrong with a line."""


def _read(raw: bytes) -> tuple[str | list[dict], list[dict] | None]:
    """What is said in a line, and the tools."""
    try:
        value = json.loads(raw.rstrip().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Bad(f"is not UTF-8 (byte {error.start + 1} cannot be decoded)") from None
    except json.JSONDecodeError as error:
        raise _Bad(f"is not valid JSON ({error.msg}, character {error.pos + 1})") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or thousands of brackets
        raise _Bad("is not valid JSON that can be read") from None
    if not isinstance(value, dict):
        raise _Bad("holds no JSON object")
    if (messages := value.get("messages")) is not None:
        tools = value.get("tools")
        if tools is not None and not _objects(tools):
            raise _Bad('has "tools" that are no list of objects')
        if not messages or not _objects(messages):
            raise _Bad('has "messages" that are no list of objects, one or more')
        return [_message(index, message) for index, message in enumerate(messages, 1)], tools or None
    if (text := value.get("text")) is None:
        raise _Bad('has neither "messages" nor "text"')
    if not isinstance(text, str):
        raise _Bad('has a "text" that is no string')
    return text, None


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _message(index: int, message: dict) -> dict:
    """A message as templates take it: its content is a string, or there is none."""
    if not isinstance(message.get("role"), str):
        raise _Bad(f'has a message {index} whose "role" is no string')
    content = message.get("content")
    if content is None or isinstance(content, str):
        return message
    if not _objects(content):
        raise _Bad(f'has a message {index} whose "content" is neither a string nor a list of parts')
    for part in content:
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise _Bad(f"has a message {index} with a part of type {part.get('type')!r:.40}, and only text can be read")
    return message | {"content": "".join(part["text"] for part in content)}
