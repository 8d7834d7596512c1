"""Recover what pruning has cost: train the weights that are left to speak as the dense model does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..compression.result import Compressed, assemble, check_compressed
from ..errors import PrunekitError
from ..evaluation.evaluate import evaluate
from ..model.checks import check_text
from ..model.copies import replace_layers
from ..model.distributed.spread import gathered_up
from ..model.modes import device_of, frozen, in_bfloat16, without_dropout
from ..model.structure import head_of
from ..system.machine import fast_bfloat16
from ..system.parallel import gathered, own_device, rank, world
from .budget import BATCH, CAST_FROM, RATE, Plan, check_shares, check_windows, rate_at
from .compiled import compiled
from .distillation import TEXT_SHARE, VOCABULARY, chances, loss
from .run import Run
from .state import checksum
from .student.student import Student
from .together import averaging, in_step, sharded

CLIP = 1.0
COMPILE_FROM = 300  # steps, or seconds, from which on it pays to compile


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
    plan = Plan(steps, minutes, rate, batch, text_share, seed)
    return _recover(result, dense, ids, plan, state=state, watch=watch, report=report)


def recover_sharded(
    result: Compressed,
    dense: nn.Module,
    ids: Tensor,
    *,
    state: Path | str | None = None,
    watch: Tensor | None = None,
    report: Callable[[str], None] | None = None,
    **options: Any,
) -> Compressed:
    """As `recover` in several processes, with the models spread over them: for those that do not fit one GPU.

    All processes give the same models, on the CPU where memory there is wider. Each has on its device only its part of
    what is trained, of the moments and of the teacher (FSDP2), and whole only the block at work and embeddings.
    """
    return _recover(result, dense, ids, Plan(**options), shard=world() > 1, state=state, watch=watch, report=report)


def _recover(
    result: Compressed,
    dense: nn.Module,
    ids: Tensor,
    plan: Plan,
    *,
    shard: bool = False,
    state: Path | str | None,
    watch: Tensor | None,
    report: Callable[[str], None] | None,
) -> Compressed:
    """`recover`, or with `shard` `recover_sharded`."""
    check_compressed(result)
    dense = gathered_up(dense)
    check_windows(ids, plan.batch)
    check_shares(plan.batch)
    check_text(dense, ids, least=2)

    student = Student(result.model, [layer["name"] for layer in result.layers], result.recipe)
    budget, options = plan.budget, asdict(plan)
    about = {
        "text": [*ids.shape, checksum([ids])],
        "teacher": checksum(dense.parameters()),
        "recipe": asdict(result.recipe),
        "mask": student.masks(),
    }
    with frozen(result.model), frozen(dense):
        lesson = Lesson(student, dense, ids, plan, shard)
    weights = list(student.moving.values())
    optimizer = student.optimizer(plan.rate)
    run = Run(budget, options | about, student.moving, optimizer, state, report)
    perplexity = None if watch is None else lambda: lesson.perplexity(watch)
    with frozen(result.model), without_dropout(*lesson.models), torch.enable_grad(), run.kept(), in_step() as agree:
        if device_of(dense).type == "cpu" and budget.is_at_least(COMPILE_FROM) and run.part < 1 and not shard:
            lesson.compile(run)
        lesson.join()
        while run.part < 1:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(run.part, plan.rate, budget.steps or 500)
            value = agree(lesson.backward(run.step, casts=run.part >= CAST_FROM).item())
            if not isfinite(value):
                raise PrunekitError(f"the loss is {value} at step {run.step}: try a lower rate than {plan.rate}.")
            nn.utils.clip_grad_norm_(weights, CLIP)
            run.update()
            run.save_now_and_then()
            run.report_tenths(value, perplexity)
    layers, norms = student.finished()
    seconds = result.seconds | {"recover": run.spent}
    trained = assemble(replace_layers(result.model, norms), layers, result.recipe, result.tokens, seconds)
    made = replace(result.provenance, recovery=options)
    return replace(trained, steps=run.step, provenance=made, left_out=result.left_out)


def multiplies_in_bfloat16(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether recovery does so with a model of that dtype."""
    return device.type == "cuda" or fast_bfloat16() or dtype != torch.float32


