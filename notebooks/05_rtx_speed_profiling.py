# %% [markdown]
# # 05 RTX speed profiling
#
# You will be able to
# 1. time two things so that the result means something, and see through benchmarks that lie;
# 2. say from its shape whether a layer waits for memory or for arithmetic, and estimate its latency term by term;
# 3. say what 2:4 and FP8 gain on which card at how many tokens, and where they are slower.
#
# Needs: no GPU. About half a minute on two CPU cores, peak memory about 1.5 GB.
# Before: [04 Joint pipeline](04_joint_pipeline.ipynb). Next: [06 Your model](06_your_model.ipynb).
#
# Every time in this notebook is one of three kinds, and says which. *Measured*: on the machine that ran the notebook,
# a CPU. *Published*: by the authors of [SlideSparse](BIBLIOGRAPHY.md#vllmbench), on an RTX 4090, RTX 5080 or H100.
# *Predicted*: by the latency model of section 4. Nothing was measured on a GPU by us; the last cell measures on yours,
# if there is one.

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
from functools import partial
from math import ceil
from statistics import median
import torch
from torch.nn.functional import linear
from prunekit import course
from prunekit.course.lessons.clinic import Clinic, as_csr, measure_gpu, once, times_faster
from prunekit.speed import accuracy, devices, doctor, latency, plots, published, shapes
from prunekit.speed.whole import accuracy as whole
from prunekit.bench import timing

# %% [markdown]
# ## 1. What a mask alone saves
# A [mask](GLOSSARY.md#mask) sets half of the numbers to zero. Does that halve the work? Say what you expect; then comes
# a product by hand, with a counter beside the multiplication.

# %% tags=["nbval-ignore-output"]
choices = ["about half as long", "about as long", "twice as long"]
course.predict("mask", "Half of a real layer becomes zeros. Against the dense product, it takes ...", choices)

# %%
weight = torch.tensor([[2.0, -1.0, 3.0, 1.0], [1.0, 4.0, -2.0, 1.0]])
mask, x = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0]]), torch.tensor([1.0, 2.0, 3.0, 4.0])


def product(weight, x):
    out, count = torch.zeros(len(weight)), 0
    for i, row in enumerate(weight):
        for j, w in enumerate(row):
            out[i] += w * x[j]
            count += 1
    return out, count


(out, count), (masked, same_count) = product(weight, x), product(weight * mask, x)
print(f"dense {out.tolist()}: {count} multiplications; masked {masked.tolist()}: {same_count} multiplications")
assert torch.equal(masked, linear(x, weight * mask)) and count == same_count == 8

# %% [markdown]
# The loop and the vector version agree, and the masked product did all eight multiplications, four of them by zero.
# Looking first whether a weight is zero would cost more than multiplying it: a processor multiplies many numbers in one
# instruction, but it branches one at a time.
#
# Now a real layer: the first up-projection of the embedded model, 1536 outputs and 576 inputs, with 64
# [tokens](GLOSSARY.md#token) of random numbers, which take as long as text. Four ways to use half of it, beside dense:
# zeros that stay stored; the mask multiplied in at each call; a sparse format (compressed rows, CSR); and half of the
# rows cut out, as removing [neurons](GLOSSARY.md#neuron) does. `time_in_turn` is the honest timer of section 2.

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
measured = timing.time_in_turn(ways)
alt = "Times as bars: dense and stored zeros alike, mask in each call and compressed rows longer, half the rows half."
course.show(course.figures.speed.timings(measured, "64 tokens, weight 1536 x 576"), alt)
ratio, *_ = timing.speedup(measured["dense"], measured["zeros stored"])
course.reveal("mask", "about as long", f"Measured: dense / zeros stored = {ratio:.2f}.")
clinic = Clinic()  # for section 2
assert zeros.nbytes == weight.nbytes == 2 * half.nbytes

