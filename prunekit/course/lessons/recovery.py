"""What notebook 07 measures by: hits, likelihoods and divergences token by token, and how sure their means are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from ...evaluation.answers import Answers, retention
from ...model.structure import body_of, head_of
from ...system.machine import fast_bfloat16


@dataclass(frozen=True)
class Compared(Answers):
    """What a model said about every next token, beside what the dense one said.

    Attributes:
        kl: divergence from the dense model's distribution, nats, float32 ``[windows, context - 1]``.
    """

    kl: Tensor


@torch.inference_mode()
def compare(models: Mapping[str, nn.Module], dense: nn.Module, ids: Tensor) -> dict[str, Compared]:
    """Let models predict every token but the first of each window, in the precision of `answers.judge`.

    Args:
        models: causal language models on the CPU, by name.
        dense: the one that they were made from.
        ids: int64 ``[windows, context]``.

    Returns:
        What each said, by name, and what the dense one said as "dense".
    """
    rows: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in ("dense", *models)}
    for window in ids.split(4):
        target, wanted = window[:, 1:], None
        for name, model in {"dense": dense, **models}.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
                hidden = body_of(model)(window, use_cache=False).last_hidden_state[:, :-1]
            log_q = head_of(model)(hidden.float()).flatten(0, 1).log_softmax(-1)
            wanted = log_q if wanted is None else wanted
            nll = cross_entropy(log_q, target.flatten(), reduction="none")
            kl = kl_div(log_q, wanted, log_target=True, reduction="none").sum(-1)
            hits = log_q.argmax(-1) == target.flatten()
            rows[name].append(tuple(x.view_as(target) for x in (nll, hits, kl)))
    return {name: Compared(*map(torch.cat, zip(*parts))) for name, parts in rows.items()}


def mean(values: Tensor) -> tuple[float, float]:
    """The mean of values ``[windows, tokens]``, and twice its standard error, with the windows as the sample."""
    by_window = values.double().mean(1)
    return by_window.mean().item(), 2 * by_window.std().item() / len(by_window) ** 0.5


def perplexities(found: Answers) -> str:
    """The perplexity, and where it lies within two standard errors of the mean negative log-likelihood, as text."""
    nats, off = mean(found.nll)
    return f"{exp(nats):.0f}, between {exp(nats - off):.0f} and {exp(nats + off):.0f}"


def more_kept(found: Answers, other: Answers, dense: Answers) -> tuple[float, float]:
    """The difference of two models' retention on the same tokens, and twice its standard error.

    Args:
        found: a model's answers.
        other: those of the model to subtract.
        dense: the dense model's.
    """
    return retention(replace(found, hits=found.hits.double() - other.hits.double()), dense)


def kept_of(which: Tensor, found: Answers, dense: Answers) -> tuple[float, float]:
    """Retention on some of the tokens, and twice its standard error.

    Args:
        which: bool ``[windows, context - 1]``, the tokens.
        found: a model's answers.
        dense: the dense model's.
    """
    return retention(*(replace(each, hits=each.hits & which) for each in (found, dense)))
