# %% [markdown]
# # 05 RTX speed profiling
#
# A kernel that skips zeros is twice as fast. Whoever buys a card for that gets less from the model: where does the rest
# go?
#
# You will be able to
# 1. time two things so that the result means something, and see through benchmarks that lie;
# 2. say from its shape whether a layer waits for memory or for arithmetic, and predict its time term by term;
# 3. follow a gain from the kernel to the whole model, and say on which card zeros and FP8 pay.
#
# 110 minutes with all exercises; runs for 1 minute on two CPU cores, without a GPU; peak memory 1.5 GB.
# Before: [04 Joint pipeline](04_joint_pipeline.ipynb). Next: [06 Your model](06_your_model.ipynb).

# %% tags=["setup"]
# Set-up, the same in every notebook. Where prunekit is missing, put its wheel, which came with this notebook, beside it
# (on Colab into /content) and run this cell: it installs what is needed, and never another torch.
from importlib.util import find_spec

from IPython import get_ipython

if not find_spec("prunekit"):
    get_ipython().run_line_magic("pip", "install -q --no-deps --no-index -f . -f /content prunekit")
import prunekit as pk

pk.course.ready()

# %% tags=["nbval-ignore-output"]
from dataclasses import replace
from functools import partial
from math import ceil
from statistics import median
import torch
from torch.nn.functional import linear
from prunekit import course
from prunekit.bench import timing
from prunekit.course.figures import speed as figures
from prunekit.course.lessons.clinic import Clinic, as_csr, best_of_three, measure_gpu, once, times_faster
from prunekit.course.lessons.kernels_for_zeros import show_kernels_for_zeros
from prunekit.speed import accuracy, devices, doctor, latency, plots, shapes
from prunekit.speed.published import published_rows
from prunekit.speed.whole import accuracy as whole_accuracy, plots as whole
from prunekit.speed.whole.model import find_model
from prunekit.speed.whole.published import published_settings
from prunekit.speed.whole.throughput import amdahl, predict_model

# %% [markdown]
# ## 1. A number that hurts
# Qwen2.5-7B is a language model, its [weights](GLOSSARY.md#weight) stored in [FP8](GLOSSARY.md#fp8). Half of them are
# set to zero, in the [2:4](GLOSSARY.md#n-m-sparsity) pattern. A server first *reads* thousands of prompt
# [tokens](GLOSSARY.md#token) at once. Then it *writes*, one for each reader at a time ([prefill and
# decode](GLOSSARY.md#prefill-and-decode)).
#
# On an RTX 4090 the [kernel](GLOSSARY.md#kernel) for the longest matrix product, 37888 x 3584, is then 2.01 times as
# fast while 4,096 tokens are read, and 1.55 times while 64 are written. That was
# [published](BIBLIOGRAPHY.md#vllmbench), and it is true.

# %% tags=["nbval-ignore-output"]
guesses = ["1.55 times as fast, too", "between 1.3 and 1.55 times", "less than 1.3 times as fast"]
course.predict("model", "The kernel gains 1.55. The whole model, writing for 64 readers, is ...", guesses)

# %% tags=["nbval-ignore-output"]
tasks = {"reading 4,096 tokens": ("prefill", 4096), "writing for 64 readers": ("decode", 64)}
settings, story = {}, {}
for name in ("RTX 4090", "RTX 5080"):
    for task, (phase, M) in tasks.items():
        kernel = next(r for r in published_rows(name, "fp8") if (r.M, r.N, r.K) == (M, 37888, 3584))
        rows = [s for s in published_settings(name, "fp8") if s.model == "Qwen2.5-7B"]
        settings[name, task] = next(s for s in rows if (s.phase, s.M) == (phase, M))
        story[name, task] = kernel.speedup, settings[name, task].gain
course.show(whole.pairs(story), f"Times as fast with 2:4, published, kernel and model: {figures.said(story)}.")
course.reveal("model", guesses[2], f"Published, kernel and model: {figures.said(story)}.")

# %% [markdown]
# Of 2.01 the model keeps 1.50 while it reads, of 1.55 it keeps 1.15 while it writes. We look from the bottom: how to
# time at all, one layer, the model. Each time is *measured* on this CPU, *published* by others, or *predicted*.
#
# ## 2. What a mask alone saves
# A [mask](GLOSSARY.md#mask) makes half of the numbers zero. Does that halve the work? By hand, with a counter:

# %%
weight = torch.tensor([[2.0, -1.0, 3.0, 1.0], [1.0, 4.0, -2.0, 1.0]])
mask, x = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0]]), torch.tensor([1.0, 2.0, 3.0, 4.0])
out, count = torch.zeros(2), 0
for i, row in enumerate(weight * mask):
    for j, w in enumerate(row):
        out[i] += w * x[j]
        count += 1
print(f"masked product {out.tolist()}: {count} multiplications, {int((mask == 0).sum())} of them by zero")
assert torch.equal(out, linear(x, weight * mask)) and count == weight.numel()

