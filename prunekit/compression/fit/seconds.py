"""Predicted: how long a compression takes, from what this machine does in a second, measured when it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from torch import nn

from ...calibration.windows import DEFAULTS
from ...kernels.dispatch import fastest
from ...method.admm import admm
from ...method.compensation import response
from ..layer import compress_layer, warm_up
from ..recipe import Recipe
from ..streamed.trained import STEP_TOKENS
from .memory import Sizes

_SIDE = 512  # of the square layer that is tried


@dataclass(frozen=True)
class Rates:
    """What this machine does in a second.

    Attributes:
        products: multiplications and additions of a layer, in the dtype in which calibration runs.
        selected: weights selected and cast.
        solved: of ADMM, ``out * in^2``.
        copied: bytes read and written.
        trained: weights that a step of training moves, apart from the products.
    """

    products: float
    selected: float
    solved: float
    copied: float
    trained: float


@torch.no_grad()
def measured_rates(recipe: Recipe, bfloat16: bool, folder: Path | None = None) -> Rates:
    """Try this machine's processor and disk, for a second or two.

    Args:
        recipe: what is to be done.
        bfloat16: whether products run in bfloat16.
        folder: on the disk that is to be tried; default: the temporary one.
    """
    X, W = torch.randn(256, 4 * _SIDE), torch.randn(4 * _SIDE, 4 * _SIDE)
    if bfloat16:
        X, W = X.bfloat16(), W.bfloat16()
    layer = nn.Linear(4 * _SIDE, _SIDE, bias=False)
    E, some = torch.ones(4 * _SIDE), torch.randn(64, 4 * _SIDE)
    fast = Recipe(
        recipe.sparsity, recipe.pattern, fp8=recipe.fp8, granularity=recipe.granularity, compensate=recipe.compensate
    )
    answer = (some, response(some, E, fast.share)) if fast.compensate else None
    warm_up(fast)
    small = torch.randn(_SIDE, _SIDE)
    gram = small.T @ small + torch.eye(_SIDE)
    solve = 1.0
    if recipe.method == "admm":
        select = fastest(small.device).select
        solve = _seconds(lambda: admm(small, gram, recipe.sparsity, recipe.pattern, bfloat16=bfloat16, select=select))
    with TemporaryDirectory(dir=folder) as place:
        data, file = bytes(1 << 26), Path(place) / "data"
        copy = _seconds(lambda: (file.write_bytes(data), file.read_bytes()))
    return Rates(
        products=2 * X.numel() * len(W) / _seconds(lambda: X @ W.T),
        selected=layer.weight.numel() / _seconds(lambda: compress_layer(layer, E, fast, answer)),
        solved=_SIDE**3 / solve,
        copied=len(data) / copy,
        trained=_trained(),
    )


def _trained() -> float:
    """Weights that AdamW moves in a second, and that are cast and masked around that."""
    weight = nn.Parameter(torch.randn(4 * _SIDE, 4 * _SIDE))
    weight.grad, keep = torch.randn_like(weight), torch.ones(weight.shape, dtype=torch.uint8)
    optimizer = torch.optim.AdamW([weight], lr=1e-4, fused=True)

    def step() -> None:
        weight.bfloat16()
        assert weight.grad is not None  # as it was given above
        weight.grad.mul_(keep)
        optimizer.step()

    return weight.numel() / _seconds(step)


def _seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """The shortest of some runs: what others do on the machine only adds to it."""
    found = []
    for _ in range(repeats):
        begin = perf_counter()
        call()
        found.append(perf_counter() - begin)
    return min(found)


def seconds(sizes: Sizes, recipe: Recipe, rates: Rates, dense_bytes: int, steps: int = 0) -> float:
    """Predicted: how long reading, compressing and writing takes.

    Args:
        sizes: of the model.
        recipe: what to do.
        rates: of this machine.
        dense_bytes: of the files that are read.
        steps: of training for each block.
    """
    weights = sizes.blocks * sizes.weights
    tokens = DEFAULTS[recipe.method][0] if recipe.needs_inputs else 0
    passes = 2 if recipe.method in ("wanda", "sparsegpt") else 1
    taken = 2 * weights * tokens * passes / rates.products + 2 * dense_bytes / rates.copied
    if steps:  # the dense block runs once, the new one forward, backward and, when it is done, forward
        taken += 2 * weights * steps * STEP_TOKENS * 5 / rates.products + weights * steps / rates.trained
        taken += 3 * dense_bytes / rates.copied
    if recipe.method != "admm":
        return taken + weights / rates.selected
    grams = sizes.blocks * sum(columns**2 for columns in sizes.inputs)
    solved = sizes.blocks * sum(rows * columns**2 for rows, columns in sizes.shapes)
    return taken + 2 * grams * tokens / rates.products + solved / rates.solved
