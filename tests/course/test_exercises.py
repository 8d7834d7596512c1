"""The engine of the exercises: what learners read when they are right, wrong, early or unlucky."""

import contextlib
import random
import signal
import sys
import threading
import warnings
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from prunekit import PrunekitError
from prunekit.course import check, exercises
from prunekit.course.checks.exercise import Exercise
from prunekit.course.exercises import grade
from prunekit.course.grading import trial
from prunekit.course.mistakes.mistake import gives
from prunekit.course.mistakes.start import MISTAKES
from prunekit.course.printing import clone, numbers, same, text


def _inputs(size, rng):
    return torch.randint(-3, 4, (size, size + 1), generator=rng).float(), torch.ones(size + 1), 0.5


def _verify(args, out):
    weights, energy, _ = args
    answer = numbers(out)
    if answer is None or answer.shape != weights.shape:
        return "the answer has one value for each weight"
    return None if torch.allclose(answer, (weights**2 * energy).double()) else "square the weights"


@pytest.fixture(autouse=True)
def module(monkeypatch):
    """An exercise 0.1: squares times energies."""
    fake = ModuleType("prunekit.course.checks.start")
    fake.EXERCISES = {"0.1": Exercise(_inputs, _verify, ("W", "E", "s"), lambda W, E, s: W**2 * E)}
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    return fake


def test_right_answers_pass_however_they_are_written():
    def loops(W, E, s):
        return [[float(w) ** 2 * float(e) for w, e in zip(row, E)] for row in W]

    for function in (lambda W, E, s: W * W * E, loops, lambda W, E, s: W.numpy().astype(np.float64) ** 2):
        assert grade("0.1", function).passed


def test_an_unattempted_stub_says_so():
    def raises(W, E, s):
        raise NotImplementedError

    for function in (lambda W, E, s: None, lambda W, E, s: ..., raises):
        result = grade("0.1", function)
        assert result.state == "not attempted"
        assert "not attempted yet" in result.message


def test_what_torch_cannot_do_is_no_missing_answer():
    result = grade("0.1", lambda W, E, s: W & E)  # torch raises NotImplementedError
    assert result.state == "wrong" and "not implemented for" in result.message


def test_what_was_printed_is_shown_with_whatever_went_wrong():
    def nothing(W, E, s):
        print("here I am")

    def fails(W, E, s):
        print("here I am")
        return W.none

    for function, state in ((nothing, "not attempted"), (fails, "wrong")):
        result = grade("0.1", function)
        assert result.state == state and "it printed: here I am" in result.message


def test_a_wrong_answer_gets_its_smallest_example_and_the_hint():
    result = grade("0.1", lambda W, E, s: W * E)
    assert result.state == "wrong"
    assert "Hint: square the weights" in result.message
    assert "your answer" in result.message and "expected" in result.message
    rows = next(line for line in result.message.splitlines() if "W = " in line)
    assert rows.count("[") == 1  # one row: the smallest size


def test_only_larger_sizes_may_show_the_mistake():
    result = grade("0.1", lambda W, E, s: W**2 * E if len(W) < 3 else W)
    assert result.state == "wrong"
    assert len([line for line in result.message.split("E =")[0].splitlines() if "[" in line]) == 3


def test_errors_of_the_learner_are_one_sentence_with_the_input():
    def broken(W, E, s):
        raise ValueError("no\nsuch thing")

    message = grade("0.1", broken).message
    assert "ValueError: no such thing" in message and "W = " in message
    assert 'in the line `raise ValueError("no' in message
    nowhere = {}
    exec("def broken(W, E, s):\n    return 1 / 0", nowhere)  # whose source is not known
    message = grade("0.1", nowhere["broken"]).message
    assert "ZeroDivisionError" in message and "in the line" not in message


def test_changing_an_argument_in_place_is_noticed():
    def greedy(W, E, s):
        W.pow_(2)
        return W * E

    assert "changes its argument W in place" in grade("0.1", greedy).message


def test_a_return_that_is_missing_for_some_inputs_is_wrong():
    assert "return missing" in grade("0.1", lambda W, E, s: W**2 if len(W) < 2 else None).message