# %% [markdown]
# As many as without the mask: looking first whether a weight is zero costs more than multiplying it.
#
# Now a real [linear layer](GLOSSARY.md#linear-layer), 1536 outputs, 576 inputs, 64 tokens. Half of it can be zeros that
# stay stored; a mask multiplied in at each call; compressed rows; or rows cut out, as removing
# [neurons](GLOSSARY.md#neuron) does.

# %% tags=["nbval-ignore-output"]
choices = ["about half as long", "about as long", "longer"]
course.predict("mask", "A real layer, its mask multiplied in at each call. Against dense, it takes ...", choices)

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
weight = pk.load("embedded", device="cpu")[0].model.layers[0].mlp.up_proj.weight.detach().float().clone()
mask, x = pk.magnitude_mask(weight, sparsity=0.5), torch.randn(64, 576)
zeros, half = weight * mask, weight[::2].clone()
ways = {
    "dense": partial(linear, x, weight),
    "zeros stored": partial(linear, x, zeros),
    "mask in each call": lambda: linear(x, weight * mask),
    "compressed rows": partial(torch.mm, as_csr(zeros), x.T),
    "half of the rows": partial(linear, x, half),
}
measured = best_of_three(ways)
times = {name: timing.speedup(measured["dense"], each)[0] for name, each in measured.items()}
course.show(
    figures.timings(measured, "64 tokens, weight 1536 x 576"), f"Times as fast as dense: {figures.said(times)}."
)
course.reveal("mask", "longer", f"Measured: {times['mask in each call']:.2f} times as fast.")
assert zeros.nbytes == weight.nbytes == 2 * half.nbytes  # a zero takes as many bytes as any other number

# %% [markdown]
# Only the last bar is about half as long. Multiplying the mask in is one more pass over the weight.
# [Unstructured](GLOSSARY.md#unstructured) zeros gain nothing *without a kernel for them*; section 8 lists those.
#
# ## 3. A clinic of benchmarks that lie
# Each patient below claims a gain where nothing became faster: the right answer is 1. `diagnose` puts the honest answer
# beside it. It warms up, times both *in turn* for 15 rounds, in each the best of three, and takes the median of the
# rounds' ratios. Half of the ratios lie between the quartiles, in brackets.
#
# **Lie 1: no warm-up.** The first call loads code, wakes threads and waits for memory. Whoever is timed second wins.
# The patient fills 40 MB of new memory, twice, in five cold starts:

# %% tags=["nbval-ignore-output"]
clinic, claims = Clinic(), []
for _ in range(5):
    room = torch.empty(10_000_000)  # the system gives memory when it is first touched
    fill = partial(room.fill_, 1.0)
    before, after = once(fill), once(fill)
    claims.append(before / after)
warm = partial(room[:1_000_000].fill_, 1.0)  # a tenth: a short call is seldom interrupted
clinic.diagnose("no warm-up", median(claims), warm, warm)

# %% [markdown]
# Both calls do the same; only the first has to wait for its memory.
#
# **Lie 2: no synchronisation.** A GPU takes an order and returns at once; it works while Python goes on. Stop the clock
# then, and you have timed the order. Here a thread stands in for the GPU: `submit` launches, `result` waits, as
# `torch.cuda.synchronize` does.

# %% tags=["nbval-ignore-output"]
from concurrent.futures import ThreadPoolExecutor

queue, work = ThreadPoolExecutor(max_workers=1), partial(linear, torch.randn(1024, 576), weight)
wait, launch = (lambda: queue.submit(work).result()), (lambda: queue.submit(work))
wait()  # warm up
waited, launched = once(wait), once(launch)
clinic.diagnose("no synchronisation", waited / launched, wait, wait)
queue.shutdown()

# %% [markdown]
# **Lie 3: the weight stays in the cache.** The same weight again and again comes from the cache. In a model the other
# layers come in between, and it comes from memory. Time the old weight cold and the new one hot, and you have invented
# a gain. `timing.rotating` hands out copies that together exceed the cache.

# %% tags=["nbval-ignore-output"]
token, copies = torch.randn(1, 576), timing.rotating(weight.clone, weight.nbytes, max_bytes=1 << 28)
cold, hot = (lambda: linear(token, copies())), (lambda: linear(token, weight))
clinic.diagnose("weight stays in the cache", times_faster(cold, hot)[0], cold, cold)

# %% [markdown]
# **Lie 4: all zeros.** Time may depend on the values. A sort of zeros finds everything in order already. The patient is
# the sort that [Wanda](BIBLIOGRAPHY.md#wanda) needs.
#
# **Lie 5: the mean of one against the best of the other.** All samples are of one product. Their mean is never below
# their minimum, so this benchmark cannot lose.

