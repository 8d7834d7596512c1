"""What goes with a model that is handed on: hashes that show that it is what was written."""
