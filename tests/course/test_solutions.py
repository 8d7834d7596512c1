"""Every exercise accepts its solution and others that are right, and catches known mistakes."""

from importlib import import_module

import pytest
import torch
from reading import NAMES, answers, stubs

from prunekit.course.exercises import grade
from prunekit.course.grading.trial import TOPICS, explains, find

STUBS = [stub for name in NAMES for stub in stubs(name)]
each_stub = pytest.mark.parametrize("stub", STUBS, ids=[stub.identifier for stub in STUBS])
ANSWERS = {topic: module for topic in TOPICS if (module := answers(topic)) is not None}


def _cases(kind):
    return [
        pytest.param(identifier, function, id=f"{identifier}-{function.__name__}-{number}")
        for module in ANSWERS.values()
        for identifier, functions in getattr(module, kind, {}).items()
        for number, function in enumerate(functions)
    ]


@each_stub
def test_the_stub_counts_as_not_attempted(stub):
    assert grade(stub.identifier, stub.define(solved=False)).state == "not attempted"


@each_stub
def test_the_solution_passes(stub):
    result = grade(stub.identifier, stub.define(solved=True))
    assert result.passed, result.message


@pytest.mark.parametrize("identifier, function", _cases("RIGHT"))
def test_right_solutions_written_differently_pass(identifier, function):
    result = grade(identifier, function)
    assert result.passed, result.message


@pytest.mark.parametrize("identifier, function", _cases("WRONG"))
def test_known_mistakes_are_caught_with_an_example_and_a_hint(identifier, function):
    result = grade(identifier, function)
    assert result.state == "wrong", result.message
    assert find(identifier).names[0] in result.message
    assert "Hint" in result.message or "raised" in result.message
    assert len(result.message.splitlines()) < 60


@each_stub
def test_two_or_more_mistakes_and_another_right_solution_are_known(stub):
    module = ANSWERS.get(TOPICS[int(stub.identifier[0])])
    assert module is not None
    assert len(module.WRONG[stub.identifier]) >= 2
    assert len(module.RIGHT[stub.identifier]) >= 1


@pytest.mark.parametrize("name", NAMES)
def test_every_check_belongs_to_an_exercise_of_the_notebook(name):
    topic = TOPICS[int(name[:2])] if int(name[:2]) < len(TOPICS) else None
    if topic is None:
        pytest.skip("a notebook after the course")
    module = import_module(f"prunekit.course.checks.{topic}")
    assert set(module.EXERCISES) == {stub.identifier for stub in stubs(name)}


@pytest.mark.parametrize("topic", TOPICS)
def test_mistakes_that_are_named_belong_to_exercises_and_explain_no_solution(topic):
    exercises = import_module(f"prunekit.course.checks.{topic}").EXERCISES
    mistakes = import_module(f"prunekit.course.mistakes.{topic}").MISTAKES
    assert set(mistakes) <= set(exercises)
    for identifier, known in mistakes.items():
        exercise = exercises[identifier]
        inputs = [tuple(args) for args in exercise.corners()]
        inputs += [exercise.inputs(4, torch.Generator().manual_seed(seed)) for seed in range(exercise.tries)]
        answers = [(args, exercise.reference(*args)) for args in inputs]
        for mistake in known:
            assert not all(explains(mistake, *answer) for answer in answers), mistake.hint