# %% tags=["nbval-ignore-output"]
sort, nothing = partial(torch.sort, weight[:128].abs()), partial(torch.sort, torch.zeros(128, 576))
clinic.diagnose("all zeros", times_faster(sort, nothing)[0], sort, sort)
samples = timing.time_in_turn({"dense": ways["dense"]}, rounds=40)["dense"].samples
claimed = sum(samples) / len(samples) / min(samples)
clinic.diagnose("mean against best", claimed, ways["dense"], ways["dense"])

# %% [markdown]
# **Lie 6: another dtype.** The old code ran in float64, the new one in float32, and the gain is put down to pruning.
#
# **Lie 7: the mask is made inside the clock**, but only for the rival. Whether a cost is paid once or in each call is
# part of the question; both sides must pay it in the same place.

# %% tags=["nbval-ignore-output"]
double, new = partial(linear, x.double(), zeros.double()), ways["zeros stored"]
clinic.diagnose("another dtype", times_faster(double, new)[0], ways["dense"], new)
claimed, *_ = times_faster(lambda: linear(x, weight * pk.magnitude_mask(weight, 0.5)), new)
clinic.diagnose("mask made in the clock", claimed, ways["dense"], new)
both = {lie: (claim, honest[0]) for lie, (claim, honest) in clinic.found.items()}
course.show(figures.clinic(clinic.found), f"Times as fast, claimed and honest: {figures.said(both)}.")

# %% [markdown]
# Crosses are claims, dots are true. A dot away from 1, or a wide band, says that the machine was busy. Then even an
# honest benchmark should answer "cannot tell".
#
# ### Exercise 5.1: judge a benchmark (easy, 8 minutes)
# `base` and `other` hold seconds of the same rounds. Return two things. First the median of the ratios, `base` over
# `other`, round by round (of an even count, the mean of the middle two). Then a verdict: `"faster"` if `other` took
# less time than `base` in at least three quarters of the rounds, `"slower"` if it took more time in at least three
# quarters, else `"cannot tell"`. Equal times count for neither.


# %% tags=["exercise"]
def judge(base: list[float], other: list[float]) -> tuple[float, str]:
    """base, other: seconds, as many of each; returns the median ratio and the verdict."""


course.check("5.1", judge)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Two separate questions: how much, and how often. The verdict does not look at the ratio.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `statistics.median` of `b / o` for the pairs from `zip(base, other)`. Count `b > o` and `b < o`, and hold both counts
# against `0.75 * len(base)`.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# from statistics import median
#
#
# def judge(base, other):
#     ratio = median(b / o for b, o in zip(base, other))
#     faster = sum(b > o for b, o in zip(base, other))
#     slower = sum(b < o for b, o in zip(base, other))
#     needed = 0.75 * len(base)
#     return ratio, "faster" if faster >= needed else "slower" if slower >= needed else "cannot tell"
# ```
# </details>

# %% [markdown]
# ## 4. The roofline: memory or arithmetic?
# A layer with weight `[N, K]` meets `M` tokens. It does `2 M N K` operations; its input, weight and output cross the
# memory bus. A card's rate over its bandwidth is its operations per byte. Below that a layer is
# [memory-bound](GLOSSARY.md#memory-bound), above it compute-bound: the [roofline](GLOSSARY.md#roofline) of [Williams
# and others](BIBLIOGRAPHY.md#roofline). For a layer of 3584 x 3584 in [bfloat16](GLOSSARY.md#bfloat16) (BF16):

# %% tags=["nbval-ignore-output"]
card = devices.find_gpu("RTX 4090")
ridge = card.bf16 * 1e12 / (card.bandwidth_gbs * 1e9)
per_byte = {M: 2 * M * 3584**2 / (2 * (M * 3584 + 3584**2 + M * 3584)) for M in (1, 16, 256, 4096)}
rows = [(M, f"{value:.1f}", "memory" if value < ridge else "compute") for M, value in per_byte.items()]
course.table(["tokens", "operations per byte", "bound by"], rows, f"{card.name}, data sheet: {ridge:.0f} a byte")
alt = f"Operations per byte by tokens: {figures.said(per_byte)}; the roof begins at {ridge:.0f}."
course.show(plots.roofline(card, "bf16", find_model("Qwen2.5-7B").layers, tuple(per_byte)), alt)

# %% [markdown]
# While `M` is small, the arithmetic idles, and only *fewer bytes* help. FP8 halves them, and doubles the rate. 2:4
# doubles the rate, too, but each number that it keeps needs 2 bits for its place. Two neighbours took 32 bits in BF16,
# and now 16 + 2: at most 1.78 times as fast. In FP8 16 bits become 8 + 2: at most 1.6.
#
# ### Exercise 5.2: arithmetic intensity, dense and 2:4 (easy, 8 minutes)
# Return the operations per byte of a product: input `[M, K]` and weight `[N, K]` with `bytes_in` bytes a number, output
# `[M, N]` with `bytes_out`. If `sparse24`, the weight is stored in 2:4, with 2 bits for each number that is kept; do
# not round to whole bytes. Count the operations as for the dense product either way.


# %% tags=["exercise"]
def intensity(M: int, N: int, K: int, bytes_in: int, bytes_out: int, sparse24: bool) -> float:
    """M tokens, N outputs, K inputs (a multiple of 4); returns operations per byte."""


course.check("5.2", intensity)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Write down the bytes of three things: input, weight, output. Only the weight depends on `sparse24`.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# In 2:4 there are `N * K / 2` numbers of `bytes_in` bytes, and as many times 2 bits, which are `2 / 8` of a byte.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def intensity(M, N, K, bytes_in, bytes_out, sparse24):
#     weight = N * K * bytes_in
#     if sparse24:
#         weight = weight / 2 + (N * K / 2) * 2 / 8  # half of the numbers, and 2 bits for each
#     return 2 * M * N * K / (M * K * bytes_in + weight + M * N * bytes_out)
# ```
# </details>

# %% [markdown]
# ## 5. The time of one layer, term by term
# The roofline is the least [latency](GLOSSARY.md#latency) of a layer. Three terms are missing. First the **launch**:
# starting a kernel takes some 3 microseconds.
#
# Second, **waves**. The output is cut into *tiles*, such as 128 x 128. Each of a GPU's
# [multiprocessors](GLOSSARY.md#multiprocessor) works on one at a time. With 4 of them, 6 tiles take two waves; the
# second is half empty, and takes as long ([wave quantization](GLOSSARY.md#wave-quantization)).
#
# ### Exercise 5.3: waves (medium, 10 minutes)
# An output of `M` rows and `N` columns is cut into tiles of `rows` x `columns`; tiles over the edge are whole tiles.
# `sms` multiprocessors do one tile each in a wave. Return the number of waves, and the efficiency: useful outputs over
# the outputs that all the waves could have computed.


# %% tags=["exercise"]
def waves(M: int, N: int, rows: int, columns: int, sms: int) -> tuple[int, float]:
    """M, N: size of the output; returns the number of waves, and the efficiency, at most 1."""


course.check("5.3", waves)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Everything that is cut comes in whole pieces: tiles along `M`, tiles along `N`, and waves. Round each up by itself.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `tiles = ceil(M / rows) * ceil(N / columns)`. All the waves together could compute `waves * sms` whole tiles.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# from math import ceil
#
#
# def waves(M, N, rows, columns, sms):
#     tiles = ceil(M / rows) * ceil(N / columns)
#     count = ceil(tiles / sms)
#     return count, M * N / (count * sms * rows * columns)
# ```
# </details>

# %% tags=["nbval-ignore-output"]
alt = "Predicted time by outputs: stairs, a step each 8,192 outputs, above the straight line of the peak rate."
course.show(figures.staircase(card), alt)

# %% [markdown]
# With 256 tokens up to 8,192 outputs take the same time: 2 x 64 tiles fill the card's 128 multiprocessors once. One
# output more costs a whole wave. Libraries try several tiles and take the best.
#
# The third term is the **cache**. A benchmark repeats one product; what fits in the card's 72 MB does not come from
# memory again. That is lie 3, in published tables too. All terms:


# %%
def by_hand(row):
    """Microseconds of a dense BF16 product on `card` after each term."""
    M, N, K, c = row.M, row.N, row.K, latency.CONSTANTS
    ideal, moved = 2 * M * N * K / (card.bf16 * 1e6), 2 * (M * K + N * K + M * N)
    memory = moved / (card.bandwidth_gbs * 1e3)
    # The tiles that libraries try, thinner ones for few tokens:
    tiles = [(min(rows, 16 * ceil(M / 16)), columns) for rows, columns in latency.TILES]
    tiled = min(ideal / figures.waves(M, N, *tile, card.sms)[1] for tile in tiles)
    cached = memory / c.l2_speed if moved < card.l2_mb * 1e6 else memory  # the cache is 3 times as fast as memory
    steps = {"+ launch": max(ideal, memory), "+ waves": max(tiled, memory), "+ cache": max(tiled, cached)}
    # A launch also waits for the host: on this card's desktop no kernel is done in less than 9.8 microseconds.
    launched = {name: max(c.launch_us + us, c.desktop_issue_us) for name, us in steps.items()}
    full = latency.predict(card, "bf16", M, N, K).dense_us
    return {"roofline": max(ideal, memory)} | launched | {"all terms": full}


# %% [markdown]
# Five published shapes, each ruled by another term. "All terms" is `latency.predict`, which `prunekit predict` prints;
# it adds what tiles lose by their edges and a few things more.

