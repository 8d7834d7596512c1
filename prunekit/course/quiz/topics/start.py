"""Quiz, readings and sentences of notebook 00."""

from ..question import Question
from ..readings import Claims

QUIZ: list[Question] = [
    Question(
        "Two models of one size have 50 % zeros in every row. One babbles, the other writes sentences. Why?",
        {
            "one has fewer zeros, when counted over the whole model": "50 % in every row is 50 % over all rows.",
            "other weights were chosen to become zero": "the number is the same, the choice is not: a small weight on "
            "a strong input can matter more than a large one on a weak input.",
            "one was trained afterwards": "that helps as well, but neither model of this notebook was trained.",
        },
        "other weights were chosen to become zero",
    ),
    Question(
        "A model gives each token that really comes a probability of 1/8. Its perplexity is",
        {
            "8": "one over the geometric mean of the probabilities, as if it guessed among 8.",
            "1/8": "that is the geometric mean itself; perplexity is one over it, and never below 1.",
            "3": "that is the loss in bits, the logarithm of the perplexity to base 2.",
            "it depends on how many tokens there are": "a mean of equal numbers is that number, however many.",
        },
        "8",
    ),
    Question(
        "A file holds weights of 2 bytes each. Half of them are set to zero, nothing else is done. Now it takes",
        {
            "half of the bytes": "this needs a format that leaves zeros out, and says where they were.",
            "three quarters of the bytes": "that would take a format that packs them.",
            "as many bytes as before": "a zero is a number like any other, and takes 2 bytes.",
        },
        "as many bytes as before",
    ),
    Question(
        "A compressed model has a retention of 0.8. This says",
        {
            "it is right on 80 % of all tokens": "that would be its top-1 accuracy; here even the dense model "
            "is right on fewer than half.",
            "for every 10 tokens that the dense model gets right, it gets 8 right": "a ratio of two counts of hits.",
            "it agrees with the dense model on 80 % of all tokens": "to agree on a wrong choice is no hit.",
            "its perplexity is 1.25 times as large": "retention looks at first choices only; perplexity rose far more.",
        },
        "for every 10 tokens that the dense model gets right, it gets 8 right",
    ),
    Question(
        "What was calibration for, before weights were pruned?",
        {
            "to train the weights that stay": "nothing was trained; the weights that stay kept their values.",
            "to measure perplexity": "that was measured afterwards, on text that calibration never saw.",
            "to see how strong the inputs of each layer are": "the energy of an input is one half of a weight's score, "
            "the weight's square is the other.",
        },
        "to see how strong the inputs of each layer are",
    ),
]

READINGS: dict = {
    "0.4": Claims(
        follow="ad",
        reasons={
            "a": "the ruined model has the zeros, and the same MB as the dense one.",
            "b": "retention counts the hits of each model on its own; they need not be on the same tokens.",
            "c": "the ruined model has as many zeros and is no smaller; one byte in place of two did it.",
            "d": "in perplexity and retention the compressed model lies nearer to the dense than to the ruined one.",
            "e": "the table was measured on Wikipedia articles, and says nothing of another kind of text.",
        },
    )
}


def _different(text: str) -> float:
    """The share of a text's words that are different ones."""
    words = text.split()
    return len(set(words)) / len(words)


SENTENCES: dict = {
    "the dense model is fluent: it hardly repeats a word": lambda n: _different(n.said["dense"]) > 0.7,
    "the ruined model babbles: most of its words are repetitions": lambda n: _different(n.said["ruined"]) < 0.5,
    "the compressed model goes in circles": lambda n: _different(n.said["compressed"]) < 0.7,
    "measured beforehand: 37, 76 and 95 of 100 are kept": lambda n: (
        [round(100 * share) for share in n.kept.values()] == [37, 76, 95]
    ),
    "on news 28, 73 and 94": lambda n: (
        [round(100 * n.rows[name]["texts"]["news"]["retention"]) for name in n.names] == [28, 73, 94]
    ),
    "training took 19 minutes": lambda n: round(n.rows["best"]["seconds"] / 60) == 19,
    "six of the twelve are zero, one of which was zero before": lambda n: n.zeros == 6,
    "four fifths of all parameters are in 210 linear layers": lambda n: (
        0.75 < n.linear / n.total < 0.85 and len(n.layers) == 210
    ),
    "the ruined model still finds is, a and of": lambda n: (
        min(n.log_probs["ruined"][n.words.index(f" {word}")].exp() for word in ("is", "a", "of")) > 0.05
    ),
    "it has lost Tower and Paris": lambda n: all(
        n.log_probs["ruined"][place] < n.log_probs["dense"][place] - 2
        for place in (n.words.index(" Tower"), n.words.index(" Paris"))
    ),
    "the compressed model has the sparsity that was asked for": lambda n: abs(n.result.sparsity - 0.5) < 0.005,
    "its perplexity is about two to three times the dense model's": lambda n: 1.7 < n.ratio < 3.5,
    "the compressed model lies nearer to the dense than to the ruined one": lambda n: (
        n.ratio < n.ruin["perplexity"] / n.half["perplexity"]
        and 1 - n.half["retention"] < n.half["retention"] - n.ruin["retention"]
    ),
    "for five right tokens of the dense model it gets four right": lambda n: 0.7 < n.half["retention"] < 0.88,
    "zeros made the ruined model no smaller": lambda n: n.ruin["bytes"] == n.dense["bytes"],
    "the compressed one takes about 165 MB": lambda n: 150e6 < n.half["bytes"] < 180e6,
    "the median rule prunes 50.3 %": lambda n: (
        abs(sum((layer.weight == 0).sum().item() for layer in n.pk.linear_layers(n.ruined).values()) / n.linear - 0.503)
        < 0.002
    ),
}
