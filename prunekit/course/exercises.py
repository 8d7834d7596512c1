"""Exercises in a notebook: a learner's function is tried on many small inputs, in the notebook's own process."""

from collections.abc import Callable

from ..errors import PrunekitError
from .grading.trial import Came, Result, Trial, find, groups
from .printing import clone
from .sandbox import OutOfTime, call, where, within

SECONDS = 10.0  # for all inputs together, which take a right solution a fraction of one


def grade(identifier: str, function: Callable) -> Result:
    """Try a solution on the exercise's inputs; the same inputs every time.

    Args:
        identifier: the exercise's id, such as "1.2".
        function: the learner's function. It gets copies of the arguments, and whatever it raises is reported; one that
            does not end is left. Defaults of torch and numpy are what they are in a fresh process while it runs, and
            are afterwards what they were.

    Returns:
        How the solution did, and what the learner reads.

    Raises:
        PrunekitError: there is no such exercise.
    """
    find(identifier)
    if not callable(function):
        kind = type(function).__name__
        return Result("wrong", f"Exercise {identifier}: not right yet. The check needs a function, not {kind}.")

    def ask(args: tuple) -> Came:
        given = clone(args)
        came = call(function, given)
        return Came(came, given, "" if came.error is None else where(came.error, function))

    trial = Trial(identifier, ask, groups(identifier))
    try:
        within(SECONDS, trial.run)
    except OutOfTime:
        trial.stop(f"Hint: the function was still at work after {SECONDS:g} seconds. Does a loop never end?")
    return trial.result


def check(identifier: str, function: Callable) -> None:
    """Grade an exercise and print the result: correct, not attempted yet, or a counterexample with a hint.

    It never raises.

    Args:
        identifier: the exercise's id; this and the next as in `grade`.
        function: the learner's function.
    """
    try:
        message = grade(identifier, function).message
    except PrunekitError as error:
        message = f"Exercise {identifier}: {error}"
    print(message)
