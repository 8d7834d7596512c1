"""Quiz, readings and sentences of notebook 00."""

from ..question import Question

QUIZ: list[Question] = []

READINGS: dict = {}

SENTENCES: dict = {}
