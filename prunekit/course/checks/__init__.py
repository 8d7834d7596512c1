"""What the exercises of each notebook ask for: ``EXERCISES`` in one module for each notebook."""
