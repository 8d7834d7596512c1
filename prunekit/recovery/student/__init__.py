"""What is trained: layers that keep their zeros, and norms."""
