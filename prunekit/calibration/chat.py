"""Conversations and documents from a JSONL file, one a line; a tokenizer's chat template says how it is spoken."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PrunekitError, first_line, out_of_memory
from .lines import Line, index, lines_at

WHOLE = 2**20  # bytes; of a larger file only some of the lines are encoded where few tokens are asked for
_ROOM = 8  # bytes of a line for each token that is asked for, at first
_BATCH = 2**18  # bytes that a tokenizer is given at once


def jsonl_documents(path: Path, tokenizer: Any = None) -> list[str]:
    """All lines as text.

    Args:
        path: the file; each line is ``{"text": ...}`` or ``{"messages": [{"role": ..., "content": ...}, ...]}``, with
            ``"tools"`` where there are some.
        tokenizer: its chat template makes text of conversations.

    Raises:
        PrunekitError: the file or a line cannot be read, there are conversations and no template or tokenizer, or the
            template does not take one.
    """
    lines = [line for line, _ in lines_at(path, zip(*index(path)))]
    return [text for group in _alike(lines) for text in _spoken(path, tokenizer, group, tokenize=False)]


def jsonl_ids(path: Path, tokenizer: Any, tokens: int | None, seed: int = 0) -> Iterator[Tensor]:
    """The lines as tokens, one after the other as the template gives them; documents without special tokens.

    Of a file above 1 MB as many lines are encoded as are needed, spread evenly over it.

    Args:
        path: as in `jsonl_documents`.
        tokenizer: a Hugging Face tokenizer.
        tokens: how many are needed; None for all there are.
        seed: which lines of a large file.

    Yields:
        int64 ``[tokens]`` of some lines, in the order of the file.

    Raises:
        PrunekitError: as `jsonl_documents`.
    """
    starts, numbers = index(path)
    count = len(starts)
    wanted = count
    if tokens is not None:
        share = max(WHOLE, _ROOM * tokens) / os.path.getsize(path)
        wanted = max(1, int(min(1.0, share) * count))
    while True:
        lines = (int((k + shift_of(seed)) * count / wanted) for k in range(wanted))
        pieces = _encoded(path, tokenizer, ((starts[line], numbers[line]) for line in lines))
        if wanted == count:  # there are no more: they need not be held here
            yield from pieces
            return
        found = list(pieces)
        if sum(map(len, found)) >= (tokens or 0):
            yield from found
            return
        wanted = min(count, 2 * wanted)


def shift_of(seed: int) -> float:
    """A number from 0 to 1 for a seed, 0.5 for 0; those of neighbours land as far apart as they can."""
    return (0.5 + seed % 2**32 * 0.6180339887498949) % 1


def _encoded(path: Path, tokenizer: Any, places: Iterable[tuple[int, int]]) -> Iterator[Tensor]:
    """Tokens of the lines at some places, batch by batch."""
    batch: list[Line] = []
    size = 0
    for line, length in lines_at(path, places):
        batch.append(line)
        size += length
        if size >= _BATCH:
            yield _ids(path, tokenizer, batch)
            batch, size = [], 0
    yield _ids(path, tokenizer, batch)


def _ids(path: Path, tokenizer: Any, lines: Sequence[Line]) -> Tensor:
    rows = [row for group in _alike(lines) for row in _spoken(path, tokenizer, group, tokenize=True)]
    return torch.tensor([token for row in rows for token in row], dtype=torch.int64)


def _alike(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines in a row that a tokenizer can be given together."""
    for _, group in groupby(lines, key=lambda line: (isinstance(line.said, str), line.tools)):
        yield list(group)


def _spoken(path: Path, tokenizer: Any, lines: list[Line], tokenize: bool) -> list[Any]:
    """Tokens or the text of some lines of one kind."""
    said: list[Any] = [line.said for line in lines]
    chats = not isinstance(said[0], str)
    if not (chats or tokenize):
        return said
    if chats and (tokenizer is None or getattr(tokenizer, "chat_template", "its own") is None):
        what = "no tokenizer was given" if tokenizer is None else "the tokenizer of this model has no chat template"
        raise PrunekitError(
            f"line {lines[0].number} of {path} holds messages, and {what}: give a model with a chat template (mostly "
            "called Instruct or Chat), or lines with text."
        )
    try:
        if chats:
            tools = lines[0].tools
            return tokenizer.apply_chat_template(said, tools=tools, tokenize=tokenize, return_dict=False)
        return tokenizer(said, add_special_tokens=False, verbose=False)["input_ids"]
    except Exception as error:  # what a template raises is its author's choice
        if out_of_memory(error):
            raise
        if len(lines) > 1:  # whose fault is it?
            return [row for line in lines for row in _spoken(path, tokenizer, [line], tokenize)]
        what = "chat template" if chats else "tokenizer"
        raise PrunekitError(
            f"line {lines[0].number} of {path} is not what the model's {what} takes ({first_line(error)[:150]}): mend "
            "or leave out the line."
        ) from error