# %% [markdown]
# On an idle machine the second bar is as long as the first, the third and the fourth are longer, and only the last is
# about half. (Long whiskers mean that something else was running; then trust none of it.) What holds on any machine is
# asserted: a zero takes as many bytes as any other number.
#
# So [unstructured](GLOSSARY.md#unstructured) zeros gain nothing here. What GPUs profit from is zeros in one pattern,
# [2:4](GLOSSARY.md#n-m-sparsity), with [sparse tensor cores](GLOSSARY.md#sparse-tensor-core); sections 3 to 6 are about
# what those give.
#
# ## 2. How to time, and a clinic of benchmarks that lie
# Each patient below claims a speed-up where nothing became faster, by a mistake that is common: the right answer is
# 1.0. `diagnose` puts the honest answer beside the claim: for lies 1 and 2 it times the same two calls again, for 3 to
# 5 one call against itself, since both sides were the same work, for 6 and 7 dense against pruned, in one dtype and
# with the mask made beforehand. Both sides are warmed up and timed in turn for 15 rounds, so that a slow spell of the
# machine hits both; a round repeats its call until it is long against the clock's step; the answer is the median of the
# rounds' ratios, with its quartiles. How far it is from 1.0 is the machine's noise.
#
# **Lie 1: no warm-up.** The first call loads code, gets memory and wakes threads; on a GPU it also loads the kernels
# and finds the clock low. Whoever is timed second wins. The patient selects weights by
# [quantile tracking](GLOSSARY.md#quantile-tracking), twice. (Run its cell a second time, and the lie is gone.)

# %% tags=["nbval-ignore-output"]
score = weight.abs()
select = partial(pk.quantile_mask, score, 0.5)
before, after = once(select), once(select)
clinic.diagnose("no warm-up", before / after, select, select)

# %% [markdown]
# **Lie 2: no synchronisation.** A GPU takes an order and returns at once; it works while Python goes on. A clock that
# is stopped then has timed the order, not the work. No GPU is used here, so a thread stands in for one: `submit` is
# the launch, and `result` waits as `torch.cuda.synchronize` does. With `device="cuda"`, `time_in_turn` uses CUDA
# events and synchronises.

# %% tags=["nbval-ignore-output"]
from concurrent.futures import ThreadPoolExecutor

queue, work = ThreadPoolExecutor(max_workers=1), partial(linear, torch.randn(2048, 576), weight)
work(), queue.submit(work).result()  # warm up
waited, launched = once(work), once(lambda: queue.submit(work))
clinic.diagnose("no synchronisation", waited / launched, work, lambda: queue.submit(work).result())
queue.shutdown()

# %% [markdown]
# **Lie 3: the weight stays in the cache.** One token, the same weight again and again: it is read from the cache. In a
# model the other layers come in between, and it is read from memory. `timing.rotating` hands out copies that together
# are twice as large as the last cache, here at most 268 MB. The caches of some servers hold even these; there the cold
# weight comes from the cache, too, and the lie is smaller. Whoever times the old weight cold and the new one hot has
# invented a speed-up.

# %% tags=["nbval-ignore-output"]
token, copies = torch.randn(1, 576), timing.rotating(weight.clone, weight.nbytes, max_bytes=1 << 28)
cold, hot = (lambda: linear(token, copies())), (lambda: linear(token, weight))
claimed, *_ = times_faster(cold, hot)
clinic.diagnose("weight stays in the cache", claimed, cold, cold)

# %% [markdown]
# **Lie 4: all zeros.** Time may depend on the values. A sort of zeros finds everything in order already. (Products
# can depend on them, too: [subnormal](GLOSSARY.md#subnormal) numbers are slow on some processors, and a GPU held back
# by its power limit can clock higher on zeros.) The patient is the sort that [Wanda](BIBLIOGRAPHY.md#wanda) needs.
#
# **Lie 5: the mean of one against the best of the other.** All samples below are of one and the same product. Their
# mean is never below their minimum, so this benchmark cannot lose: that is asserted.

# %% tags=["nbval-ignore-output"]
scores, nothing = score[:128], torch.zeros(128, 576)
claimed, *_ = times_faster(partial(torch.sort, scores), partial(torch.sort, nothing))
clinic.diagnose("all zeros", claimed, partial(torch.sort, scores), partial(torch.sort, scores))
samples = timing.time_in_turn({"dense": ways["dense"]}, rounds=40)["dense"].samples
claimed = sum(samples) / len(samples) / min(samples)
assert claimed >= 1
clinic.diagnose("mean against best", claimed, ways["dense"], ways["dense"])

