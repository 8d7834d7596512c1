"""Quiz, readings and sentences of notebook 03."""

from math import isfinite, isnan

from ..question import Question
from ..readings import Claims, Number

QUIZ: list[Question] = [
    Question(
        "A byte has the exponent field 0 and the mantissa field 1. In E4M3 it stands for",
        {
            "`2^-7 x (1 + 1/8)`": "an exponent field of 0 has no leading 1, and the power of the field 1.",
            "`2^-6 x 1/8`": "a subnormal, without leading 1, at the exponent -6: it is 2^-9, the smallest number.",
            "`2^-6 x (1 + 1/8)`": "that is the byte after 0x08, with the exponent field 1.",
            "0": "zero has both fields at 0.",
        },
        "`2^-6 x 1/8`",
    ),
    Question(
        "W is cast by `(W / scale).to(torch.float8_e5m2).float() * scale * keep`. When is the result NaN?",
        {
            "where a weight is so small that it becomes zero": "underflow is harmless: zero times anything is zero.",
            "where `keep` is 0 in a whole row": "then the scale is 1, and all is zero unless a weight is enormous.",
            "where a pruned weight is far larger than all that stay": "it becomes infinity, and that times 0 is NaN.",
        },
        "where a pruned weight is far larger than all that stay",
    ),
    Question(
        "You make the scale of a layer 16 times too large. In E4M3 its error stays the same, because",
        {
            "the error is relative to a number's size, and the weights stay normal numbers": "they slide down by four "
            "powers of two, where gaps are as wide relative to the value as before.",
            "16 is exact in binary": "a power of two keeps the digits, but in INT8 the same factor ruins the layer.",
            "casting divides by the scale and multiplies by it again": "that holds for every format; between the two "
            "comes the rounding, and evenly spaced numbers lose by it.",
        },
        "the error is relative to a number's size, and the weights stay normal numbers",
    ),
    Question(
        "All weights of a tensor are of about one size. Which byte rounds them best, with a good scale?",
        {
            "E5M2, since it reaches furthest": "its gaps are the widest; reach is of no use here.",
            "E4M3, since it is floating point": "it spends bits on powers of two that these weights do not need.",
            "all the same, a byte is a byte": "each has some 250 numbers; where they lie makes the difference.",
            "INT8, since its numbers are close together where the weights are": "that is why it has the smallest error "
            "with a scale for each row. It loses where weights lie far apart.",
        },
        "INT8, since its numbers are close together where the weights are",
    ),
    Question(
        "A model takes 100 MB in bfloat16 and is half zeros. All but its embedding is cast to E4M3. The file takes",
        {
            "25 MB": "zeros are stored like other numbers: a byte each.",
            "50 MB": "only if all were cast: the embedding stays at two bytes, and there are scales.",
            "more than 50 MB": "one byte for each cast weight, zero or not, two for the embedding, and the scales.",
        },
        "more than 50 MB",
    ),
]

READINGS: dict = {
    "3.5": Number(
        right=28672.0,
        tolerance=0.03,
        reason="divide 448 by the smallest normal number of E4M3",
        mistakes={
            229376.0: "2^-9 is the smallest subnormal; asked for is the smallest normal number",
            32768.0: "448 is 1.75 x 2^8 and not 2^9",
            16384.0: "448 is 1.75 x 2^8 and not 2^8",
            448.0: "numbers below 1 are normal as well, down to 2^-6",
            939524096.0: "that is E5M2, whose numbers end at 57344",
        },
    ),
    "3.6": Claims(
        follow="abe",
        reasons={
            "a": "at 2^4 the curve of E4M3 is still on its floor.",
            "b": "rounding up makes a scale at most twice as large, and between 1 and 2^2 the curve is flat.",
            "c": "with a scale for each row it has the smallest error of the table. It needs the right scale more.",
            "d": "at 2^2 INT8's error is four times what it is at 1: it has no floor.",
            "e": "from 2^12 on E4M3's weights sink below its normal numbers, and E5M2's do not.",
            "f": "one model of 135 million parameters was measured; larger ones may have outliers.",
        },
    ),
}


def _mean(n, name: str, each: str) -> float:
    return n.errors[name, each][0]


