"""The command line: `prunekit compress | evaluate | generate | bench | demo | info`, and those of `speed`."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..compression.presets import describe_presets
from ..errors import PrunekitError, out_of_memory
from .compress import run_compress
from .evaluate import run_bench, run_demo, run_evaluate, run_generate, run_info

_LESS_MEMORY = "try --dtype bfloat16 or --device cpu"
_TO_COMPRESS = (
    "expected room for two copies of the model, three to reorder channels, or 25 bytes a weight to recover: try "
    "--dtype bfloat16, --no-permute, or --device cpu"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends with one sentence on standard error and exit code 2."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if hasattr(sys.stdout, "reconfigure"):
        # Names of files need not be valid UTF-8, and a log shall show how far a long run is.
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    arguments = _parser().parse_args(argv)
    _keep_freed_memory()
    try:
        for option in ("out", "json", "csv", "dense", "model", "shapes"):
            if getattr(arguments, option, None) == "":  # a variable of the shell that is not set, mostly
                raise PrunekitError(f"--{option} is empty: give it a value, or leave it out.")
        if getattr(arguments, "json", None):
            from ..system.files import check_writable_file

            check_writable_file(Path(arguments.json))
        with _terminated_like_interrupted():
            arguments.run(arguments)
        if sys.stdout:
            sys.stdout.flush()
    except PrunekitError as error:
        print(f"prunekit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"prunekit: interrupted; {str(stop) or 'nothing unfinished was written'}.", file=sys.stderr)
        return 130
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        advice = _LESS_MEMORY if hasattr(arguments, "dtype") else "try a machine with more"
        advice = _TO_COMPRESS if arguments.command == "compress" else advice
        print(f"prunekit: out of memory; {advice}.", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who reads has had enough; what is left must not be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # no permission, or a full disk
        if error.errno is None:
            raise
        print(
            f"prunekit: cannot use {error.filename or 'a file'}: {error.strerror}; give another path.", file=sys.stderr
        )
        return 2
    return 0


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP where it would end the process, do what Ctrl-C does: nothing half-written stays."""
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    changed = [each for each in signals if signal.getsignal(each) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGINT)):
        changed = []  # only there may handlers be set; and a shell may ignore Ctrl-C for what runs in the background
    for each in changed:
        signal.signal(each, lambda *_: signal.raise_signal(signal.SIGINT))  # which recovery holds back during an update
    try:
        yield
    finally:
        for each in changed:
            signal.signal(each, signal.SIG_DFL)


def _keep_freed_memory() -> None:
    """Let glibc use freed memory again rather than get it anew, zeroed page by page: a tenth of a training step.

    Elsewhere than on glibc nothing happens.
    """
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as malloc.h numbers them
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        set_option(M_MMAP_MAX, 0)
        set_option(M_TRIM_THRESHOLD, 2**31 - 1)


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
    c.add_argument("--sparsity", metavar="S", help="share to prune, 0 to below 1; 0 only casts")
    c.add_argument("--pattern", metavar="N:M", help="keep N weights of every M, for example 2:4")
    c.add_argument("--metric", default="contribution", help="contribution (default), magnitude or rank-one")
    c.add_argument("--select", default="ewma", help="ewma (default), ewma-mean or exact")
    c.add_argument("--preset", default="fast", help=describe_presets())
    c.add_argument("--method", help="ewma, admm, wanda, sparsegpt or magnitude; default: what the preset says")
    c.add_argument("--no-compensate", action="store_true", help="leave the weights that stay as they are (ewma)")
    c.add_argument("--no-permute", action="store_true", help="N:M: leave the channels in their order")
    c.add_argument("--fp8", default="none", help="e4m3, e5m2 or none (default)")
    c.add_argument("--granularity", default="row", help="one FP8 scale for each tensor, row (default) or block")
    c.add_argument(
        "--calibration-tokens",
        default="auto",
        metavar="N",
        help="default auto: ewma until masks hold still, at most 2048; admm 32768, wanda and sparsegpt 8192",
    )
    c.add_argument(
        "--calibration-text",
        action="append",
        metavar="TEXT",
        help=f"{_TEXT}; give it again to mix in another; default with recovery: wikipedia and press",
    )
    c.add_argument("--allocate", action="store_true", help="prune more in layers that the loss feels less; says why")
    c.add_argument("--recover", action="store_true", help="train what is left to speak as the dense model does")
    c.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="recover for so long; default: until minute 19, at least 5; less where less than half is pruned",
    )
    c.add_argument("--steps", type=int, metavar="N", help="recover for so many steps: repeatable on one CPU")
    c.add_argument("--seed", type=int, default=0, help="which calibration text, and its order; default 0")
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
    g.add_argument("model", metavar="MODEL", help="embedded, a local folder, or a Hugging Face name")
    g.add_argument("prompt", metavar="PROMPT")
    g.add_argument("--tokens", type=int, default=40, help="how many to add; default 40")
    model_options(g)

    b = add("bench", run_bench, "Time the method against its rivals.")
    about = (
        "selection alone, calibration to cast, what each method keeps of the model, what removing neurons gains on "
        "this CPU, or a GPU's pass and layers"
    )
    b.add_argument("what", choices=("select", "pipeline", "quality", "neurons", "gpu"), help=about)
    b.add_argument("--only", action="append", default=[], metavar="NAME", help="quality: a method or a pattern")
    b.add_argument("--seed", action="append", type=int, default=[], help="quality: default 0; repeat it for more")
    b.add_argument("--share", metavar="S", help="neurons: share of them to remove; default 0.3")
    b.add_argument("--model", metavar="MODEL", help=f"{_MODEL}; gpu takes none")
    b.add_argument("--json", metavar="FILE", help="write the figures there")

    d = add("demo", run_demo, "Compress the embedded model twice, judge it, write report.json and a figure.")
    d.add_argument("--out", default="out", metavar="DIR", help="default out")

    add("info", run_info, "Versions, threads, model and cache.")

    from .predict import add_commands

    add_commands(commands)
    return parser


_MODEL = "embedded (default), a local folder, or a Hugging Face name"
_TEXT = "wikipedia (default), news, press, speeches, wikitext (WikiText-2, needs a network), or a UTF-8 file"
