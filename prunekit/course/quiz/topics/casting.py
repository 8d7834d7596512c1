"""Quiz, readings and sentences of notebook 03."""

from ..question import Question

QUIZ: list[Question] = []

READINGS: dict = {}

SENTENCES: dict = {}
