"""Remove whole neurons of a model's MLPs: smaller matrices, so that any machine stores less and runs faster.

A neuron is one channel between the two halves of an MLP: a row of the weights before the activation and the
column of the weight after it that reads it. A zeroed row still costs its bytes and its products; here rows and
columns are cut out, and the model's config says the new width, so that `save_pretrained` and `from_pretrained`
work as ever. Structured pruning of such coupled groups is an old idea; for language models see LLM-Pruner
(arXiv 2305.11627), which scores them by gradients. The score used here, and cutting the same number in every
block so that one width describes all, are prunekit's own choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from ..calibration.calibrate import Calibration
from ..errors import PrunekitError, check_count
from ..method.targets import check_sparsity
from ..model.copies import replace_layers, with_columns, with_rows
from ..model.fp8_linear import Fp8Linear
from ..model.linear import check_model, weight_of
from ..model.structure import Mlp, find_mlps, text_config

MULTIPLE = 32
_WIDTHS = ("intermediate_size", "ffn_dim", "n_inner")  # what configs call the number of neurons


def neuron_scores(W: Tensor, E: Tensor) -> Tensor:
    """What the output loses without each neuron: ``E_j * sum_i W_ij^2``, a column's contributions added up.

    Args:
        W: weight of the layer that reads the neurons, ``[out, neurons]``, any float dtype.
        E: mean square of each neuron's activation, ``[neurons]``.

    Returns:
        float32 ``[neurons]``.
    """
    return W.float().square().sum(0) * E.float()


@torch.no_grad()
def remove_neurons(
    model: nn.Module, share: float, calibration: Calibration | Mapping[str, Tensor], *, multiple: int = MULTIPLE
) -> nn.Module:
    """A smaller model without the MLP neurons of the lowest `neuron_scores`, the same number in every block.

    The model that is given stays as it is; tensors that do not change are shared with it.

    Args:
        model: a model whose blocks hold a gated MLP (gate_proj, up_proj, down_proj) or one of two layers
            (GPT-NeoX, OPT, Phi, GPT-2).
        share: of the neurons to remove, in ``[0, 1)``. At least that many go: what stays is rounded down to
        multiple: of so many, because odd widths are slow (but at least one multiple stays).
        calibration: from `calibrate.calibrate`, or mean squares ``[neurons]`` by the names of the layers that
            read the neurons (down_proj, ...).

    Returns:
        A new model of the same class; its own `save_pretrained` saves it.

    Raises:
        PrunekitError: no such MLP, blocks of several widths, energies are missing, FP8 layers, a width that
            the config does not state, or a bad share or multiple.
    """
    check_model(model)
    share = check_sparsity(share, "share")
    multiple = check_count(multiple, "multiple")
    energy = calibration.energy if isinstance(calibration, Calibration) else calibration
    mlps = find_mlps(model)
    if not mlps:
        raise PrunekitError(
            "the model has no MLP whose neurons could be removed: expected modules with gate_proj, up_proj and "
            "down_proj, or with dense_h_to_4h, fc1 or c_fc and the layer after it."
        )
    old = _width(model, mlps)
    new = kept_neurons(old, share, multiple)
    layers: dict[str, nn.Module] = {}
    for mlp in mlps:
        after = model.get_submodule(mlp.after)
        E = energy.get(mlp.after)
        if E is None or E.shape != (old,):
            raise PrunekitError(
                f"there is no energy of the {old} neurons that {mlp.after} reads: calibrate this very model with "
                "pk.calibrate, all layers included."
            )
        scores = neuron_scores(weight_of(after), E)
        # Stable: among equal scores the neuron further left stays. Sorted: those that stay keep their order.
        keep = scores.sort(descending=True, stable=True).indices[:new].sort().values
        layers |= {name: with_rows(model.get_submodule(name), keep) for name in mlp.before}
        layers[mlp.after] = with_columns(after, keep)
    smaller = replace_layers(model, layers)
    _tell_config(smaller, mlps, old, new)
    return smaller


def kept_neurons(width: int, share: float, multiple: int = MULTIPLE) -> int:
    """How many of `width` neurons stay when at least `share` goes: a multiple, rounded down, never none."""
    if share == 0:
        return width
    exact = int(width * (1 - share) * (1 + 1e-12))
    return max(exact // multiple * multiple, min(multiple, width))


def _width(model: nn.Module, mlps: list[Mlp]) -> int:
    """The number of neurons, the same in all MLPs, after checking that their layers fit each other."""
    widths = set()
    for mlp in mlps:
        for name in (*mlp.before, mlp.after):
            module = model.get_submodule(name)
            if isinstance(module, Fp8Linear):
                raise PrunekitError(f"{name} is FP8 already: remove neurons first and cast afterwards.")
            widths.add(weight_of(module).shape[1 if name == mlp.after else 0])
    if len(widths) > 1:
        raise PrunekitError(
            f"the MLPs have {len(widths)} different widths ({', '.join(map(str, sorted(widths)))}): neurons are only "
            "removed where one width describes all."
        )
    return widths.pop()


def _tell_config(model: nn.Module, mlps: list[Mlp], old: int, new: int) -> None:
    """Give the copy a config of its own that states the new width; a module without a config needs none."""
    if not hasattr(model, "config"):
        return
    before, config = model.config, deepcopy(model.config)
    text_before, text = text_config(before), text_config(config)
    stated = [name for name in _WIDTHS if getattr(text, name, None) == old]
    if not stated and hasattr(text, "n_inner") and text.n_inner is None:
        stated = ["n_inner"]  # GPT-2: None stands for four times the hidden size
    if not stated:
        raise PrunekitError(
            f"the model's config does not state the {old} neurons of its MLPs (as {', '.join(_WIDTHS)}), so that a "
            "smaller model could not be saved."
        )
    others = [k for k, v in vars(text).items() if k.endswith("intermediate_size") and k not in stated and v == old]
    if others:
        raise PrunekitError(
            f"the model's config states {old} as {', '.join([*stated, *others])}: which of them belongs to the MLPs "
            "cannot be told, so that a smaller model could not be saved."
        )
    for name in stated:
        setattr(text, name, new)
    # The parents of exchanged layers are copies, so changing them leaves the given model alone.
    parents = {m.after.rsplit(".", i)[0] for m in mlps for i in range(1, m.after.count(".") + 1)}
    for module in (model, *(model.get_submodule(name) for name in parents)):
        if module.__dict__.get("config") is before:
            module.config = config
        elif module.__dict__.get("config") is text_before:
            module.config = text
        for name in _WIDTHS:
            if module.__dict__.get(name) == old:
                setattr(module, name, new)
