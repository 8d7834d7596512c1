"""The one exception that prunekit raises for bad input."""


class PrunekitError(ValueError):
    """Bad input: the message says in one sentence what was wrong, what was expected and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """
