"""Run a command: exit codes, signals, and one sentence for whatever goes wrong."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from ..errors import PrunekitError, out_of_memory
from ..system.freed import keep_freed_memory
from .parser import COMMANDS, make_parser

_HOME = {
    "compress": "compress.run",
    "generate": "evaluate",
    "doctor": "info",
    "fit": "compress.fit",
}  # the module of a command, where it has another name

_OF_A_MODEL = re.compile(r".*config\.json|prunekit\.json|.*token.*|vocab\.json|.*\.safetensors.*")  # its files

_LESS_MEMORY = "try --dtype bfloat16 or --device cpu"
_TO_COMPRESS = (
    "expected room for two copies of the model, three to reorder channels, or 24 to 31 bytes a weight to recover: "
    "try --dtype bfloat16, --no-permute, or --device cpu"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends with one sentence on standard error and exit code 2."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if hasattr(sys.stdout, "reconfigure"):
        # Names of files need not be valid UTF-8, and a log shall show how far a long run is.
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    if "LOCAL_RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) < 2:
        return _run(argv, lambda: True)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns in every process of what is as it should be
    from ..system.parallel import processes

    with processes() as tells:  # that torchrun has started
        return _run(argv, tells, ("compress",))


def _run(argv: Sequence[str] | None, tells: Callable[[], bool], known: Container[str] = COMMANDS) -> int:
    """Run a command, and give the exit code.

    Args:
        argv: the command line.
        tells: whether this process, of several, is the one that says what went wrong.
        known: commands that run here.
    """

    def ended(code: int, why: str) -> int:
        if tells():
            print(f"prunekit: {why}", file=sys.stderr)
        return code

    arguments = make_parser().parse_args(argv)
    keep_freed_memory()
    try:
        if arguments.command not in known:
            raise PrunekitError(f"torchrun is for compress: start {arguments.command} without it.")
        _check_empty(arguments)
        arguments.words = list(sys.argv[1:] if argv is None else argv)  # for the model card
        if getattr(arguments, "json", None):
            from ..system.files import check_writable_file

            check_writable_file(Path(arguments.json))
            _check_apart(arguments)
        with _terminated_like_interrupted():
            _run_of(arguments.command)(arguments)
        if sys.stdout:
            sys.stdout.flush()
    except PrunekitError as error:
        return ended(2, str(error))
    except KeyboardInterrupt as stop:
        return ended(130, f"interrupted; {str(stop) or 'nothing unfinished was written'}.")
    except (MemoryError, RuntimeError) as error:
        from ..system.parallel import LOST, lost

        if lost(error):
            return ended(2, LOST)
        if not out_of_memory(error):
            raise
        advice = _LESS_MEMORY if hasattr(arguments, "dtype") else "try a machine with more"
        advice = _TO_COMPRESS if arguments.command == "compress" else advice
        return ended(2, f"out of memory; {advice}.")
    except BrokenPipeError:  # who reads has had enough; what is left must not be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # no permission, or a full disk
        if error.errno is None:
            raise
        return ended(2, f"cannot use {error.filename or 'a file'}: {error.strerror}; give another path.")
    return 0


def _run_of(command: str) -> Callable[[argparse.Namespace], None]:
    """The function that runs a command; its module is imported only now."""
    module = import_module(f"{__package__}.{_HOME.get(command, command)}")
    return getattr(module, f"run_{command}")


def _check_empty(arguments: argparse.Namespace) -> None:
    """Refuse options that are given and empty: a variable of the shell that is not set, mostly."""
    for option, value in vars(arguments).items():
        told = option in ("prompt", "batch", "sparsity", "pattern")  # what they mean then, their commands say
        if not told and "" in (value if isinstance(value, list) else [value]):
            raise PrunekitError(f"--{option.replace('_', '-')} is empty: give it a value, or leave it out.")


def _check_apart(arguments: argparse.Namespace) -> None:
    """Refuse figures in the place of a file that is read, such as a model's config."""
    target = Path(arguments.json).absolute()
    for option in ("model", "dense", "recipe", "text", "calibration_text", "tasks"):
        value = getattr(arguments, option, None) or ()
        for path in (Path(name).absolute() for name in ([value] if isinstance(value, str) else value)):
            if target.exists() and (path == target or (path == target.parent and _OF_A_MODEL.fullmatch(target.name))):
                raise PrunekitError(f"--json {arguments.json} would take the place of what is read: give a new name.")


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
