"""Compress a whole model: score, select and cast every linear layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from inspect import Parameter, Signature, signature
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..calibration.calibrate import Calibration, calibrate
from ..errors import PrunekitError
from ..method.compensation import SAMPLES, response
from ..model.checks import check_runs, check_weights
from ..model.distributed.dealt import made_together, owners
from ..model.distributed.spread import gathered_up, is_spread
from ..model.experts import check_alike, experts_of, layers_of, left_out
from ..model.linear import check_model, linear_layers
from ..model.modes import device_of, without_dropout
from ..system.progress import progress
from .allocate import Allocation
from .blockwise import BLOCKWISE, compress_blocks
from .layer import compress_layer
from .permute import permute_channels
from .recipe import Options, Provenance, Recipe
from .result import Compressed, assemble

if TYPE_CHECKING:
    from typing_extensions import Unpack


def compress(
    model: nn.Module,
    ids: Tensor | None = None,
    recipe: Recipe | None = None,
    *,
    calibration: Calibration | None = None,
    stop: bool = True,
    budget: Mapping[str, float] | Allocation | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    **options: Unpack[Options],
) -> Compressed:
    """Prune a model and cast it to FP8. The model that is given stays as it is.

    Where accelerate has spread it (`device_map`), it runs there for the EWMA. All else happens on the CPU, on which the
    new model is whole.

    Args:
        model: a causal language model of transformers.
        ids: calibration tokens, int64 ``[windows, context]``, see `corpus.corpus`.
        recipe: the options from `sparsity` to `permute` at once, in their place.
        sparsity: share to prune, in ``[0, 1)``: of each row; by ``magnitude`` of the whole layer, by ``sparsegpt`` of
            all rows in blocks of 128 columns. 0 only casts. Or else
        pattern: ``"N:M"``, N weights kept in every M neighbours.
        metric: ``contribution``, ``magnitude`` or ``rank-one``, see `scores.column_factors`.
        select: ``ewma`` (tracks a quantile, no sort; N:M by comparing), ``ewma-mean`` or ``exact`` (sorts).
        method: ``ewma``; ``admm``, which moves the weights that stay (`admm.admm`) and takes a minute; or a
            baseline: ``wanda``, ``sparsegpt``, ``magnitude``.
        fp8: ``e4m3``, ``e5m2`` or None.
        granularity: what shares an FP8 scale: ``tensor``, ``row`` or ``block``.
        compensate: let the weights that stay make up for the others (`compensation.response`): better at 50 % and
            above and at 2:4, for half as much time again.
        permute: with a pattern, first put the model's channels into an order that suits it
            (`permute.permute_channels`), for seconds.
        calibration: what `calibrate` found earlier about all layers that are compressed, instead of `ids`; with
            samples, if `compensate`. It does not know the order that `permute` makes.
        stop: whether calibration may stop before it has used all of `ids`.
        budget: a sparsity for each layer by name instead of the same for all, or what `allocate.allocate` gives;
            `sparsity` then only says what is aimed at on average.
        include: patterns, one of which must occur in a layer's name, see `linear.linear_layers`.
        exclude: patterns that must not.

    Returns:
        `Compressed`.

    Raises:
        PrunekitError: an option is bad or given beside a recipe, the pattern does not fit a layer, a weight is not
            finite, quantized already or computed from others, there is no calibration where one is needed, or one that
            does not fit, the model was compiled, or it does not run with these layers in FP8.
    """
    recipe = chosen(recipe, options)
    check_model(model)
    given = model
    model, layers = fitting_layers(gathered_up(model), recipe, include, exclude)
    running = given if is_spread(given) and not experts_of(model) else model
    seconds = {}
    if recipe.permute and recipe.pattern is not None:
        if ids is None or calibration is not None:
            raise PrunekitError("a calibration does not know the new order of permute: pass ids, and no calibration.")
        begin = perf_counter()
        running = model = permute_channels(model, ids, recipe.pattern)
        layers = linear_layers(model, include, exclude)
        seconds["permute"] = perf_counter() - begin
    budget = budget.sparsity if isinstance(budget, Allocation) else budget
    recipes = recipes_of(layers, recipe, budget)
    if recipe.needs_inputs and ids is None and calibration is None:
        raise PrunekitError("this needs calibration tokens: pass ids (see pk.corpus), or a calibration.")

    if recipe.method in BLOCKWISE and recipe.prunes:
        if ids is None:
            raise PrunekitError(f"{recipe.method} goes through the model block by block: pass ids, not a calibration.")
        begin, stage, tokens = perf_counter(), "prune", ids.numel()
        with without_dropout(model):
            new = compress_blocks(model, ids, layers, recipes)
    else:
        if recipe.needs_inputs:
            calibration = calibration or _calibrated(running, ids, list(layers), recipe, stop)
            seconds["calibrate"] = calibration.seconds
        else:
            calibration = Calibration({}, 0, 0.0)
        begin, stage, tokens = perf_counter(), "select", calibration.tokens
        new = compress_each(layers, recipes, recipe, calibration)
    if device_of(model).type == "cuda":
        torch.cuda.synchronize(device_of(model))  # a GPU works on after the calls have returned
    seconds[stage] = perf_counter() - begin

    result = assemble(model, new, recipe, tokens, seconds)
    if recipe.format is not None and not tokens:
        check_runs(result.model, model)
    include, exclude = ((names,) if isinstance(names, str) else tuple(names) for names in (include, exclude))
    made = Provenance(include, exclude, None if budget is None else dict(budget))
    return replace(result, provenance=made, left_out=left_out(model, layers))


def _listing_fields(signature: Signature) -> Signature:
    """A signature with the fields of `Recipe` in place of the options, for who asks what there is."""
    own = [p for p in signature.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    new = [Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type) for f in fields(Recipe)]
    return signature.replace(parameters=own + new)


compress.__signature__ = _listing_fields(signature(compress))  # type: ignore[attr-defined]


def fitting_layers(
    model: nn.Module, recipe: Recipe, include: str | Sequence[str], exclude: str | Sequence[str]
) -> tuple[nn.Module, dict[str, nn.Module]]:
    """The layers that a recipe compresses, by name, and the model that has them: `experts.layers_of`.

    Raises:
        PrunekitError: as there, or the recipe does not fit them.
    """
    model, layers = layers_of(model, include, exclude, experts=recipe.granularity != "block")
    check_weights(model, layers, recipe.pattern)
    if recipe.fp8 is not None:
        check_alike(model, layers)
    return model, layers


def chosen(recipe: Recipe | None, options: Options) -> Recipe:
    """The recipe that is given, or that of the options."""
    if recipe is None:
        return Recipe(**options)
    if not isinstance(recipe, Recipe):
        raise PrunekitError(
            f"recipe is a {type(recipe).__name__}: expected a pk.Recipe, or options such as sparsity=0.5."
        )
    if options:
        raise PrunekitError(f"{', '.join(options)} is given beside a recipe: put it into the recipe, or leave one out.")
    return recipe


def _calibrated(model: nn.Module, ids: Tensor | None, names: Sequence[str], recipe: Recipe, stop: bool) -> Calibration:
    """`calibrate` with what a recipe asks of it."""
    assert ids is not None  # or a calibration was given, and this not called
    share = min(max(recipe.share, 0.01), 0.99)
    samples = SAMPLES if recipe.compensate else 0
    layers = {name: model.get_submodule(name) for name in names}
    return calibrate(model, ids, layers, stop=stop, sparsity=share, samples=samples)


def compress_each(
    layers: dict[str, nn.Module], recipes: dict[str, Recipe], recipe: Recipe, calibration: Calibration
) -> dict[str, nn.Module]:
    """The new layers by name, each by its own recipe."""
    energy = calibration.energy
    for name in layers if recipe.needs_inputs else ():
        if name not in energy:
            raise PrunekitError(f"the calibration holds nothing of {name}: calibrate all layers to compress.")
    answer_for = _answers(calibration, recipes) if recipe.compensate else lambda name: None

    def make(name: str, module: nn.Module) -> nn.Module:
        return compress_layer(module, energy.get(name), recipes[name], answer_for(name))

    return made_together(layers, make, owners(layers, False), lambda names: progress(names, "select and cast"))


def _answers(calibration: Calibration, recipes: Mapping[str, Recipe]) -> Callable[[str], tuple[Tensor, Tensor] | None]:
    """What gives the sampled inputs of a layer and the response to them, shared where they are the same."""
    if not calibration.samples:
        raise PrunekitError("compensate needs sampled inputs: calibrate with samples=64, or pass ids.")
    responses: dict[tuple[int, float], Tensor] = {}

    def answer_for(name: str) -> tuple[Tensor, Tensor]:
        X, share = calibration.samples[name], recipes[name].share
        if (id(X), share) not in responses:
            responses[id(X), share] = response(X, calibration.energy[name], share)
        return X, responses[id(X), share]

    return answer_for


def recipes_of(layers: dict[str, nn.Module], recipe: Recipe, budget: Mapping[str, float] | None) -> dict[str, Recipe]:
    """The recipe for each layer."""
    if budget is None:
        return dict.fromkeys(layers, recipe)
    if recipe.pattern is not None:
        raise PrunekitError(f"the pattern {recipe.pattern} leaves no budget to spread: leave the budget out.")
    if not recipe.sparsity:
        raise PrunekitError("a sparsity of 0 leaves no budget to spread: give the average of the budget as sparsity.")
    if layers.keys() != budget.keys():
        name = min(layers.keys() ^ budget.keys())
        raise PrunekitError(f"the budget must name the layers that are compressed, and {name} is in only one of them.")
    compensates = {name: recipe.compensate and budget[name] > 0 for name in layers}
    return {name: replace(recipe, sparsity=budget[name], compensate=compensates[name]) for name in layers}
