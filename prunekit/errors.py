"""The one exception that prunekit raises for bad input, and what is quoted of others."""


class PrunekitError(ValueError):
    """Bad input: the message says in one sentence what was wrong, what was expected and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
