"""What recovery lowers: how far a student is from a teacher and from a text, with its gradient in the same pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from ..model.copies import replace_layers, with_rows
from ..model.structure import head_of

TEXT_SHARE = 0.3
VOCABULARY = 8192  # tokens of the vocabulary that a step looks at, those of its text among them
CHUNK = 16  # tokens whose logits fit a CPU's cache


def chances(ids: Tensor, size: int, wanted: int) -> Tensor:
    """How likely each token of a vocabulary is to take part in a step: in proportion to its count plus one, at most 1.

    Args:
        ids: the text to count in, int64 of any shape.
        size: tokens in the vocabulary, at least `wanted`.
        wanted: what the chances add up to: how many tokens take part on average.

    Returns:
        float32 ``[size]``, on the CPU.
    """
    counts = torch.bincount(ids.flatten().cpu(), minlength=size).double() + 1
    ordered = counts.sort(descending=True).values
    rest = ordered.flip(0).cumsum(0).flip(0)  # counts of a token and of all rarer ones
    factor = (wanted - torch.arange(size)) / rest  # if the tokens before it are certain to take part
    return (factor[(factor * ordered <= 1 + 1e-9).nonzero()[0]] * counts).clamp(max=1).float()


def draw(chance: Tensor, ids: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Tokens of the vocabulary that take part in a step: those of its text, and others by chance.

    In all they are as many as the chances add up to, since those of the others are lowered to make room for the text,
    and each draw is systematic, in a random order (Madow 1949, doi 10.1214/aoms/1177729988). Arrays then keep their
    sizes from step to step; with sizes that vary, a long run takes up more and more memory.

    Args:
        chance: as `chances` gives it.
        ids: the text of the step, int64 of any shape. With so many different tokens that the others would be less
            than half as likely, they stay at half, and more tokens take part.
        seed: of the draw.

    Returns:
        The tokens, int64 ``[part]``, ascending, and ``-log chance`` of each, float32 ``[part]``, on the CPU.
    """
    g = torch.Generator().manual_seed(seed)
    text = torch.zeros(len(chance), dtype=torch.bool).index_fill(0, ids.flatten().cpu(), True)
    others = chance.double().masked_fill(text, 0)
    room = chance.double().sum().round() - text.sum()
    others *= (room / others.sum().clamp(min=1e-9)).clamp(0.5, 1)
    order = torch.randperm(len(chance), generator=g)
    marks = others[order].cumsum(0) + torch.rand(1, generator=g, dtype=torch.float64)
    drawn = text.clone()
    drawn[order] |= marks.floor().diff(prepend=torch.zeros(1)) > 0
    return drawn.nonzero().squeeze(1), -others.masked_fill(text, 1)[drawn].log().float()


def loss(
    student: nn.Module,
    teacher: nn.Module,
    ids: Tensor,
    text_share: float = TEXT_SHARE,
    chance: Tensor | None = None,
    seed: int = 0,
    text: Tensor | None = None,
) -> Tensor:
    """What `recover` lowers, in nats per token; see there.

    With `chance` both softmaxes are over the tokens of the text and a random part of the others (`draw`), whose logits
    are raised by ``-log chance``: the expectation of the sum of exponentials is then the sum over the whole vocabulary
    (sampled softmax; Jean et al. 2015, arXiv 1412.2007). Large vocabularies cost a good part of a step otherwise.

    Args:
        student: the model in training.
        teacher: the dense model, which gets no gradients.
        ids: int64 ``[windows, context]``.
        text_share: 0 for the divergence from the teacher alone, 1 for the text's cross entropy alone (but where a
            window ends, since what follows is not known).
        chance: of each token of the vocabulary to take part, as `chances` gives it; None for the whole vocabulary.
        seed: of the draw.
        text: by which to draw; default: `ids`, which may be a share of it.
    """
    following, raised = ids.roll(-1, 1), None
    if chance is not None:
        part, raised = (x.to(ids.device) for x in draw(chance, ids if text is None else text, seed))
        following = torch.searchsorted(part, following)
        student, teacher = speaking(student, part), speaking(teacher, part)
    with torch.no_grad():
        wanted = teacher(ids, use_cache=False).logits
    logits = student(ids, use_cache=False).logits
    share = torch.full(ids.shape, float(text_share), device=logits.device)
    share[:, -1] = 0  # what follows a window is not known
    flat = (x.flatten(0, 1) for x in (logits, wanted, following.to(logits.device), share))
    return _Loss.apply(*flat, raised)


def speaking(model: nn.Module, part: Tensor) -> nn.Module:
    """A copy of the model whose logits are those of the tokens `part` alone, int64 ``[tokens]``."""
    head = head_of(model)
    name = next(name for name, module in model.named_modules() if module is head)
    return replace_layers(model, {name: with_rows(head, part)})


class _Loss(torch.autograd.Function):
    """Mean over tokens of ``(1 - s) KL(p || q) + s CE(following, q)``, p and q the softmax of `wanted` and `logits`.

    The gradient by `logits`, ``(q - (1 - s) p - s onehot(following)) / tokens``, is found with the value, a few
    tokens at a time: what is needed on the way then stays in the CPU's cache, which takes a tenth of the time. It is
    written over `wanted`, since a new array costs more than what fills it.

    Args:
        logits, wanted: ``[tokens, vocabulary]``, any float dtype.
        following: int64 ``[tokens]``.
        share: `s`, float32 ``[tokens]``.
        raised: what to add to both `logits` and `wanted`, float32 ``[vocabulary]``, or None.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, wanted: Tensor, following: Tensor, share: Tensor, raised: Tensor | None
    ) -> Tensor:
        total = torch.zeros((), device=logits.device)
        rows = CHUNK if logits.device.type == "cpu" else len(logits)
        for got, teacher, right, s in zip(*(x.split(rows) for x in (logits, wanted, following, share))):
            log_q, log_p = (log_softmax(x.float() if raised is None else x + raised, -1) for x in (got, teacher))
            p, s, right = log_p.exp(), s[:, None], right[:, None]
            total += ((1 - s) * (p * (log_p - log_q)).sum(-1, keepdim=True) - s * log_q.gather(1, right)).sum()
            p.mul_(1 - s).scatter_add_(1, right, s)
            teacher.copy_(log_q.exp_().sub_(p).div_(len(logits)))
        ctx.gradient = wanted
        return total / len(logits)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        return ctx.gradient.mul_(outer), None, None, None, None
