"""Quiz, readings and sentences of notebook 06."""

from math import nan

from ..question import Question
from ..readings import Claims

QUIZ: list[Question] = [
    Question(
        "Five numbers must hold. Each has a margin of 95 % confidence. Then",
        {
            "all five hold with 95 % confidence": "each may miss 5 times in 100, and the misses add up.",
            "all five hold in about 77 of 100 memos, if they err independently": "0.95 to the fifth power. At 99 % "
            "each it is 95 of 100.",
            "at most 5 % of each number is wrong": "confidence is about how often an interval misses, not about how "
            "far off a number is.",
        },
        "all five hold in about 77 of 100 memos, if they err independently",
    ),
    Question(
        "A retention is 0.92 ± 0.04, and at least 0.9 was asked for. No other number fails. The memo says",
        {
            "go: 0.92 is more than 0.9": "the value is, and the interval goes down to 0.88: other text may say no.",
            "no-go: 0.88 is less than 0.9": "a failure is an interval that lies on the bad side as a whole.",
            "open: judge on more tokens": "the limit lies within the interval. More text narrows it.",
            "go, if the limit is set to 0.88": "a limit that is chosen after the measurement always fits.",
        },
        "open: judge on more tokens",
    ),
    Question(
        "Why are windows drawn with replacement, and not single tokens?",
        {
            "tokens of one window depend on each other": "a hard article is hard throughout, so that there is less to "
            "learn from its hundredth token than from another article.",
            "it is faster": "it is, and that is no reason: an error that is too small would come out.",
            "tokens have no perplexity": "each has a loss, and its mean over windows is what is drawn.",
        },
        "tokens of one window depend on each other",
    ),
    Question(
        "Dense and compressed model read the same windows. The error of the retention is therefore",
        {
            "that of both accuracies, added up": "then it would be as large for two models that agree on each token.",
            "smaller, since what is hard for both cancels": "only the tokens on which they differ make it uncertain.",
            "zero": "only if they are right on the very same tokens, or on a fixed share of each window's.",
        },
        "smaller, since what is hard for both cancels",
    ),
    Question(
        "A candidate with 20 % zeros, in FP8, takes three fifths of the bytes. One with 50 % zeros takes",
        {
            "less, since half of its weights are gone": "they are stored as zeros, a byte each.",
            "about half of that": "no format here leaves the zeros out.",
            "twice as much": "FP8 takes a byte for each weight, whatever its value.",
            "as much": "a zero is a code like any other; all of the gain comes from FP8.",
        },
        "as much",
    ),
]

READINGS: dict = {
    "6.5": Claims(
        follow="bce",
        reasons={
            "a": "more text narrows a bar; those of 50 % lie on the bad side as a whole.",
            "b": "a bar of it holds the limit, and a narrower one may end on the good side. Or on the bad one.",
            "c": "its retention and its ratio are 1 exactly, and only its bytes fail.",
            "d": "zeros take a byte each: the three files are of one size.",
            "e": "the whole bar is above 0.9 on both axes.",
            "f": "nothing here was in Spanish, and nothing was a chat.",
        },
    ),
}


def _states(n, name: str) -> list[str]:
    return [row.state for row in n.judged.get(name, [])]


def _value(n, name: str, key: str, text: str) -> float:
    """A number of a candidate; NaN, for which nothing holds, if it was not judged."""
    return next((row.value for row in n.judged.get(name, []) if (row.name, row.on) == (key, text)), nan)


SENTENCES: dict = {
    "half of the weights gone: on news a third fewer right answers, more than twice the perplexity": lambda n: (
        0.6 < _value(n, "50 %", "retention", "news") < 0.75 and _value(n, "50 %", "perplexity ratio", "news") > 2
    ),
    "50 % fails by its four numbers from text, and passes by its bytes": lambda n: (
        _states(n, "50 %") == ["failed"] * 4 + ["passed"]
    ),
    "up- and value projections lose most": lambda n: sum("up_proj" in x or "v_proj" in x for x in n.order[-20:]) > 10,
    "a down-projection loses next to nothing, and five features carry its energy": lambda n: (
        "down_proj" in n.order[0] and n.damage[n.order[0]] < 0.01 and n.share > 0.9
    ),
    "sparing layers costs no bytes and betters every other number, not by enough": lambda n: (
        n.memo.decide(n.judged_spared) == "no-go"
        and all(
            a.value == b.value if not a.margin else (b.value > a.value) == a.at_least
            for a, b in zip(n.judged["50 %"], n.judged_spared)
        )
    ),
    "on Wikipedia the error from window to window is larger": lambda n: (
        n.errors["Wikipedia"][1] > n.errors["Wikipedia"][0]
    ),
    "no-go, open, go": lambda n: [n.memo.decide(rows) for rows in n.judged.values()] == ["no-go", "open", "go"],
    "with 30 % all values are within their limits": lambda n: all(
        row.value >= row.limit if row.at_least else row.value <= row.limit for row in n.judged.get("30 %", [])
    ),
    "20 % may go": lambda n: (n.decision, n.named) == ("go", "20 %"),
    "all three files are of one size": lambda n: len({round(rows[4].value, 4) for rows in n.judged.values()}) == 1,
    "best is within the limits for text, by its values": lambda n: (
        min(map(float, n.longer[2][2:4])) > n.LIMITS["retention"]
        and max(map(float, n.longer[2][4:])) < n.LIMITS["perplexity ratio"]
    ),
}
