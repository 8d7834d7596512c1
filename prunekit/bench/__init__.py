"""Benchmarks behind `prunekit bench`, the timer that they share, and the figures measured so far."""