# %% [markdown]
# **Lie 6: another dtype.** The old code ran in float64 (what NumPy makes of a list), the new one in float32, and the
# speed-up is put down to pruning.
#
# **Lie 7: the mask is made inside the clock**, but only for the rival. Whether a cost is paid once or in each call is
# part of the question; both sides must pay it in the same place.

# %% tags=["nbval-ignore-output"]
double, new = partial(linear, x.double(), zeros.double()), ways["zeros stored"]
clinic.diagnose("another dtype", times_faster(double, new)[0], ways["dense"], new)
claimed, *_ = times_faster(lambda: linear(x, weight * pk.magnitude_mask(weight, 0.5)), new)
clinic.diagnose("mask made in the clock", claimed, ways["dense"], new)
alt = "Seven bad benchmarks: the claimed speed-ups lie above 1, the honest ones near 1."
course.show(course.figures.speed.clinic(clinic.found), alt)

# %% [markdown]
# The crosses are what was claimed, the dots what is true. How far right a cross stands depends on the machine. A dot
# away from 1, or a wide band around it, says that the machine was busy: then even an honest benchmark should answer
# "cannot tell", and that is your first exercise.
#
# ### Exercise 5.1: judge a benchmark (easy, 8 minutes)
# `base` and `other` hold seconds of the same rounds. Return two things. First the median of the ratios, `base` over
# `other`, round by round (of an even count, the mean of the middle two). Then a verdict: `"faster"` if `other` took
# less time than `base` in at least three quarters of the rounds, `"slower"` if it took more time in at least three
# quarters, else `"cannot tell"`. Equal times count for neither.


# %% tags=["exercise"]
def judge(base: list[float], other: list[float]) -> tuple[float, str]:
    """base, other: seconds, as many of each; returns the median ratio and the verdict."""
    ...


course.check("5.1", judge)

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
# ## 3. The roofline: memory or arithmetic?
# A layer with weight `[N, K]` meets `M` tokens. It needs `2 M N K` operations (a multiplication and an addition
# each), and at least its input, weight and output must cross the memory bus. Operations per byte moved are its
# *arithmetic intensity*. A card's rate over its bandwidth says how many operations it can do while a byte arrives.
# Below that number a layer is [memory-bound](GLOSSARY.md#memory-bound), above it compute-bound: the
# [roofline](GLOSSARY.md#roofline) of [Williams and others](BIBLIOGRAPHY.md#roofline). By hand, for one token, `N = K
# = 4` and 2 bytes a number: 32 operations, 8 + 32 + 8 bytes, so 0.67 operations per byte.
#
# A layer of a 7B model (the output projection of Qwen2.5-7B, 3584 x 3584) in [bfloat16](GLOSSARY.md#bfloat16) (BF16),
# on an RTX 4090 by its [data sheet](BIBLIOGRAPHY.md#data-sheets):

# %% tags=["nbval-ignore-output"]
card = devices.find_gpu("RTX 4090")
ridge = card.bf16 * 1e12 / (card.bandwidth_gbs * 1e9)
print(f"{card.name}: {card.bf16} TFLOPS / {card.bandwidth_gbs} GB/s = {ridge:.0f} operations per byte")
for M in (1, 16, 256, 4096):
    ratio = 2 * M * 3584**2 / (2 * (M * 3584 + 3584**2 + M * 3584))
    print(f"{M:5} tokens: {ratio:7.1f} operations per byte, {'memory' if ratio < ridge else 'compute'}-bound")
alt = "Roofline: layers at 1 and 16 tokens lie on or below the slope of memory, at 256 and 4096 under the flat roof."
course.show(plots.roofline(card, "bf16", course.figures.speed.LAYERS_7B, (1, 16, 256, 4096)), alt)

# %% [markdown]
# While `M` is small the intensity is about `M`: each weight that arrives serves `M` tokens. At 1 and 16 tokens the
# layer is far below 164 operations per byte, and the arithmetic is idle most of the time; at 256 it has crossed.
# (Roof and slope are the data sheet's, the points predicted; small layers fall short of both, and section 4 says
# why.)
#
# [FP8](GLOSSARY.md#fp8) halves the bytes and doubles the rate. In operations per byte the crossing doubles, to twice
# 164; in tokens it stays near where it was, and both sides win up to 2 times. With 2:4 the two sides differ. The rate
# doubles, but the bytes do not quite halve: half of the numbers stay, and each needs 2 bits that say where in its group
# of four it belongs. Two neighbours took 32 bits in bfloat16 and now take 16 + 2, so at most 1.78 times as fast; in FP8
# they took 16 and now take 8 + 2, so at most 1.6.
#
# ### Exercise 5.2: arithmetic intensity, dense and 2:4 (easy, 8 minutes)
# Return the operations per byte of a product: input `[M, K]` and weight `[N, K]` with `bytes_in` bytes a number, output
# `[M, N]` with `bytes_out`. If `sparse24`, the weight is stored in 2:4, with 2 bits for each number that is kept; do
# not round to whole bytes. Count the operations as for the dense product either way.


