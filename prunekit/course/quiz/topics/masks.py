"""Quiz, readings and sentences of notebook 02."""

from ....speed.published import published_rows
from ..question import Question
from ..readings import Claims, Number

QUIZ: list[Question] = [
    Question(
        "Half of a bfloat16 weight is set to zero by an unstructured mask and saved as usual. The file is ...",
        {
            "half as large": "zeros are numbers like any others: only leaving them out saves room.",
            "9/16 as large": "a bitmap would get there, but saving as usual stores every zero.",
            "as large as before": "a mask alone saves nothing.",
            "larger: the places are stored, too": "as usual no places are stored; in CSR it would be larger.",
        },
        "as large as before",
    ),
    Question(
        "The three highest scores of a row stand in one group of four. What does 2:4 do?",
        {
            "It prunes one of the three": "two of each group stay, whatever the other groups hold.",
            "It keeps all three and takes one more elsewhere": "that is what unstructured may do; 2:4 counts by group.",
            "It moves one of them to another group": "a mask moves nothing. Reordering does, for all rows at once.",
        },
        "It prunes one of the three",
    ),
    Question(
        "A 2:4 weight in FP8, one byte a value, takes which share of the dense FP8 weight?",
        {
            "1/2": "the places of the kept weights take room, too.",
            "9/16": "that is bfloat16. For values of one byte, two bits weigh twice as much.",
            "3/4": "a place takes two bits, not a byte: 0.5 + 0.5 x 2/8.",
            "5/8": "half of a byte for values, and half of two bits for places: 0.5 + 0.125.",
        },
        "5/8",
    ),
    Question(
        "One neuron of a gated MLP is cut out. What becomes smaller?",
        {
            "`down_proj` alone, by a column": "then `gate_proj` and `up_proj` would still compute what nobody reads.",
            "`gate_proj` and `up_proj` by a row, `down_proj` by a column": "and the next layer is as it was.",
            "All three, and the next layer by a column": "the output of `down_proj` is as wide as before.",
        },
        "`gate_proj` and `up_proj` by a row, `down_proj` by a column",
    ),
    Question(
        "A chat for one user on an RTX 4090: one token at a time, FP16. Half of the weights are single zeros. Then",
        {
            "they gain speed by themselves, as zeros are skipped": "stored zeros are multiplied like other numbers.",
            "no kernel can gain from them": "so it was long said. A published one does, for one token at a time.",
            "sparse tensor cores make them twice as fast": "those multiply 2:4, not zeros just anywhere.",
            "a kernel made for them is 1.2 to 1.5 times as fast": "published for MACKO-SpMV, at one token at a time.",
        },
        "a kernel made for them is 1.2 to 1.5 times as fast",
    ),
]

READINGS: dict = {
    "2.6": Number(
        1 / 0.7,
        0.025,
        "40 of 100 seconds stay, 60 become 30; divide 100 by what is left.",
        {
            2: "only the MLP is twice as fast; the other 40 % of the time stay as they are.",
            1.3: "30 of 100 seconds are saved, but times as fast is 100 over the 70 that are left.",
            0.7: "that is the time left, over the dense time; times as fast is one over it.",
            2.5: "that is without any MLP; here they still take half of their time.",
            1.67: "the 40 seconds outside the MLPs stay, and so does half of the 60.",
        },
    ),
    "2.7": Claims(
        "ab",
        {
            "a": "unstructured has half of those weights at zero, and the file of the dense model.",
            "b": "unstructured has the lowest perplexity of the three, and the dense file size.",
            "c": "its perplexity is higher than that of 50 % unstructured.",
            "d": "this CPU multiplied 2:4 as a dense weight; a card with sparse tensor cores does not.",
            "e": "half of the neurons saves 80 of 269 MB, so all of them would save 160; embedding and attention stay.",
        },
    ),
}

SENTENCES: dict = {
    "half of the neurons costs a perplexity of 58, from 15; single zeros one of 25": lambda n: (
        abs(n.five["dense"]["perplexity"] - 15) < 1
        and abs(n.five["neurons 50%"]["perplexity"] - 58) < 3
        and abs(n.five["unstructured 50%"]["perplexity"] - 25) < 2
    ),
    "a cut of 30 % leaves about 29": lambda n: abs(n.five["neurons 30%"]["perplexity"] - 29) < 2,
    "single zeros cost least, neurons cost most": lambda n: (
        n.five["unstructured 50%"]["perplexity"]
        < min(n.five["2:4"]["perplexity"], n.five["neurons 30%"]["perplexity"])
        <= max(n.five["2:4"]["perplexity"], n.five["neurons 30%"]["perplexity"])
        < n.five["neurons 50%"]["perplexity"]
    ),
    "the file with single zeros is as large as before, that without half of the neurons a third smaller": lambda n: (
        n.five["unstructured 50%"]["megabytes"] == n.five["dense"]["megabytes"]
        and 0.65 < n.five["neurons 50%"]["megabytes"] / n.five["dense"]["megabytes"] < 0.75
    ),
    "in the small example and in the real layer the loss grows from unstructured over 2:4 to neurons": lambda n: (
        n.lost["unstructured"] < n.lost["2:4"] < n.lost["neurons"]
        and n.error["unstructured"] < n.error["2:4"] < n.error["neurons"]
    ),
    "reordering wins back a part of what 2:4 costs": lambda n: (
        n.error["unstructured"] < n.error["2:4, reordered"] < n.error["2:4"]
    ),
    "CSR is larger than dense, a bitmap and packed 2:4 take 9/16, half of the neurons half": lambda n: (
        n.size["unstructured, zeros stored"] == n.size["dense"] < n.size["unstructured, CSR"]
        and all(
            abs(n.size[form] / n.size["dense"] - share) < 0.001
            for form, share in (("unstructured, bitmap", 9 / 16), ("2:4, packed", 9 / 16), ("neurons cut out", 1 / 2))
        )
    ),
    "with many tokens 2:4 is nearly twice as fast, with few it may be slower, on both cards": lambda n: all(
        min(product.speedup for product in published_rows(gpu)) < 1
        and max(product.speedup for product in published_rows(gpu)) > 1.9
        for gpu in ("RTX 4090", "H100")
    ),
    "on an H100 44 of 189 products in FP8 are slower with 2:4": lambda n: (
        [product.speedup < 1 for product in published_rows("H100", "fp8")].count(True) == 44
        and len(published_rows("H100", "fp8")) == 189
    ),
    "the perplexity of 2:4 lies nearer to that of the neurons than to that of single zeros": lambda n: (
        2 * n.five["2:4"]["perplexity"] > n.five["unstructured 50%"]["perplexity"] + n.five["neurons 50%"]["perplexity"]
    ),
    "in one layer 2:4 has twice the error of unstructured, neurons five times": lambda n: (
        round(n.error["2:4"] / n.error["unstructured"]) == 2
        and round(n.error["neurons"] / n.error["unstructured"]) == 5
    ),
    "30 % of the neurons, rounded to a multiple of 32, leaves 1,056 of 1,536": lambda n: (
        n.models["neurons 30%"].config.intermediate_size == 1056
    ),
}
