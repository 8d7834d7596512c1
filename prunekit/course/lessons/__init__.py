"""What the notebooks measure, where that takes more than a cell."""