def test_answers_of_a_strange_kind_are_wrong():
    for answer in ("x", object(), {}, torch.ones(0)):
        assert grade("0.1", lambda W, E, s, answer=answer: answer).state == "wrong"


def test_what_the_function_prints_shows_only_with_a_mistake(capsys):
    def chatty(W, E, s):
        print("looking at", tuple(W.shape))
        return W * E

    check("0.1", chatty)
    assert capsys.readouterr().out.count("looking at") == 1


def test_the_same_answer_gets_the_same_message_again():
    torch.manual_seed(5)
    first = grade("0.1", lambda W, E, s: W * E).message
    torch.rand(3)
    assert grade("0.1", lambda W, E, s: W * E).message == first


def test_a_known_mistake_is_named_only_if_it_explains_every_answer(monkeypatch):
    known = (gives("weights are squared, energies too", lambda W, E, s: W**2 * E**2 * 3),)
    monkeypatch.setitem(MISTAKES, "0.1", known)
    assert "energies too" in grade("0.1", lambda W, E, s: W**2 * 3).message  # energies are 1 here
    message = grade("0.1", lambda W, E, s: W**2 * 3 if len(W) < 4 else W).message
    assert "energies too" not in message and "square the weights" in message
    monkeypatch.setitem(MISTAKES, "0.1", known * 2)  # of two that explain it none is named
    assert "square the weights" in grade("0.1", lambda W, E, s: W**2 * 3).message


def test_the_example_is_the_one_with_the_smallest_arguments(module, monkeypatch):
    corners = [(torch.full((1, columns), 2.0), torch.ones(columns), 0.5) for columns in (5, 1, 3)]
    monkeypatch.setattr(trial, "SIZES", (2,))
    monkeypatch.setitem(module.EXERCISES, "0.1", replace(module.EXERCISES["0.1"], corners=lambda: corners))
    assert "W = [2]\n" in grade("0.1", lambda W, E, s: W).message
    assert "W = [2  2  2]\n" in grade("0.1", lambda W, E, s: W if W.shape[1] > 2 else W**2).message


def _ended(before):
    """Wait for the threads that were not there before."""
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


def test_an_answer_that_never_ends_is_left(monkeypatch):
    def endless(W, E, s):
        while True:
            pass

    def stubborn(W, E, s):
        while True:
            with contextlib.suppress(BaseException):  # what is raised to end it, too
                print("x" * 99)

    def waits(W, E, s):
        threading.Event().wait()

    monkeypatch.setattr(exercises, "SECONDS", 0.2)
    out, before = sys.stdout, set(threading.enumerate())
    for function in (endless, stubborn, waits):
        result = grade("0.1", function)
        assert result.state == "wrong" and "never end" in result.message and "W = " in result.message
        assert sys.stdout is out
        if function is not waits:
            _ended(before)


def test_the_users_own_interrupt_passes_through():
    def busy(W, E, s):
        signal.raise_signal(signal.SIGINT)  # arrives in the main thread, wherever it is raised
        while True:
            pass

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        grade("0.1", busy)
    _ended(before)


def test_exits_and_what_cannot_be_shown_are_mistakes_like_others():
    class Silent(Exception):
        def __str__(self):
            raise ValueError

    class Hidden:
        __repr__ = __array__ = __float__ = lambda self, *_: sys.exit()

    def raising(error):
        def function(W, E, s):
            raise error

        return function

    for error in (SystemExit(1), KeyboardInterrupt(), Silent()):
        result = grade("0.1", raising(error))
        assert result.state == "wrong" and f"raised {type(error).__name__}" in result.message
    ended = []
    names = {"exit": lambda: ended.append(0)}  # as a notebook has it: it ends the kernel, and raises nothing
    exec("def leaves(W, E, s): exit()", names)
    result = grade("0.1", names["leaves"])
    assert not ended and "raised SystemExit" in result.message and names["exit"] is not sys.exit
    for answer in (Hidden(), [Hidden()], {"W": Hidden()}):
        result = grade("0.1", lambda W, E, s, answer=answer: answer)
        assert result.state == "wrong" and "your answer" in result.message


def test_what_is_long_is_shown_short():
    def chatty(W, E, s):
        print("a" * 200_000)
        return "b" * 200_000

    def raises(W, E, s):
        raise ValueError("c" * 200_000)

    assert len(grade("0.1", chatty).message) < 1500
    assert len(grade("0.1", raises).message) < 1500


