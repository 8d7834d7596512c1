"""Compress a model block by block, with only one block of it in memory."""
