"""Figures of the notebooks, one module for each: every function returns a matplotlib Figure."""

from ...system.lazy import make_lazy

make_lazy(__name__)
