"""The part of `prunekit predict` that is about whole models: tokens per second, memory, and where the time goes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence

from ..errors import PrunekitError
from ..speed.devices import Gpu, find_gpu
from ..speed.whole.accuracy import FITTED_ON, regimes
from ..speed.whole.model import Model, config_model, find_model
from ..speed.whole.step import HOSTS, SERVER, Step, host_of
from ..speed.whole.throughput import Run, Throughput, predict_model

BATCH, PROMPT, MOST = "1,16,256", 1024, 256
COLUMNS = ("prefill_dense", "prefill_sparse24", "prefill_gain", "decode_dense", "decode_sparse24", "decode_gain")


def parse_host(text: str | None) -> float | None:
    """Microseconds from --host-us.

    Args:
        text: as it was typed, or None.

    Raises:
        PrunekitError: no positive number.
    """
    if not text:
        return None
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) or not float(text):
        raise PrunekitError(f"--host-us takes microseconds above 0, not {text!r}.")
    return float(text)


def report_prompt(
    gpu: Gpu, dtype: str | None, name: str, prompt: str, batches: Sequence[int], host: float | None
) -> tuple[str, str]:
    """What is printed, and the same as CSV, for prompts of one length.

    Args:
        gpu: the card.
        dtype: only this format; default 16 bits and FP8.
        name: the model, as `find_model` takes it.
        prompt: --prompt as it was typed.
        batches: prompts at once.
        host: microseconds that the host takes for a block; default as published.

    Raises:
        PrunekitError: no such model or format, or a prompt that is no number or longer than the model's context.
    """
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", prompt):
        raise PrunekitError(f"--prompt takes a whole number of tokens, at least 1, not {prompt!r}.")
    answers = _answers(gpu, dtype, find_model(name), int(prompt), batches, host)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("dtype", "prompt", "batch", "written", "fits_dense", "fits_sparse24", *COLUMNS))
    for a in answers:
        fits = ["" if run is None else run.fits for run in (a.dense, a.sparse24)]
        figures = ["" if x is None else f"{x:.4f}" for x in _figures(a)]
        writer.writerow((a.dtype, a.prompt, a.batch, a.written, *fits, *figures))
    return "\n".join(_text(answers, host)), file.getvalue()


def report_config(
    gpu: Gpu, dtype: str | None, name: str, config: Mapping, batches: Sequence[int], host: float | None
) -> list[str]:
    """Lines of text for a model whose layers have been listed, or one line that says what its configuration lacks.

    Args:
        gpu: the card.
        dtype: only this format; default 16 bits and FP8.
        name: what the user calls the model.
        config: its configuration.
        batches: prompts at once.
        host: microseconds that the host takes for a block; default as published.
    """
    try:
        model = config_model("SmolLM2-135M" if name == "embedded" else name, config)
    except PrunekitError as error:
        return ["", f"No tokens per second: {error}"]
    return ["", *_text(_answers(gpu, dtype, model, min(PROMPT, model.context), batches, host), host)]


def _answers(
    gpu: Gpu, dtype: str | None, model: Model, prompt: int, batches: Sequence[int], host: float | None
) -> list[Throughput]:
    dtypes = [dtype] if dtype else ["bf16" if gpu.bf16 else "fp16", "fp8"]
    return [predict_model(gpu, d, model, prompt=prompt, batch=b, host=host) for d in dtypes for b in batches]


def _figures(a: Throughput) -> list[float | None]:
    """Prefill dense, 2:4 and gain, then decode; None where something does not fit or does not exist."""
    out: list[float | None] = []
    for phase in ("prefill", "decode"):
        dense = getattr(a.dense, f"{phase}_tokens_per_s")
        sparse24 = getattr(a.sparse24, f"{phase}_tokens_per_s") if a.sparse24 else None
        out += [dense, sparse24, sparse24 / dense if dense and sparse24 else None]
    return out


def _text(answers: Sequence[Throughput], host: float | None) -> list[str]:
    first = answers[0]
    table: list[tuple[str, ...]] = [
        ("", "batch", "prefill dense", "2:4", "gain", "decode dense", "2:4", "gain", "decode bound by")
    ]
    for a in answers:
        cells = [("-" if x is None else f"{x:.2f}x" if i % 3 == 2 else f"{x:.0f}") for i, x in enumerate(_figures(a))]
        bound = (
            "dense does not fit" if not a.dense.fits else "KV cache" if a.dense.fits < a.batch else a.dense.decode.bound
        )
        table.append((_name(a), str(a.batch), *cells, bound))
    text = [
        f"Predicted tokens per second of {first.model.name} on {first.gpu.name}: prompts of {first.prompt} tokens, "
        f"{first.written} written for each",
        *_aligned(table),
    ]
    for a in {a.dtype: a for a in answers}.values():
        text += [_memory_line(a, a.dense, "dense")] + ([_memory_line(a, a.sparse24, "2:4")] if a.sparse24 else [])
    text += ["", f"Where a step's time goes, ms, at batch {answers[-1].batch} or as many as fit", *_terms(answers)]
    us = host_of(first.gpu) if host is None else host
    whose = (
        "given" if host else "of the machine published with this card" if first.gpu.name in HOSTS else "of a desktop"
    )
    text.append(f"The host takes {us:.0f} us a block ({whose}; --host-us gives another).")
    if any(a.weight_only for a in answers):
        text.append(f"{first.gpu.name} has no FP8 tensor cores: a weight-only kernel multiplies in 16 bits.")
    return [*text, _error_note()]


def _name(a: Throughput) -> str:
    return f"{a.dtype} weights" if a.weight_only else a.dtype


def _memory_line(a: Throughput, run: Run, how: str) -> str:
    m, length = run.memory, a.prompt + a.written
    head = f"{_name(a)}, {how}: {m.weights / 1e9:.1f} GB of weights"
    share = f"the {m.server / 1e9:.1f} GB that a server takes ({SERVER.memory_share:.0%} of {a.gpu.memory_gb:g} GiB)"
    if not m.tokens:
        return f"{head} and {m.working / 1e9:.1f} GB to work with do not fit into {share}."
    held = f"the KV cache of {run.fits} sequences of {length} tokens" if run.fits else f"no sequence of {length} tokens"
    return f"{head} fit into {share}, with room for {held}."


def _terms(answers: Sequence[Throughput]) -> list[str]:
    names = ("linear", "casts", "elementwise", "attention", "output", "sampling", "host", "step")
    table: list[tuple[str, ...]] = [("", *names)]
    for a in {a.dtype: a for a in answers}.values():
        for how, run in (("dense", a.dense), ("2:4", a.sparse24)):
            for phase in ("prefill", "decode") if run else ():
                s: Step = getattr(run, phase)
                parts = (s.linear_us, s.cast_us, s.element_us, s.attention_us, s.output_us, s.sampling_us, s.host_us)
                label = f"{_name(a)} {how}, {phase} of {s.tokens}"
                table.append((label, *(f"{us / 1e3:.2f}" for us in (*parts, s.us))))
    return _aligned(table)


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]).rstrip()
        for row in table
    ]


def _error_note() -> str:
    """One sentence on how far off whole models are where it can be checked."""
    cards = []
    for gpu in dict.fromkeys((FITTED_ON, "RTX5080")):
        figures = ", ".join(f"{r.tokens_per_s:.0%} where {r.bound} binds" for r in regimes(gpu))
        use = "fitted on it" if gpu == FITTED_ON else "only its host fitted"
        cards.append(f"{find_gpu(gpu).name} ({use}) {figures}")
    return f"Predicted, not measured; median error against published FP8 throughputs: {'; '.join(cards)}."
