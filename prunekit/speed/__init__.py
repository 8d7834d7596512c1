"""How fast layers run on a GPU or a CPU: measured, published or predicted, and labelled as one of the three."""
