"""Quiz, readings and sentences of notebook 05."""

from statistics import median

from ..question import Question
from ..readings import Claims

QUIZ: list[Question] = [
    Question(
        "Layers that take 75 % of a step become 3 times as fast. The step becomes ... times as fast.",
        {
            "3.0": "Only what the layers took becomes shorter; 25 % stay.",
            "2.5": "That averages gains: 0.25 x 1 + 0.75 x 3. Add times instead: 0.25 + 0.75 / 3.",
            "2.0": "1 / (0.25 + 0.75 / 3) = 1 / 0.5.",
            "1.5": "That is by how much the step shrinks, 0.5, read as a gain: 1 / (1 - 0.5) it is.",
        },
        "2.0",
    ),
    Question(
        "Why are two calls timed in turn, round by round, and not first one and then the other?",
        {
            "a slow spell of the machine then hits both": "And it cancels in the ratio of the round.",
            "so that each warms the other's cache": "What one leaves in the cache is rather a reason to take care.",
            "the median needs as many samples of each": "It would have them the other way, too.",
            "it takes less time": "It takes as long.",
        },
        "a slow spell of the machine then hits both",
    ),
    Question(
        "One token meets a large FP8 layer whose weight comes from memory. What can 2:4 gain at most by bytes?",
        {
            "2 times: half of the weights are gone": "Of the weights, but each kept one has 2 bits of position.",
            "1.78 times": "That is BF16: 32 bits become 16 + 2.",
            "nothing: with one token the arithmetic idles": "So it does, and just then bytes are what counts.",
            "1.6 times": "Two numbers took 16 bits, and take 8 + 2.",
        },
        "1.6 times",
    ),
    Question(
        "With 64 tokens many layers are slower with 2:4 than dense, in FP8. Which reason does the model know?",
        {
            "starting a 2:4 kernel takes far longer": "The launch is the same term for both.",
            "a dense kernel shares out K among idle multiprocessors": "A 2:4 kernel does not, and walks along K alone.",
            "2:4 weights take more bytes": "They take fewer: 5 of 8 in FP8.",
            "half of the operations are still done": "That they are only half is why many tokens gain.",
        },
        "a dense kernel shares out K among idle multiprocessors",
    ),
    Question(
        "Qwen2.5-14B writes for 128 readers 1.88 times as fast with 2:4, more than any of its kernels. Why?",
        {
            "smaller weights leave memory for more readers at once": "Their keys and values fit; fewer have to wait.",
            "Amdahl's law allows more than the kernel's gain": "It never does: the share that stays only costs.",
            "attention becomes faster, too": "2:4 changes the linear layers and nothing else.",
            "the host takes less time with 2:4": "It does the same work either way.",
        },
        "smaller weights leave memory for more readers at once",
    ),
]

READINGS: dict = {
    "5.5": Claims(
        "ad",
        {
            "a": "from 1.96 to 1.49: casts, norms and activation take as long as before.",
            "b": "1.55 becomes 1.37: the smaller layers gain less with few tokens, some nothing.",
            "c": "the GPU's step alone gains 1.20; the host takes it to 1.16.",
            "d": "while reading the host is done before the GPU, on both cards: the last two points are equal.",
            "e": "it takes as long as before; its share grew since the step shrank.",
        },
    )
}

READ, WRITE = "reading 4,096 tokens", "writing for 64 readers"


def _over_bf16(n, card: str, M: int) -> tuple[float, float]:
    """Median gains of dense FP8 and of FP8 with 2:4, over dense BF16, of the published layers."""
    wide = {(row.model, row.M, row.N, row.K): row.dense_us for row in n.published_rows(card, "bf16")}
    rows = [row for row in n.published_rows(card, "fp8") if row.M == M and row.model != "SQUARE"]
    pairs = [(wide[key], row) for row in rows if (key := (row.model, row.M, row.N, row.K)) in wide]
    return median(us / row.dense_us for us, row in pairs), median(us / row.sparse24_us for us, row in pairs)


