"""Hooks on a model's layers, and the statistics that are taken of what they are given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunekitError


@contextmanager
def observing(
    layers: dict[str, nn.Module], observe: Callable[[Tensor], Any], take: Callable[[str, Any], None]
) -> Iterator[None]:
    """Call ``take(name, statistic)`` with ``observe(x)`` of each layer's input ``[tokens, in]``.

    Layers that are given the very same tensor (queries, keys and values) share one statistic. Inputs without tokens are
    passed over.
    """
    last: list = []  # the input seen last and its statistic

    def look(name: str, x: Tensor) -> None:
        if not x.numel():  # an expert that has no tokens in this batch
            return
        if not (last and last[0] is x):
            last[:] = [x, observe(x.flatten(0, -2))]
        take(name, last[1])

    hooks = [m.register_forward_pre_hook(lambda _, args, name=name: look(name, args[0])) for name, m in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def summing(layers: dict[str, nn.Module], observe: Callable[[Tensor], Tensor]) -> Iterator[dict[str, Tensor]]:
    """A dict in which ``observe(x)`` of each layer's inputs is summed up, by name; see `observing`."""
    sums: dict[str, Tensor] = {}

    def take(name: str, value: Tensor) -> None:
        sums[name] = sums[name] + value if name in sums else value

    with observing(layers, observe, take):
        yield sums


def check_reached(layers: Iterable[str], reached: Collection[str]) -> None:
    """Raise `PrunekitError` for the first of some layers that is not among those that text has reached, by name."""
    for name in layers:
        if name not in reached:
            raise PrunekitError(f"text does not reach the layer {name}: leave it out (--exclude, and --no-permute).")


def check_finite(what: str, statistic: Tensor) -> None:
    """Raise `PrunekitError` if a statistic of `what` holds NaN or infinity."""
    if not torch.isfinite(statistic).all():
        raise PrunekitError(f"the {what} are not finite: check the model, or use --dtype float32.")


def mean_square(x: Tensor) -> Tensor:
    """Mean of the squares of each column of ``[tokens, in]``: float32 ``[in]``."""
    return x.float().square().mean(0)


def gram(x: Tensor, bfloat16: bool = False) -> Tensor:
    """``X^T X`` of ``[tokens, in]``: float32 ``[in, in]``. It is symmetric, so some of it is computed only once.

    Args:
        x: inputs of a layer.
        bfloat16: multiply in bfloat16, which rounds each entry to 8 bits.
    """
    x = x.bfloat16() if bfloat16 else x.float()
    size = x.shape[1]
    H = torch.empty(size, size, device=x.device)
    step = -(-size // 4)
    for begin in range(0, size, step):
        part = (x[:, begin : begin + step].T @ x[:, begin:]).float()
        H[begin : begin + step, begin:] = part
        H[begin:, begin : begin + step] = part.T
    return H
