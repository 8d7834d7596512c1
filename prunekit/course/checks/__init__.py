"""What the exercises of each notebook ask for: ``EXERCISES`` in one module for each notebook."""

from ...lazy import make_lazy

make_lazy(__name__)
