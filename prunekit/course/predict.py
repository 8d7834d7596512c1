"""Predict before you run: a question with choices before a cell, and what came out after it."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PrunekitError
from .style import display_bundle


@dataclass
class Prediction:
    """A question that was put, and what the learner chose, if anything."""

    question: str
    choices: tuple[str, ...]
    chosen: str | None = None

    def choose(self, choice: str | None) -> None:
        """Note the learner's choice; ``None`` takes it back.

        Raises:
            PrunekitError: it is none of the choices.
        """
        if choice is not None and choice not in self.choices:
            raise PrunekitError(f"{choice!r} is none of the choices: {', '.join(self.choices)}.")
        self.chosen = choice


_ASKED: dict[str, Prediction] = {}


def predict(key: str, question: str, choices: Sequence[str]) -> None:
    """Show a question and its choices, as buttons where a kernel runs; `reveal` answers it.

    Args:
        key: a name for the question, the same that `reveal` gets.
        question: what to predict.
        choices: two or more different answers to choose from.

    Raises:
        PrunekitError: fewer than two choices, or two alike.
    """
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise PrunekitError(f"prediction {key!r} needs two or more different choices.")
    asked = Prediction(question, tuple(choices))
    before = _ASKED.get(key)
    if before is not None and (before.question, before.choices) == (asked.question, asked.choices):
        asked = before  # the cell runs again: the choice stays
    _ASKED[key] = asked
    lines = [f"Predict before you run: {question}", *(f"  ( ) {choice}" for choice in choices)]
    items = "".join(f"<li>{html.escape(choice)}</li>" for choice in choices)
    title = f"<b>Predict before you run:</b> {html.escape(question)}"
    content = {"text/plain": "\n".join(lines), "text/html": f"<p>{title}</p><ul>{items}</ul>"}
    display_bundle(content | _buttons(asked, title))


def reveal(key: str, answer: str, text: str) -> None:
    """Show what came out beside what was predicted.

    Args:
        key: the name that `predict` got; it is fine if that cell was not run.
        answer: the right choice, word for word.
        text: what was measured, in a sentence.

    Raises:
        PrunekitError: the answer is none of the choices.
    """
    asked = _ASKED.get(key)
    if asked is not None and answer not in asked.choices:
        raise PrunekitError(f"{answer!r} is none of the choices of {key!r}: {', '.join(asked.choices)}.")
    if asked is None or asked.chosen is None:
        verdict = "No prediction was made."
    elif asked.chosen == answer:
        verdict = "As you predicted."
    else:
        verdict = f"You predicted: {asked.chosen}."
    plain = f"Answer: {answer}. {text}\n{verdict}"
    page = f"<p><b>Answer: {html.escape(answer)}.</b> {html.escape(text)}<br><i>{html.escape(verdict)}</i></p>"
    display_bundle({"text/plain": plain, "text/html": page})


def _buttons(asked: Prediction, title: str) -> dict:
    """The view of radio buttons that note the choice."""
    import ipywidgets

    from .widgets.live import view_of

    buttons = ipywidgets.RadioButtons(options=asked.choices, value=asked.chosen, layout={"width": "max-content"})
    buttons.observe(lambda change: asked.choose(change["new"]), names="value")
    return view_of(ipywidgets.VBox([ipywidgets.HTML(title), buttons]))