# %% tags=["nbval-ignore-output"]
bf16 = {(row.M, row.N, row.K): row for row in published_rows("RTX 4090", "bf16")}
chosen = [(64, 64, 64), (256, 4608, 3584), (64, 16384, 2048), (64, 16384, 3072), (4096, 3584, 18944)]
few = [row for row in bf16.values() if row.M <= 512]
errors = {term: sum(abs(by_hand(row)[term] / row.dense_us - 1) for row in few) / len(few) for term in by_hand(few[0])}
off = {shape: {term: us / bf16[shape].dense_us for term, us in by_hand(bf16[shape]).items()} for shape in chosen}
alt = f"Predicted over published time; grey band: 0.9 to 1.1; triangle: 64 16384 2048. {figures.said(off)}."
course.show(figures.terms([bf16[shape] for shape in chosen], by_hand), alt)
print(f"mean error of {len(few)} published products with up to 512 tokens: {figures.said(errors)}")

# %% [markdown]
# Each term pulls another shape into the grey band. The triangle was published as *faster than the memory bus allows*:
# its 67 MB lay in the cache. Its neighbour does not fit, and takes 3.7 times as long.
#
# ## 6. What a layer gains, as published
# Now 2:4 against dense in the same format, on both cards: layers of real models, each with the best kernel for either.

# %% tags=["nbval-ignore-output"]
gains = ["as fast as dense, too", "1.2 to 1.6 times as fast", "about twice as fast"]
asked = "RTX 4090, 64 tokens. In FP8 2:4 gains little, as 02 shows. In BF16 it is, in the median, ..."
course.predict("bf16-64", asked, gains)

# %% tags=["nbval-ignore-output"]
found, sizes = {}, [2**n for n in range(6, 15)]  # 64 to 16,384
for name in ("RTX 4090", "RTX 5080"):
    for dtype in ("BF16", "FP8"):
        layers = [row for row in published_rows(name, dtype) if row.model != "SQUARE"]
        found.setdefault(name, {})[dtype] = {M: [row.speedup for row in layers if row.M == M] for M in sizes}
middle = {(name, d): median(by[64]) for name, formats in found.items() for d, by in formats.items()}
many = {(name, d): median(by[4096]) for name, formats in found.items() for d, by in formats.items()}
alt = f"2:4 over dense, medians: at 64 tokens {figures.said(middle)}; at 4,096 {figures.said(many)}. Widest band: "
course.show(figures.gains(found), alt + "the blue one, BF16, RTX 5080, 64 tokens; it rises beyond 2.2.")
slow = {name: [sum(gain < 1 for gain in formats["FP8"][M]) for M in sizes] for name, formats in found.items()}
rows = [(name, *by) for name, by in slow.items()]
course.table(["tokens", *(f"{M:,}" for M in sizes)], rows, "Published: layers of 20 that 2:4 makes slower in FP8")
course.reveal("bf16-64", gains[1], f"Published: {middle['RTX 4090', 'BF16']:.2f}.")

# %% [markdown]
# With thousands of tokens 2:4 is about twice as fast on the RTX 4090, 1.7 to 1.9 times on the RTX 5080. With 64 and FP8
# it gains nothing in the median, and many layers become *slower*.
#
# With 64 tokens none of the slower ones has more than 5,120 outputs: 40 tiles for 128 multiprocessors. A dense kernel
# then cuts `K` into parts, gives each to an idle multiprocessor, and adds up the sums. A 2:4 kernel does not: one
# multiprocessor walks along the whole `K` of its tile.
#
# The blue band rises so far since some shapes have no good dense BF16 kernel. And FP8 itself?

# %% tags=["nbval-ignore-output"]
rows = []
for name, formats in found.items():
    wide = {(row.model, row.M, row.N, row.K): row.dense_us for row in published_rows(name, "bf16")}
    for M in (64, 4096):
        layers = [row for row in published_rows(name, "fp8") if row.M == M and row.model != "SQUARE"]
        pairs = [(wide[k], row) for row in layers if (k := (row.model, row.M, row.N, row.K)) in wide]
        fp8, both = median(us / row.dense_us for us, row in pairs), median(us / row.sparse24_us for us, row in pairs)
        told = median(latency.predict(name, "fp8", row.M, row.N, row.K).speedup for row in layers)
        rows.append((name, M, *(f"{value:.2f}" for value in (fp8, both, median(formats["FP8"][M]), told))))
head = ["card", "tokens", "FP8 / BF16", "FP8 + 2:4 / BF16", "2:4 in FP8", "predicted"]
course.table(head, rows, "Times as fast, medians over layers: published, and the last column predicted.")

# %% [markdown]
# In these layers FP8 gains with few tokens and with many. With 2:4 it nears 4 with many; with few, FP8 does nearly all
# of it. On the RTX 5080 2.52 is more than half of the bytes can give: a weight half as large may fit in the cache, and
# some BF16 kernels are poor.
#
# ## 7. From the kernel to the model
# Back to the number that hurt. A server's step is more than linear layers. A *decoder block* adds casts, norms,
# rotation, activation and attention; the *GPU's step* adds output embedding and sampling. The *host* is the computer
# around the card: while reading it works beside the GPU, while writing it makes the GPU wait.

