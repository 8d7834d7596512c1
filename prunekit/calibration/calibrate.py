"""Measure the inputs of every linear layer: how much energy each feature carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor, nn

from ..method.ewma import BatchEWMA, quantile_mask
from ..method.scores import contribution
from ..model.checks import check_text
from ..model.distributed.spread import gathered_up, is_spread
from ..model.experts import every_expert, layers_of
from ..model.linear import weight_of
from ..model.modes import device_of, low_precision, without_dropout
from ..model.structure import body_of
from ..system.parallel import in_turn, world
from ..system.progress import progress
from .observe import check_finite, check_reached, mean_square, observing
from .samples import Samples

TOLERANCE = 0.04  # calibration stops when fewer of the sampled decisions than that change
PRIOR_TOKENS = 64.0
BATCH_TOKENS = 256
_SAMPLED_ROWS = 8
Seen = list[tuple[list[str], list[Tensor]]]  # names of layers that read one input, and what is kept of it


@dataclass
class Calibration:
    """What calibration found.

    Attributes:
        energy: mean square `E` of each input feature, float32 ``[in]``, by layer name.
        tokens: how many tokens it took.
        seconds: wall-clock time.
        changes: share of the sampled decisions that changed, after the second batch and each one that followed.
        samples: inputs for a few tokens spread over all batches, float32 ``[samples, in]`` by layer name; the
            layers that read the same input share one tensor.
    """

    energy: dict[str, Tensor]
    tokens: int
    seconds: float
    changes: list[float] = field(default_factory=list)
    samples: dict[str, Tensor] = field(default_factory=dict)


@torch.no_grad()
def calibrate(
    model: nn.Module,
    ids: Tensor,
    layers: dict[str, nn.Module] | None = None,
    *,
    stop: bool = True,
    sparsity: float = 0.5,
    tolerance: float = TOLERANCE,
    decay: float = 0.99,
    batch_tokens: int = BATCH_TOKENS,
    prior: float = PRIOR_TOKENS,
    samples: int = 0,
    bfloat16: bool | None = None,
) -> Calibration:
    """Average the squared inputs of every layer over batches, until the masks that they imply hold still.

    After each batch the decisions for a few rows of each layer are made anew, at the share `sparsity`; when
    fewer than `tolerance` of them differ from those after the batch before, more text would change little.

    A mean square over few tokens is noisy, above all for features that are rarely active. So `prior` tokens
    are imagined on which every feature has the layer's median energy: ``(T E + prior * median(E)) / (T + prior)``
    (the mean energy where most features are silent, as after a ReLU).
    With thousands of tokens that makes no difference.

    An expert of a mixture is judged by the tokens that go to it; one to which none do is shown the first batch.

    Several processes take the batches in turn. All of them take in what was seen in the order of the text, so that they
    find what one process finds, and stop where it stops.

    Batches, stop and prior are prunekit's own choices; what we read of the paper has none.

    Args:
        model: a causal language model.
        ids: int64 ``[windows, context]``, in the order in which they are to be used.
        layers: which to observe, by name; default: all that `compress` takes (`experts.layers_of`).
        stop: whether to stop early; otherwise all windows are used.
        sparsity: share for the sampled decisions, in ``(0, 1)``.
        tolerance: see above.
        decay: weight of the past in the average over batches (`ewma.BatchEWMA`).
        batch_tokens: tokens in a batch, rounded down to whole windows, at least one.
        prior: imagined tokens.
        samples: tokens whose inputs are kept for `compensation.compensate`.
        bfloat16: run the model's products in bfloat16; default: where that pays (`bfloat16_pays`).

    Returns:
        `Calibration`.

    Raises:
        PrunekitError: an input is not finite, the text does not reach a layer, or the model cannot read `ids`.
    """
    begin = perf_counter()
    check_text(model, ids)
    if layers is None:
        model, layers = layers_of(model)
    averages = {name: BatchEWMA(decay) for name in layers}
    rows = {name: few_rows(weight_of(gathered_up(module))) for name, module in layers.items()}
    convergence, kept, tokens = Convergence(rows, sparsity, tolerance), Samples(samples), 0
    batches = ids.split(max(1, batch_tokens // ids.shape[1]))
    place = torch.device("cpu") if is_spread(model) else device_of(model)

    def take(seen: Seen) -> None:
        for names, statistic in seen:
            square, *picked = (x.to(place) for x in statistic)
            for name in names:
                averages[name].update_(square)
                if picked:
                    kept.take(name, picked[0])

    def energy() -> dict[str, Tensor]:
        return {name: with_prior(average.value, tokens, prior) for name, average in averages.items()}

    with low_precision(model, bfloat16), without_dropout(model), _looking(model, layers, samples) as look:
        for number, (batch, seen) in enumerate(zip(progress(batches, "calibrate"), in_turn(batches, look))):
            tokens, kept.batches = tokens + batch.numel(), number
            take(seen)
            if stop and all(average.batches for average in averages.values()) and convergence.settled(energy()):
                break
    if unread := {name: module for name, module in layers.items() if not averages[name].batches}:
        kept.batches = 0
        shown = every_expert(model)
        with low_precision(model, bfloat16), without_dropout(model), shown, _looking(model, unread, samples) as look:
            take(look(0, batches[0]))
    check_reached(layers, [name for name, average in averages.items() if average.batches])
    found = energy()
    for name, E in found.items():
        check_finite(f"inputs of {name}", E)
    return Calibration(found, tokens, perf_counter() - begin, convergence.changes, kept.by_layer())


@contextmanager
def _looking(model: nn.Module, layers: dict[str, nn.Module], samples: int) -> Iterator[Callable[[int, Tensor], Seen]]:
    """A function that shows a model a batch, by its number, and says what the layers were given.

    That is, for each input, the names of the layers that read it, its mean square, and the rows to keep if any are.
    """
    body, picker = body_of(model), Samples(samples)  # the output embedding is not needed
    seen: Seen = []
    home = torch.device("cpu") if world() > 1 or is_spread(model) else device_of(model)

    def observe(x: Tensor) -> list[Tensor]:
        statistic = [mean_square(x), picker.pick(x)] if samples else [mean_square(x)]
        return [each.to(home) for each in statistic]

    def take(name: str, statistic: list[Tensor]) -> None:
        if not (seen and seen[-1][1] is statistic):
            seen.append(([], statistic))
        seen[-1][0].append(name)

    def look(number: int, batch: Tensor) -> Seen:
        picker.batches = number
        seen.clear()
        body(batch.to(device_of(model)), use_cache=False)
        return list(seen)

    with observing(layers, observe, take):
        yield look


class Convergence:
    """Whether the masks that an energy implies still change, by the decisions for a few rows of each layer.

    Args:
        rows: of each layer's weight some (`few_rows`), by name.
        sparsity: share that the decisions prune.
        tolerance: they have settled when a smaller share of them changes than that.

    Attributes:
        changes: the share that changed, from each energy to the next.
    """

    def __init__(self, rows: dict[str, Tensor], sparsity: float, tolerance: float = TOLERANCE) -> None:
        self.sparsity, self.tolerance = sparsity, tolerance
        self.changes: list[float] = []
        self._sample = rows
        self._before: Tensor | None = None

    def settled(self, energy: dict[str, Tensor]) -> bool:
        """Whether fewer decisions than that differ from those at the call before; the first call has none.

        Args:
            energy: mean squares ``[in]`` by layer name.
        """
        now, before = _decisions(self._sample, energy, self.sparsity), self._before
        self._before = now
        if before is None:
            return False
        self.changes.append((now != before).float().mean().item())
        return self.changes[-1] < self.tolerance


def few_rows(W: Tensor) -> Tensor:
    """Some rows of a weight ``[out, in]``, by which `Convergence` judges."""
    return W[:: max(1, len(W) // _SAMPLED_ROWS)][:_SAMPLED_ROWS].clone()  # or all of a widened weight would be kept


def with_prior(E: Tensor, tokens: int, prior: float = PRIOR_TOKENS) -> Tensor:
    """An energy ``[in]`` found on so many tokens, mixed with imagined ones: see `calibrate`."""
    median = E.median()
    usual = torch.where(median > 0, median, E.mean())
    return (tokens * E + prior * usual) / (tokens + prior)


def _decisions(sample: dict[str, Tensor], energy: dict[str, Tensor], sparsity: float) -> Tensor:
    """Keep or prune, for the sampled rows of all layers at once, per width."""
    by_width: dict[int, list[Tensor]] = {}
    for name, W in sample.items():
        by_width.setdefault(W.shape[1], []).append(contribution(W, energy[name]))
    return torch.cat([quantile_mask(torch.cat(L), sparsity).flatten() for L in by_width.values()])