def test_defaults_that_an_answer_changes_are_as_they_were():
    def states():
        printing = torch._tensor_str.get_printoptions(), np.get_printoptions(), warnings.filters[:]
        numpy_state = np.random.get_state()[1].tolist(), np.geterr()
        numbers = torch.get_rng_state().tolist(), random.getstate(), *numpy_state
        return *printing, *numbers, torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()

    def careless(W, E, s):
        assert torch.zeros(1).dtype == torch.float32 and torch.zeros(1).device.type == "cpu"
        assert torch.is_grad_enabled() and np.geterr()["over"] == "warn"
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.set_printoptions(precision=1)
        np.set_printoptions(precision=1)
        np.seterr(all="raise")
        warnings.simplefilter("error")
        for seed in (torch.manual_seed, random.seed, np.random.seed):
            seed(1)
        return W**2 * E

    before = states()
    result = grade("0.1", careless)
    assert result.passed, result.message
    assert states() == before


def test_defaults_of_the_notebook_do_not_matter():
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        with np.errstate(all="raise"), torch.inference_mode():
            assert grade("0.1", lambda W, E, s: W**2 * E + torch.zeros(1)).passed
        assert torch.get_default_dtype() == torch.float64 and torch.zeros(1).is_meta
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_a_tensor_that_lies_is_not_believed():
    class Liar(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return torch.ones((), dtype=torch.bool)  # yes to everything

        def detach(self):
            return torch.zeros(1)

    assert grade("0.1", lambda W, E, s: (W**2 * E).as_subclass(Liar)).passed
    assert not grade("0.1", lambda W, E, s: W.as_subclass(Liar)).passed


def test_how_to_copy_depends_on_what_was_changed(module, monkeypatch):
    def changes(value):
        (value[0] if isinstance(value, list) else value)["x" if isinstance(value, dict) else 0] = 9
        return 1

    for value, way in (([[1], [2]], "copy.deepcopy(v)"), ({"x": 1}, "v.copy()"), (torch.ones(2), "v.clone()")):
        exercise = Exercise(lambda size, rng, value=value: (value,), lambda args, out: None, ("v",), lambda v: 1)
        monkeypatch.setitem(module.EXERCISES, "0.1", exercise)
        assert way in grade("0.1", changes).message


def test_check_never_raises(capsys):
    for identifier, function in (("0.9", len), ("x", len), ("9.1", len), ("0.1", 3), ("0.1", len)):
        check(identifier, function)
    assert len(capsys.readouterr().out.splitlines()) >= 5
    with pytest.raises(PrunekitError, match="no exercise"):
        trial.find("0.9")


def test_matrices_print_small_and_aligned():
    assert text(torch.tensor([[1.0, -20.5], [300.0, 4.0]])) == "[  1  -20.5]\n[300      4]"
    assert text(torch.tensor([True, False])) == "[1  0] (bool)"
    assert "..." in text(torch.zeros(20, 20)) and len(text(torch.zeros(20, 20)).splitlines()) == 9
    assert text(torch.tensor(0.5)) == "0.5"
    assert text(torch.zeros(0, 3)) == "empty, shape (0, 3)"
    assert text(torch.ones(2).to(torch.float8_e4m3fn)) == "[1  1]"


def test_copies_are_equal_and_share_nothing():
    value = (torch.tensor([1.0, float("nan")]), [np.arange(3)], {"a": 1}, "s", None)
    copy = clone(value)
    assert same(copy, value)
    copy[0][0] = 2
    assert not same(copy, value)
    assert not same(torch.ones(2), torch.ones(2).double())
    model = torch.nn.Linear(2, 2)
    other = clone(model)
    assert same(model, other)
    other.weight.data += 1
    assert not same(model, other)


def test_numbers_reads_many_kinds():
    for value in ([[1, 0]], np.array([[True, False]]), [torch.tensor([1.0, 0.0])], torch.tensor([[1, 0]])):
        assert torch.equal(numbers(value), torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    for value in ("x", None, object(), [[1], [1, 2]], ["1"], [None], 1j, torch.ones(1) * 1j):
        assert numbers(value) is None
