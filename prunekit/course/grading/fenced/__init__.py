"""What was handed in runs here, fenced in, where there are no checks and no solutions."""
