"""Questions at the end of each notebook, readings of figures, and sentences that are held to the numbers."""
