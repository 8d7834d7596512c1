"""Which layers suffer most from compression, and which to spare."""

from collections.abc import Mapping

from torch import nn

from ...calibration.calibrate import Calibration
from ...model.linear import linear_layers, weight_of


def damage(model: nn.Module, compressed: nn.Module, calibration: Calibration) -> dict[str, float]:
    """The share of each layer's output energy that its compression loses, by layer name.

    For a layer it is ``sum (W - V)^2 E / sum W^2 E``, with ``V`` the compressed weight and ``E`` the mean square of
    each input feature: 0 is unharmed, 1 is as bad as a layer of zeros. Input features count as uncorrelated, as they
    do in `scores.contribution`; what an error does in later layers is not seen.

    Args:
        model: the dense model.
        compressed: what `compress` made of it.
        calibration: what `calibrate` found for the dense model.
    """
    after = linear_layers(compressed)
    lost = {}
    for name, layer in linear_layers(model).items():
        W = weight_of(layer).float()
        E = calibration.energy[name].to(W.device)
        V = weight_of(after[name]).float()
        lost[name] = (((W - V).square() * E).sum() / (W.square() * E).sum().clamp(min=1e-30)).item()
    return lost


def spare(lost: Mapping[str, float], size: Mapping[str, int], budget: int) -> list[str]:
    """The layers to spare: the most damaged first, as long as they fit.

    Args:
        lost: damage by layer name.
        size: number of weights by layer name.
        budget: how many weights they may have in all. A layer that no longer fits is skipped, and the next is tried.
    """
    spared = []
    for name in sorted(lost, key=lost.get, reverse=True):
        if size[name] <= budget:
            spared.append(name)
            budget -= size[name]
    return spared
