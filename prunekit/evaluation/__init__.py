"""Judge a model: perplexity, top-1 accuracy, retention, its answers token by token, its voice."""
