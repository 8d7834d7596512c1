"""The one exception that prunekit raises for bad input, and what is quoted of others."""

import re


class PrunekitError(ValueError):
    """Bad input: the message says in one sentence what was wrong, what was expected and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


def check_count(value: str | int, name: str) -> int:
    """Return `value` as a whole number.

    Raises:
        PrunekitError: it is none, or below 1.
    """
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        count = 0
    if count < 1 or not (isinstance(value, str) or count == value):
        raise PrunekitError(f"{name} is {value!r}: expected a whole number of 1 or more.")
    return count


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was too small, in Python's words, torch's or CUDA's."""
    said = re.search("out of memory|can't allocate memory|ALLOC_FAILED", str(error))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said is not None)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, with the next if it only announces that, or its class where it has none."""
    line, *more = str(error).strip().splitlines() or [type(error).__name__]
    return f"{line} {more[0].strip()}" if more and line.endswith(":") else line
