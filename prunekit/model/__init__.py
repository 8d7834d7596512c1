"""What a model is made of: its linear layers, blocks and MLPs, copies of them, and the modes it runs in."""
