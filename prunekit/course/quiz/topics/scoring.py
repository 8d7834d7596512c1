"""Quiz, readings and sentences of notebook 01."""

from ..question import Question
from ..readings import Claims

QUIZ: list[Question] = [
    Question(
        "Two weights of one row: -0.1 on a feature of energy 400, and 2 on a feature of energy 0.5. Which goes first?",
        {
            "-0.1, since its absolute value is smaller": "That is magnitude: it looks at no input. 0.01 x 400 = 4.",
            "-0.1, since it is negative": "The sign does not matter: the contribution is a square.",
            "2, since it contributes 2 and the other 4": "4 x 0.5 = 2 is less than 0.01 x 400 = 4.",
            "either, since both products of weight and energy are large": "Squared weight times energy: 4 and 2.",
        },
        "2, since it contributes 2 and the other 4",
    ),
    Question(
        "Why does the rule `L < m - k d` miss its target on heavy-tailed rows, whatever `a` and `b` are?",
        {
            "no step compares what was pruned with what was asked for": "`k` encodes a guess, and nothing corrects it.",
            "the mean needs more scores to settle": "It settles at a place that says little about the median.",
            "`k` was not tuned": "Tuned for one distribution it misses on another: both curves cross a half, apart.",
            "it compares weights with each other": "It compares each with one number, as quantile tracking does.",
        },
        "no step compares what was pruned with what was asked for",
    ),
    Question(
        "One scan over 2,000 weights, target 0.5, step 0.01: `log q` rises by 2. What share was pruned?",
        {
            "0.6": "The sign: a threshold that rose has kept too many, so fewer than half went.",
            "0.5": "Only if `q` ends where it began.",
            "0.499": "2 / 2,000 leaves out the step: the miss is 2 / (0.01 x 2,000).",
            "0.4": "0.5 - 2 / (0.01 x 2,000) = 0.5 - 0.1.",
        },
        "0.4",
    ),
    Question(
        "The share of every row is right to 0.1 %. What do you know about which weights went?",
        {
            "they are those that a sort would take": "Drifting scores and long steps have the right share, too.",
            "nothing yet: compare a few rows with a sort": "The identity promises how many, never which.",
            "they are at least the smaller half of each row": "In a drifting row large ones go and small ones stay.",
        },
        "nothing yet: compare a few rows with a sort",
    ),
    Question(
        "Magnitude decides as contribution does on nine weights in ten. Why is its perplexity so much worse?",
        {
            "it prunes more weights": "Both prune half of them.",
            "its share differs from layer to layer": "It is one half in each layer.",
            "a tenth of all decisions is always fatal": "The mean rule differs in as many, and does much less harm.",
            "those that differ are small weights on loud features": "They contribute, and magnitude is blind to it.",
        },
        "those that differ are small weights on loud features",
    ),
]

READINGS: dict = {
    "1.5": Claims(
        "ab",
        {
            "a": "more than half went, so log q fell: the travel is (0.5 - 0.57) x 0.01 x 1000 = -0.7.",
            "b": "log q fell by 0.7, and exp(-0.7) = 0.50.",
            "c": "scores that first rise and then fall can carry q up and down again, from a start below the median.",
            "d": "each of the 430 kept weights raised it.",
            "e": "the identity counts, and does not say which: where scores drift, larger ones go.",
            "f": "with 570 scores of a millionth and 430 of a million each scan prunes the 570, wherever it starts.",
        },
    )
}