# %% tags=["exercise"]
def intensity(M: int, N: int, K: int, bytes_in: int, bytes_out: int, sparse24: bool) -> float:
    """M tokens, N outputs, K inputs (a multiple of 4); returns operations per byte."""
    ...


course.check("5.2", intensity)

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
# ## 4. A latency model, term by term
# The roofline is a lower bound on the [latency](GLOSSARY.md#latency), unless the cache helps. Three more terms bring
# it near what a card does:
# - **Launch.** Starting a kernel, its first loads and its last stores take about 3 microseconds (fitted), and no
#   product on the desktop card was published below about 9; we take that as the pace of its host. Small layers pay
#   that and little else.
# - **Tiles and waves.** The output `[M, N]` is cut into tiles, for instance 128 x 128. A GPU consists of
#   multiprocessors (128 on an RTX 4090), each with its own tensor cores. Each works on one tile at a time, so time
#   moves in whole waves. Take a card with 4 multiprocessors and 6 tiles: 4 in the first wave, 2 in the second, which
#   takes as long as the first. 6 of 8 places are used, 75 % ([wave quantization](GLOSSARY.md#wave-quantization)).
# - **Cache.** A benchmark repeats one product. If its operands fit in the L2 cache (72 MB on an RTX 4090), they do not
#   come from memory again. That is lie 3, and published tables contain it, too.
#
# ### Exercise 5.3: waves (medium, 10 minutes)
# An output of `M` rows and `N` columns is cut into tiles of `rows` x `columns`; tiles over the edge are whole tiles.
# `sms` multiprocessors do one tile each in a wave. Return the number of waves, and the efficiency: useful outputs
# over the outputs that all the waves could have computed.


# %% tags=["exercise"]
def waves(M: int, N: int, rows: int, columns: int, sms: int) -> tuple[int, float]:
    """M, N: size of the output; returns the number of waves, and the efficiency, at most 1."""
    ...


course.check("5.3", waves)

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

# %% [markdown]
# The picture below shows whole waves of one tile shape: for 256 tokens up to 8,192 outputs take the same time, because
# 2 x 64 tiles of 128 x 128 fill the 128 multiprocessors once, and one output more costs a whole wave. Libraries try
# several shapes and take the best, and use thinner tiles for few tokens. Now all the terms in one function, for BF16.
# The constants `c` were fitted to the published RTX 4090 and RTX 5080 rows (`launch_us`, `l2_speed`) or read off the
# smallest products (`desktop_issue_us`); the rest is the data sheet. (For a server's card the smallest kernel's time
# was read off the H100 rows, and where a long kernel slows down was chosen with them in view.)


# %% tags=["nbval-ignore-output"]
def by_hand(row):
    """Microseconds of a dense BF16 product on `card` after each term."""
    M, N, K, c = row.M, row.N, row.K, latency.CONSTANTS
    ideal, moved = 2 * M * N * K / (card.bf16 * 1e6), 2 * (M * K + N * K + M * N)
    memory = moved / (card.bandwidth_gbs * 1e3)
    tiles = [(min(rows, 16 * ceil(M / 16)), columns) for rows, columns in latency.TILES]
    tiled = min(ideal / course.figures.speed.waves(M, N, *tile, card.sms)[1] for tile in tiles)
    cached = memory / c.l2_speed if moved < card.l2_mb * 1e6 else memory
    steps = {"+ launch": max(ideal, memory), "+ waves": max(tiled, memory), "+ cache": max(tiled, cached)}
    launched = {name: max(c.launch_us + us, c.desktop_issue_us) for name, us in steps.items()}
    whole = latency.predict(card, "bf16", M, N, K).dense_us
    return {"roofline": max(ideal, memory)} | launched | {"whole model": whole}


