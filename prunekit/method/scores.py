"""How much does a weight matter? Scores without a Hessian, as pure functions.

Every score here has the form ``L_ij = W_ij^2 * f_j``: the squared weight times one factor for its input
column. `W` is a linear layer's weight ``[out, in]``; `E`, ``[in]``, is the mean square of each input feature
over calibration tokens. A small score means that the output hardly changes when the weight becomes zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import PrunekitError
from .targets import check_shape

METRICS = ("contribution", "magnitude", "rank-one")


def column_factors(E: Tensor, metric: str = "contribution") -> Tensor:
    """The factor `f_j` of each input column under a metric.

    - ``contribution``: ``E_j``. Per row it orders weights as Wanda's ``|W_ij| * ||X_j||`` does
      (Sun et al. 2023, arXiv 2306.11695, eq. 1).
    - ``magnitude``: 1.
    - ``rank-one``: ``1 / (1 - E_j / sum(E))``, the rank-one OBS reading of the formula in arXiv 2501.16376,
      as two summaries of that paper give it.

    Args:
        E: mean square of each input feature, ``[in]``, any float dtype, finite and not negative.
        metric: one of `METRICS`.

    Returns:
        float32 ``[in]``.

    Raises:
        PrunekitError: unknown metric.
    """
    E = E.float()
    if metric == "contribution":
        return E.clone()
    if metric == "magnitude":
        return torch.ones_like(E)
    if metric == "rank-one":
        share = E / E.sum().clamp_min(torch.finfo(E.dtype).tiny)
        return 1 / (1 - share).clamp_min(torch.finfo(E.dtype).eps)
    raise PrunekitError(f"unknown metric {metric!r}: expected one of {', '.join(METRICS)}.")


def score(W: Tensor, f: Tensor) -> Tensor:
    """``W^2 * f``: what is lost, to second order, when each weight alone becomes zero.

    Args:
        W: weight ``[out, in]``, any float dtype.
        f: column factors ``[in]``.

    Returns:
        float32 ``[out, in]``.

    Raises:
        PrunekitError: `W` and its factors do not fit.
    """
    check_shape(f, "E", (W.shape[1],))
    W = W.float()
    return W * W * f.float()


def contribution(W: Tensor, E: Tensor) -> Tensor:
    """``W^2 * E``: the share of each weight in the mean square of its output.

    Args:
        W: weight ``[out, in]``, any float dtype.
        E: mean square of each input feature, ``[in]``.

    Returns:
        float32 ``[out, in]``.

    Raises:
        PrunekitError: `W` and its factors do not fit.
    """
    return score(W, column_factors(E, "contribution"))


def magnitude(W: Tensor) -> Tensor:
    """``W^2``: the same order as ``|W|``, blind to the inputs.

    Args:
        W: weight ``[out, in]``, any float dtype.

    Returns:
        float32 ``[out, in]``.
    """
    return score(W, torch.ones(W.shape[1], device=W.device))


def rank_one(W: Tensor, E: Tensor) -> Tensor:
    """``W^2 / (1 - E_j / sum(E))``: the rank-one OBS reading of arXiv 2501.16376, see `column_factors`.

    Args:
        W: weight ``[out, in]``, any float dtype.
        E: mean square of each input feature, ``[in]``.

    Returns:
        float32 ``[out, in]``.

    Raises:
        PrunekitError: `W` and its factors do not fit.
    """
    return score(W, column_factors(E, "rank-one"))


def keep_score(W: Tensor, Wq: Tensor, f: Tensor) -> Tensor:
    """``(W^2 - (W - Wq)^2) * f``: what keeping a weight saves, once casting it has cost its part.

    Pruning loses ``W^2 f``; keeping and casting loses ``(W - Wq)^2 f``. The difference is the reason to keep.

    Args:
        W: weight ``[out, in]``, any float dtype.
        Wq: the same weight after casting to FP8 and back, ``[out, in]``.
        f: column factors ``[in]``.

    Returns:
        float32 ``[out, in]``; zero where the cast would give zero anyway.

    Raises:
        PrunekitError: `W` and its factors do not fit.
    """
    check_shape(f, "E", (W.shape[1],))
    W, Wq = W.float(), Wq.float()
    error = W - Wq
    return (W * W - error * error) * f.float()
