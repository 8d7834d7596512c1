"""A model of which only one decoder block is in memory at a time."""