SENTENCES: dict = {
    "half gone by magnitude hurts several times as much as half gone by contribution": (
        lambda n: n.dense < n.mended < 2.5 * n.dense and n.hurts > 2.5 * n.mended
    ),
    "in row 0 contribution drops the -6 and keeps the 0.5": lambda n: n.L[0, 6] < n.L[0, 7],
    "two correlated weights lose 16 more than their contributions": lambda n: n.true == n.L[0, 0] + n.L[0, 7] + 16,
    "sorting takes many times as long as copying": lambda n: n.ratio > 3,
    "the mean rule with k = 0.56 loses half on Gaussian rows and far less on heavy-tailed ones": (
        lambda n: abs(n.means["mean rule"][0] - 0.5) < 0.05 and n.means["mean rule"][3] < 0.35
    ),
    "at 20 % on real rows the mean rule prunes far less": lambda n: n.means["mean rule"][2] < 0.14,
    "no k suits both kinds of rows": (
        lambda n: not any(max(abs(ys[i] - 0.5) for ys in n.shares.values()) < 0.04 for i in range(len(n.ks)))
    ),
    "tracked rows of every kind lie at their target": (
        lambda n: all(
            (share - asked).abs().max() < 0.01
            for share, asked in zip(n.lost["quantile tracking"].values(), n.asked, strict=True)
        )
    ),
    "one scan of the good row lands within a few percent": (
        lambda n: abs(n.found["no trouble"]["one scan"][0] - 0.5) < 0.04
    ),
    "a short row, a small step, sorted and drifting scores and zeros miss the share by nine points and more": (
        lambda n: all(
            abs(n.found[name]["one scan"][0] - 0.5) > 0.09
            for name in ("only 20 weights", "step too small", "sorted", "drifting", "70 % zeros")
        )
    ),
    "a step too long has the right share and other weights": (
        lambda n: (
            abs(n.found["step too long"]["one scan"][0] - 0.5) < 0.01 and n.found["step too long"]["one scan"][1] < 0.9
        )
    ),
    "a warm-up mends the share of all but the zeros": (
        lambda n: all(
            abs(beside["pk.quantile_mask"][0] - 0.5) < 0.01 for name, beside in n.found.items() if "zeros" not in name
        )
    ),
    "warmed up, a drifting row loses more than a sort, the row without trouble no more": (
        lambda n: (
            n.found["drifting"]["pk.quantile_mask"][2] > 1.05 > 1.005 > n.found["no trouble"]["pk.quantile_mask"][2]
        )
    ),
    "of the last 200 weights of the heavy-tailed row about half go": lambda n: abs(n.late - 0.5) < 0.03,
    "what magnitude alone prunes is a little smaller than what sorting alone prunes, on inputs four times as loud": (
        lambda n: (
            0.6 < float(n.rows[0][1]) / float(n.rows[1][1]) < 1 and 3 < float(n.rows[0][2]) / float(n.rows[1][2]) < 5.5
        )
    ),
    "each of the 210 layers loses its share within 0.01 by quantile tracking, and the mean rule is far off in some": (
        lambda n: (
            len(n.shown["sorting"]) == 210
            and max(abs(share - 0.5) for share in n.shown["quantile tracking"]) < 0.01
            and max(abs(share - 0.5) for share in n.shown["mean rule"]) > 0.05
        )
    ),
    "quantile tracking is as good as a sort to a few percent, and the mean rule is worse": (
        lambda n: (
            n.by["sorting"]["perplexity"] < 1.1 * n.mended < 1.21 * n.by["sorting"]["perplexity"]
            and n.by["mean rule"]["perplexity"] > 1.05 * n.mended
        )
    ),
    "the rank-one score lands beside magnitude": (
        lambda n: 0.67 < n.by["rank-one"]["perplexity"] / n.hurts < 1.5 and n.hurts > 2 * n.mended
    ),
    "the rank-one factor is nearly 1 in nearly all columns": (
        lambda n: (
            n.torch.cat([E.sum() / (E.sum() - E) for E in n.calibration.energy.values()]).lt(1.1).double().mean() > 0.9
        )
    ),
    "sorting decides as magnitude does nine times in ten": (
        lambda n: (
            sum((n.by["magnitude"]["keep"][name] == mask).sum() for name, mask in n.kept.items())
            > 0.85 * sum(mask.numel() for mask in n.kept.values())
        )
    ),
    "quantile tracking wastes hardly more than a sort, the mean rule more, magnitude and rank-one most": (
        lambda n: (
            n.waste["quantile tracking"] < 1.02 < 1.05 < n.waste["mean rule"] < 1.5
            and min(n.waste["magnitude"], n.waste["rank-one"]) > 1.5
        )
    ),
    "calibration stops where the curve crosses the line": (
        lambda n: n.early.tokens == min(t for t, c in zip(n.tokens, n.whole.changes, strict=True) if c < 0.01) < 1024
    ),
    "by itself calibration had stopped at 512 tokens": lambda n: n.calibration.tokens == 512,
}
