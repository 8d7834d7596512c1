"""Win back what pruning cost: train the weights that are left to speak as the dense model does."""
