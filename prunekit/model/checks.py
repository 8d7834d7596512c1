"""What a model and a text must be to be compressed, and whether the model still runs afterwards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import PrunekitError, first_line, out_of_memory
from ..method.targets import check_width, parse_pattern
from .linear import check_model, weight_of
from .modes import device_of, without_dropout
from .structure import body_of, text_config


def check_weights(model: nn.Module, layers: dict[str, nn.Module], pattern: str | None) -> None:
    """Raise `PrunekitError` where `check_layers` does, or a weight is not finite."""
    check_layers(model, layers, pattern)
    for name, p in model.named_parameters():
        check_weight_finite(name, p)


def check_layers(model: nn.Module, layers: dict[str, nn.Module], pattern: str | None) -> None:
    """Raise `PrunekitError` where a model is quantized already or changes its own weights, or where layers share a
    weight, compute it from others or do not fit the pattern. A model on the meta device will do."""
    if hasattr(body_of(model), "_rescale_layers"):
        raise PrunekitError("RWKV divides its own weights while it runs, which is not supported: choose another model.")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        check_dense(name, tensor.dtype)
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
        if pattern is not None:
            check_width(weight_of(module).shape[1], parse_pattern(pattern)[1], name)


def check_dense(name: str, dtype: torch.dtype) -> None:
    """Raise `PrunekitError` where the dtype of a tensor of that name is FP8."""
    if dtype.is_floating_point and dtype.itemsize == 1:
        raise PrunekitError(f"{name} is FP8 already: compress the dense model instead.")


def check_weight_finite(name: str, weight: Tensor) -> None:
    """Raise `PrunekitError` where a weight of that name holds NaN or infinity."""
    if not torch.isfinite(weight.sum()) and not torch.isfinite(weight).all():
        raise PrunekitError(f"{name} holds NaN or infinity: repair the checkpoint first.")


def most_tokens(model: nn.Module) -> int | None:
    """How many tokens in a row a model takes, by its config; None if that says nothing."""
    config = text_config(getattr(model, "config", None))
    names = ("max_position_embeddings", "max_seq_len", "max_target_positions")
    found = (limit for name in names if isinstance(limit := getattr(config, name, None), int))
    return next((limit for limit in found if limit > 0), None)  # XLNet says -1


def check_context(model: nn.Module, context: int) -> None:
    """Raise `PrunekitError` if `context` tokens in a row are more than the model can take."""
    limit = most_tokens(model)
    if limit is not None and context > limit:
        raise PrunekitError(
            f"{context} tokens in a row, but the model takes at most {limit}: use shorter windows or fewer tokens."
        )


def check_text(model: nn.Module, ids: Tensor, least: int = 1) -> None:
    """Raise `PrunekitError` unless `ids` are windows of `least` tokens or more that the model can read."""
    check_model(model)
    if not isinstance(ids, Tensor) or ids.is_floating_point():
        raise PrunekitError("the text is no tensor of token numbers: see pk.corpus, or tokenize it.")
    if ids.ndim != 2 or ids.shape[0] < 1 or ids.shape[1] < least:
        raise PrunekitError(f"token windows have shape {tuple(ids.shape)}: expected [windows, context >= {least}].")
    check_context(model, ids.shape[1])
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    known = getattr(embedding, "num_embeddings", None)
    low, high = ids.min(), ids.max()
    if known is not None and (low < 0 or high >= known):
        raise PrunekitError(
            f"the text has a token of number {low if low < 0 else high}, but a model knows {known}: tokenize it for "
            "that model, and compare a model with the dense one that it was made from."
        )


@torch.inference_mode()
def check_causal(model: nn.Module) -> None:
    """Raise `PrunekitError` where what a model says after a token depends on the next one, as in encoders."""
    ids = torch.tensor([[0, 0], [0, 1]], device=device_of(model))
    try:
        one, other = model(ids, use_cache=False).logits[:, 0]
    except Exception as error:  # it takes something else than tokens, or needs more of them
        if out_of_memory(error):
            raise
        return
    rounding = max(1e-4, 8 * torch.finfo(one.dtype).eps)
    if (one - other).abs().max() > rounding * one.abs().max():  # false where one is NaN, which is said elsewhere
        raise PrunekitError("the model reads text in both directions: expected a causal language model.")


@torch.inference_mode()
def check_runs(new: nn.Module, model: nn.Module) -> None:
    """Raise `PrunekitError` where a model runs on two tokens and the new one does not.

    Mamba's `dt_proj` is why: the model reads that layer's weight rather than call the layer, and cannot use codes. (A
    model that casts such a weight, and so runs with wrong numbers, is not noticed here.)
    """
    ids = torch.zeros(1, 2, dtype=torch.int64, device=device_of(model))
    with without_dropout(new, model):
        problem = _failure(new, ids)
        if problem is not None and _failure(model, ids) is None:  # else it takes something else than tokens
            raise PrunekitError(
                f"the model does not run with all these layers in FP8 ({first_line(problem)}): leave out (exclude) "
                "those whose weight it reads instead of calling them, such as Mamba's dt_proj."
            ) from problem


def _failure(model: nn.Module, ids: Tensor) -> Exception | None:
    try:
        model(ids, use_cache=False)
    except Exception as error:
        if out_of_memory(error):
            raise
        return error
    return None
