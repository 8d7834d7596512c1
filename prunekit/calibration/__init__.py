"""What a model is shown before it is compressed: texts, windows of them, and what is seen of its inputs."""
