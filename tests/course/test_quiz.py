"""The quiz at the end of a notebook, exercises that ask for an interpretation, and sentences held to numbers."""

import re

import pytest
from reading import NAMES, source

from prunekit.course.quiz import question, readings, sentences
from prunekit.course.quiz.question import Question, quiz, topic
from prunekit.course.quiz.readings import Claims, Number, Order, interpret
from prunekit.course.quiz.sentences import holds
from prunekit.errors import PrunekitError

NUMBERS = [name[:2] for name in NAMES]
TWO = [
    Question("What is `1 < 2`?", {"true": "one is less", "false": "it is the other way"}, "true"),
    Question("Which?", {"a": "not a", "b": "b it is", "c": "nor c"}, "b"),
]


@pytest.fixture
def topic_of(monkeypatch):
    """Set what a notebook's module holds."""

    def set_to(**names):
        module = type("topic", (), names)
        for user in (question, readings, sentences):
            monkeypatch.setattr(user, "topic", lambda _: module)

    return set_to


def test_a_quiz_is_readable_without_a_kernel(topic_of, monkeypatch):
    shown = []
    monkeypatch.setattr(question, "display_bundle", shown.append)
    topic_of(QUIZ=TWO)
    quiz("01")
    page, plain = shown[0]["text/html"], shown[0]["text/plain"]
    assert page.count("<details>") == page.count("</details>") == 2 and "<code>1 &lt; 2</code>" in page
    for each in TWO:
        for choice, said in each.choices.items():
            assert f"( ) {choice}" in plain and said not in plain  # answers are not given away
            folded = re.findall("<details>.*?</details>", page)
            assert any(said in part for part in folded) and said not in re.sub("<details>.*?</details>", "", page)


def test_a_choice_is_answered_at_once(topic_of, monkeypatch):
    from prunekit.course.widgets import live

    boxes = []
    monkeypatch.setattr(live, "view_of", lambda box: boxes.append(box) or {})
    monkeypatch.setattr(question, "display_bundle", lambda _: None)
    topic_of(QUIZ=TWO)
    quiz("01")
    _, buttons, answer = boxes[0].children[1].children
    assert buttons.value is None and answer.value == ""
    buttons.value = "a"
    assert "No: not a" in answer.value
    buttons.value = "b"
    assert "Right: b it is" in answer.value


@pytest.mark.parametrize("number", ["8", "09", "x", "1"])
def test_an_unknown_notebook(number):
    with pytest.raises(PrunekitError, match="there is no notebook"):
        quiz(number)


CLAIMS = Claims("ac", {"a": "since a", "b": "b goes too far", "c": "since c"})
ORDER = Order("bca", ("b is least", "a is most"))
NUMBER = Number(4.0, 0.05, "half of 8", {8: "that is the whole, and half was asked for"})


@pytest.mark.parametrize(
    ("reading", "answer", "said"),
    [
        (CLAIMS, "ac", []),
        (CLAIMS, ["c", "a"], []),
        (CLAIMS, " C, a ", []),
        (CLAIMS, "ab", ["b does not follow: b goes too far", "c follows: since c"]),
        (CLAIMS, "c", ["a follows: since a"]),
        (ORDER, "bca", []),
        (ORDER, "b, c, a", []),
        (ORDER, "cba", ["b comes before c: b is least"]),
        (ORDER, "acb", ["b comes before c: b is least", "c comes before a: a is most"]),
        (NUMBER, 4, []),
        (NUMBER, 4.1, []),
        (NUMBER, 8.0, ["that is the whole, and half was asked for"]),
        (NUMBER, 5, ["it is not 5: half of 8"]),
    ],
)
def test_each_mistake_gets_its_own_reason(topic_of, capsys, reading, answer, said):
    assert reading.wrong(answer) == said
    topic_of(READINGS={"1.5": reading})
    interpret("1.5", answer)
    out = capsys.readouterr().out
    assert ("correct" in out) == (not said) and all(f"- {sentence}" in out for sentence in said)


@pytest.mark.parametrize("answer", [None, "", ...])
def test_what_nobody_attempted_says_so(topic_of, capsys, answer):
    topic_of(READINGS={"1.5": CLAIMS})
    interpret("1.5", answer)
    assert capsys.readouterr().out == "Exercise 1.5: not attempted yet.\n"


@pytest.mark.parametrize(
    ("reading", "answer"),
    [
        (CLAIMS, "ax"),
        (CLAIMS, "aa"),
        (CLAIMS, 3),
        (CLAIMS, []),
        (CLAIMS, True),
        (ORDER, "bc"),
        (ORDER, "bcaa"),
        (NUMBER, "4"),
        (NUMBER, True),
        (NUMBER, [4]),
    ],
)
def test_an_answer_of_another_kind_says_what_is_expected(topic_of, capsys, reading, answer):
    topic_of(READINGS={"1.5": reading})
    interpret("1.5", answer)
    out = capsys.readouterr().out
    assert re.match(r"Exercise 1\.5: (the answer is|name each of)", out) and out.count("\n") == 1


def test_sentences_are_compared_with_the_numbers_of_the_run(topic_of, capsys):
    topic_of(SENTENCES={"x is small": lambda n: n.x < 2, "y is large": lambda n: n.y > 2})
    holds("01", {"x": 1, "y": 3})
    assert capsys.readouterr().out == "2 sentences of this notebook were compared with its numbers: all hold.\n"
    holds("01", {"x": 5})
    out = capsys.readouterr().out
    assert "does not hold in this run: x is small" in out and "(y): y is large" in out and "all hold" not in out


@pytest.mark.parametrize("number", NUMBERS)
def test_questions_have_one_right_choice_and_a_reason_for_each_wrong_one(number):
    for each in topic(number).QUIZ:
        assert len(each.choices) >= 3 and each.right in each.choices, each.text
        assert all(len(said.split()) >= 3 for said in each.choices.values()), each.text
    places = [list(each.choices).index(each.right) for each in topic(number).QUIZ]
    assert not places or (len(places) == 5 and len(set(places)) >= 3)  # the place does not give it away


@pytest.mark.parametrize("name", NAMES)
def test_readings_stand_in_the_notebook_and_in_its_module(name):
    code = "\n".join(cell.source for cell in source(name).cells if cell.cell_type == "code")
    module = topic(name[:2])
    assert re.findall(r"course\.interpret\(\s*\"([\d.]+)\"", code) == list(module.READINGS)
    for identifier, reading in module.READINGS.items():
        assert identifier.startswith(f"{int(name[:2])}.")
        if isinstance(reading, Claims):
            assert set(reading.follow) < set(reading.reasons) and reading.follow
        if isinstance(reading, Order):
            assert len(reading.reasons) == len(reading.right) - 1
    assert bool(module.QUIZ) == (f'course.quiz("{name[:2]}")' in code)
    assert bool(module.SENTENCES) == (f'course.holds("{name[:2]}", globals())' in code)