def copies_teacher(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether recovery holds a copy in bfloat16 of a dense model of that dtype, as its teacher."""
    return multiplies_in_bfloat16(dtype, device) and dtype != torch.bfloat16


class Lesson:
    """What a step computes: the loss on its windows of text, and the gradients.

    On a CPU that is fast in bfloat16, and on a GPU, the products of both models are in bfloat16. Each of several
    processes computes a share of the windows.

    Attributes:
        models: student and teacher, as they are called.
    """

    def __init__(self, student: Student, dense: nn.Module, ids: Tensor, plan: Plan, shard: bool) -> None:
        self.student, self.ids, self.plan, self.shard = student, ids, plan, shard
        self.device, dtype = own_device() if shard else device_of(dense), next(dense.parameters()).dtype
        low_precision = multiplies_in_bfloat16(dtype, self.device)
        self.autocast = partial(torch.autocast, self.device.type, torch.bfloat16, enabled=low_precision)
        teacher = in_bfloat16(dense) if copies_teacher(dtype, self.device) else dense
        if shard:
            student.shard(self.device)
            teacher = sharded(teacher, student.layers, self.device)
        self.models: Sequence[nn.Module] = (student.model, teacher)
        self._joined: nn.Module | None = None
        head = head_of(dense)
        words = head.out_features if isinstance(head, nn.Linear) else 0
        self.chance = chances(ids, words, VOCABULARY) if words > VOCABULARY else None

    def backward(self, step: int, casts: bool, models: Sequence[nn.Module] | None = None) -> Tensor:
        """The loss of a step, of which the gradients are added to the weights'.

        Args:
            step: which says what windows there are.
            casts: whether the student computes with weights cast to FP8.
            models: in place of `models`.
        """
        self.student.cast(casts)
        window = self.ids[_order(step, self.plan.batch, len(self.ids), self.plan.seed)].to(self.device)
        of_step = self.plan.text_share, self.chance, _seed(self.plan.seed, step), window
        mine = window[rank() :: world()]
        with self.autocast():
            if self._joined is not None and models is None:
                value = self._joined(mine, *of_step)
            else:
                student, teacher = models or self.models
                value = loss(student, teacher, mine, *of_step)
        value.backward()
        return value

    def join(self) -> None:
        """From now on have gradients averaged over the processes; sharded models do that by themselves."""
        if world() > 1 and not self.shard:
            self._joined = averaging(_Step(*self.models))

    def compile(self, run: Run) -> None:
        """Compile the blocks of both models, if that works here; what a step needs is tried first."""

        def attempt(models: Sequence[nn.Module]) -> None:
            for casts in (False, True) if self.student.recipe.fp8 else (False,):
                self.backward(run.step, casts, models)

        fast = compiled(self.models, self.student.layers, attempt, run.tell)
        if all(gathered(fast is not self.models)):
            self.models = fast
        run.optimizer.zero_grad()

    def perplexity(self, watch: Tensor) -> float:
        """Of the student, on windows of text, int64 ``[windows, context]``."""
        with self.autocast():
            return evaluate(self.student.model, watch)["perplexity"]


class _Step(nn.Module):
    """The loss as a module, of which the student is a part and the teacher none."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self._teacher = student, (teacher,)

    def forward(self, *arguments: Any) -> Tensor:
        return loss(self.student, *self._teacher, *arguments)


def _seed(seed: int, number: int) -> int:
    """One of many seeds that follow from one, within what torch takes."""
    return (seed * 1_000_003 + number) % 2**63


def _order(step: int, batch: int, windows: int, seed: int) -> Tensor:
    """Which windows a step takes: all in random order, then all again in another."""
    per_round = windows // batch
    g = torch.Generator().manual_seed(_seed(seed, step // per_round))
    return torch.randperm(windows, generator=g).split(batch)[step % per_round]
