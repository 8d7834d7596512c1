"""How to compress: the options of `compress`, checked once, and what else is needed to repeat it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from ..errors import PrunekitError
from ..method import fp8
from ..method.fp8 import Format
from ..method.scores import METRICS
from ..method.targets import check_sparsity, check_target, parse_pattern

METHODS = ("ewma", "admm", "wanda", "sparsegpt", "magnitude")
SELECTIONS = ("ewma", "ewma-mean", "exact")


@dataclass(frozen=True)
class Recipe:
    """How to compress each layer: the options of `compress`, checked. `save` stores it, and `compress` takes it.

    Args:
        sparsity: share to prune, in ``[0, 1)``; or else
        pattern: ``"N:M"``.
        metric: ``contribution``, ``magnitude`` or ``rank-one``.
        select: ``ewma``, ``ewma-mean`` or ``exact``.
        method: ``ewma``, ``admm``, ``wanda``, ``sparsegpt`` or ``magnitude``.
        fp8: ``e4m3``, ``e5m2`` or None.
        granularity: what shares an FP8 scale: ``tensor``, ``row`` or ``block``.
        compensate: whether the weights that stay make up for the others.
        permute: whether channels are put into an order that suits the pattern.

    Raises:
        PrunekitError: an option is unknown, out of range, or does not go with another.
    """

    sparsity: float | None = None
    pattern: str | None = None
    metric: str = "contribution"
    select: str = "ewma"
    method: str = "ewma"
    fp8: str | None = None
    granularity: str = "row"
    compensate: bool = False
    permute: bool = False

    def __post_init__(self) -> None:
        check_target(self.sparsity, self.pattern, 0)  # no width yet
        for name, value, known in (
            ("metric", self.metric, METRICS),
            ("select", self.select, SELECTIONS),
            ("method", self.method, METHODS),
            ("granularity", self.granularity, fp8.GRANULARITIES),
        ):
            if value not in known:
                raise PrunekitError(f"unknown {name} {value!r}: expected one of {', '.join(known)}.")
        if self.fp8 is not None:
            fp8.format_named(self.fp8)
        elif self.granularity != "row":
            raise PrunekitError("granularity belongs to FP8 weights: add fp8 e4m3 or e5m2, or leave it out.")
        if self.pattern is not None:
            if self.select == "ewma-mean":
                raise PrunekitError("select ewma-mean has no N:M form: use it with a sparsity, or choose ewma.")
        else:
            object.__setattr__(self, "sparsity", check_sparsity(self.sparsity))
        if self.method != "ewma" and (self.metric, self.select) != ("contribution", "ewma"):
            raise PrunekitError(f"metric and select belong to method ewma: leave them out with {self.method}.")

        if self.compensate and not (self.method == "ewma" and self.needs_inputs):
            raise PrunekitError(
                "compensate belongs to method ewma, to a metric that looks at inputs, and to pruning: leave it out."
            )
        if self.permute and self.pattern is None:
            raise PrunekitError(
                "permute belongs to a pattern N:M: with a sparsity, the order of channels does not matter."
            )

    @property
    def format(self) -> Format | None:
        """The FP8 format, or None."""
        return None if self.fp8 is None else fp8.format_named(self.fp8)

    @property
    def prunes(self) -> bool:
        """Whether anything is pruned at all."""
        return self.share > 0

    @property
    def share(self) -> float:
        """The share of the weights that is pruned, whatever the pattern."""
        if self.pattern is None:
            assert self.sparsity is not None  # as __post_init__ saw to it
            return self.sparsity
        n, m = parse_pattern(self.pattern)
        return 1 - n / m

    @property
    def needs_inputs(self) -> bool:
        """Whether text is needed to see what the layers' inputs look like."""
        return self.prunes and self.method != "magnitude" and (self.method, self.metric) != ("ewma", "magnitude")


class Options(TypedDict, total=False):
    """The fields of `Recipe`, as options of `compress`."""

    sparsity: float | None
    pattern: str | None
    metric: str
    select: str
    method: str
    fp8: str | None
    granularity: str
    compensate: bool
    permute: bool


@dataclass(frozen=True)
class Provenance:
    """What a recipe lacks: with it a compression can be repeated. Numbers and names only, as JSON takes them.

    Attributes:
        include: patterns of which one occurs in the name of each compressed layer; none: all layers.
        exclude: patterns that occur in none.
        budget: the sparsity of each layer by name, where it was spread over them.
        text: names of the texts and files that were read; empty where tokens were given.
        tokens: calibration tokens that were asked for; None: the method's own number.
        seed: of the text.
        recovery: options of `recover.recover` or of `blocks.BlockTraining`; None without recovery.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    budget: dict[str, float] | None = None
    text: tuple[str, ...] = ()
    tokens: int | None = None
    seed: int = 0
    recovery: dict[str, float | None] | None = None
