"""What a model must be to be compressed, and whether it still runs afterwards."""

from __future__ import annotations

import torch
from torch import nn

from .errors import PrunekitError, first_line, out_of_memory
from .linear import weight_of, without_dropout
from .patterns import check_width, parse_pattern
from .recipe import Recipe


def check_weights(model: nn.Module, layers: dict[str, nn.Module], recipe: Recipe) -> None:
    """Raise `PrunekitError` where a model is quantized already, layers share a weight, compute it from others or do not
    fit the pattern, or a weight is not finite."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.element_size() == 1:
            raise PrunekitError(f"{name} is FP8 already: compress the dense model instead.")
    uses: dict[int, list[str]] = {}  # names by parameter
    for name, p in model.named_parameters(remove_duplicate=False):
        uses.setdefault(id(p), []).append(name)
    for name, module in layers.items():
        weight = getattr(module, "weight", None)
        if weight is None or not weight.is_floating_point():
            raise PrunekitError(f"{name} has no floating-point weight: compress the dense model instead.")
        if module._parameters.get("weight") is None:  # torch.nn.utils.prune and parametrize
            raise PrunekitError(f"{name} computes its weight from others: remove its pruning or parametrization.")
        if len(names := uses.get(id(weight), ())) > 1:
            raise PrunekitError(f"{' and '.join(names)} are one and the same: leave all of them out (exclude).")
        if recipe.pattern is not None:
            check_width(weight_of(module).shape[1], parse_pattern(recipe.pattern)[1], name)
    for name, p in model.named_parameters():
        if not torch.isfinite(p.sum()) and not torch.isfinite(p).all():
            raise PrunekitError(f"{name} holds NaN or infinity: repair the checkpoint first.")


@torch.inference_mode()
def check_runs(new: nn.Module, model: nn.Module) -> None:
    """Raise `PrunekitError` where a model ran on two tokens and the new one does not.

    Mamba's `dt_proj` is why: the model reads that layer's weight rather than call the layer, and cannot use codes. (A
    model that casts such a weight, and so runs with wrong numbers, is not noticed here.)
    """
    ids = torch.zeros(1, 2, dtype=torch.int64, device=next(model.parameters()).device)
    with without_dropout(new, model):
        try:
            new(ids, use_cache=False)
            return
        except Exception as error:
            if out_of_memory(error):
                raise
            problem = error
        try:
            model(ids, use_cache=False)
        except Exception:  # a model that takes something else than tokens
            return
    raise PrunekitError(
        f"the model does not run with all these layers in FP8 ({first_line(problem)}): leave out (exclude) those "
        "whose weight it reads instead of calling them, such as Mamba's dt_proj."
    ) from problem
