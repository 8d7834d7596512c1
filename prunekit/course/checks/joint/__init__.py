"""The exercises of notebook 04, each with its inputs and its check."""
