"""From a folder to a folder, block by block: a model that does not fit in memory."""
