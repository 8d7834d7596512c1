"""Runs what a learner wrote: in a thread that can be left, and in a state that it cannot leave changed."""

import contextlib
import ctypes
import io
import random
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .printing import shorten

MOST = 2000  # characters of what was printed that are remembered


class OutOfTime(Exception):
    """What was run did not end in time."""


class _Stop(BaseException):
    """Raised in a thread whose time is over; no exception that a learner would catch by name."""


class _Tail(io.TextIOBase):
    """A file that remembers the end of what was written to it."""

    end = ""

    def write(self, text: str) -> int:
        self.end = (self.end + text[-MOST:])[-MOST:]
        return len(text)


@dataclass(frozen=True)
class Call:
    """What came of a call: what was returned, or raised, and the end of what was printed."""

    out: Any = None
    error: BaseException | None = None
    printed: str = ""


@contextlib.contextmanager
def known_state() -> Iterator[None]:
    """Defaults as in a fresh process, and afterwards everything as it was before.

    That is torch's default dtype and print options, warnings, and all random numbers. What belongs to a thread is not
    there: gradients, torch's default device, what numpy does about overflow.
    """
    dtype, state, numpy_state = torch.get_default_dtype(), random.getstate(), np.random.get_state()
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch._tensor_str.printoptions(),
            torch.random.fork_rng(devices=[]),
            np.printoptions(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(dtype)
        random.setstate(state)
        np.random.set_state(numpy_state)


@contextlib.contextmanager
def _plain_exit(function: Callable) -> Iterator[None]:
    """A notebook's own ``exit`` and ``quit`` end the kernel and raise nothing; meanwhile they raise as elsewhere."""
    names = getattr(function, "__globals__", {})
    own = {name: names[name] for name in ("exit", "quit") if name in names}
    names.update(dict.fromkeys(own, sys.exit))
    try:
        yield
    finally:
        names.update(own)


def call(function: Callable, args: tuple) -> Call:
    """Call a learner's function, in a thread of `within`; what it may change for the next call is set right.

    Args:
        function: whatever it raises is caught, ``exit()`` included.
        args: its arguments, not copied.
    """
    printed = _Tail()
    try:
        with contextlib.redirect_stdout(printed), _plain_exit(function):
            out = function(*args)
        return Call(out, None, printed.end)
    except _Stop:
        raise
    except BaseException as error:
        return Call(None, error, printed.end)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_grad_enabled(True)
        np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")


def where(error: BaseException, function: Callable) -> str:
    """The line of a learner's function in which an error arose, in brackets, where its source is known."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (in the line `{shorten(lines[-1], 120)}`)" if lines and lines[-1] else ""


def within(seconds: float, work: Callable[[], None]) -> None:
    """Run `work` in a thread, and leave it if it takes too long.

    A thread can be left even if it waits, or catches whatever is raised; and what is raised in it is never mistaken
    for the user's own interrupt, which arrives here and passes through.

    Args:
        seconds: how long it may take.
        work: what is done.

    Raises:
        OutOfTime: it did not end in time.
        Exception: what `work` raises.
    """
    errors: list[BaseException] = [OutOfTime()]
    running = threading.Lock()  # held until the thread ends
    running.acquire()

    def body() -> None:
        try:
            work()
            errors.clear()
        except _Stop:
            pass
        except BaseException as error:
            errors[:] = [error]
        finally:
            running.release()

    thread = threading.Thread(target=body, daemon=True)
    end = time.monotonic() + seconds
    with known_state(), contextlib.redirect_stdout(sys.stdout):  # for a thread that is left before it could tidy up
        over = False
        try:
            thread.start()
            while not over and time.monotonic() < end:  # in short steps, since an interrupt may wait for their end
                over = running.acquire(timeout=0.05)
        finally:
            for _ in range(0 if over else 1000):  # one that waits, or catches everything, is left to itself in the end
                stop = ctypes.pythonapi.PyThreadState_SetAsyncExc
                stop(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stop))
                if running.acquire(timeout=0.001):
                    break
    if errors:
        raise errors[0]
