"""Recover what pruning has cost: train the weights that are left to speak as the dense model does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from warnings import warn
from zlib import crc32

import torch
from torch import Tensor, nn

from ..compression.layer import as_precise_as
from ..compression.result import Compressed, assemble, check_compressed
from ..errors import PrunekitError, check_count
from ..evaluation.evaluate import evaluate
from ..model.checks import check_text
from ..model.copies import replace_layers
from ..model.modes import frozen, in_bfloat16, without_dropout
from ..system.machine import fast_bfloat16
from .budget import _part
from .compiled import compiled
from .distillation import TEXT_SHARE, VOCABULARY, chances, loss
from .state import load_state, save_state, undisturbed
from .student import _norms
from .trained_layer import TrainedLayer

RATE = 5e-4
BATCH = 2
WARM_UP = 0.05  # share of the budget in which the learning rate rises
CAST_FROM = 0.8  # share of the budget from which on the weights are cast in each step
CLIP = 1.0
COMPILE_FROM = 300  # steps, or seconds, from which on it pays to compile
SAVE_EVERY = 120.0  # seconds
SAVE_REST = 10.0  # at least so many times as long as saving took


def recover(
    result: Compressed,
    dense: nn.Module,
    ids: Tensor,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    rate: float = RATE,
    batch: int = BATCH,
    text_share: float = TEXT_SHARE,
    seed: int = 0,
    state: Path | str | None = None,
    watch: Tensor | None = None,
    report: Callable[[str], None] | None = None,
) -> Compressed:
    """Distil a compressed model from the dense one, its mask held fixed. What is given stays as it is.

    In each step some windows go through both models, and the weights that are left, and the norms, move so
    that the compressed model's distribution of the next token comes nearer to a blend of the dense one's and of
    what the text says (distillation; Hinton et al. 2015, arXiv 1503.02531), by AdamW at a rate that rises, then falls
    in a straight line to zero (Bergsma et al. 2025, arXiv 2502.15938). The text's part also teaches what the dense
    model does not know, the text's own manner: retention can pass 1, and says less about what was lost. `text_share`
    0 is distillation alone. Of a large vocabulary each step looks at a random part (`distillation.loss`).

    With FP8 the last fifth of the steps uses the cast weights, and gradients pass the rounding as if it were not
    there (straight-through; Bengio et al. 2013, arXiv 1308.3432). Before that the weights are trained as they are:
    casting them in each step takes a fifth of the time, in which uncast steps gain about as much. Embeddings stay.

    Neither model drops values at random or checkpoints activations meanwhile, whatever mode it is in. On a CPU both run
    with compiled blocks (`compiled.compiled`), if the budget is at least 300 steps or five minutes: a fifth less time
    for each step, measured on the embedded model, after half a minute. Without a C++ compiler they run as they are.

    Args:
        result: what `compress` made.
        dense: the model that it was made from.
        ids: training text, int64 ``[windows, context]``; of several kinds, unless the model is for one alone.
        steps: how many steps; on a CPU the outcome is then the same on every run on one machine. Or else
        minutes: how long, in minutes, saving the state and measuring `watch` included.
        rate: highest learning rate.
        batch: windows in a step.
        text_share: weight of the text's own next token in what is aimed at, 0 to 1; the rest is the dense model's.
        seed: order of the windows.
        state: a file for what is needed to go on after an interruption: 12 bytes for each weight, twice that while it
            is rewritten. It is written every two minutes (or more, where that takes long), when the run is interrupted
            (`KeyboardInterrupt` then passes on) and at the end, and read if it is there. Where it cannot be written,
            training goes on and says so. Remove it when the result is safe.
        watch: windows on which the perplexity is measured from time to time, of the weights as that step uses them.
        report: gets a line about the progress, ten times.

    Returns:
        `Compressed`, with the same zeros (and, where a weight fell below the smallest FP8 number, a few more).

    Raises:
        PrunekitError: neither or both of steps and minutes, a bad number, a state of another recovery, or a loss that
            is not finite.
    """
    if (steps is None) == (minutes is None):
        raise PrunekitError("give either steps or minutes: how long the recovery may take.")
    check_compressed(result)
    batch = check_count(batch, "batch")
    if steps is not None:
        steps = check_count(steps, "steps")
    elif not minutes > 0:
        raise PrunekitError(f"minutes is {minutes}: expected a number above 0.")
    if not rate > 0:
        raise PrunekitError(f"rate is {rate}: expected a number above 0.")
    if not 0 <= text_share <= 1:
        raise PrunekitError(f"text_share is {text_share}: expected a number from 0 to 1.")
    check_windows(ids, batch)
    check_text(dense, ids, least=2)
    device = next(dense.parameters()).device
    layers = {layer["name"]: result.model.get_submodule(layer["name"]) for layer in result.layers}
    trained = {name: TrainedLayer(layer, result.recipe) for name, layer in layers.items()}
    norms = {name: deepcopy(module).float() for name, module in _norms(result.model, layers).items()}
    student = replace_layers(result.model, trained | norms)
    moving = {f"{n}.weight": m.weight for n, m in trained.items()}
    moving |= {f"{n}.{k}": p.requires_grad_() for n, m in norms.items() for k, p in m.named_parameters()}
    optimizer = torch.optim.AdamW(moving.values(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    dtype = next(dense.parameters()).dtype
    low_precision = device.type == "cuda" or fast_bfloat16() or dtype != torch.float32
    autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=low_precision)
    teacher = in_bfloat16(dense) if low_precision and dtype != torch.bfloat16 else dense
    head = dense.get_output_embeddings()
    large = isinstance(head, nn.Linear) and head.out_features > VOCABULARY
    chance = chances(ids, head.out_features, VOCABULARY) if large else None
    plan = {
        "steps": steps,
        "minutes": minutes,
        "rate": rate,
        "batch": batch,
        "text_share": text_share,
        "seed": seed,
        "text": [*ids.shape, int(ids.sum())],
        "recipe": asdict(result.recipe),
        "mask": [crc32(layer.keep.contiguous().cpu().numpy()) for layer in trained.values()],
    }

    step, spent = load_state(state, plan, moving, optimizer) if state else (0, 0.0)
    save, tell = partial(save_state, state, plan, moving, optimizer), report or warn

    def save_or_say(step: int, spent: float) -> None:
        try:
            save(step, spent)
        except PrunekitError as error:  # a full disk, perhaps: no reason to stop
            tell(str(error))

    def backward(models: Sequence[nn.Module], step: int, casts: bool) -> Tensor:
        """The loss of a step, of which the gradients are added to the weights'."""
        for layer in trained.values():
            layer.casts = casts
        window = ids[_order(step, batch, len(ids), seed)].to(device)
        with autocast():
            value = loss(*models, window, text_share, chance, _seed(seed, step))
        value.backward()
        return value

    def attempt(models: Sequence[nn.Module]) -> None:
        for casts in (False, True) if result.recipe.fp8 else (False,):
            backward(models, step, casts)

    begin = saved = perf_counter()
    before, pause = spent, SAVE_EVERY
    told = int(10 * _part(step, spent, steps, minutes))
    try:
        with frozen(result.model), without_dropout(student, teacher), torch.enable_grad():
            models = student, teacher
            if device.type == "cpu" and (steps or 60 * minutes) >= COMPILE_FROM and told < 10:
                models = compiled(models, layers, attempt, tell)
                optimizer.zero_grad()
            while (part := _part(step, spent, steps, minutes)) < 1:
                for group in optimizer.param_groups:
                    group["lr"] = rate * min(1.0, (part + 0.5 / (steps or 500)) / WARM_UP) * (1 - part)
                value = backward(models, step, part >= CAST_FROM)
                if not torch.isfinite(value):
                    raise PrunekitError(f"the loss is {value.item()} at step {step}: try a lower rate than {rate}.")
                nn.utils.clip_grad_norm_(list(moving.values()), CLIP)
                with undisturbed():
                    optimizer.step()
                    step, spent = step + 1, before + perf_counter() - begin
                optimizer.zero_grad()
                if state and (start := perf_counter()) - saved > pause:
                    save_or_say(step, spent)
                    saved = perf_counter()
                    pause = max(SAVE_EVERY, SAVE_REST * (saved - start))
                if report and int(10 * _part(step, spent, steps, minutes)) > told:
                    told = int(10 * _part(step, spent, steps, minutes))
                    line = f"recover: {10 * told} %, step {step}, {spent / 60:.1f} minutes, loss {value.item():.3f}"
                    with autocast():
                        now = "" if watch is None else f", perplexity {evaluate(student, watch)['perplexity']:.2f}"
                    report(line + now)
    except KeyboardInterrupt:
        if state:
            optimizer.zero_grad()
            save(step, spent)
        raise
    if state:
        save_or_say(step, spent)
    new = {name: trained[name].finished(layer) for name, layer in layers.items()}
    for name, module in norms.items():
        old = result.model.get_submodule(name)
        for before, after in zip(old.parameters(), module.parameters()):
            after.data = as_precise_as(before, after.data)
        norms[name] = module.to(next(old.parameters()).dtype).requires_grad_(False)
    seconds = result.seconds | {"recover": spent}
    recovered = assemble(replace_layers(result.model, norms), new, result.recipe, result.tokens, seconds)
    return replace(recovered, steps=step)


def check_windows(ids: Tensor, batch: int = BATCH) -> None:
    """Raise `PrunekitError` where windows of text are too few for a step of recovery."""
    if len(ids) < batch:
        raise PrunekitError(f"{len(ids)} windows of text do not fill a batch of {batch}: give more text.")


def _seed(seed: int, number: int) -> int:
    """One of many seeds that follow from one, within what torch takes."""
    return (seed * 1_000_003 + number) % 2**63


def _order(step: int, batch: int, windows: int, seed: int) -> Tensor:
    """Which windows a step takes: all in random order, then all again in another."""
    per_round = windows // batch
    g = torch.Generator().manual_seed(_seed(seed, step // per_round))
    return torch.randperm(windows, generator=g).split(batch)[step % per_round]
