"""The command line: `prunekit compress | evaluate | generate | bench | demo | info`, and those of `speed`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import PrunekitError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends with one sentence on standard error and exit code 2."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    arguments = _parser().parse_args(argv)
    try:
        if getattr(arguments, "json", None) and isinstance(arguments.json, str):
            from .files import check_writable_file

            check_writable_file(Path(arguments.json))
        arguments.run(arguments)
    except PrunekitError as error:
        print(f"prunekit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prunekit: interrupted; nothing was written.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return 0


class _Parser(argparse.ArgumentParser):
    """Errors in the house style: one sentence."""

    def error(self, message: str) -> None:
        self.exit(2, f"prunekit: {message}; see '{self.prog} --help'.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="prunekit", description="Prune and quantize language models in one pass, without sorting.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, run: Callable[[argparse.Namespace], None], about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run)
        return command

    def model_options(command: argparse.ArgumentParser) -> None:
        command.add_argument("--dtype", help="float32, bfloat16 or float16; default float32 on a CPU, else as stored")
        command.add_argument("--device", help="cpu or cuda; default cuda where there is one")

    c = add("compress", run_compress, "Prune a model and cast it to FP8.")
    c.add_argument("model", nargs="?", default="embedded", metavar="MODEL", help=_MODEL)
    c.add_argument("--sparsity", metavar="S", help="share of each row to prune, 0 to below 1; 0 only casts")
    c.add_argument("--pattern", metavar="N:M", help="keep N weights of every M, for example 2:4")
    c.add_argument("--metric", default="contribution", help="contribution (default), magnitude or rank-one")
    c.add_argument("--select", default="ewma", help="ewma (default), ewma-mean or exact")
    c.add_argument("--method", default="ewma", help="ewma (default), wanda, sparsegpt or magnitude")
    c.add_argument("--fp8", default="none", help="e4m3, e5m2 or none (default)")
    c.add_argument("--granularity", default="row", help="one FP8 scale for each tensor, row (default) or block")
    c.add_argument("--calibration-tokens", default="auto", metavar="N", help="auto (default: until masks hold still)")
    c.add_argument("--calibration-text", default="wikipedia", metavar="TEXT", help=_TEXT)
    c.add_argument("--seed", type=int, default=0, help="which calibration text; default 0")
    c.add_argument(
        "--include", action="append", default=[], metavar="PATTERN", help="only layers with this in the name"
    )
    c.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="no layers with this in the name")
    c.add_argument("--out", metavar="DIR", help="save the compressed model there")
    c.add_argument("--activations", default="none", help="FP8 inputs in servers: none (default) or dynamic")
    c.add_argument("--json", metavar="FILE", help="write the figures there")
    model_options(c)

    e = add("evaluate", run_evaluate, "Perplexity and top-1 accuracy of a model.")
    e.add_argument("model", nargs="?", default="embedded", metavar="MODEL", help=_MODEL)
    e.add_argument("--dense", metavar="MODEL", help="the model before compression: adds retention and KL")
    e.add_argument("--text", default="wikipedia", help=_TEXT)
    e.add_argument("--tokens", type=int, default=8192, help="default 8192")
    e.add_argument("--context", type=int, default=512, help="tokens in a window; default 512")
    e.add_argument("--json", metavar="FILE", help="write the figures there")
    model_options(e)

    g = add("generate", run_generate, "Continue a prompt, greedily.")
    g.add_argument("model", metavar="MODEL", help=_MODEL)
    g.add_argument("prompt", metavar="PROMPT")
    g.add_argument("--tokens", type=int, default=40, help="how many to add; default 40")
    model_options(g)

    b = add("bench", run_bench, "Time the method against its rivals.")
    about = "selection alone, calibration to cast, or what removing neurons gains on this CPU"
    b.add_argument("what", choices=("select", "pipeline", "neurons"), help=about)
    b.add_argument("--share", default="0.3", metavar="S", help="neurons: share of them to remove; default 0.3")
    b.add_argument("--model", default="embedded", metavar="MODEL", help=_MODEL)
    b.add_argument("--json", metavar="FILE", help="write the figures there")

    d = add("demo", run_demo, "Compress the embedded model twice, judge it, write report.json and a figure.")
    d.add_argument("--out", default="out", metavar="DIR", help="default out")

    add("info", run_info, "Versions, threads, model and cache.")

    from .speed.commands import add_commands

    add_commands(commands)
    return parser


_MODEL = "embedded (default), a local folder, or a Hugging Face name"
_TEXT = "wikipedia (default), news, or a UTF-8 file"


def run_compress(a: argparse.Namespace) -> None:
    """`prunekit compress`."""
    from .compress import Recipe, check_layers, compress
    from .export import save, stored_bytes
    from .files import check_free, check_writable, write_json
    from .linear import linear_layers
    from .models import load, peak_rss
    from .prepare import calibration_text, describe, warm_up
    from .stages import Stages

    recipe = Recipe(
        sparsity=a.sparsity,
        pattern=a.pattern,
        metric=a.metric,
        select=a.select,
        method=a.method,
        fp8=None if a.fp8 == "none" else a.fp8,
        granularity=a.granularity,
    )
    tokens = None if a.calibration_tokens == "auto" else _positive(a.calibration_tokens, "--calibration-tokens")
    if a.activations not in ("none", "dynamic"):
        raise PrunekitError(f"unknown --activations {a.activations!r}: expected none or dynamic.")
    if a.out:
        check_free(Path(a.out))
        check_writable(Path(a.out))

    stages = Stages()
    with stages("load"):
        model, tokenizer = load(a.model, a.dtype, a.device)
    layers = linear_layers(model, a.include, a.exclude)
    check_layers(layers, recipe)
    print(describe(layers))
    ids = None
    if recipe.needs_inputs:
        with stages("text"):
            limit = getattr(model.config, "max_position_embeddings", None) or 512
            ids = calibration_text(tokenizer, a.method, tokens, a.calibration_text, a.seed, limit)
    warm_up(recipe)
    bytes_dense = stored_bytes(model)
    options = {"include": a.include, "exclude": a.exclude, "stop": tokens is None}
    result = compress(model, ids, **recipe.__dict__, **options)
    del model, layers
    stages.seconds |= result.seconds
    size = stored_bytes(result.model)
    if a.out:
        with stages("save"):
            save(result, tokenizer, a.out, a.activations)
    print(f"sparsity {result.sparsity:.4f}   calibration tokens {result.tokens}")
    print(f"weights on disk {size / 1e6:.1f} MB, dense {bytes_dense / 1e6:.1f} MB")
    print("seconds " + ", ".join(f"{stage} {value:.2f}" for stage, value in stages.seconds.items()))
    if a.out:
        print(f"saved to {a.out}")
    if a.json:
        report = {
            "model": a.model,
            "recipe": dict(recipe.__dict__),
            "sparsity": result.sparsity,
            "calibration_tokens": result.tokens,
            "layers": result.layers,
            "bytes_dense": bytes_dense,
            "bytes": size,
            "seconds": stages.seconds,
            "peak_rss": peak_rss(),
        }
        write_json(Path(a.json), report)


def run_evaluate(a: argparse.Namespace) -> None:
    """`prunekit evaluate`."""
    from .corpus import corpus
    from .evaluate import evaluate
    from .files import write_json
    from .models import load

    model, tokenizer = load(a.model, a.dtype, a.device)
    dense = load(a.dense, a.dtype, a.device)[0] if a.dense else None
    ids = corpus(tokenizer, a.text, "test", a.tokens, a.context)
    result = {"model": a.model, "text": a.text} | evaluate(model, ids, dense)
    print(f"protocol: {a.text}, {len(ids)} windows of {a.context} tokens, every token but a window's first predicted")
    print(f"perplexity {result['perplexity']:.3f}   top-1 {result['top1']:.4f}")
    if dense is not None:
        print(f"retention {result['retention']:.4f}   KL {result['kl']:.4f} nats per token   (against {a.dense})")
    if a.json:
        write_json(Path(a.json), result)


def run_generate(a: argparse.Namespace) -> None:
    """`prunekit generate`."""
    from .evaluate import generate
    from .models import load

    tokens = _positive(a.tokens, "--tokens")
    if not a.prompt.strip():
        raise PrunekitError("the prompt is empty: give the beginning of a sentence.")
    model, tokenizer = load(a.model, a.dtype, a.device)
    print(generate(model, tokenizer, a.prompt, tokens))


def run_bench(a: argparse.Namespace) -> None:
    """`prunekit bench`."""
    from .files import write_json

    if a.what == "neurons":
        from .patterns import check_sparsity
        from .speed.neurons import neurons

        result = neurons(check_sparsity(a.share), a.model)
    else:
        from . import bench

        result = bench.select(a.model) if a.what == "select" else bench.pipeline(a.model)
    if a.json:
        write_json(Path(a.json), result)


def run_demo(a: argparse.Namespace) -> None:
    """`prunekit demo`."""
    from .demo import demo

    demo(Path(a.out))


def run_info(_: argparse.Namespace) -> None:
    """`prunekit info`."""
    from .info import info

    for name, value in info().items():
        print(f"{name:<14} {value}")


def _positive(text: str | int, option: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise PrunekitError(f"{option} is {text!r}: expected a whole number of 1 or more.")
    return value


if __name__ == "__main__":
    sys.exit(main())
