"""Mixtures of experts: what transformers 5 keeps for all experts in one tensor, as linear layers of each expert.

Every method works on linear layers, and reads what each is given. So the weights ``[experts, out, in]`` of a module are
seen as layers that share its memory, under the names that checkpoints have for them (``experts.3.up_proj``); to
those transformers, which fuses them again, and servers find their way back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunekitError
from .copies import replace_layers, shallow_copy
from .linear import check_model, is_linear, linear_layers

_FUSED = "gate_up_proj", "down_proj"
_USUAL = {"is_concatenated": True, "is_transposed": False, "has_bias": False, "has_gate": True}


class Experts(nn.Module):
    """Experts with linear layers of their own, in the place of a module of transformers that holds all in two tensors.

    Args:
        fused: that module; its memory is shared.
        names: of the layers of an expert: gate, up and down.
    """

    def __init__(self, fused: Any, names: Sequence[str]) -> None:
        super().__init__()
        gate_up, down = (getattr(fused, name).detach() for name in _FUSED)
        for number, pair in enumerate(gate_up):
            weights = (*pair.chunk(2), down[number])
            layers = {name: _linear(W) for name, W in zip(names, weights)}
            self.add_module(str(number), nn.ModuleDict(layers))
        self.names, self.count, self.everyone = tuple(names), len(gate_up), False
        self.fused: Any = shallow_copy(fused)  # which knows the activation
        self.fused._parameters = {}
        self.train(fused.training)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """What the chosen experts say, weighed.

        Args:
            hidden_states: ``[tokens, width]``.
            top_k_index: numbers of the experts that each token goes to, int64 ``[tokens, k]``.
            top_k_weights: how much each counts, ``[tokens, k]``.

        Returns:
            ``[tokens, width]``.
        """
        output = torch.zeros_like(hidden_states)
        for number in range(self.count):
            token, choice = torch.where(top_k_index == number)
            if len(token):
                found = self._one(number, hidden_states[token]) * top_k_weights[token, choice, None]
                output.index_add_(0, token, found.to(output.dtype))
            elif self.everyone:
                self._one(number, hidden_states)
        return output

    def _one(self, number: int, x: Tensor) -> Tensor:
        """What one expert says to tokens ``[tokens, width]``."""
        layers: Any = self.get_submodule(str(number))
        gate, up, down = (layers[name] for name in self.names)
        return down(self.fused._apply_gate(torch.cat([gate(x), up(x)], -1)))


def _linear(W: Tensor) -> nn.Linear:
    layer = nn.Linear(W.shape[1], W.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(W, requires_grad=False)
    return layer


@contextmanager
def every_expert(model: nn.Module) -> Iterator[None]:
    """Experts that no token of a batch goes to are shown all of them meanwhile; what they say counts for nothing."""
    found = [module for module in model.modules() if isinstance(module, Experts)]
    for module in found:
        module.everyone = True
    try:
        yield
    finally:
        for module in found:
            module.everyone = False


def experts_of(model: nn.Module) -> list[str]:
    """Names of the modules whose experts have linear layers of their own here."""
    return [name for name, module in model.named_modules() if isinstance(module, Experts)]


def layers_of(
    model: nn.Module, include: str | Sequence[str] = (), exclude: str | Sequence[str] = (), experts: bool = True
) -> tuple[nn.Module, dict[str, nn.Module]]:
    """The layers to compress, by name, those of experts among them, and the model that has them.

    Args:
        model: a causal language model. It stays as it is.
        include: as in `linear.linear_layers`.
        exclude: as in `linear.linear_layers`.
        experts: whether fused experts are compressed.

    Returns:
        (model, layers): the model itself, or a copy that shares its memory, in which experts have layers of their own
        wherever one of them is among the layers.

    Raises:
        PrunekitError: as `linear.linear_layers`, or the model was compiled or spread over devices.
    """
    check_model(model)
    names = _splittable(model) if experts else {}
    if not names:
        return model, linear_layers(model, include, exclude)
    chosen = linear_layers(_split(model, names), include, exclude)
    touched = {n: its for n, its in names.items() if any(layer.startswith(f"{n}.") for layer in chosen)}
    model = _split(model, touched)
    return model, {name: model.get_submodule(name) for name in chosen}


def check_alike(model: nn.Module, layers: Collection[str]) -> None:
    """Raise `PrunekitError` where some experts of a block are among the layers, and the same layer of others is not.

    Transformers, which stacks them, would take the FP8 codes of some for the numbers of others.
    """
    for name in experts_of(model):
        module: Any = model.get_submodule(name)
        for leaf in module.names:
            chosen = [f"{name}.{number}.{leaf}" in layers for number in range(module.count)]
            if any(chosen) and not all(chosen):
                raise PrunekitError(
                    f"{name} has {sum(chosen)} of {len(chosen)} experts among the layers for FP8, which no reader "
                    "takes: let --include and --exclude name all of them or none."
                )


def left_out(model: nn.Module, layers: Collection[str]) -> dict[str, str]:
    """Why matrices of a model are not compressed, by name; embeddings never are, and are not named.

    Args:
        model: that `layers_of` gave.
        layers: names of those that are compressed.
    """
    known, found = _splittable(model), {}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    for prefix, module in model.named_modules():
        if prefix in layers or module is head or isinstance(module, nn.Embedding):
            continue
        for name, p in module.named_parameters(recurse=False):
            if p.ndim > 1 and not name.endswith("bias"):
                inner = name == "weight" and isinstance(module, nn.Linear)
                found[prefix if inner else f"{prefix}.{name}"] = _reason(prefix, module, prefix in known)
    return found


def _reason(name: str, module: nn.Module, splittable: bool) -> str:
    if is_linear(module):
        return "as --include and --exclude have it"
    if splittable:
        return "as --include and --exclude have it, or since FP8 by blocks is not read where experts are fused"
    if "expert" in f"{name} {type(module).__name__}".lower():
        return "one tensor holds those of all experts, in a layout from which no checkpoint tells them apart"
    return "no plain linear layer"


def with_experts(model: nn.Module, names: Collection[str]) -> nn.Module:
    """A copy of the model in which the experts of these modules have layers of their own.

    Raises:
        ValueError: some of them hold no experts that can be taken apart.
    """
    known = _splittable(model) if names else {}
    if strange := set(names) - known.keys():
        raise ValueError(f"{min(strange)} holds no experts that can be taken apart")
    return _split(model, {name: known[name] for name in names})


def _split(model: nn.Module, names: dict[str, Sequence[str]]) -> nn.Module:
    return replace_layers(model, {n: Experts(model.get_submodule(n), its) for n, its in names.items()})


def _splittable(model: nn.Module) -> dict[str, Sequence[str]]:
    """Modules of experts in the usual layout, and what checkpoints call an expert's gate, up and down."""
    fused = [name for name, module in model.named_modules() if _is_usual(module)]
    stacked = _stacked(model) if fused else {}
    names = {name: [leaf for part in _FUSED for leaf in _ending(f"{name}.{part}", stacked)] for name in fused}
    return {name: its for name, its in names.items() if len(its) == 3}


