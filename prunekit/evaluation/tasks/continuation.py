"""A task that needs no network: which of four continuations is the article's own?

The passages are beginnings of twelve words, spread evenly over the Wikipedia test articles; four words follow. Beside
the article's own four stand three times four from elsewhere in the same article, so that its topic gives nothing away.
Sizes are ours: so the embedded model is right clearly more often than by chance, and clearly not always.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ...calibration.corpus import documents
from ...system.files import cache_dir, write_text

NAME = "continuation"
ITEMS = 640  # so many that the standard error is at most 2 points
_BEGINNING, _CONTINUATION, _CHOICES = 12, 4, 4  # words, words, continuations
_TASK = {
    "task": NAME,
    "dataset_path": "json",
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "{{passage}}",
    "doc_to_target": "label",
    "doc_to_choice": "choices",
    "num_fewshot": 0,
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 1.0},
}


def items(articles: Sequence[str], count: int = ITEMS) -> list[dict]:
    """The task's items, the same ones for the same articles.

    Args:
        articles: running text.
        count: how many at most; fewer where there are fewer places, or where words repeat themselves.

    Returns:
        Dictionaries of a ``passage``, its ``choices`` and the ``label``, the index of the right one.
    """
    words, length = [article.split() for article in articles], _BEGINNING + _CONTINUATION
    places = [(text, start) for text in words for start in range(0, len(text) - _CHOICES * length, length)]
    count = min(count, len(places))
    chosen = [places[(2 * k + 1) * len(places) // (2 * count)] for k in range(count)]
    found = []
    for label, (text, start) in zip([k % _CHOICES for k in range(count)], chosen):
        last = len(text) - _CONTINUATION
        begins = [(start + _BEGINNING + last * k // _CHOICES) % last for k in range(_CHOICES)]
        right, *wrong = (" ".join(text[begin : begin + _CONTINUATION]) for begin in begins)
        choices = [*wrong[:label], right, *wrong[label:]]
        if len(set(choices)) == _CHOICES:
            passage = " ".join(text[start : start + _BEGINNING])
            found.append({"passage": passage, "choices": choices, "label": label})
    return found


def write_task(folder: Path | None = None) -> Path:
    """Write the task as lm-eval reads it: its items in ``continuation.jsonl``, and what they are beside them.

    Args:
        folder: where to; None for the cache.

    Returns:
        The path of ``continuation.yaml``.

    Raises:
        PrunekitError: gensim, which brings the articles, is not installed, or the folder cannot be written.
    """
    folder = (folder or cache_dir() / "tasks").absolute()
    data, task = folder / f"{NAME}.jsonl", folder / f"{NAME}.yaml"
    lines = "".join(json.dumps(item) + "\n" for item in items(documents("wikipedia", "test")))
    kwargs = {"data_files": {"test": str(data)}, "cache_dir": str(folder / "datasets")}
    described = json.dumps(_TASK | {"dataset_kwargs": kwargs}, indent=2)  # JSON is YAML, too
    for path, content in ((data, lines), (task, described + "\n")):
        if not (path.is_file() and path.read_text("utf-8", "replace") == content):
            write_text(path, content)
    return task
