"""The command line: one module for each command, `parser` for all options, `main` to run them."""
