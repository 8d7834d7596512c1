"""Compress a model from a folder into a folder, with one decoder block of it in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial as partial_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...calibration.corpus import corpus
from ...calibration.windows import TEXT, calibration_text, longest_window
from ...compression.compress import chosen, recipes_of
from ...compression.layer import warm_up
from ...compression.recipe import Options, Provenance, Recipe
from ...compression.result import Written, counted
from ...compression.streamed.blocks import compress_streamed
from ...compression.streamed.trained import CONTEXT, STEP_TOKENS, Trains, train_blocks
from ...compression.streamed.work import Work
from ...errors import PrunekitError
from ...model.checks import check_layers, check_text
from ...model.experts import experts_of, left_out
from ...model.linear import is_conv1d, linear_layers
from ...model.streamed.skeleton import Skeleton
from ...model.structure import decoder_blocks
from ...system.files import new_folder
from ...system.locks import sweep
from ...system.machine import versions
from ...system.notices import quiet
from ...system.parallel import first, from_first, meet, rank, world
from ..about import read_about, write_about
from ..load import chosen_device
from ..pretrained import open_tokenizer
from ..save import check_activations, complete_config, quantization_config, save_tokenizer, save_weights
from ..shipped.card import write_card
from ..shipped.hashes import NAME as HASHES
from ..shipped.hashes import write_hashes
from ..shipped.origin import Origin, origin_of
from .checkpoint import Checkpoint
from .names import ADVICE
from .partial import Partial
from .shards import ShardFolder
from .skeletons import local_folder, open_skeleton

if TYPE_CHECKING:
    from typing_extensions import Unpack


def compress_folder(
    source: str | Path,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    ids: Tensor | None = None,
    stop: bool = True,
    given: Provenance = Provenance(),  # noqa: B008  (it is frozen)
    activations: str = "none",
    dtype: str | None = None,
    device: str | None = None,
    command: Sequence[str] = (),
    trains: Trains | None = None,
    **options: Unpack[Options],
) -> Written:
    """Compress a model that need not fit in memory: one decoder block after another is read, compressed and written.

    The tensors are those of ``save(compress(load(source), ...))``, bit for bit; but `permute` reorders only what lies
    within a block, the neurons of MLPs and the values within heads. What is interrupted lies in
    ``out.partial``; the same call goes on there, and writes what it would have written. Several processes on one
    machine split each block's layers, and the first writes what one process would.

    Args:
        source: a folder with a model in safetensors, or ``embedded``.
        out: a folder that does not exist yet, or is empty.
        recipe: how to compress; or its fields as options, see `compress.compress`.
        ids: calibration tokens, int64 ``[windows, context]``; default: those that `given` names, from the source's
            tokenizer.
        stop: whether calibration may stop before it has used all tokens; it may not where `given` has a number.
        given: which layers, the budget, and which text; what it says is stored in prunekit.json.
        activations: as in `save.save`.
        dtype: as in `load.load`.
        device: ``cpu`` or ``cuda``, as in `load.load`: blocks go there one by one (on cuda not tested yet).
        command: as in `save.save`.
        trains: how each block is trained when all have been compressed: a `recovery.blocks.BlockTraining`. It reads
            `ids` again and again, or else a text of its own; zeros stay, so that they are those without it.
        options: the fields of `Recipe`.

    Returns:
        `Written`.

    Raises:
        PrunekitError: as `compress.compress` and `save.save`; the source is no folder, is damaged or has its layers
            elsewhere than in one list of blocks.
    """
    recipe, out, folder = chosen(recipe, options), Path(out), local_folder(source)
    if recipe.permute and not recipe.needs_inputs:
        raise PrunekitError("permute needs text to see which channels matter: leave it out (--no-permute).")
    if trains is not None and world() > 1:
        raise PrunekitError("one process trains the blocks: start this without torchrun, or leave the training out.")
    check_activations(activations)
    device = chosen_device(device)
    kind = dtype or ("float32" if torch.device(device).type == "cpu" else "auto")
    skeleton = open_skeleton(folder, kind, device)
    layers = linear_layers(skeleton.model, given.include, given.exclude)
    check_layers(skeleton.model, layers, recipe.pattern)
    decoder_blocks(skeleton.model, layers, ADVICE)
    described = recipe.fp8 == "e4m3" and not any(map(is_conv1d, layers.values()))
    check_activations(activations, described)
    recipes, others = recipes_of(layers, recipe, given.budget), left_out(skeleton.model, layers)
    tokenizer = open_tokenizer(str(folder))
    ids, training, given = _texts(tokenizer, skeleton, recipe, given, ids, trains)
    for text in (ids, training):
        if text is not None:
            check_text(skeleton.model, text)
    stop, origin = stop and given.tokens is None, origin_of(str(folder), command)
    partial = Partial(out)
    with partial.held() if first() else nullcontext():
        plan = {"recipe": asdict(recipe), "given": asdict(given), "stop": stop, "activations": activations}
        plan |= {"text": _sum_of(ids), "training": _sum_of(training), "processes": world()}
        if first():
            partial.begin(plan | {"dtype": kind, "device": device, **_sources(folder)})
        meet()
        state = partial.state if first() else partial.state / f"process-{rank()}"
        shards = ShardFolder(partial.model, partial.state, skeleton, recipe.granularity)
        work = Work(skeleton, list(layers), recipe, recipes, state, shards)
        written = Written(out, recipe, 0.0, [], 0, given, others)
        if not from_first(partial.finished):
            state.mkdir(exist_ok=True)
            warm_up(recipe, device)
            complete = partial_of(_complete, work, tokenizer=tokenizer, activations=activations, origin=origin)
            if trains is None or training is None:
                tokens = compress_streamed(work, ids, stop)
            else:
                tokens = _pruned(work, partial, ids, stop, complete, written)
                pruned = open_skeleton(partial.pruned, kind, device)
                train_blocks(replace(work, folder=partial.training), pruned, training, trains)
            if first():
                written = complete(shards, replace(written, tokens=tokens))
        elif first():
            report, sparsity = counted(shards.reports())
            tokens = read_about(out)["calibration_tokens"]
            written = replace(written, sparsity=sparsity, layers=report, tokens=tokens)
        if first():
            partial.finish()
        return from_first(written)


def _pruned(
    work: Work, partial: Partial, ids: Tensor | None, stop: bool, complete: Callable[..., Written], written: Written
) -> int:
    """Compress what is to be trained into a folder of its own; gives how many tokens calibration used."""
    if not (partial.pruned / HASHES).exists():  # the last thing that is written
        shards = ShardFolder(partial.pruned, partial.pruned, work.skeleton, work.recipe.granularity)
        tokens = compress_streamed(replace(work, shards=shards), ids, stop)
        complete(shards, replace(written, tokens=tokens))
    return read_about(partial.pruned)["calibration_tokens"]


def _texts(
    tokenizer: Any, skeleton: Skeleton, recipe: Recipe, given: Provenance, ids: Tensor | None, trains: Trains | None
) -> tuple[Tensor | None, Tensor | None, Provenance]:
    """What calibration reads, what training reads, and what is noted of it."""
    given = replace(given, recovery=trains.options if trains else None)
    if trains is None and not recipe.needs_inputs:
        return None, None, replace(given, text=())
    training, limit = ids, longest_window(skeleton.model)
    if ids is None:
        given = replace(given, text=given.text or (TEXT,))
        if trains is not None:
            tokens = trains.block_steps * STEP_TOKENS
            training = corpus(tokenizer, given.text, "train", tokens, min(CONTEXT, limit), given.seed)
    if ids is None and recipe.needs_inputs:
        ids = calibration_text(tokenizer, recipe.method, given.tokens, given.text, given.seed, limit)
    return ids if recipe.needs_inputs else None, training if trains is not None else None, given


def _complete(
    work: Work, shards: ShardFolder, written: Written, tokenizer: Any, activations: str, origin: Origin
) -> Written:
    """Write all that is no block."""
    folder, model, recipe = shards.folder, work.skeleton.model, work.recipe
    checkpoint = shards.finish()
    report, sparsity = counted(shards.reports())
    written = replace(written, sparsity=sparsity, layers=report)
    fp8 = sorted(work.layers) if recipe.fp8 else []
    described = recipe.fp8 == "e4m3" and not any(is_conv1d(model.get_submodule(name)) for name in fp8)
    with new_folder(work.folder / "texts") as texts, quiet():  # transformers removes shards that lie beside its files
        save_tokenizer(tokenizer, texts)
        save_weights(model, {}, texts)
        for path in texts.iterdir():
            os.replace(path, folder / path.name)
    quantization = quantization_config(model, fp8, recipe.granularity, activations) if described else None
    complete_config(folder, checkpoint.usual_dtype(), quantization)
    write_about(folder, written, fp8, activations, experts_of(model))
    write_card(folder, written, origin, activations if described else None)
    sweep(folder)  # of what was killed in the middle of a file
    write_hashes(folder)
    return written


def _sum_of(ids: Tensor | None) -> str:
    """A checksum of the text."""
    if ids is None:
        return ""
    return hashlib.sha256(str(list(ids.shape)).encode() + ids.cpu().numpy().tobytes()).hexdigest()


def _sources(folder: Path) -> dict:
    """The files that are read, and what reads them."""
    names = ("prunekit", "torch", "transformers")
    return {
        "source": os.path.abspath(folder),
        "checksum": Checkpoint(folder).fingerprint(),
        "versions": {name: versions()[name] for name in names},
    }
