"""Five questions at the end of a notebook: answered by buttons where a kernel runs, folded answers elsewhere.

A module ``topics/TOPIC.py`` defines ``QUIZ``, a list of `Question`.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from importlib import import_module

from ...errors import PrunekitError
from ..style import display_bundle

TOPICS = ("start", "scoring", "masks", "casting", "pipeline", "speed", "own_model", "recovery")


@dataclass(frozen=True)
class Question:
    """A question with one right choice.

    Attributes:
        text: the question; words between backticks are set as code.
        choices: each choice with what is said to whoever takes it: why it is right, or what is wrong with it.
        right: one of the choices.
    """

    text: str
    choices: dict[str, str]
    right: str

    def said(self, choice: str) -> str:
        """The answer to a choice."""
        return f"{'Right' if choice == self.right else 'No'}: {self.choices[choice]}"


def topic(number: str):
    """The module with a notebook's questions.

    Args:
        number: such as "01".

    Raises:
        PrunekitError: there is no such notebook.
    """
    if not re.fullmatch(r"0\d", str(number)) or int(number) >= len(TOPICS):
        raise PrunekitError(f"there is no notebook {number!r}: expected '00' to '0{len(TOPICS) - 1}'.")
    return import_module(f"{__package__}.topics.{TOPICS[int(number)]}")


def quiz(number: str) -> None:
    """Show the questions of a notebook.

    Args:
        number: the notebook's, such as "01".

    Raises:
        PrunekitError: there is no such notebook.
    """
    questions = topic(number).QUIZ
    page = "".join(_page(place, question) for place, question in enumerate(questions, 1))
    plain = "\n\n".join(_plain(place, question) for place, question in enumerate(questions, 1))
    display_bundle({"text/plain": plain, "text/html": page} | _buttons(questions))


def _markup(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _page(place: int, question: Question) -> str:
    choices = "".join(f"<li>{_markup(choice)}</li>" for choice in question.choices)
    said = "".join(f"<li><b>{_markup(choice)}</b> {_markup(question.said(choice))}</li>" for choice in question.choices)
    folded = f"<details><summary>Answer</summary><ul>{said}</ul></details>"
    return f"<p><b>{place}.</b> {_markup(question.text)}</p><ul>{choices}</ul>{folded}"


def _plain(place: int, question: Question) -> str:
    return "\n".join([f"{place}. {question.text}", *(f"  ( ) {choice}" for choice in question.choices)])


def _buttons(questions: list[Question]) -> dict:
    """The view of radio buttons, each question with what is said to the choice below it."""
    import ipywidgets

    from ..widgets.live import view_of

    def row(place: int, question: Question) -> ipywidgets.VBox:
        answer = ipywidgets.HTML()
        buttons = ipywidgets.RadioButtons(options=list(question.choices), value=None, layout={"width": "max-content"})

        def show(change: dict) -> None:
            answer.value = f"<i>{_markup(question.said(change['new']))}</i>"

        buttons.observe(show, names="value")
        return ipywidgets.VBox([ipywidgets.HTML(f"<b>{place}.</b> {_markup(question.text)}"), buttons, answer])

    return view_of(ipywidgets.VBox([row(place, question) for place, question in enumerate(questions, 1)]))
