"""Tasks done by a compressed model and by the dense one, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

from torch import Tensor

from .run import Done


@dataclass(frozen=True)
class Compared:
    """A metric of a task, of one model or of two.

    Attributes:
        model: how the model did.
        dense: how the dense one did; None without.
        kept: retention above chance, ``(acc - chance) / (dense - chance)``, and its standard error; None without a
            dense model or without choices, NaN where the dense model is no better than chance.
    """

    model: Done
    dense: Done | None = None
    kept: tuple[float, float] | None = None

    @property
    def chance(self) -> float | None:
        """What guessing gives, the mean over items."""
        return None if self.model.chance is None else self.model.chance.mean().item()


def compare_tasks(model: Sequence[Done], dense: Sequence[Done] | None = None) -> list[Compared]:
    """Lay what two models did side by side.

    Args:
        model: what `run.run_tasks` gave for one.
        dense: what it gave for the dense one, with the same options.

    Returns:
        A row for each of `model`.
    """
    others = {(each.task, each.metric): each for each in dense or ()}
    return [_beside(each, others.get((each.task, each.metric))) for each in model]


def above_chance(hits: Tensor, dense: Tensor, chance: Tensor) -> tuple[float, float]:
    """Retention above chance and its standard error, from what both models did with the same items.

    With ``a = hits - chance``, ``b = dense - chance`` and ``r = sum(a) / sum(b)`` the residuals ``a - r b`` have mean
    0; the error is theirs over ``mean(b)`` (the usual one of a ratio, to first order; it knows that items are shared).

    Args:
        hits: whether the model was right, ``[items]``.
        dense: whether the dense one was.
        chance: what guessing gives.

    Returns:
        Both; NaN where the dense model is no better than chance.
    """
    a, b = (x.double() - chance.double() for x in (hits, dense))
    if b.mean() <= 0:
        return nan, nan
    r, n = (a.sum() / b.sum()).item(), len(a)
    spread = (a - r * b).square().sum().item() / max(n - 1, 1)
    return r, sqrt(spread / n) / b.mean().item()


def _beside(model: Done, dense: Done | None) -> Compared:
    if dense is None or model.hits is None or dense.hits is None or model.chance is None:
        return Compared(model, dense)
    return Compared(model, dense, above_chance(model.hits, dense.hits, model.chance))
