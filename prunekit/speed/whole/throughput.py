"""Tokens per second of a whole model on a card, dense and with 2:4 weights: `predict_model`.

Every term of every step is in the result, so that one can see where a kernel's gain goes; `stages` puts that in a
row, from the kernel over the layer and the block to the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ...errors import PrunekitError
from ..devices import Gpu, find_gpu
from .cache import Memory, decode_us, memory
from .model import Model, find_model
from .step import SERVER, Server, Step, host_of, product_us, step

WRITTEN = 256


@dataclass(frozen=True)
class Run:
    """One way to hold a model, dense or 2:4, on one card: its memory, its steps, and tokens per second.

    Attributes:
        memory: what of the card's memory goes where.
        fits: sequences of prompt and written tokens whose cache fits at once; 0 where the model does not fit.
        prefill: the step that reads prompts, with as many tokens as one step takes.
        decode: a step that writes a token for each sequence, halfway through.
        prefill_tokens_per_s: tokens read a second; None where the model does not fit.
        decode_tokens_per_s: tokens written a second, sequences that wait for the cache included; None as before.
        seconds: for the whole batch, reading and writing; None as before.
    """

    memory: Memory
    fits: int
    prefill: Step
    decode: Step
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    seconds: float | None


@dataclass(frozen=True)
class Throughput:
    """`predict_model`'s answer; `sparse24` is None where no kernel multiplies a 2:4 weight in this format."""

    gpu: Gpu
    dtype: str
    model: Model
    prompt: int
    batch: int
    written: int
    weight_only: bool
    dense: Run
    sparse24: Run | None


def predict_model(
    gpu: Gpu | str,
    dtype: str,
    model: Model | str,
    *,
    prompt: int = 1024,
    batch: int = 1,
    written: int = WRITTEN,
    step_tokens: int | None = None,
    host: float | None = None,
    server: Server = SERVER,
) -> Throughput:
    """Tokens per second of a model on a card, in prefill and decode, dense and 2:4.

    Args:
        gpu: a card of `prunekit.speed.devices`, or its name.
        dtype: "fp8", "bf16" or "fp16"; without FP8 tensor cores FP8 is a weight-only kernel.
        model: a model, or what `find_model` takes.
        prompt: tokens of each prompt.
        batch: prompts at once.
        written: tokens to write for each.
        step_tokens: the most that a step reads; default the server's.
        host: microseconds that the host takes for a block; default `host_of`.
        server: the constants.

    Raises:
        PrunekitError: unknown card or model, a format that the card lacks, or more tokens than the model's context.
    """
    gpu = find_gpu(gpu)
    model = find_model(model) if isinstance(model, str) else model
    dtype = dtype.lower()
    _check(gpu, dtype, model, prompt, batch, written)
    host = host_of(gpu) if host is None else host
    tokens = min(batch * prompt, step_tokens or server.batched_tokens)
    task = _Task(gpu, dtype, model, prompt, batch, written, tokens, host, server)
    dense = _run(task, False)
    assert dense is not None
    weight_only = dtype == "fp8" and gpu.fp8 is None
    return Throughput(gpu, dtype, model, prompt, batch, written, weight_only, dense=dense, sparse24=_run(task, True))