# %% tags=["nbval-ignore-output"]
stages, steps = {}, {}
for (name, task), setting in settings.items():
    prompt, batch, written = setting.task
    answer = predict_model(name, "fp8", "Qwen2.5-7B", prompt=prompt, batch=batch, written=written)
    both = steps[name, task] = tuple(getattr(run, setting.phase) for run in (answer.dense, answer.sparse24))
    times = {
        "linear layers": [step.linear_us for step in both],
        "decoder blocks": [step.linear_us + step.cast_us + step.element_us + step.attention_us for step in both],
        "GPU's step": [step.gpu_us for step in both],
        "step with host": [step.us for step in both],
    }
    way = {"longest product": latency.predict(name, "fp8", setting.M, 37888, 3584, cold=True).speedup}
    stages.setdefault(name, {})[task] = way | {part: dense / sparse for part, (dense, sparse) in times.items()}
here = {task: both for (name, task), both in steps.items() if name == "RTX 4090"}
share = {task: dense.linear_us / dense.us for task, (dense, _) in here.items()}
alt = f"Terms of a step, in the table. Linear layers, blue, take of the dense step: {figures.said(share)}."
course.show(whole.steps(here, "Qwen2.5-7B in FP8 on an RTX 4090"), alt)
columns = [whole.parts(step) for both in here.values() for step in both]
rows = [(part, *(f"{by[part] / 1e3:.1f}" for by in columns)) for part in columns[0]]
head = ["milliseconds", *(f"{task[:7]}, {kind}" for task in here for kind in ("dense", "2:4"))]
course.table(head, rows, "RTX 4090, predicted")

# %% [markdown]
# 2:4 shortens the linear layers, blue, and nothing else. The casts are of activations, the inputs of each layer, in
# every step; weights were cast once.
#
# With 64 tokens 2:4 gained 0.92 in the median of section 6, and gains 1.37 here. There a benchmark repeats one product,
# and most weights come from the cache. In a model they come from memory (`cold=True`), where fewer bytes count, and
# this model's layers are large.
#
# This is [Amdahl's law](GLOSSARY.md#amdahls-law): if a share `p` of the time becomes `s` times as fast, the whole
# becomes `1 / (1 - p + p / s)` times as fast.

# %%
for task, (dense, sparse) in here.items():
    p, s = dense.linear_us / dense.us, dense.linear_us / sparse.linear_us
    print(f"{task}: p = {p:.2f}, s = {s:.2f}: {amdahl(p, s):.2f} times as fast; at most {1 / (1 - p):.2f}")

# %% [markdown]
# Even linear layers that took *no time* would make writing only twice as fast.
#
# ### Exercise 5.4: from the kernel's gain to the model's (medium, 10 minutes)
# A step has parts that run one after another. `us` says how long each took, `gains` how many times as fast each becomes
# (1: as before; below 1: slower). Return how many times as fast the step becomes, and how many times it would be if the
# first part took no time at all, the others as in `gains`. If then nothing is left, that is `math.inf`.


# %% tags=["exercise"]
def model_gain(us: list[float], gains: list[float]) -> tuple[float, float]:
    """us: microseconds of each part, not all 0; gains: as many, above 0; returns the gain, and the most."""


course.check("5.4", model_gain)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Gains cannot be averaged; times can be added. How long does each part take afterwards?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `after = [t / g for t, g in zip(us, gains)]`. The gain is `sum(us) / sum(after)`; for the most, leave `after[0]` out
# below the line, but keep `us[0]` above it. Look for a sum of 0 before you divide.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# import math
#
#
# def model_gain(us, gains):
#     after = [t / g for t, g in zip(us, gains)]
#     left = sum(after[1:])
#     return sum(us) / sum(after), sum(us) / left if left else math.inf
# ```
# </details>

# %% [markdown]
# Now the way of the factor 2, stage by stage, on both cards. The open points at the end were published.

# %% tags=["nbval-ignore-output"]
told = {key: setting.gain for key, setting in settings.items()}
alt = f"Gain from the longest product to the step: {figures.said(stages)}. Published: {figures.said(told)}."
course.show(whole.stages(stages, told, "Qwen2.5-7B in FP8"), alt)

# %% [markdown]
# ### Exercise 5.5: read the way down (interpret, 5 minutes)
# Which of these follow from the last picture and the one of the terms?
#
# - a. While reading on the RTX 4090, most is lost between the linear layers and the decoder blocks.
# - b. While writing, all linear layers together gain as much as the longest product.
# - c. A host that took no time would make 2:4 gain nearly 2 while the RTX 4090 writes.
# - d. A faster host would change nothing while reading these 4,096 tokens.
# - e. 2:4 makes attention slower: its share grew.

# %% tags=["exercise"]
answer = ""  # such as "be"
course.interpret("5.5", answer)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# For each loss, name the two neighbouring points. For the host, look where its mark stands against the end of the bar:
# 72 milliseconds of 252, and of 170 with 2:4.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# The point before "step with host" is what a host without any time would leave. A share can grow because the others
# shrink.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# `ad`. From 1.96 to 1.49 is the one large step while reading. While writing, small layers gain less than the long one:
# 1.55 becomes 1.37. Without the host 1.20 is left, far from 2. While reading the host is done before the GPU. And
# attention takes as many milliseconds as before.
# </details>

