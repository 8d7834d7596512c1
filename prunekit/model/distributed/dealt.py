"""Layers dealt out to several processes, each of which makes new ones of its share, for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from ...system.parallel import gathered, handed_out, rank, world
from ..copies import with_weight
from ..fp8_linear import Fp8Linear
from ..linear import bias_of, is_conv1d, is_transposed, stored_weight, weight_of


def owners(layers: Mapping[str, nn.Module], cubic: bool) -> dict[str, int]:
    """Which process has which layer: the largest first, each to the process that has the least to do until then.

    Args:
        layers: by name.
        cubic: whether what is done to a layer takes time as a product of its weight and a Gram matrix does, and not as
            its weight is large.
    """
    work: dict[str, float] = {}
    for name, module in layers.items():
        shape = stored_weight(module).shape
        rows, columns = shape[::-1] if is_conv1d(module) else shape
        work[name] = columns**2 * (rows + columns) if cubic else rows * columns
    load, found = [0.0] * world(), {}
    for name in sorted(work, key=lambda name: -work[name]):  # stable: the same in all processes
        found[name] = load.index(min(load))
        load[found[name]] += work[name]
    return found


def made_together(
    layers: Mapping[str, nn.Module],
    make: Callable[[str, nn.Module], nn.Module],
    owner: Mapping[str, int],
    watch: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> dict[str, nn.Module]:
    """New layers by name, each made by one of the processes and known to all.

    Args:
        layers: by name, the same in all processes.
        make: from name and layer to the new one: of the same class and with the same bias, or an `Fp8Linear`.
        owner: rank of the process that makes each.
        watch: what the names of the layers to make go through, such as a progress bar.
    """
    if world() == 1:
        return {name: make(name, layers[name]) for name in watch(layers)}
    new = {name: make(name, layers[name]) for name in watch([n for n in layers if owner[n] == rank()])}
    kinds: dict[str, list[tuple[torch.Size, torch.dtype]]] = {}
    for its in gathered({name: [(x.shape, x.dtype) for x in _tensors(module)] for name, module in new.items()}):
        kinds |= its
    for name, module in layers.items():
        mine = _tensors(new[name]) if name in new else [None] * len(kinds[name])
        place = stored_weight(module).device
        tensors = [handed_out(owner[name], x, *kind, place) for x, kind in zip(mine, kinds[name])]
        if name not in new:
            new[name] = _layer(module, tensors)
    return {name: new[name] for name in layers}


def _tensors(module: nn.Module) -> list[Tensor]:
    """What distinguishes a new layer from the old one."""
    if isinstance(module, Fp8Linear):
        return [module.weight, module.weight_scale]
    return [weight_of(module)]


def _layer(module: nn.Module, tensors: list[Tensor]) -> nn.Module:
    """The new layer, from the old one and what distinguishes them."""
    if len(tensors) == 1:
        return with_weight(module, tensors[0])
    return Fp8Linear(tensors[0], tensors[1], bias_of(module), is_transposed(module))