SENTENCES: dict = {
    "60 of 155,520 rows broke, and the model says nan": lambda n: (
        (len(n.broken), n.rows) == (60, 155_520) and isnan(n.loss)
    ),
    "the largest weight of the broken row was pruned": lambda n: (
        not n.broken[n.worst][1][n.broken[n.worst][0].abs().argmax()]
    ),
    "rounding errs by 1/17 at most in E4M3, by 1/9 in E5M2": lambda n: (
        abs(n.most["e4m3"] - 1 / 17) < 1e-3 and abs(n.most["e5m2"] - 1 / 9) < 1e-3
    ),
    "500 becomes NaN in E4M3": lambda n: isnan(n.ways["rounding alone"](n.torch.tensor(500.0), n.pk.E4M3)),
    "after a clamp nothing is infinite or NaN": lambda n: all(
        values.isfinite().all() for (_, way), values in n.sweeps.items() if way == "clamp, then cast"
    ),
    "with one scale the small row is off by 12 %, with its own by 0.8 %, in E5M2 by 8 %": lambda n: (
        [round(100 * off, 1) for off in n.off[1:]] == [11.9, 0.8, 7.8]
        and n.backs["E4M3, a scale per tensor"][1, 3] == 0
    ),
    "2:4 hardly ever changes a scale": lambda n: len(n.broken) <= n.changed < 0.002 * n.rows,
    "of rows alike INT8 has the smallest error": lambda n: n.alone["int8"][0] < 0.5 * n.alone["e4m3"][0],
    "at 2^8 INT8 rounds all of the small row to 0": lambda n: (
        n.alone["int8"][8] == 1 and n.alone["int8"][2] > 3 * n.alone["int8"][0]
    ),
    "E4M3 leaves its floor at 2^12": lambda n: (
        n.alone["e4m3"][10] < 1.02 * n.alone["e4m3"][0] < 1.1 * n.alone["e4m3"][0] < n.alone["e4m3"][12]
        and n.alone["e4m3"][14] > 2 * n.alone["e4m3"][0]
    ),
    "E5M2's error is twice that of E4M3": lambda n: 1.9 < _mean(n, "e5m2", "row") / _mean(n, "e4m3", "row") < 2.1,
    "in floating point granularity hardly matters": lambda n: all(
        _mean(n, name, "tensor") < 1.02 * _mean(n, name, "row") for name in ("e4m3", "e5m2")
    ),
    "INT8 is the most accurate with a scale for each row": lambda n: (
        _mean(n, "int8", "row") == min(mean for mean, *_ in n.errors.values())
    ),
    "INT8 with one for the tensor has the worst layer": lambda n: (
        n.errors["int8", "tensor"][1] == max(layer for _, layer, _ in n.errors.values())
    ),
    "one weight holds half of the worst row's squares": lambda n: 0.4 < n.share < 0.6,
    "it falls midway under the shared scale, and is kept under its own": lambda n: (
        abs(n.rounded[0][1] / n.rounded[0][0] - 1) > 0.05 and abs(n.rounded[1][1] / n.rounded[1][0] - 1) < 1e-5
    ),
    "256 times the scale costs E4M3 next to nothing": lambda n: n.valley["e4m3"][8] < 1.1 * n.valley["e4m3"][0],
    "2^12 times the scale makes its error 3 or 4 times as large": lambda n: (
        3 < n.valley["e4m3"][12] / n.valley["e4m3"][0] < 4
    ),
    "all but 1 % of the example's weights lie within eleven powers of two": lambda n: (
        n.example.abs().max() / n.example.abs().flatten().kthvalue(n.example.numel() // 100).values < 2**11
    ),
    "16 times the scale costs it nothing": lambda n: n.valley["e4m3"][4] < 1.01 * n.valley["e4m3"][0],
    "INT8's error is four times as large at four times the scale": lambda n: (
        3.5 < n.valley["int8"][2] / n.valley["int8"][0] < 4.5
    ),
    "far to the right E5M2 beats E4M3": lambda n: n.valley["e5m2"][12] < n.valley["e4m3"][12],
    "the broken model speaks again": lambda n: isfinite(n.found["2:4, then E5M2"]["perplexity"]),
    "its perplexity is high": lambda n: n.found["2:4, then E5M2"]["perplexity"] > 3 * n.found["E5M2"]["perplexity"],
    "the cast alone costs some percent of perplexity at most, and hardly any retention": lambda n: all(
        n.found[name]["perplexity"] < 1.09 * n.found["dense"]["perplexity"] and n.found[name]["retention"] > 0.96
        for name in ("E4M3", "E5M2")
    ),
    "in KL divergence E5M2 is about four times as far": lambda n: (
        2.5 < n.found["E5M2"]["kl"] / n.found["E4M3"]["kl"] < 7
    ),
    "the file keeps three fifths, as computed": lambda n: (
        0.58 < n.disk / n.dense < 0.63 and abs(n.disk / n.small - 1) < 0.001
    ),
}
