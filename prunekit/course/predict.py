"""Predict before you run: a question with choices before a cell, and what came out after it."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PrunekitError
from .style import display_bundle

KEPT = "prunekit"  # where in an output's metadata a choice is kept, so that the notebook tells it later


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
    buttons, view = _buttons(asked)
    shown = display_bundle(_content(asked) | view, _kept(key, asked), display_id=True)

    def chosen(change: dict) -> None:
        asked.choose(change["new"])
        if shown is not None:
            shown.update(_content(asked) | view, metadata=_kept(key, asked), raw=True)

    buttons.observe(chosen, names="value")


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
    display_bundle({"text/plain": plain, "text/html": page}, _kept(key, asked, answer) if asked else {})


def _kept(key: str, asked: Prediction, answer: str = "") -> dict:
    """What an output's metadata tell of a choice, once there is one."""
    told = {"key": key, "question": asked.question, "guess": asked.chosen, "answer": answer}
    return {KEPT: told} if asked.chosen is not None else {}


def _content(asked: Prediction) -> dict:
    """The question and its choices, with the one that was chosen."""
    lines, items = [], []
    for choice in asked.choices:
        chosen, words = choice == asked.chosen, html.escape(choice)
        lines.append(f"  ({'x' if chosen else ' '}) {choice}")
        items.append(f"<li><b>{words}</b>, your prediction</li>" if chosen else f"<li>{words}</li>")
    return {
        "text/plain": "\n".join([f"Predict before you run: {asked.question}", *lines]),
        "text/html": f"<p>{_title(asked)}</p><ul>{''.join(items)}</ul>",
    }


def _title(asked: Prediction) -> str:
    return f"<b>Predict before you run:</b> {html.escape(asked.question)}"


def _buttons(asked: Prediction) -> tuple:
    """Radio buttons, and their view below the question."""
    import ipywidgets

    from .widgets.live import view_of

    buttons = ipywidgets.RadioButtons(options=asked.choices, value=asked.chosen, layout={"width": "max-content"})
    return buttons, view_of(ipywidgets.VBox([ipywidgets.HTML(_title(asked)), buttons]))
