"""A model's blocks, MLPs and text config, found by their names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import PrunekitError
from .linear import is_linear

# Layers whose rows are neurons, and the layer whose columns are: LLaMA and its kin; GPT-NeoX; OPT and Phi; GPT-2.
_KINDS = (
    (("gate_proj", "up_proj"), "down_proj"),
    (("dense_h_to_4h",), "dense_4h_to_h"),
    (("fc1",), "fc2"),
    (("c_fc",), "c_proj"),
)


def text_config(config: Any) -> Any:
    """The part of a model's config that describes the language model."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def head_of(model: nn.Module) -> nn.Module:
    """The output embedding of a causal language model, which gives the logits."""
    causal: Any = model
    return causal.get_output_embeddings()


def embedding_of(model: nn.Module) -> nn.Module:
    """The input embedding of a causal language model."""
    causal: Any = model
    return causal.get_input_embeddings()


def body_of(model: nn.Module) -> nn.Module:
    """A causal language model without its output embedding; a model that has no such part is given back."""
    return getattr(model, "base_model", model)


def decoder_blocks(
    model: nn.Module, layers: Iterable[str], advice: str = "use --method ewma"
) -> tuple[str, nn.ModuleList]:
    """Name and list of the decoder blocks: the module list that holds all the layers.

    Args:
        model: a causal language model.
        layers: names of linear layers.
        advice: what to do where there is none.

    Raises:
        PrunekitError: there is none.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and all(layer.startswith(f"{name}.") for layer in layers):
            return name, module
    raise PrunekitError(f"the model's layers are not in one list of blocks, which this needs: {advice}.")


@dataclass(frozen=True)
class Mlp:
    """Names of one MLP's layers: `before` the activation (neurons are rows) and `after` it (columns)."""

    before: tuple[str, ...]
    after: str


def find_mlps(model: nn.Module) -> list[Mlp]:
    """The MLPs of a model whose neurons have rows of their own, by the names of their layers, in the model's order."""
    found = []
    for prefix, module in model.named_modules():
        children = {name: child for name, child in module.named_children() if is_linear(child)}
        for before, after in _KINDS:
            if after in children and all(name in children for name in before):
                dot = f"{prefix}." if prefix else ""
                found.append(Mlp(tuple(dot + name for name in before), dot + after))
    return found
