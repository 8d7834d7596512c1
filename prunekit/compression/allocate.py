"""Spread a target sparsity over the layers: prune more where the model's loss feels it less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..calibration.observe import check_finite, check_reached, observing
from ..errors import PrunekitError
from ..kernels.dispatch import fastest
from ..method.targets import check_sparsity
from ..model.checks import check_text
from ..model.distributed.spread import gathered_up
from ..model.experts import layers_of
from ..model.linear import check_model, weight_of
from ..model.modes import bfloat16_pays, device_of, frozen, without_dropout
from ..model.structure import embedding_of
from ..system.parallel import gathered, mine, summed
from ..system.progress import progress

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

REACH = 0.1  # how far a layer's sparsity may be from the target
STEPS = 8  # points on either side of the target at which a layer's cost is estimated


@dataclass(frozen=True)
class Allocation:
    """A sparsity for each layer, and why. `print` shows both.

    Attributes:
        target: the average over all weights.
        sparsity: by layer name.
        cost: estimate of what pruning that layer alone at the target adds to the loss, in nats per token.
        before: the estimate for all layers at the target, in nats per token.
        after: the same for this allocation.
    """

    target: float
    sparsity: dict[str, float]
    cost: dict[str, float]
    before: float
    after: float

    def __str__(self) -> str:
        dearest = sorted(self.cost, key=self.cost.__getitem__, reverse=True)
        shown = dearest if len(dearest) <= 10 else [*dearest[:5], *dearest[-5:]]
        lines = [
            f"estimated loss added: {self.after:.4f} nats a token; {self.before:.4f} with {self.target:g} everywhere",
            "the layers whose pruning costs most and least, and what is pruned of them:",
        ]
        lines += [f"  {self.cost[name]:9.6f} nats  {self.sparsity[name]:6.1%}  {name}" for name in shown]
        return "\n".join(lines)


def allocate(
    model: nn.Module,
    ids: Tensor,
    sparsity: float,
    *,
    reach: float = REACH,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Allocation:
    """A budget over layers: sparsities that average to the target and add least to the model's loss, by estimate.

    Removing weight ``W_ij`` adds about ``W_ij^2 E_j G_i / 2`` to the loss: `E` is the mean square of the layer's
    inputs, `G` that of the loss's gradient at its outputs. (This is the Fisher information of the weight, taken as a
    product of the two, as in Martens & Grosse 2015, arXiv 1503.05671; it stands for the Hessian in Optimal Brain
    Damage, LeCun et al. 1990.) Within a row `G` changes nothing, so what is pruned at each sparsity is what
    `compress` prunes; between layers it is the exchange rate. A layer's cost rises ever faster with its sparsity, so
    taking the cheapest next step anywhere until the target is reached gives the cheapest sum.

    Args:
        model: a causal language model.
        ids: text, int64 ``[windows, context]``; one backward pass goes over it.
        sparsity: the target, above 0 and below 1.
        reach: no layer's sparsity is further than this from the target.
        include: as in `compress.compress`.
        exclude: as in `compress.compress`.

    Returns:
        `Allocation`; its `sparsity` is the `budget` that `compress.compress` takes.

    Raises:
        PrunekitError: a bad sparsity or reach, no layer matches, or text that the model cannot read.
    """
    target = check_sparsity(sparsity)
    if target == 0:
        raise PrunekitError("sparsity is 0: there is nothing to allocate; give a share above 0.")
    if not 0 < reach < 1:
        raise PrunekitError(f"reach is {reach}: expected a number above 0 and below 1.")
    low, high = max(0.0, target - reach), min(0.99, target + reach)
    shares = [low + (target - low) * k / STEPS for k in range(STEPS)]
    shares += [target + (high - target) * k / STEPS for k in range(STEPS + 1)]
    check_model(model)
    model, layers = layers_of(gathered_up(model), include, exclude)
    E, G = sensitivities(model, ids, layers)
    steps, cost, size, floor, before = [], {}, {}, 0.0, 0.0
    for name, module in progress(layers.items(), "allocate"):
        W = weight_of(module).detach()
        curve = [_cost(W, E[name], G[name], share) for share in shares]
        size[name], cost[name] = W.numel(), curve[STEPS]
        before, floor = before + curve[STEPS], floor + curve[0]
        for k in range(2 * STEPS):
            weights = (shares[k + 1] - shares[k]) * size[name]
            if weights > 0:
                steps.append(((curve[k + 1] - curve[k]) / weights, weights, name))
    given = dict.fromkeys(layers, low)
    left, after = (target - low) * sum(size.values()), floor
    for rate, weights, name in sorted(steps):
        taken = min(weights, left)
        given[name] += taken / size[name]
        left, after = left - taken, after + rate * taken
    return Allocation(target, given, cost, before, after)


def sensitivities(
    model: nn.Module, ids: Tensor, layers: dict[str, nn.Module]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean squares of each layer's inputs, and of the gradient of the summed loss at its outputs.

    The loss is the cross entropy of each next token in nats. Parameters get no gradients. Inputs are averaged over the
    tokens that the layer sees, gradients over all of the text, so that an expert's count less the fewer it sees.

    Args:
        model: a causal language model.
        ids: int64 ``[windows, context]``.
        layers: by name.

    Returns:
        (`E` ``[in]``, `G` ``[out]``), float32, by name.
    """
    squares: dict[str, Tensor] = {}
    G: dict[str, Tensor] = {}
    seen = dict.fromkeys(layers, 0)

    def take(name: str, value: tuple[Tensor, int]) -> None:
        squares[name] = squares.get(name, 0.0) + value[0]
        seen[name] += value[1]

    def watch(name: str) -> RemovableHandle:
        def take_gradient(gradient: Tensor) -> None:
            G[name] = G.get(name, 0.0) + gradient.float().square().flatten(0, -2).sum(0) / ids.numel()

        def after(_: nn.Module, __: Any, output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(take_gradient)

        return layers[name].register_forward_hook(after)

    check_text(model, ids, least=2)
    device = device_of(model)
    low_precision = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(model))
    hooks = [watch(name) for name in layers]
    embedding = embedding_of(model)  # what it gives out gets gradients, though no parameter does
    hooks.append(embedding.register_forward_hook(lambda _, __, output: output.requires_grad_().clone()))
    try:
        with (
            frozen(model),
            without_dropout(model),
            torch.enable_grad(),
            low_precision,
            observing(layers, lambda x: (x.detach().float().square().sum(0), len(x)), take),
        ):
            for window in progress(mine(ids.split(1)), "sensitivity"):
                window = window.to(device)
                logits = model(window, use_cache=False).logits[0, :-1].float()
                nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum").backward()
    finally:
        for hook in hooks:
            hook.remove()
    squares, G, counts = summed(squares, device), summed(G, device), gathered(seen)
    check_reached(layers, G)
    E = {name: squares[name] / sum(its[name] for its in counts) for name in layers}
    for name in layers:
        check_finite(f"inputs of {name}", E[name])
        check_finite(f"gradients of {name}", G[name])
    return E, {name: G[name] for name in layers}


@torch.no_grad()
def _cost(W: Tensor, E: Tensor, G: Tensor, sparsity: float) -> float:
    """Estimate of what pruning a layer adds to the loss, in nats per token."""
    keep = fastest(W.device).select(W, E, sparsity=sparsity)
    pruned = W.float().square().masked_fill(keep, 0)
    return 0.5 * torch.dot(pruned @ E, G).item()
