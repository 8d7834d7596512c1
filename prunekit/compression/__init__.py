"""Compress a model: the whole of it, one layer, or block by block; and the recipe that says how."""
