"""What recovery lowers: how far a student is from a teacher and from a text, with its gradient in the same pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

TEXT_SHARE = 0.3
CHUNK = 16  # tokens whose logits fit a CPU's cache


def loss(student: nn.Module, teacher: nn.Module, ids: Tensor, text_share: float = TEXT_SHARE) -> Tensor:
    """What `recover` lowers, in nats per token; see there.

    Args:
        student: the model in training.
        teacher: the dense model, which gets no gradients.
        ids: int64 ``[windows, context]``.
        text_share: 0 for the divergence from the teacher alone, 1 for the text's cross entropy alone.
    """
    with torch.no_grad():
        wanted = teacher(ids, use_cache=False).logits
    logits = student(ids, use_cache=False).logits
    share = torch.full(ids.shape, float(text_share), device=logits.device)
    share[:, -1] = 0  # what follows a window is not known
    flat = (x.flatten(0, 1) for x in (logits, wanted, ids.roll(-1, 1).to(logits.device), share))
    return _Loss.apply(*flat)


class _Loss(torch.autograd.Function):
    """Mean over tokens of ``(1 - s) KL(p || q) + s CE(following, q)``, p and q the softmax of `wanted` and `logits`.

    The gradient by `logits`, ``(q - (1 - s) p - s onehot(following)) / tokens``, is found with the value, a few
    tokens at a time: what is needed on the way then stays in the CPU's cache, which takes a tenth of the time.

    Args:
        logits, wanted: ``[tokens, vocabulary]``, any float dtype.
        following: int64 ``[tokens]``.
        share: `s`, float32 ``[tokens]``.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, wanted: Tensor, following: Tensor, share: Tensor) -> Tensor:
        total, gradient = torch.zeros((), device=logits.device), torch.empty_like(logits)
        rows = CHUNK if logits.device.type == "cpu" else len(logits)
        for got, teacher, right, s, out in zip(*(x.split(rows) for x in (logits, wanted, following, share, gradient))):
            log_q, log_p = log_softmax(got.float(), -1), log_softmax(teacher.float(), -1)
            p, s, right = log_p.exp(), s[:, None], right[:, None]
            total += ((1 - s) * (p * (log_p - log_q)).sum(-1, keepdim=True) - s * log_q.gather(1, right)).sum()
            p.mul_(1 - s).scatter_add_(1, right, s)
            out.copy_(log_q.exp_().sub_(p).div_(len(logits)))
        ctx.save_for_backward(gradient)
        return total / len(logits)

    @staticmethod
    def backward(ctx, outer: Tensor):
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None, None
