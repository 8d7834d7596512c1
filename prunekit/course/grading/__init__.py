"""Marks: what was handed in is run, fenced off, on hidden inputs, and judged elsewhere."""