alt = "Predicted time against outputs: a staircase, one step for each wave, above the straight line of the peak rate."
course.show(course.figures.speed.staircase(card), alt)

# %% [markdown]
# Next, five published shapes, each ruled by another term; then the mean error over all published BF16 rows with up to
# 512 tokens, where the terms matter. "whole model" is `latency.predict`, which `prunekit predict` prints: it adds what
# tiles lose by their edges, splitting `K` over idle multiprocessors, and the share of the bandwidth that is really
# reached. It also knows which share of the data sheet's rate is reached (`burst` in `prunekit/speed/devices.csv`, from
# others' timings: 0.97 on this card, 0.66 on the H100; assumed where there are none). After it, a question about
# section 5.

# %% tags=["nbval-ignore-output"]
bf16 = {(row.M, row.N, row.K): row for row in published.published_rows("RTX 4090", "bf16")}
chosen = [(64, 64, 64), (256, 4608, 3584), (64, 16384, 2048), (64, 16384, 3072), (4096, 3584, 18944)]
alt = "Predicted over published time of five shapes: launch, waves and cache repair one each; all end near 1."
course.show(course.figures.speed.terms([bf16[shape] for shape in chosen], by_hand), alt)
few = [row for row in bf16.values() if row.M <= 512]
errors = {term: sum(abs(by_hand(row)[term] / row.dense_us - 1) for row in few) / len(few) for term in by_hand(few[0])}
print("mean error against published rows:", ", ".join(f"{term} {error:.0%}" for term, error in errors.items()))
assert list(errors.values()) == sorted(errors.values(), reverse=True) and errors["whole model"] < 0.1
gains = ["about twice as fast for most", "1.2 to 1.6 times as fast for most", "slower for more than half"]
course.predict("fp8-64", "RTX 4090, FP8, 64 tokens, 20 layer shapes. Against dense, a 2:4 weight is ...", gains)

# %% [markdown]
# Read the picture from left to right: each term pulls another shape into the grey band, and the printed error falls
# with each. 64 x 16384 x 2048 was published as *faster than the memory bus allows* (32 microseconds, where the bus
# alone needs 69): its 67 MB of weight were in the cache. Its neighbour with `K = 3072` has 101 MB, does not fit, and
# takes 3.7 times as long for 1.5 times the work. How far to trust it: constants were fitted on this card and the RTX
# 5080 (section 5 prints the error on one that no rate was fitted to), and below 64 tokens nothing was published to
# check against.
#
# ## 5. What an RTX 4090 gains, as published
# The first picture has published numbers only: the [SlideSparse](BIBLIOGRAPHY.md#vllmbench) authors' best dense and
# best 2:4 kernel for each shape, 25 calls to warm up, 50 timed; it has the 16 of the 20 shapes that were published in
# BF16, too. The second puts predictions beside.

