"""The field's tasks, through EleutherAI's lm-eval, and one made from the embedded articles."""