def _check(gpu: Gpu, dtype: str, model: Model, prompt: int, batch: int, written: int) -> None:
    formats = dict.fromkeys((*gpu.dtypes, "fp8"))
    if dtype not in formats:
        raise PrunekitError(f"{gpu.name} has no {dtype} tensor cores; choose {' or '.join(formats)}.")
    for name, value in (("prompt", prompt), ("batch", batch), ("written", written)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PrunekitError(f"{name} is {value}, but it must be a whole number of at least 1.")
    if prompt > model.context:
        raise PrunekitError(
            f"a prompt of {prompt} tokens is longer than the context of {model.name}, {model.context} tokens: "
            "shorten it."
        )


@dataclass(frozen=True)
class _Task:
    """What is asked of a card: as `predict_model`, with the tokens that one prefill step reads."""

    gpu: Gpu
    dtype: str
    model: Model
    prompt: int
    batch: int
    written: int
    step_tokens: int
    host: float
    server: Server

    def step(self, sparse24: bool, tokens: int, sequences: int, seen: float, decode: bool) -> Step | None:
        return step(
            *(self.gpu, self.dtype, self.model),
            tokens=tokens,
            sequences=sequences,
            seen=seen,
            decode=decode,
            sparse24=sparse24,
            host=self.host,
            server=self.server,
        )


def _run(task: _Task, sparse24: bool) -> Run | None:
    """One way to hold the model; None where no kernel multiplies a 2:4 weight."""
    prompt, batch, written, most = task.prompt, task.batch, task.written, task.step_tokens
    prefill = task.step(sparse24, most, max(1, most // prompt), prompt / 2, False)
    if prefill is None:
        return None
    room = memory(task.gpu, task.dtype, task.model, sparse24, max(most, task.server.batched_tokens), task.server)
    fits = room.holds(prompt + written)
    together = max(1, min(batch, fits))
    decode = task.step(sparse24, together, together, prompt + written / 2, True)
    assert decode is not None
    if not fits:
        return Run(room, 0, prefill, decode, None, None, None)
    token_us = task.model.cache_bytes / (task.gpu.bandwidth_gbs * 1e3 * task.server.cache_share)

    @cache
    def empty(sequences: int) -> Step:
        made = task.step(sparse24, sequences, sequences, 0, True)
        assert made is not None
        return made

    def step_us(sequences: int, tokens: float, again: int) -> float:
        gpu_us = empty(sequences).gpu_us + tokens * token_us + again * prefill.gpu_us / most
        return max(gpu_us, prefill.host_us) if again else gpu_us + empty(sequences).host_us

    reading = prefill.us * (batch * prompt / most)
    writing = decode_us(batch, prompt + 1, written - 1, room.tokens, step_us) if written > 1 else 0.0
    assert writing is not None
    return Run(
        room,
        fits,
        prefill,
        decode,
        prefill_tokens_per_s=batch * prompt / reading * 1e6,
        decode_tokens_per_s=batch * (written - 1) / writing * 1e6 if written > 1 else None,
        seconds=(reading + writing) / 1e6,
    )


@dataclass(frozen=True)
class Stage:
    """A part of a step, dense and 2:4, in microseconds a token; each stage holds the one before it."""

    name: str
    dense_us: float
    sparse24_us: float

    @property
    def gain(self) -> float:
        """How many times faster 2:4 makes it."""
        return self.dense_us / self.sparse24_us


def stages(answer: Throughput, phase: str = "prefill") -> list[Stage]:
    """Where a kernel's gain goes: the longest product, all linear layers, whole blocks, the GPU's step, the step.

    A token is one of the step's: where the cache is short, 2:4 has more of them at once.

    Args:
        answer: what `predict_model` gave.
        phase: "prefill" or "decode".

    Raises:
        PrunekitError: another phase, or a card or format without 2:4.
    """
    if phase not in ("prefill", "decode"):
        raise PrunekitError(f"phase is {phase!r}, but a step is one of 'prefill' or 'decode'.")
    if answer.sparse24 is None:
        raise PrunekitError(f"no kernel multiplies a 2:4 weight in {answer.dtype} on {answer.gpu.name}.")
    steps: tuple[Step, Step] = tuple(getattr(run, phase) for run in (answer.dense, answer.sparse24))
    products = [
        [
            answer.model.blocks * (product_us(answer.gpu, answer.dtype, s.tokens, layer.N, layer.K, sparse) or 0.0)
            for s, sparse in zip(steps, (False, True))
        ]
        for layer in answer.model.layers
    ]
    parts = {
        "longest product": max(products),
        "linear layers": [s.linear_us for s in steps],
        "blocks": [s.linear_us + s.cast_us + s.element_us + s.attention_us for s in steps],
        "GPU": [s.gpu_us for s in steps],
        "with the host": [s.us for s in steps],
    }
    return [Stage(name, *(us / s.tokens for us, s in zip(times, steps))) for name, times in parts.items()]


def amdahl(share: float, factor: float) -> float:
    """How many times faster a whole becomes of which a share becomes `factor` times faster (Amdahl's law).

    Args:
        share: of the time before, 0 to 1.
        factor: above 0.

    Raises:
        PrunekitError: a share or a factor that cannot be.
    """
    if not 0 <= share <= 1 or not factor > 0:
        raise PrunekitError(f"a share of {share} and a factor of {factor}: a share is 0 to 1, a factor above 0.")
    return 1 / (1 - share + share / factor)
