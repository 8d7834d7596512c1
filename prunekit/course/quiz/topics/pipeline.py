"""Quiz, readings and sentences of notebook 04."""

from ..question import Question
from ..readings import Claims, Number

QUIZ: list[Question] = [
    Question(
        "A weight of large `W^2 E` is rounded badly by the cast. Its keep score is",
        {
            "as large as `W^2 E`": "only a weight that the cast leaves as it is has that much to save.",
            "smaller than `W^2 E`": "what casting loses anyway is subtracted: keeping it saves only the rest.",
            "always negative": "only if the cast moves it by more than its own size.",
            "`Q^2 E`": "that is what it looks like after the cast, not what keeping it saves.",
        },
        "smaller than `W^2 E`",
    ),
    Question(
        "In E4M3 at 50 % the order of pruning and casting hardly matters, because",
        {
            "casting makes a few percent of the error": "weighing it in can gain no more than a part of those.",
            "the joint score is not optimal": "for a given Q it is: no mask of 20 did better.",
            "the scale is the same in all orders": "it is not: casting first takes it from weights that then go.",
        },
        "casting makes a few percent of the error",
    ),
    Question(
        "A model keeps 76 % ± 6 %, another 78 % ± 6 %, on the same tokens. Which is better?",
        {
            "the second": "the gap is smaller than either margin; look at the pair first.",
            "neither, since the margins overlap": "overlap does not settle it: on the same tokens much of it cancels.",
            "the gap of the pair has a margin of its own: compare with that": "what is hard for both models cancels, "
            "so the pair's margin is usually smaller than those of the two.",
        },
        "the gap of the pair has a margin of its own: compare with that",
    ),
    Question(
        "Method A takes 0.5 s on 512 tokens, method B 24 s on 8,192. What may you say?",
        {
            "A is 48 times as fast": "as a default, yes; but 16 of the 48 come from reading less.",
            "A is 3 times as fast": "on the same tokens perhaps, but that was not measured here.",
            "nothing at all": "a default is a fair thing to compare, if it is named.",
            "A's default is 48 times as fast, on 16 times fewer tokens": "with the tokens named, anybody can see what "
            "is compared; the quality of both belongs beside it.",
        },
        "A's default is 48 times as fast, on 16 times fewer tokens",
    ),
    Question(
        "An FP8 model with half of its weights pruned has, on disk, the size of",
        {
            "the same model in FP8 without a zero": "a zero takes a byte like any other code.",
            "half of that": "only if zeros were packed, and somebody wrote and read such files.",
            "nine sixteenths of that": "that is 2:4 packed in bfloat16, which is not what is written here.",
        },
        "the same model in FP8 without a zero",
    ),
]

READINGS: dict = {
    "4.5": Claims(
        follow="abe",
        reasons={
            "a": "the hollow point at 50 % lies to the right of FP8 alone, and far below it.",
            "b": "with zeros packed the two stand at the same size, and 2:4 lies below.",
            "c": "the two lie within each other's margin: this text cannot tell.",
            "d": "what 2:4 can buy is speed on a GPU, and no axis shows that.",
            "e": "all FP8 points stand at the same size on disk.",
        },
    ),
    "4.6": Number(
        right=3.0,
        tolerance=0.05,
        reason="divide 48 by the ratio of the tokens, 8,192 / 512",
        mistakes={
            48.0: "that is all of it; 16 of it are the tokens",
            16.0: "that is what the fewer tokens explain; the rest was asked for",
            32.0: "factors divide, they do not subtract",
            768.0: "divide by 16: the tokens explain a part of the 48",
            1 / 3: "the other way round: 48 / 16",
        },
    ),
}


def _point(n, method: str, pattern: str, fp8: bool = True) -> dict:
    return n.pts.find(n.points, method, pattern, fp8)


SENTENCES: dict = {
    "for 100 right guesses the pruned model makes about 38": lambda n: 0.35 < n.kept < 0.41,
    "casting 0.7 makes it 0.5": lambda n: n.Q[0, 1] == 0.5,
    "jointly loses least, casting first most": lambda n: (
        n.lost["jointly"] < n.lost["prune, then cast"] < n.lost["cast, then prune"]
    ),
    "the orders differ in the first row, and not in the second": lambda n: (
        len({str(keep[0]) for keep, *_ in n.results.values()}) == 3
        and len({str(keep[1]) for keep, *_ in n.results.values()}) == 1
    ),
    "casting adds a few percent of the error": lambda n: 0.001 < n.share < 0.1,
    "the orders' errors differ by less than 2 %": lambda n: all(abs(ratio - 1) < 0.02 for ratio in n.ratios.values()),
    "the gap between the orders is within the margin": lambda n: n.most < max(n.known, 0.05),
    "up to 20 % little is lost": lambda n: _point(n, "EWMA", "20 %")["retention"] > 0.93,
    "at 70 % the model has fallen apart": lambda n: _point(n, "EWMA", "70 %")["retention"] < 0.5,
    "magnitude is far behind at 50 %": lambda n: n.ewma["perplexity"] < n.half["magnitude"]["perplexity"] / 2,
    "2:4 keeps much less than 50 %": lambda n: _point(n, "EWMA", "2:4")["retention"] < n.ewma["retention"] - 0.1,
    "a sort in its place makes no difference": lambda n: n.words["a sort in its place"] == "cannot tell",
    "all FP8 models are equally large": lambda n: len({p["bytes"] for p in n.points if p["fp8"]}) == 1,
    "50 % in bfloat16 is larger than FP8 alone, and keeps less": lambda n: (
        _point(n, "EWMA", "50 %", fp8=False)["bytes"] > _point(n, "FP8 alone", "dense")["bytes"]
        and _point(n, "EWMA", "50 %", fp8=False)["retention"] < _point(n, "FP8 alone", "dense")["retention"] - 0.05
    ),
    "with zeros packed 2:4 is as small as 50 %": lambda n: (
        abs(_point(n, "EWMA", "2:4")["packed"] / n.ewma["packed"] - 1) < 0.01
    ),
    "at 20 % EWMA and magnitude are within the margin": lambda n: (
        abs(n.pts.lead(_point(n, "EWMA", "20 %"), _point(n, "magnitude", "20 %"))[0])
        <= n.pts.lead(_point(n, "EWMA", "20 %"), _point(n, "magnitude", "20 %"))[1]
    ),
    "fast stops by itself after a few hundred tokens": lambda n: 100 < n.own.tokens < 1500,
    "reading less costs about 8 %, more than the margin": lambda n: 0.05 < n.gap < 0.12 and n.gap > n.margin,
    "compensation is better by perplexity, within the margin by retention": lambda n: (
        n.words["compensated EWMA"] == "better"
        and abs(n.half["compensated EWMA"]["retention"] - n.ewma["retention"]) < n.ewma["margin"]
    ),
    "at 50 % we keep clearly less than is claimed": lambda n: (
        n.ewma["retention"] + n.ewma["margin"] < n.pts.CLAIMS[0.5]
    ),
    "choosing by the inputs mends more than half of the damage": lambda n: (
        0.5 < (n.ewma["retention"] - n.kept) / (1 - n.kept) < 0.8
    ),
    "solving and training mend more, in this order": lambda n: (
        n.ours[4][1] < n.ours[5][1] < n.ours[6][1] and n.ours[6][1] > 93
    ),
}