def _is_usual(module: nn.Module) -> bool:
    """Whether experts' weights are ``[experts, gate and up, in]`` and ``[experts, out, in]``, and there is no more."""
    parameters = module._parameters
    if parameters.keys() != set(_FUSED) or any(p is None or p.ndim != 3 for p in parameters.values()):
        return False
    usual = all(getattr(module, name, None) == value for name, value in _USUAL.items())
    return usual and not getattr(module, "has_post_expert_norm", False) and not module._buffers


def _stacked(model: nn.Module) -> dict[str, list[str]]:
    """What checkpoints call the layers of one expert, by how the tensor's name ends into which they are stacked."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter
    except ImportError:  # transformers 4 fuses nothing
        return {}
    found = {}
    causal: Any = model
    for change in get_model_conversion_mapping(causal):
        if isinstance(change, WeightConverter) and len(change.target_patterns) == 1:
            kinds = [type(operation).__name__ for operation in change.operations]
            names = [re.fullmatch(r".*experts\.\*\.(\w+)\.weight", source) for source in change.source_patterns]
            if all(names) and kinds == ["MergeModulelist", "Concatenate"][: len(names)]:
                found[change.target_patterns[0]] = [name[1] for name in names if name]
    return found


def _ending(name: str, endings: dict[str, list[str]]) -> list[str]:
    return next((value for ending, value in endings.items() if name.endswith(ending)), [])
