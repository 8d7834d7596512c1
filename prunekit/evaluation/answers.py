"""What models say token by token, and how sure a comparison of two of them is."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..model.structure import body_of, head_of
from ..system.machine import fast_bfloat16


@dataclass(frozen=True)
class Answers:
    """What a model said about every next token: both ``[windows, context - 1]``.

    Attributes:
        nll: negative log-likelihood of the right token, nats, float32.
        hits: whether the likeliest token was the right one, bool.
    """

    nll: Tensor
    hits: Tensor

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood."""
        return exp(self.nll.double().mean().item())


@torch.inference_mode()
def judge(model: nn.Module, ids: Tensor, batch: int = 8) -> Answers:
    """Let a model predict every token but the first of each window.

    `pk.evaluate` token by token, and faster: inside the blocks, products are in bfloat16 (the precision in
    which the embedded model was released) where the CPU is faster in it; the logits are in float32.

    Args:
        model: a causal language model on the CPU.
        ids: int64 ``[windows, context]``.
        batch: windows at once.

    Returns:
        What it said about every next token.
    """
    head, body, nll, hits = head_of(model), body_of(model), [], []
    for window in ids.split(batch):
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
            hidden = body(window, use_cache=False).last_hidden_state[:, :-1]
        logits, target = head(hidden.float()).flatten(0, 1), window[:, 1:]
        nll.append(cross_entropy(logits, target.flatten(), reduction="none").view_as(target))
        hits.append(logits.argmax(-1).view_as(target) == target)
    return Answers(torch.cat(nll), torch.cat(hits))


def retention(found: Answers, dense: Answers) -> tuple[float, float]:
    """Top-1 accuracy over the dense model's, and twice its standard error (windows are the sample).

    Args:
        found: a model's answers.
        dense: the dense model's, on the same tokens.
    """
    h, d = found.hits.double().sum(1), dense.hits.double().sum(1)
    ratio, n = (h.sum() / d.sum()).item(), len(h)
    spread = (n / max(n - 1, 1) * (h - ratio * d).square().sum()).sqrt() / d.sum()
    return ratio, 2 * spread.item()


def log_gap(found: Answers, other: Answers) -> tuple[float, float]:
    """Mean difference of the negative log-likelihoods on the same tokens, and twice its standard error.

    The perplexities' ratio is exp of it. Windows are the sample, so that neighbours may be alike.

    Args:
        found: a model's answers.
        other: those of the model to subtract.
    """
    gap = (found.nll.double() - other.nll.double()).mean(1)
    return gap.mean().item(), 2 * gap.std().item() / len(gap) ** 0.5