# %% [markdown]
# **Where memory is short, the model gains more than its kernel.** A server keeps keys and values of every reader: the
# [KV cache](GLOSSARY.md#kv-cache). Qwen2.5-14B leaves little room for it on a 24 GB card, so readers wait.

# %% tags=["nbval-ignore-output"]
large = predict_model("RTX 4090", "fp8", "Qwen2.5-14B", prompt=16, batch=128, written=256)
runs = {"dense": large.dense, "2:4": large.sparse24}
rows = [(kind, f"{run.memory.weights / 1e9:.1f}", run.fits, f"{run.seconds:.0f}") for kind, run in runs.items()]
course.table(["", "weights, GB", "readers at once", "seconds for 128 readers"], rows, "Qwen2.5-14B in FP8, predicted")
written = [s for s in published_settings("RTX 4090", "fp8") if s.model == "Qwen2.5-14B" and s.phase == "decode"]
crowded = next(setting for setting in written if setting.M == 128)
kernels = [row.speedup for row in published_rows("RTX 4090", "fp8") if row.model == "Qwen2.5-14B" and row.M == 128]
print(f"published: its kernels {min(kernels):.2f} to {max(kernels):.2f}, the model {crowded.gain:.2f} times as fast")

# %% [markdown]
# **What would mend the number that hurt?** Take the terms apart: activations cast by the kernel before, or a host that
# prepares the next step while the GPU works.

# %% tags=["nbval-ignore-output"]
rows, changes = [], {"as it is": {}, "no separate casts": {"cast_us": 0.0}, "host hidden": {"host_us": 0.0}}
for what, change in changes.items():
    for task, (dense, sparse) in here.items():
        new, new24 = replace(dense, **change), replace(sparse, **change)
        ratios = dense.us / new.us, new.us / new24.us, dense.us / new24.us
        rows.append((what, task, *(f"{ratio:.2f}" for ratio in ratios)))
course.table(["change", "task", "by the change", "by 2:4 then", "by both"], rows, "RTX 4090, times as fast, predicted")

# %% [markdown]
# While writing, a hidden host is worth more than the zeros are. While reading it is worth nothing, and the casts are
# what to mend. Either leaves the linear layers a larger share of the step, so that the zeros gain more, too.
#
# ## 8. Who multiplies zeros, on which card?
# Zeros gain nothing without a kernel for them, and these are the kernels:

# %%
show_kernels_for_zeros()

# %% [markdown]
# Those zeros are not free: 2:4 costs more quality than unstructured ones, as [02](02_structured_masks.ipynb) shows.
#
# [Sparse tensor cores](GLOSSARY.md#sparse-tensor-core) came with [compute capability](GLOSSARY.md#compute-capability)
# 8.0, FP8 ones with 8.9. Without the latter FP8 can still gain at few tokens: a [weight-only
# kernel](BIBLIOGRAPHY.md#fp8-marlin) reads one byte a weight and multiplies in 16 bits. One layer, its weight from
# memory:

# %% tags=["nbval-ignore-output"]
on_cards = {}
for name in ("T4", "RTX 3090", "RTX 4090", "RTX 5080", "RTX 5090"):
    gpu = devices.find_gpu(name)
    for M in (1, 4096):
        base = latency.predict(gpu, "bf16" if gpu.bf16 else "fp16", M, 3584, 18944, cold=True)
        fp8 = latency.predict(gpu, "fp8", M, 3584, 18944, cold=True) if gpu.fp8 or M <= devices.FEW_TOKENS else None
        us = {"FP8": fp8 and fp8.dense_us, "FP8 + 2:4": fp8 and fp8.sparse24_us}
        by = {kind: each and base.dense_us / each for kind, each in us.items()}
        on_cards.setdefault(name, {})[M] = {"2:4": base.speedup} | by
course.show(figures.cards(on_cards, "one layer, weight 3584 x 18944"), f"Predicted gains: {figures.said(on_cards)}.")
tiny = [latency.predict(card, "bf16", 1, layer.N, layer.K, cold=True) for layer in shapes.model_layers("embedded")]
print("embedded model, one token, 2:4 (predicted):", [f"{p.speedup:.2f}, {p.bound}" for p in tiny])

# %% [markdown]
# With one token FP8 gains by its bytes on every card, a T4 included. 2:4 gains by bytes where there is a kernel. On the
# RTX 5090 memory is so fast that the kernel's walk along `K` takes longer: 1.23 times as fast as dense BF16, in FP8
# as well. FP8 alone is at 1.93: there 2:4 makes it *slower*.
#
# A small model is another story: each layer of ours waits for its launch, and gains nothing.

