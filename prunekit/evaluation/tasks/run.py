"""Let a model do tasks of lm-eval, as ``lm_eval --model hf`` lets it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from ...errors import PrunekitError, check_count, first_line, out_of_memory
from ...model.modes import device_of, without_dropout
from .find import Found, find_tasks, lm_eval_quiet

_SEED, _OTHER_SEED = 0, 1234  # lm-eval's own


@dataclass(frozen=True)
class Done:
    """How a model did a task, by one of its metrics.

    Attributes:
        task: its name, or that of a group of tasks.
        metric: for example ``acc``, or with the filter it needs, ``exact_match,strict-match``.
        value: the metric.
        error: its standard error; NaN where lm-eval gives none.
        items: how many there were.
        shots: examples in the prompt; None for a group.
        version: the task's; None where it has none.
        hits: of each item whether it was right, float64 ``[items]``; None where there were no choices.
        chance: of each item what guessing gives, one over the number of choices, float64 ``[items]``; None likewise.
        loglikelihoods: of each item's choices, nats; empty where there were none, or for another metric's row.
    """

    task: str
    metric: str
    value: float
    error: float
    items: int
    shots: int | None
    version: str | None
    hits: Tensor | None = None
    chance: Tensor | None = None
    loglikelihoods: tuple[tuple[float, ...], ...] = ()


def run_tasks(
    model: nn.Module,
    tokenizer: Any,
    tasks: Sequence[str] | Found = ("continuation",),
    *,
    limit: int | None = None,
    shots: int | None = None,
    batch: int = 8,
) -> list[Done]:
    """Let a model do tasks of lm-eval.

    Args:
        model: a causal language model of transformers, compressed or not.
        tokenizer: its tokenizer.
        tasks: as in `find.find_tasks`, or what it gave.
        limit: only so many items of each task; None for all.
        shots: examples in the prompt; None for what the task says.
        batch: requests at once.

    Returns:
        Of each task, and each group of tasks, a row for each of its metrics.

    Raises:
        PrunekitError: as `find.find_tasks`, a number is bad, or lm-eval cannot run a task.
    """
    batch = check_count(batch, "batch")
    limit = None if limit is None else check_count(limit, "limit")
    if shots is not None and shots < 0:
        raise PrunekitError(f"{shots} examples in a prompt: expected 0 or more.")
    wanted = tasks if isinstance(tasks, Found) else find_tasks(tasks)
    with lm_eval_quiet(), without_dropout(model), _seeded():
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        try:
            taker = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, device=str(device_of(model)))
            loaded = wanted.load()  # anew, since some tasks draw while they are opened
            _prepare(loaded["tasks"].values(), shots)
            found = lm_eval.evaluate(taker, loaded, limit=limit)
        except Exception as error:  # of a task's own code, or of what it needs beside
            if out_of_memory(error):
                raise
            raise PrunekitError(
                f"lm-eval cannot run {', '.join(wanted.names)[:200]}: {first_line(error)[:200]}."
            ) from error
    return [done for name in found["results"] for done in _rows(name, found)]


def _prepare(tasks: Iterable[Any], shots: int | None) -> None:
    """What `lm_eval.simple_evaluate` does to tasks; beside, it only asks git and pip for versions."""
    for task in tasks:
        own = task.get_config("num_fewshot")
        if own is None or (shots is not None and own != 0):  # a task that says 0 is not made for examples
            task.set_config(key="num_fewshot", value=shots or 0)
        task.set_fewshot_seed(seed=_OTHER_SEED)


@contextmanager
def _seeded() -> Iterator[None]:
    """Draw with lm-eval's seeds; afterwards it is as if nothing had been drawn."""
    before, of_numpy, of_torch = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    random.seed(_SEED)
    numpy.random.seed(_OTHER_SEED)
    torch.manual_seed(_OTHER_SEED)
    try:
        yield
    finally:
        random.setstate(before)
        numpy.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)


def _rows(name: str, found: dict) -> list[Done]:
    """A task's, or a group's, metrics."""
    leaves = _leaves(name, found)
    samples = {leaf: found["samples"].get(leaf, []) for leaf in leaves}
    config = found["configs"].get(name, {})
    rows: list[Done] = []
    for key, value in found["results"][name].items():
        metric, _, filtered = key.partition(",")
        if not filtered or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = found["results"][name].get(f"{metric}_stderr,{filtered}")
        taken = [sample for leaf in leaves for sample in samples[leaf] if sample.get("filter", filtered) == filtered]
        chosen = metric.startswith("acc") and all(
            found["configs"][leaf].get("output_type") == "multiple_choice" for leaf in leaves
        )
        hits = chance = None
        if chosen and taken and all(metric in sample for sample in taken):
            hits = torch.tensor([float(sample[metric]) for sample in taken], dtype=torch.float64)
            chance = torch.tensor([1 / _choices(sample) for sample in taken], dtype=torch.float64)
            if abs(hits.mean().item() - value) > 1e-6:  # a group that counts its tasks alike, whatever their size
                hits = chance = None
        rows.append(
            Done(
                name,
                metric if filtered == "none" else key,
                float(value),
                float(error) if isinstance(error, (int, float)) else float("nan"),
                len(taken),
                found["n-shot"].get(name),
                None if (version := found["versions"].get(name)) is None else str(version),
                hits,
                chance,
                _loglikelihoods(taken) if config and not rows else (),
            )
        )
    return rows


def _leaves(name: str, found: dict) -> list[str]:
    """The tasks of a group, or the task itself."""
    below = found.get("group_subtasks", {}).get(name) or []
    return [leaf for each in below for leaf in _leaves(each, found)] if below else [name]


def _choices(sample: dict) -> int:
    """How many choices an item had; ``acc_mutual_info`` asks for each of them twice."""
    return len(sample["filtered_resps"]) // (2 if "acc_mutual_info" in sample["metrics"] else 1)


def _loglikelihoods(samples: Sequence[dict]) -> tuple[tuple[float, ...], ...]:
    """Of each item what the model gave its choices; nothing where it was asked for something else."""
    rows = [sample["filtered_resps"] for sample in samples]
    pairs = all(isinstance(each, (tuple, list)) and len(each) == 2 for row in rows for each in row)
    return tuple(tuple(float(each[0]) for each in row) for row in rows) if pairs else ()
