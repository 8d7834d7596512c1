"""How good is a model: perplexity, top-1 accuracy, and what a compressed model keeps of them."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, isnan

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from ..errors import PrunekitError, check_count
from ..model.checks import check_text
from ..model.modes import device_of, without_dropout
from ..system.progress import progress

CHUNK = 64  # tokens whose logits are judged at a time on a CPU


def evaluate(model: nn.Module, ids: Tensor, dense: nn.Module | None = None, batch: int = 2) -> dict[str, float]:
    """Next-token quality of a model on windows of tokens.

    In each window every token but the first is predicted from those before it. `retention` is the model's
    top-1 accuracy over the dense model's; `kl` the mean Kullback-Leibler divergence of the model's
    distribution from the dense model's.

    Args:
        model: a causal language model.
        ids: int64 ``[windows, context]``, see `corpus.corpus`.
        dense: the model before compression; adds `retention` and `kl`.
        batch: windows at once.

    Returns:
        ``perplexity``, ``top1`` (0 to 1), ``tokens`` (predicted ones) and ``context``; with `dense` also
        ``retention`` (a ratio) and ``kl`` (nats per token).

    Raises:
        PrunekitError: `ids` is not a table of at least one window of two tokens, or a window is longer than a model
            takes, or the models' vocabularies differ, or logits hold NaN or infinity.
    """
    if dense is None:
        return evaluate_all({"model": model}, ids, batch)["model"]
    return evaluate_all({"dense": dense, "model": model}, ids, batch)["model"]


@torch.inference_mode()
def evaluate_all(models: Mapping[str, nn.Module], ids: Tensor, batch: int = 2) -> dict[str, dict[str, float]]:
    """`evaluate` for several models at once, so that the dense one reads each window only once.

    Args:
        models: causal language models by name; one called ``dense`` is what the others are held against.
        ids: int64 ``[windows, context]``.
        batch: windows that go through a model at a time.

    Returns:
        What `evaluate` gives, by name.

    Raises:
        PrunekitError: as `evaluate`.
    """
    for model in models.values():
        check_text(model, ids, least=2)
    batch = check_count(batch, "batch")
    names = sorted(models, key=lambda name: name != "dense")
    sums = {name: {"nll": 0.0, "hits": 0, "kl": 0.0} for name in names}
    count = 0
    with without_dropout(*models.values()):
        for window in progress(ids.split(batch), "evaluate"):
            target, reference = window[:, 1:], None
            count += target.numel()
            for name in names:
                model = models[name]
                logits = model(window.to(device_of(model)), use_cache=False).logits[:, :-1]
                check_same(logits, reference)
                for key, value in judge(logits, target, reference).items():
                    sums[name][key] += value
                if name == "dense":
                    reference = logits
    return summary(sums, count, ids.shape[1])


def summary(sums: Mapping[str, Mapping[str, float]], count: int, context: int) -> dict[str, dict[str, float]]:
    """What `evaluate` gives, by model.

    Args:
        sums: what `judge` gives, over all tokens, by model; one called ``dense`` is what the others are held against.
        count: predicted tokens.
        context: tokens in a window.

    Raises:
        PrunekitError: logits hold NaN or infinity.
    """
    result = {}
    for name, s in sums.items():
        if isnan(s["nll"]):
            raise PrunekitError(
                f"{name}: the logits hold NaN or infinity; load it in float32 (--dtype float32), or repair it."
            )
        result[name] = {
            "perplexity": exp(min(s["nll"] / count, 700.0)),
            "top1": s["hits"] / count,
            "tokens": count,
            "context": context,
        }
        if "dense" in sums and name != "dense":
            dense_hits = sums["dense"]["hits"]
            result[name] |= {
                "retention": s["hits"] / dense_hits if dense_hits else float("nan"),
                "kl": s["kl"] / count,
            }
    return result


def check_same(logits: Tensor, dense: Tensor | None) -> None:
    """Raise `PrunekitError` where logits are for another vocabulary than those of the dense model."""
    if dense is not None and dense.shape != logits.shape:
        raise PrunekitError(
            f"the models have vocabularies of {dense.shape[-1]} and {logits.shape[-1]}: "
            "compare a model with the dense one that it was made from."
        )


def judge(logits: Tensor, target: Tensor, dense: Tensor | None) -> dict[str, float]:
    """Sums over tokens from logits ``[windows, tokens, vocabulary]``; a few tokens at a time stay in a CPU's cache."""
    sums = {"nll": 0.0, "hits": 0, "kl": 0.0}
    rows, device = CHUNK if logits.device.type == "cpu" else target.shape[1], logits.device
    for index, wanted in enumerate(target.to(device)):
        for begin in range(0, len(wanted), rows):
            part = slice(begin, begin + rows)
            logp = log_softmax(logits[index, part].float(), -1)
            sums["nll"] -= logp.gather(1, wanted[part, None]).sum().item()
            sums["hits"] += (logp.argmax(-1) == wanted[part]).sum().item()
            if dense is not None:
                reference = log_softmax(dense[index, part].float().to(device), -1)
                sums["kl"] += (reference.exp() * (reference - logp)).sum().item()
    return sums