# %% [markdown]
# ## 9. Your machine
# `prunekit doctor` does not trust a table: it tries a tiny product in each format. If it finds a GPU, the last line
# times dense, 2:4 and FP8 products there.

# %% tags=["nbval-ignore-output"]
report = doctor.examine()
print(*doctor.describe(report), sep="\n")
measure_gpu(report["gpu"])

# %% [markdown]
# FP8 "yes" under CPU means that the arithmetic is right there, not that it is fast.
#
# ### Exercise 5.6: from a data sheet to tokens a second (hard, 20 minutes)
# Put the parts together. A step takes `rest` microseconds, and for each layer `launch` plus the longer of two:
# - arithmetic: `2 M N K` operations at `peak` operations a microsecond, over the efficiency of waves of 128 x 128
#   tiles on `sms` multiprocessors;
# - memory: all bytes at `bandwidth` bytes a microsecond. Input and weight take 1 byte a number, the output 2.
#
# With 2:4 the operations halve, and the weight is stored as in exercise 5.2. The step gives `M` tokens. Return tokens a
# second, dense and with 2:4.


# %% tags=["exercise"]
def throughput(M: int, layers: list, peak: float, bandwidth: float, sms: int, launch: float, rest: float) -> tuple:
    """layers: a pair (N, K) for each; launch, rest: microseconds; returns tokens a second, dense and with 2:4."""


course.check("5.6", throughput)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Exercise 5.3 gives the efficiency, 5.2 the bytes, and 5.4 says why the launches and the rest stay. Begin with one
# layer, dense.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `arithmetic = 2 * M * N * K / peak / efficiency`, `memory = (M * K + N * K + 2 * M * N) / bandwidth`. For 2:4 halve
# the first, and put `N * K * 5 / 8` in place of `N * K`. A second has a million microseconds.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# from math import ceil
#
#
# def throughput(M, layers, peak, bandwidth, sms, launch, rest):
#     dense = sparse = rest
#     for N, K in layers:
#         waves = ceil(ceil(M / 128) * ceil(N / 128) / sms)
#         efficiency = M * N / (waves * sms * 128 * 128)
#         arithmetic = 2 * M * N * K / peak / efficiency
#         others = M * K + 2 * M * N
#         dense += launch + max(arithmetic, (others + N * K) / bandwidth)
#         sparse += launch + max(arithmetic / 2, (others + N * K * 5 / 8) / bandwidth)
#     return M / dense * 1e6, M / sparse * 1e6
# ```
# </details>

# %% [markdown]
# ## How far to trust this
# - Nothing was measured on a GPU by us, and section 9 was not run on one.
# - Median errors stand below. A layer's constants were fitted to the RTX 4090 and RTX 5080 (1 to 4 %), the H100 only
#   looked at (5 to 8 %). A step's were fitted to the RTX 4090, with one figure for each host: tokens a second are off
#   by 4 to 9 %.
# - Below 64 tokens nothing was published; what 2:4 gains with one rests on one library's kernels.
# - Not explained: 37888 x 3584 gains less in BF16 than its neighbours; 2:4 in FP8 stops near 1.7 on the RTX 5080.
# - FP8 can be slower, too: for squares up to 512, where both wait for the launch.
# - 64 x 16384 x 3072 gains 3.98 in BF16 as published: half of it fits in the cache. In a model less than half of that
#   is predicted.
# - Most lies of the clinic time one call against itself: quartiles that leave out 1 are noise. Products can depend on
#   values, too: [subnormal](GLOSSARY.md#subnormal) numbers are slow.
# - The paper's 1.50 times as fast ([HWPQ](BIBLIOGRAPHY.md#hwpq)) we cannot place without its full text. Rates come
#   from [data sheets](BIBLIOGRAPHY.md#data-sheets). See [CHOICES](CHOICES.md) and [RESULTS](RESULTS.md).

# %%
tables = accuracy.format_table(accuracy.accuracy_table()), whole_accuracy.format_regimes()
print(*tables, sep="\n\nwhole models in FP8, median errors by what binds:\n")
course.holds("05", globals())

# %% [markdown]
# ## Quiz
# Five questions on what you have seen.

# %% tags=["quiz", "nbval-ignore-output"]
course.quiz("05")

# %% [markdown]
# ## What you can do now
# 1. *Time things, and see through lies.* Warm up, synchronise, take turns, exceed the cache, use real values, count the
#    same work on both sides, and give the median of the ratios with its spread.
# 2. *Predict a layer.* Operations per byte say memory or arithmetic. Launch, waves and cache bring the estimate near
#    published times.
# 3. *Follow a gain.* A kernel that is twice as fast leaves 1.5 while reading, one that gains 1.55 leaves 1.15 while
#    writing. What it does not touch decides, unless memory is short. FP8 gains with few tokens and with many, 2:4 with
#    many, a mask alone never.
#
# `prunekit predict --gpu NAME --model MODEL --prompt 1024` does this for your card and model. Next: [06 Your
# model](06_your_model.ipynb) compresses one and judges it.
