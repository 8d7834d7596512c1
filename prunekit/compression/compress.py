"""Compress a whole model: score, select and cast every linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import torch
from torch import Tensor, nn

from ..calibration.calibrate import Calibration, bfloat16_pays, calibrate, gram
from ..errors import PrunekitError
from ..method import baselines
from ..method.admm import admm
from ..method.compensation import SAMPLES, response
from ..model.checks import check_runs, check_weights
from ..model.fp8_linear import Fp8Linear
from ..model.linear import linear_layers, replace_layers, weight_of, without_dropout, zeros_in
from ..system.progress import progress
from .allocate import Allocation
from .blockwise import prune_blocks
from .layer import as_precise_as, compress_layer, finish
from .permute import permute_channels
from .recipe import Recipe

BLOCKWISE = ("wanda", "sparsegpt", "admm")  # methods that go through the model block by block


@dataclass
class Compressed:
    """A compressed model and how it came about.

    Attributes:
        model: the new model. What was not compressed is shared with the original: copy it (``copy.deepcopy``) before
            it is moved to another device or cast.
        recipe: the options.
        sparsity: share of the weights in the chosen layers that are zero.
        layers: for each layer its name, shape ``[out, in]`` and sparsity.
        tokens: calibration tokens used.
        seconds: by stage: ``permute`` if it was asked for; ``calibrate`` and ``select`` (with the cast), or
            ``prune`` for a method that does both block by block.
        steps: steps of recovery (`recover.recover`), 0 without.
    """

    model: nn.Module
    recipe: Recipe
    sparsity: float
    layers: list[dict]
    tokens: int
    seconds: dict[str, float]
    steps: int = 0


def compress(
    model: nn.Module,
    ids: Tensor | None = None,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    metric: str = "contribution",
    select: str = "ewma",
    method: str = "ewma",
    fp8: str | None = None,
    granularity: str = "row",
    compensate: bool = False,
    permute: bool = False,
    calibration: Calibration | None = None,
    stop: bool = True,
    budget: Mapping[str, float] | Allocation | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Compressed:
    """Prune a model and cast it to FP8. The model that is given stays as it is.

    Args:
        model: a causal language model of transformers.
        ids: calibration tokens, int64 ``[windows, context]``, see `corpus.corpus`.
        sparsity: share to prune, in ``[0, 1)``: of each row; by ``magnitude`` of the whole layer, by ``sparsegpt`` of
            all rows in blocks of 128 columns. 0 only casts. Or else
        pattern: ``"N:M"``, N weights kept in every M neighbours.
        metric: ``contribution``, ``magnitude`` or ``rank-one``, see `scores.column_factors`.
        select: ``ewma`` (tracks a quantile, no sort; N:M by comparing), ``ewma-mean`` or ``exact`` (sorts).
        method: ``ewma``; ``admm``, which moves the weights that stay (`admm.admm`) and takes a minute; or a
            baseline: ``wanda``, ``sparsegpt``, ``magnitude``.
        fp8: ``e4m3``, ``e5m2`` or None.
        granularity: what shares an FP8 scale: ``tensor``, ``row`` or ``block``.
        compensate: let the weights that stay make up for the others (`compensate.response`): better at 50 % and
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
        PrunekitError: an option is bad, the pattern does not fit a layer, a weight is not finite, quantized already or
            computed from others, there is no calibration where one is needed, or one that does not fit, the model was
            compiled or spread over devices, or it does not run with these layers in FP8.
    """
    recipe = Recipe(sparsity, pattern, metric, select, method, fp8, granularity, compensate, permute)
    layers = linear_layers(model, include, exclude)
    check_weights(model, layers, recipe)
    tokens, seconds = 0, {}
    if permute:
        if ids is None or calibration is not None:
            raise PrunekitError("a calibration does not know the new order of permute: pass ids, and no calibration.")
        begin = perf_counter()
        model = permute_channels(model, ids, pattern)
        layers = linear_layers(model, include, exclude)
        seconds["permute"] = perf_counter() - begin
    recipes = _recipes(layers, recipe, budget)
    if recipe.needs_inputs and ids is None and calibration is None:
        raise PrunekitError("this needs calibration tokens: pass ids (see pk.corpus), or a calibration.")

    begin = perf_counter()
    if method in BLOCKWISE and recipe.prunes:
        if ids is None:
            raise PrunekitError(f"{method} goes through the model block by block: pass ids, not a calibration.")
        with without_dropout(model):
            new = _blockwise(model, ids, layers, recipes)
        tokens, stage = ids.numel(), "prune"
    else:
        energy: dict[str, Tensor] = {}
        if recipe.needs_inputs:
            calibration = calibration or calibrate(
                model,
                ids,
                layers,
                stop=stop,
                sparsity=min(max(recipe.share, 0.01), 0.99),
                samples=SAMPLES if compensate else 0,
            )
            energy, tokens = calibration.energy, calibration.tokens
            for name in layers:
                if name not in energy:
                    raise PrunekitError(f"the calibration holds nothing of {name}: calibrate all layers to compress.")
            seconds["calibrate"] = calibration.seconds
        begin, stage = perf_counter(), "select"
        answers = _answers(calibration, recipes) if compensate else {}
        new = {}
        for name, module in progress(layers.items(), "select and cast"):
            new[name] = compress_layer(module, energy.get(name), recipes[name], answers.get(name))
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize(next(model.parameters()).device)  # a GPU works on after the calls have returned
    seconds[stage] = perf_counter() - begin

    result = assemble(model, new, recipe, tokens, seconds)
    if recipe.format is not None and not tokens:
        check_runs(result.model, model)
    return result


def check_compressed(result: object) -> None:
    """Raise `PrunekitError` where something else than what `compress` gives is given, such as its model alone."""
    if not isinstance(result, Compressed):
        raise PrunekitError(f"expected what compress gives, got a {type(result).__name__}: pass all of it.")


def assemble(
    model: nn.Module, layers: dict[str, nn.Module], recipe: Recipe, tokens: int, seconds: dict[str, float]
) -> Compressed:
    """Put new layers, given by name, into a copy of the model, and count their zeros."""
    report, zeros, total = [], 0, 0
    for name, module in layers.items():
        count, size = zeros_in(module.weight), module.weight.numel()
        shape = list(module.weight.shape if isinstance(module, Fp8Linear) else weight_of(module).shape)
        report.append({"name": name, "shape": shape, "sparsity": count / size})
        zeros, total = zeros + count, total + size
    return Compressed(replace_layers(model, layers), recipe, zeros / total, report, tokens, seconds)


def _answers(calibration: Calibration, recipes: Mapping[str, Recipe]) -> dict[str, tuple[Tensor, Tensor]]:
    """Sampled inputs and the response to them, by layer; layers with the same input and sparsity share both."""
    if not calibration.samples:
        raise PrunekitError("compensate needs sampled inputs: calibrate with samples=64, or pass ids.")
    responses: dict[tuple[int, float], Tensor] = {}
    answers = {}
    for name, recipe in recipes.items():
        X = calibration.samples[name]
        key = id(X), recipe.share
        if key not in responses:
            responses[key] = response(X, calibration.energy[name], recipe.share)
        answers[name] = X, responses[key]
    return answers


def _recipes(
    layers: dict[str, nn.Module], recipe: Recipe, budget: Mapping[str, float] | Allocation | None
) -> dict[str, Recipe]:
    """The recipe for each layer."""
    budget = budget.sparsity if isinstance(budget, Allocation) else budget
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


def _blockwise(
    model: nn.Module, ids: Tensor, layers: dict[str, nn.Module], recipes: dict[str, Recipe]
) -> dict[str, nn.Module]:
    """Wanda, SparseGPT or ADMM."""
    method = next(iter(recipes.values())).method
    bfloat16 = bfloat16_pays(model)

    def prune(name: str, module: nn.Module, statistic: Tensor) -> nn.Module:
        W, recipe = weight_of(module), recipes[name]
        target = recipe.sparsity, recipe.pattern
        if not recipe.prunes:
            return finish(module, W, torch.ones_like(W, dtype=torch.bool), recipe)
        if method == "wanda":
            return finish(module, W, baselines.wanda_mask(W, statistic, *target), recipe)
        try:
            if method == "admm":
                new, keep = admm(W, statistic, *target, bfloat16=bfloat16)
            else:
                new, keep = baselines.sparsegpt(W, statistic, *target)
        except PrunekitError as error:
            raise PrunekitError(f"{name}: {error}") from None
        return finish(module, as_precise_as(W, new), keep, recipe)

    if method == "wanda":
        return prune_blocks(model, ids, layers, lambda x: x.float().square().sum(0), prune)
    if method == "sparsegpt":
        return prune_blocks(model, ids, layers, gram, prune)
    observe = partial(gram, bfloat16=bfloat16)
    return prune_blocks(model, ids, layers, observe, prune, dense_inputs=True, bfloat16=bfloat16)