# %% tags=["nbval-ignore-output"]
alt = "Published medians over dense BF16: FP8 1.6 to 2, 2:4 1.4 to 1.9, both 1.6 to 3.9; bands below 1 at 64 tokens."
course.show(course.figures.speed.gains("RTX 4090"), alt)
alt = "2:4 over dense in FP8: published median below 1 at 64 tokens, 2 from 4096 on; predicted near it."
course.show(plots.speedup_by_batch(card, "fp8"), alt)
rows = published.published_rows("RTX 4090", "fp8")
layers = [row for row in rows if row.model != "SQUARE"]
slow = {M: sum(r.speedup < 1 for r in layers if r.M == M) for M in (64, 128, 256, 512, 1024, 2048)}
course.reveal("fp8-64", gains[2], f"Shapes of 20 with a slower 2:4, by tokens (published): {slow}")
assert slow[64] > 10 and slow[2048] == 0
fp8, big, hit = {(row.M, row.N, row.K): row for row in rows}, (64, 27648, 5120), (64, 16384, 3072)
assert all(fp8[n, n, n].dense_us > bf16[n, n, n].dense_us for n in (64, 128, 256, 512))
print(f"{big}: {bf16[big].speedup:.2f} x in BF16, {fp8[big].speedup:.2f} x in FP8 (published)")
assert abs(bf16[big].speedup / (32 / 18) - 1) < 0.05 and abs(fp8[big].speedup / (16 / 10) - 1) < 0.05
in_model = latency.predict(card, "bf16", *hit, cold=True).speedup
print(f"{hit}: {bf16[hit].speedup:.2f} x (published), {in_model:.2f} x (predicted, weight from memory)")
assert bf16[hit].speedup > 2 * in_model and bf16[hit].dense_us > 3.5 * bf16[64, 16384, 2048].dense_us
assert all(row.speedup < 1.3 for row in bf16.values() if row.N == 37888 and row.M >= 256)
both = sorted(bf16[k].dense_us / row.sparse24_us for k, row in fp8.items() if k in bf16 and k[0] >= 4096)
assert 3.5 < both[len(both) // 2] < 4.2
print(accuracy.format_table(accuracy.accuracy_table()))
assert all(max(a.dense, a.sparse24, a.speedup) < 0.12 for a in accuracy.accuracy_table())
for name in ("RTX 4090", "RTX 5080"):
    at_64 = [r for r in published.published_rows(name, "fp8") if r.M == 64 and r.model != "SQUARE"]
    told = median(latency.predict(name, "fp8", r.M, r.N, r.K).speedup for r in at_64)
    print(f"{name}, 2:4 in FP8, 64 tokens: {median(r.speedup for r in at_64):.2f} x published, {told:.2f} x predicted")
print(f"whole models in FP8, published throughputs:\n{whole.format_regimes()}")

# %% [markdown]
# With thousands of tokens at once (reading a prompt, serving many people) each of the two makes most shapes about twice
# as fast, both together nearly 4 times. With 64 tokens 2:4 in FP8 is *slower* than dense FP8 for more than half of the
# shapes, at worst little more than half as fast. The model knows a reason: a 2:4 kernel does not share out `K` among
# idle multiprocessors, as a dense one does, and walks along `K` at its own pace. Its median there is printed beside the
# published one. With thousands some gain a little more than the 2 of section 3: the power limit holds back dense
# products, and hardly those with 2:4 (our reading; 5 %, fitted).
#
# Four more things that the medians hide; the figures are asserted above:
# - **FP8 can be slower, too.** For squares up to 512, dense FP8 takes longer than dense BF16: both wait for the launch,
#   and that of FP8 takes a little longer.
# - **Where memory rules, the bytes decide.** 64 tokens with a 27648 x 5120 weight gain about what section 3 allows,
#   1.78 times in BF16 and 1.6 in FP8.
# - **A gain of 4 times that a model will not see.** 64 x 16384 x 3072 gains 3.98 times in BF16 as published: at half
#   the size the weight fits in the cache. With a weight that comes from memory, as in a model, less than half of that
#   is predicted. Most of what stands far above the medians at 64 tokens is of this kind.
# - **Libraries have gaps.** The lower edge of the BF16 band on the right is one shape, 37888 x 3584, that gains less
#   than 1.3 times from 256 tokens on. No term of the model explains it; only measuring finds such a thing.
#
# The table is the whole model's median error against all published rows. No rate was fitted to the H100's, so theirs
# are the more honest ones, but not blind: see section 4, and the share of its rate that rests on others' timings. The
# median on the H100 is 5 to 8 %: half of the predictions are further off than that, and those for 2:4 in BF16 with few
# tokens by far more. That is enough to decide whether a weekend of work is worth it. It does not replace a measurement.
#
# ## 6. Other cards, and one token (skippable)
# FP8 tensor cores came with compute capability 8.9, 2:4 ones with 8.0. A T4 (7.5, Colab's free card) has neither kind,
# so with many tokens nothing is gained there. Ampere (RTX 3090) has 2:4; Ada (RTX 4090) and what came after have both.
# With few tokens FP8 *weights* may gain on older cards, too: a weight-only kernel reads one byte a weight and
# multiplies in 16 bits. vLLM has such kernels for cards from 7.5 on; for Ampere it reported up to twice the speed where
# memory is the limit ([published](BIBLIOGRAPHY.md#fp8-marlin)). The picture for one token counts these kernels. What
# follows is *predicted*, with weights that come from memory: one layer on four cards, then where the time of one token
# goes in the linear layers of the 7B model in FP8 on the RTX 4090, then the embedded model in BF16.

# %% tags=["nbval-ignore-output"]
t4, ampere, *newer = cards = [devices.find_gpu(name) for name in ("T4", "RTX 3090", "RTX 4090", "RTX 5090")]
assert not (t4.sparse24 or t4.fp8 or ampere.fp8) and ampere.sparse24 and all(gpu.sparse24 and gpu.fp8 for gpu in newer)
alt = "Predicted gains on four cards at 1 and 4096 tokens: T4 gains by FP8 at 1 only, RTX 3090 by 2:4 at both."
course.show(course.figures.speed.cards([gpu.name for gpu in cards], (1, 4096), N=3584, K=18944), alt)
alt = "Predicted time of one token by layer: the three large MLP layers take most of it, bound by memory."
course.show(plots.token_time(card, "fp8", course.figures.speed.LAYERS_7B, batch=1), alt)
tiny = [latency.predict(card, "bf16", 1, layer.N, layer.K, cold=True) for layer in shapes.model_layers("embedded")]
print("embedded model, one token, 2:4 (predicted):", [f"{p.speedup:.2f} x, {p.bound}" for p in tiny])
assert all(p.bound == "launch" and p.speedup < 1.05 for p in tiny)

# %% [markdown]
# With one token every large layer waits for memory: FP8 gains by its bytes on every card. 2:4 does so on three of the
# four. On the RTX 5090 memory is so fast that its kernel's walk along `K` takes longer, and 2:4 gains 1.23 times, FP8
# or not. For 64 tokens and more such kernels were published, for one none. The embedded model's layers are so small
# that each waits for its launch, and nothing is gained: launched one by one, a small model gains little from
# compression on a large card, unless many tokens run at once. (CUDA graphs take away a part of that wait; they are not
# in the model.) The terms of the RTX 50 series are those of the RTX 5080's published rows.
#
# Two things that no latency shows. 2:4 costs more quality than unstructured pruning, see [02 Structured
# masks](02_structured_masks.ipynb). And vLLM, a widely used server, [dropped 2:4 checkpoints in
# 2026](BIBLIOGRAPHY.md#vllm-sparse24), so 2:4 runs through PyTorch (`to_sparse_semi_structured`). The paper claims
# inference that is 1.50 times as fast ([HWPQ](BIBLIOGRAPHY.md#hwpq)); only abstracts and summaries of it were at hand,
# so we cannot say where in these pictures that belongs.
#
# ## 7. Your machine
# `prunekit doctor` does not trust a table: it runs a tiny product in each format. If it finds a GPU, the last line
# times dense, 2:4 and FP8 products there, as far as they work, with weights larger than the cache
# (134 MB in FP8); without one it says so. That
# line has not been run on a GPU by us.

# %% tags=["nbval-ignore-output"]
report = doctor.examine()
print(*doctor.describe(report), sep="\n")
measure_gpu(report["gpu"])

# %% [markdown]
# The last sentence of the report is the verdict: what the course measures on this machine, and what it shows from
# published figures. FP8 "yes" under CPU means that the arithmetic is right there, not that it is fast.
#
# ## What you can do now
# 1. *Time things, and see through lies.* Warm up, synchronise, take turns, rotate over buffers larger than the cache,
#    use real values, count the same work on both sides, give the median of the ratios with its spread. Seven benchmarks
#    found a speed-up where there is none; their honest twins lie near 1. (Quartiles that exclude 1 are no proof of
#    more: for most of them the same call was timed against itself.)
# 2. *Estimate a layer.* Operations per byte against the card's own number say memory or arithmetic; launch, waves and
#    cache bring the estimate near published times: on a card that no rate was fitted to, half of the predictions are
#    within 5 to 8 %, the others further off.
# 3. *Say what is gained.* A mask alone gains nothing. On an RTX 4090, 2:4 and FP8 gain about 2 times each with
#    thousands of tokens (published), by the bytes that they save with one (predicted), and 2:4 in FP8 can lose
#    with few tokens: most shapes at 64, a few up to 1,024 (published). With many tokens a T4 gains from neither, Ampere
#    from 2:4, Ada and later from both; with few, weight-only FP8 gains on older cards, too (predicted).
#
# Where to go next: `prunekit predict --gpu NAME --model MODEL` predicts your model's layers on your card, dense and
# 2:4, and [06 Your model](06_your_model.ipynb) compresses one and judges it.
