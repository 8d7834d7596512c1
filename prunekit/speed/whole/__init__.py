"""Whole models on a card: what of a kernel's gain is left in tokens per second."""
