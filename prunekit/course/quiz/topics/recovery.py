"""Quiz, readings and sentences of notebook 07."""

from statistics import mean

from ..question import Question
from ..readings import Claims

QUIZ: list[Question] = [
    Question(
        "The inputs of a layer are uncorrelated: `H` is diagonal. What does solving for the weights that stay gain?",
        {
            "As much as with any other `H`": "a weight can only stand in for another if their inputs are alike.",
            "More, since each weight is solved by itself": "by itself each weight is best as it was.",
            "Nothing": "the old weights come out: no input says anything about another.",
        },
        "Nothing",
    ),
    Question(
        "Two models keep 76 ± 4 % and 80 ± 4 % of the same tokens. Is the second better?",
        {
            "Nobody can say, since the whiskers overlap": "whiskers of each alone. Most of what they hold is shared.",
            "Take the difference window by window, and its standard error": (
                "a window that is hard for one is hard for both, so the difference may be far surer than either."
            ),
            "Yes, 80 is more than 76": "by how much would it vary on other text? That has to be asked.",
        },
        "Take the difference window by window, and its standard error",
    ),
    Question(
        "A model trained on 4 windows is nearest to the dense one on these windows. Then it is ...",
        {
            "not ahead on other text": "of the lead on its own windows nothing was left on articles and on news.",
            "nearest on other text of the same kind": "other articles were, and the lead was gone there.",
            "the best choice if there are only 4 windows": "it was never compared with fewer steps on them.",
        },
        "not ahead on other text",
    ),
    Question(
        "Why does the training aim at the dense model's distribution, and not at the text's next word?",
        {
            "It costs less time": "it costs more: the dense model has to read the text, too.",
            "Then the zeros stay zeros": "they stay because their gradient is set to zero, whatever the loss is.",
            "Then no other text is needed to judge by": "it fits its own text no less: that is section 3.",
            "It says something about every word at each token": "the next word says something about one.",
        },
        "It says something about every word at each token",
    ),
    Question(
        "Layers A and B cost 0, 3, 3 and 0, 2, 4 after 0, 1 and 2 steps. Why does the cheapest next step mislead here?",
        {
            "A's second step adds less than its first": (
                "of two steps it takes both of B, for 4. Both of A cost 3, but the dear one has to be taken first."
            ),
            "B's second step adds as much as its first": "never less, as it should be; that never misleads.",
            "Both start at 0": "where a curve starts does not matter, only what the next step adds.",
        },
        "A's second step adds less than its first",
    ),
]

READINGS: dict = {
    "7.4": Claims(
        follow="be",
        reasons={
            "a": "in pairs its divergence falls by several times the error of that difference.",
            "b": "8 points in 45 seconds, then 10 points in 18 minutes.",
            "c": "on other articles and on news nothing is left of its lead.",
            "d": "`best` trains, where the paper does not, and the model is another, smaller one.",
            "e": "the error of the solved layer is larger on articles that its `H` has not seen.",
            "f": "next tokens of articles and news were counted, and no chat.",
        },
    )
}


def _gap(n, text: str, name: str) -> tuple[float, float]:
    """How much further from the dense model than one pass: a mean, and two standard errors."""
    return n.recovery.mean(n.found[text][name].kl - n.found[text]["one pass"].kl)


def _hits(n, text: str, name: str) -> tuple[float, float]:
    said = n.found[text]
    return n.recovery.more_kept(said[name], said["one pass"], said["dense"])


def _kept(n, name: str, text: str = "wikipedia") -> float:
    return n.measured_rows("50 %")[name]["texts"][text]["retention"]


def _pruned(n, kind: str) -> float:
    return mean(share for name, share in n.allocation.sparsity.items() if name.endswith(kind))


SENTENCES: dict = {
    "two seconds keep 77 of 100 right answers, 19 minutes 95": lambda n: (
        [round(100 * _kept(n, name)) for name in ("fast", "best")] == [77, 95]
        and [round(n.measured_rows("50 %")["fast"]["seconds"]), round(n.measured_rows("50 %")["best"]["seconds"] / 60)]
        == [2, 19]
    ),
    "by one pass about a quarter of the right answers is gone": lambda n: all(
        0.66 < n.kept[text]["one pass"][0] < 0.82 for text in n.texts
    ),
    "perplexity doubles, or worse": lambda n: all(
        1.8 < said["one pass"].perplexity / said["dense"].perplexity < 3 for said in n.found.values()
    ),
    "one weight does the work of two, and four fifths of the error are gone": lambda n: (
        n.best == 1.9 and abs(n.errors[n.best] / n.errors[1.0] - 0.19) < 0.01
    ),
    "on its own text ADMM ends below the solved rows": lambda n: n.curve[-1] < n.error(n.solved, n.H),
    "and on other articles, too": lambda n: n.curve_other[-1] < n.error(n.solved, n.H_other),
    "on articles that H has not seen all that was solved gains less": lambda n: all(
        n.error(V, n.H_other) / n.error(n.W * n.stay, n.H_other) > 1.3 * n.error(V, n.H) / n.error(n.W * n.stay, n.H)
        for V in (n.solved, n.Z)
    ),
    "in divergence ADMM gains on both texts, beyond doubt": lambda n: all(
        sum(_gap(n, text, "ADMM")) < 0 for text in n.texts
    ),
    "the shortcut gains a little": lambda n: all(
        _gap(n, text, "ADMM")[0] < _gap(n, text, "compensated")[0] < 0 for text in n.texts
    ),
    "divergence is surer than hits": lambda n: all(
        -_gap(n, text, "ADMM")[0] / _gap(n, text, "ADMM")[1] > _hits(n, text, "ADMM")[0] / _hits(n, text, "ADMM")[1]
        for text in n.texts
    ),
    "on its own windows the model of 4 windows is far ahead": lambda n: (
        n.nats["the 4 windows"]["4 windows"][0] < 0.9 * n.nats["the 4 windows"]["24 windows"][0]
    ),
    "elsewhere nothing is left of that lead": lambda n: all(
        n.gaps[text][0] > -n.gaps[text][1] for text in ("other articles", "news")
    ),
    "training on 24 windows brings the model nearer to the dense one on both texts": lambda n: all(
        n.nats[text]["24 windows"][0] < n.nats[text]["ADMM"][0] for text in ("other articles", "news")
    ),
    "rare tokens that are new are kept least": lambda n: all(
        min(row, key=row.get) == "rare, new" for models in n.by_kind.values() for row in models.values()
    ),
    "one step and two are the cheapest three": lambda n: (
        min(range(4), key=lambda first: n.costs[0][first] + n.costs[1][3 - first]) == 1
    ),
    "values and keys are spared, and queries pay": lambda n: (
        max(_pruned(n, "v_proj"), _pruned(n, "k_proj")) < 0.5 < _pruned(n, "q_proj")
    ),
    "a budget brings the model nearer to the dense one": lambda n: _gap(n, "Wikipedia", "budget")[0] < 0,
    "`best` lies above the claim, and `balanced` keeps 85 %": lambda n: (
        _kept(n, "best") > n.CLAIM > _kept(n, "balanced") and round(100 * _kept(n, "balanced")) == 85
    ),
    "trained on Wikipedia alone it stays behind on news": lambda n: (
        _kept(n, "best, Wikipedia alone", "news") < n.CLAIM < _kept(n, "best", "news")
    ),
}
