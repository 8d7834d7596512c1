"""The order of one block's channels, for N:M: of what lies within the block; the residual stream stays as it is."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ...calibration.observe import check_reached, mean_square, summing
from ...errors import PrunekitError
from ...model.copies import replace_layers
from ...model.linear import is_linear
from ...model.streamed.walk import Inputs
from ...system.files import temporary_file
from ..permute import TOKENS, orders_within, with_orders


def save_order(file: Path, block: nn.Module, inputs: Inputs, pattern: str) -> None:
    """Find the order by the first `TOKENS` tokens, and write it to a safetensors file.

    Raises:
        PrunekitError: nothing in the block can be reordered, or text does not reach a layer.
    """
    layers = _layers(block)
    dtype = next(block.parameters()).dtype
    tokens, seen = 0, 0
    with summing(layers, mean_square) as sums:
        for x, (args, kwargs) in inputs():
            block(x.to(dtype), *args, **kwargs)
            tokens, seen = tokens + x[..., 0].numel(), seen + 1
            if tokens >= TOKENS:
                break
    check_reached(layers, sums)
    rows, columns = orders_within(block, layers, {name: total / seen for name, total in sums.items()}, pattern)
    if not columns:
        raise PrunekitError("this model's blocks have no channels that are known to be free: add --no-permute.")
    parts = {f"rows {n}": order for n, order in rows.items()} | {f"columns {n}": o for n, o in columns.items()}
    with temporary_file(file) as temporary:
        save_file({name: order.cpu().clone() for name, order in parts.items()}, temporary)


def in_order(file: Path, block: nn.Module) -> nn.Module:
    """The block in the order that a file holds: the same function, up to rounding."""
    device = next(block.parameters()).device
    orders: dict[str, dict[str, torch.Tensor]] = {"rows": {}, "columns": {}}
    for key, order in load_file(file).items():
        kind, _, name = key.partition(" ")
        orders[kind][name] = order.to(device)
    return replace_layers(block, with_orders(_layers(block), orders["rows"], orders["columns"]))


def _layers(block: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in block.named_modules() if is_linear(module)}