SENTENCES: dict = {
    "of the kernel's 2.01 the model keeps 1.50 while it reads, of 1.55 it keeps 1.15 while it writes": (
        lambda n: (
            [round(gain, 2) for task in (READ, WRITE) for gain in n.story["RTX 4090", task]] == [2.01, 1.5, 1.55, 1.15]
        )
    ),
    "each model gains less than its longest product": lambda n: all(m < k for k, m in n.story.values()),
    "each term of the layer's model brings the mean error down, below 10 % at last": (
        lambda n: (
            list(n.errors.values()) == sorted(n.errors.values(), reverse=True) and list(n.errors.values())[-1] < 0.1
        )
    ),
    "64 x 16384 x 2048 was published as faster than memory allows, and its neighbour takes 3.7 times as long": (
        lambda n: (
            n.bf16[64, 16384, 2048].dense_us < 0.5 * n.by_hand(n.bf16[64, 16384, 2048])["roofline"]
            and abs(n.bf16[64, 16384, 3072].dense_us / n.bf16[64, 16384, 2048].dense_us - 3.7) < 0.1
        )
    ),
    "with 64 tokens 2:4 in FP8 is slower than dense for more than half of the layers on the RTX 4090": (
        lambda n: n.slow["RTX 4090"][0] > 10 and n.slow["RTX 4090"][5] == 0
    ),
    "with 64 tokens none of the slower ones has more than 5,120 outputs": (
        lambda n: all(
            row.N <= 5120
            for card in n.found
            for row in n.published_rows(card, "fp8")
            if row.M == 64 and row.model != "SQUARE" and row.speedup < 1
        )
    ),
    "with 64 tokens 2:4 in BF16 is 1.2 to 1.6 times as fast in the median on the RTX 4090": (
        lambda n: 1.2 < n.middle["RTX 4090", "BF16"] < 1.6
    ),
    "on the RTX 5080 2:4 in FP8 gains nothing in the median of 64 tokens, and some layers are slower": (
        lambda n: abs(n.middle["RTX 5080", "FP8"] - 1) < 0.03 and n.slow["RTX 5080"][0] > 3
    ),
    "with thousands of tokens 2:4 is about twice as fast on the RTX 4090, 1.7 to 1.9 times on the RTX 5080": (
        lambda n: all(
            low < median(by[M]) < high
            for name, low, high in (("RTX 4090", 1.85, 2.1), ("RTX 5080", 1.69, 1.91))
            for by in n.found[name].values()
            for M in (4096, 8192, 16384)
        )
    ),
    "in these layers FP8 gains with few tokens and with many, and with 2:4 nears 4 with many": (
        lambda n: all(
            _over_bf16(n, card, M)[0] > 1.6 and (M < 4096 or _over_bf16(n, card, M)[1] > 3.4)
            for card in n.found
            for M in n.sizes
        )
    ),
    "while reading the host is done before the GPU, on both cards": (
        lambda n: all(s.host_us < s.gpu_us for (_, task), both in n.steps.items() if task == READ for s in both)
    ),
    "linear layers that took no time would make writing twice as fast": (
        lambda n: abs(1 / (1 - n.share[WRITE]) - 2) < 0.05
    ),
    "while reading most is lost between the linear layers and the decoder blocks": (
        lambda n: all(
            gain["linear layers"] - gain["decoder blocks"] > 5 * (gain["decoder blocks"] - gain["step with host"])
            for gain in (by[READ] for by in n.stages.values())
        )
    ),
    "on the RTX 4090 1.96 becomes 1.49 while reading, and 1.55, 1.37, 1.20 and 1.16 follow while writing": (
        lambda n: (
            [round(n.stages["RTX 4090"][READ][part], 2) for part in ("linear layers", "decoder blocks")] == [1.96, 1.49]
            and [
                round(n.stages["RTX 4090"][WRITE][part], 2)
                for part in ("longest product", "linear layers", "GPU's step", "step with host")
            ]
            == [1.55, 1.37, 1.2, 1.16]
        )
    ),
    "the predicted gains of whole steps lie within 3 % of the published ones": (
        lambda n: all(
            abs(by[task]["step with host"] / n.told[name, task] - 1) < 0.03
            for name, by in n.stages.items()
            for task in by
        )
    ),
    "Qwen2.5-14B gains more than each of its kernels where memory is short, for more readers fit": (
        lambda n: n.crowded.gain > max(n.kernels) and n.large.sparse24.fits > 2 * n.large.dense.fits
    ),
    "hiding the host is worth more to a writer than the zeros": (
        lambda n: (lambda dense, sparse: dense.us / dense.gpu_us > dense.us / sparse.us)(*n.here[WRITE])
    ),
    "with one token FP8 gains on each of the five cards, and a T4 has no kernel for 2:4": (
        lambda n: all(by[1]["FP8"] > 1.7 for by in n.on_cards.values()) and n.on_cards["T4"][1]["2:4"] is None
    ),
    "with 64 tokens 2:4 gains 0.92 in the median of section 6, and the linear layers 1.37": (
        lambda n: (
            round(n.middle["RTX 4090", "FP8"], 2) == 0.92
            and round(n.stages["RTX 4090"][WRITE]["linear layers"], 2) == 1.37
        )
    ),
    "this model's layers are large: more than half of its weights are in its longest product": (
        lambda n: (
            max(sizes := [layer.N * layer.K for layer in n.find_model("Qwen2.5-7B").layers]) == 37888 * 3584
            and max(sizes) > sum(sizes) / 2
        )
    ),
    "while reading the host takes 72 milliseconds of 252, and of 170 with 2:4": (
        lambda n: [round(us / 1e3) for us in (n.here[READ][0].host_us, *(s.us for s in n.here[READ]))] == [72, 252, 170]
    ),
    "on the RTX 5090 one token is 1.23 times as fast by 2:4, 1.93 by FP8, and 1.23 by both": (
        lambda n: (
            [round(n.on_cards["RTX 5090"][1][kind], 2) for kind in ("2:4", "FP8", "FP8 + 2:4")] == [1.23, 1.93, 1.23]
        )
    ),
    "with many tokens a T4 gains from neither, and an RTX 3090 from 2:4 only": (
        lambda n: (
            set(n.on_cards["T4"][4096].values()) == {None}
            and [kind for kind, gain in n.on_cards["RTX 3090"][4096].items() if gain] == ["2:4"]
        )
    ),
    "each layer of the embedded model waits for its launch, and gains nothing": (
        lambda n: all(p.bound == "launch" and p.speedup < 1.05 for p in n.tiny)
    ),
    "no median error of one layer's model on the H100 is outside 5 to 8 %": (
        lambda n: all(
            0.05 < error < 0.08
            for row in n.accuracy.accuracy_table()
            if row.gpu == "H100"
            for error in (row.dense, row.sparse24, row.speedup)
        )
    ),
    "tokens a second of whole models are off by 4 to 9 % in the median": (
        lambda n: all(
            0.035 < found.tokens_per_s < 0.095
            for card in ("RTX4090", "RTX5080")
            for found in n.whole_accuracy.regimes(card)
        )
    ),
    "37888 x 3584 gains less in BF16 than 1.3 on the RTX 4090 from 256 tokens on": (
        lambda n: all(row.speedup < 1.3 for row in n.bf16.values() if row.N == 37888 and row.M >= 256)
    ),
    "64 x 16384 x 3072 gains 3.98 as published, and less than half of it with its weight from memory": (
        lambda n: (
            round(n.bf16[64, 16384, 3072].speedup, 2) == 3.98
            and n.latency.predict(n.card, "bf16", 64, 16384, 3072, cold=True).speedup < 3.98 / 2
        )
    ),
    "for squares up to 512 dense FP8 takes longer than BF16 on the RTX 4090": (
        lambda n: all(
            row.dense_us > n.bf16[row.M, row.N, row.K].dense_us
            for row in n.published_rows("RTX 4090", "fp8")
            if row.model == "SQUARE" and row.M <= 512
        )
    ),
}
