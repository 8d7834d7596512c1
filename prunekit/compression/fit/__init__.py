"""What compressing a model will take on this machine: memory, disk and time, predicted before anything runs."""
