# %% [markdown]
# # 04 Joint pipeline
#
# Set the smaller half of a language model's weights to zero, and cast the rest to FP8. For every 100 next words that it
# got right, it now gets 38 right.
#
# The paper of this course claims 92, by a better choice. How many will it be here?
#
# You will be able to
# 1. say what differs between pruning first, casting first and doing both jointly, and how much it matters;
# 2. measure what a compressed model keeps, beside rivals and claims, and say how certain that is;
# 3. find the front of a trade-off, and the cheapest configuration that is good enough.
#
# 100 minutes with all exercises. Runs 2 minutes on two idle CPU cores, without a GPU; peak memory 2.5 GB.
# Before: [03 FP8 casting](03_fp8_casting.ipynb). Next: [05 RTX speed profiling](05_rtx_speed_profiling.ipynb).

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
from itertools import combinations
from statistics import median
import torch
from torch import Tensor
from prunekit import course
from prunekit.bench.measured import measured
from prunekit.bench.selection import gram_matrices
from prunekit.bench.timing import time_in_turn
from prunekit.evaluation import answers
from prunekit.kernels import cpu
from prunekit.method import one_pass
from prunekit.course.lessons import pipeline, points as pts

figures = course.figures.pipeline
pipeline.prepare()

# %% [markdown]
# ## 1. Half of the weights
# The naive way: [prune](GLOSSARY.md#pruning) the [weights](GLOSSARY.md#weight) of least magnitude, cast the others to
# [FP8](GLOSSARY.md#fp8). Then let both models guess every next [token](GLOSSARY.md#token) of a text.

# %% tags=["nbval-ignore-output"]
model, tokenizer = pk.load("embedded", device="cpu")
test = pk.corpus(tokenizer, tokens=2048, context=128)
dense = answers.judge(model, test)
naive = answers.judge(pk.compress(model, metric="magnitude", sparsity=0.5, fp8="e4m3").model, test)
kept, margin = answers.retention(naive, dense)
print(f"right guesses: dense {dense.hits.sum()}, pruned {naive.hits.sum()}")
print(f"retention {kept:.1%} +-{margin:.1%}; perplexity {dense.perplexity:.1f} becomes {naive.perplexity:.1f}")

# %% [markdown]
# [Retention](GLOSSARY.md#retention) is right guesses of one model over right guesses of the other, not always of the
# same words. [Perplexity](GLOSSARY.md#perplexity) stands beside it everywhere. 01 and 02 gave the dense model 14.6, in
# windows of 512 tokens. Here they have 128, and less is known before each word. Behind +- stands twice the [standard
# error](GLOSSARY.md#standard-error).

# %% tags=["nbval-ignore-output"]
goals = [("dense", 100.0, "measured here"), ("smaller half pruned, FP8", 100 * kept, "measured here")]
goals.append(("the paper, larger models", 100 * pts.CLAIMS[0.5], "as reported"))
alt = f"Retention: dense 100 %, smaller half pruned, FP8 {kept:.0%}, the paper as reported 92 %, this notebook: ?"
course.show(figures.halves([*goals, ("this notebook", None, "measured here")], "Half of the weights pruned"), alt)

# %% [markdown]
# ## 2. Three orders on a matrix that fits on this page
# Pruning a weight `W` loses `W^2 E`, where `E` is the [energy](GLOSSARY.md#energy) of its input. Casting it to `Q`
# loses `(W - Q)^2 E`.
#
# To follow by hand, take four bits first, [FP4 E2M1](BIBLIOGRAPHY.md#microscaling): eight magnitudes from 0 to 6. The
# [scale](GLOSSARY.md#scale) of a row makes its largest weight a 6.

# %%
W = torch.tensor([[1.3, 0.7, 1.4, 1.1, -0.5, 6.0], [2.6, 1.4, -2.2, 1.7, 6.0, 3.3]])
E = torch.tensor([1.0, 4.2, 1.0, 2.0, 0.05, 0.25])
GRID = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def cast(W):
    scale = W.abs().amax(1, keepdim=True) / 6
    nearest = ((W.abs() / scale)[..., None] - GRID).abs().argmin(-1)
    return W.sign() * GRID[nearest] * scale


Q = cast(W)
print(Q)

# %% [markdown]
# In the first row 0.7 became 0.5. Even if it is kept, part of it is lost. So what does keeping it save? The difference
# of the two losses, the **keep score** `(W^2 - (W - Q)^2) E`. As a loop, and as the library writes it:


# %%
def keep_score_loop(W, Q, E):
    score = torch.zeros_like(W)
    for i in range(W.shape[0]):
        for j in range(W.shape[1]):
            if_pruned = W[i, j] ** 2 * E[j]
            if_kept = (W[i, j] - Q[i, j]) ** 2 * E[j]
            score[i, j] = if_pruned - if_kept
    return score


joint = pk.keep_score(W, Q, E)
assert torch.allclose(joint, keep_score_loop(W, Q, E))
for name, score in {"W^2 E": W**2 * E, "Q^2 E": Q**2 * E, "keep score": joint}.items():
    print(f"{name:<11}", [f"{x:.2f}" for x in score[0]])

# %% [markdown]
# Three of the six shall stay. Each line is how one order chooses them:
# - **prune, then cast** ranks `W^2 E`;
# - **cast, then prune** ranks what it sees, `Q^2 E`;
# - **jointly** ranks the keep score, then casts what stays anew: cast, score, mask, and cast again with a scale from
#   the [survivors](GLOSSARY.md#survivor).
#
# Mark the three largest of each line. Do the orders agree?

# %% tags=["nbval-ignore-output"]
scores = {pipeline.PRUNE_FIRST: W**2 * E, pipeline.CAST_FIRST: Q**2 * E, pipeline.JOINT: joint}
results = {}
for order, score in scores.items():
    keep = pk.exact_mask(score, 0.5)
    new = Q * keep if order == pipeline.CAST_FIRST else cast(W * keep)
    results[order] = keep, new, ((W - new) ** 2 * E).sum(1)
lost = {order: error.sum().item() for order, (_, _, error) in results.items()}
said = "; ".join(f"{order} {' and '.join(f'{x:.2f}' for x in error)}" for order, (*_, error) in results.items())
course.show(figures.orders(W, results), f"A 2 x 6 matrix after each order, and what its two rows lose: {said}.")

# %% [markdown]
# Blue stays, hatched goes. In the first row all three differ, and the joint order loses least.
#
# In the second row the masks are the same. There the largest weight, 6.0, is pruned, since its input has little energy.
# Two orders then take the scale from the survivors: finer steps, a smaller loss.
#
# Is the joint mask the best? Three of six can be kept in 20 ways. Try them all before the last step, with `Q` as it is:

# %%
every = torch.stack([torch.zeros(6).index_fill(0, torch.tensor(c), 1) for c in combinations(range(6), 3)])
losses = ((W[:, None] - Q[:, None] * every) ** 2 * E).sum(-1)
ours = ((W - Q * pk.exact_mask(joint, 0.5)) ** 2 * E).sum(1)
print(f"the least loss of {len(every)} masks: {losses.amin(1)}, of the keep score's: {ours}")
assert torch.allclose(losses.amin(1), ours)

# %% [markdown]
# No mask does better while the scale stays put. The new scale then takes the second row from 9.64 to the 9.41 of the
# picture. Why does the score find the best mask? A row loses the sum of all `W^2 E`, less the keep scores of what is
# kept. The sum is fixed, so keep the largest scores.
#
# ### Exercise 4.1: the joint mask (medium, 10 minutes)
# Given a weight, the same weight after casting, and the energy of the inputs, keep `keep` weights of every row so that
# the row loses least: `W^2 E` for each pruned weight, `(W - Wq)^2 E` for each kept one.


# %% tags=["exercise"]
def joint_mask(W: Tensor, Wq: Tensor, E: Tensor, keep: int) -> Tensor:
    """W, Wq: float32 [out, in]; E: float32 [in]; returns bool [out, in], True where a weight is kept."""
    ...


course.check("4.1", joint_mask)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# One score for each weight: what is lost if it goes, less what is lost if it stays.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `score.topk(keep, dim=1).indices` are the places to keep. `scatter(1, places, True)` writes True there.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def joint_mask(W, Wq, E, keep):
#     score = (W**2 - (W - Wq) ** 2) * E
#     best = score.topk(keep, dim=1).indices
#     return torch.zeros_like(W, dtype=torch.bool).scatter(1, best, True)
# ```
# </details>

# %% [markdown]
# ## 3. The three orders in FP8
# Now real layers, in the format [E4M3](GLOSSARY.md#e4m3). The model reads 8,192 tokens for
# [calibration](GLOSSARY.md#calibration). Articles for this and for judging are never the same.

# %% tags=["nbval-ignore-output"]
apart = ["more than 5 %", "1 to 5 %", "less than 1 %, and this text tells", "less than this text can tell"]
course.predict("orders", "At 50 % in E4M3, by how much will the three perplexities differ?", apart)
full = pk.corpus(tokenizer, split="train", tokens=8192, context=512)
calibration, reading = pts.timed(lambda: pk.calibrate(model, full, stop=False))
energy = calibration.energy

# %% [markdown]
# First the outputs. What share of a layer's output is wrong after each order, and how much of that is due to casting?
# The loop goes through 42 layers. `H` holds the products of the inputs of 512 tokens, so their correlations count.

# %% tags=["nbval-ignore-output"]
layers = pk.linear_layers(model, include=[f"layers.{b}." for b in (0, 6, 12, 18, 24, 29)])
grams, rows = gram_matrices(model, test[:4], layers), []
for name, layer in layers.items():
    weight, H, row = layer.weight.detach(), grams[name], {"name": name}
    for order in pipeline.ORDERS:
        keep, codes, scale = pipeline.in_order(weight, energy[name], order, 0.5)
        off = weight - pk.uncast(codes, scale)
        row[order] = (((off @ H) * off).sum() / ((weight @ H) * weight).sum()).item()
    by_cast, by_prune = ((((off * part) @ H) * off * part).sum().item() for part in (keep, ~keep))
    rows.append(row | {"cast_share": by_cast / (by_cast + by_prune)})
share = median(row["cast_share"] for row in rows)
ratios = {order: median(row[order] / row[pipeline.JOINT] for row in rows) for order in pipeline.ORDERS}
said = ", ".join(f"{order} {abs(ratio - 1):.1%} away" for order, ratio in ratios.items() if order != pipeline.JOINT)
alt = f"Left: casting makes {share:.1%} of the error, median of 42 layers. Right: error beside the joint one: {said}."
course.show(figures.layers(rows), alt)

# %% [markdown]
# The left picture explains the right one. Nearly all of the error comes from pruning. Casting adds a few percent, and
# weighing it in can gain no more than a part of those.
#
# So does the order matter to the whole model? A gap is a difference of log-perplexity on the same tokens: +0.01 is 1 %.

# %% tags=["nbval-ignore-output"]
judged = {o: answers.judge(pipeline.model_in_order(model, energy, o, 0.5), test) for o in pipeline.ORDERS}
course.table(["order", "perplexity"], [(o, it.perplexity) for o, it in judged.items()], "Measured: 2,048 tokens")
pairs = {f"'{b}' over '{a}'": answers.log_gap(judged[b], judged[a]) for a, b in combinations(pipeline.ORDERS, 2)}
print(*(f"{pair}: log-perplexity {gap:+.4f} +-{margin:.4f}" for pair, (gap, margin) in pairs.items()), sep="\n")
furthest = max(pairs, key=lambda pair: abs(pairs[pair][0]))
most, known = abs(pairs[furthest][0]), pairs[furthest][1]
answer = apart[3] if most < known else apart[2] if most < 0.01 else apart[1]
course.reveal("orders", answer, f"The furthest: {furthest}: {most:.2%} apart, +-{known:.2%}.")

# %% [markdown]
# Each pair has a margin of its own, and no gap is larger. Which order is best? **This text cannot tell.**
#
# No wonder: E4M3 moves a normal number by 1/17 of itself at most. Squared, that is 1/289. So the keep score is nearly
# `W^2 E`, and ranks nearly alike.
#
# ## 4. Why jointly, then: one pass
# The reason that remains is work. Step by step, score, scan, scale and cast go through all weights in turn. A fused
# pass reads each row once, and does all four while it is in the processor's cache.

# %% tags=["nbval-ignore-output"]
weights = {n: layer.weight.detach() for n, layer in pk.linear_layers(model, include=["layers.0.", "layers.1."]).items()}
buffers = {n: torch.empty_like(W) for n, W in weights.items()}
steps = {
    "copy the weights": lambda n, W: buffers[n].copy_(W),
    "fused pass": lambda n, W: cpu.select_cast(W, energy[n], sparsity=0.5),
    "the same, step by step": lambda n, W: one_pass.select_cast(W, energy[n], sparsity=0.5),
    "Wanda's scores and sort": lambda n, W: torch.sort(W.abs() * energy[n].sqrt(), dim=1),
}
calls = {step: (lambda f=f: [f(n, W) for n, W in weights.items()]) for step, f in steps.items()}
seconds = {step: timing.median for step, timing in time_in_turn(calls, rounds=5, warmup=1).items()}
fused, stepwise = calls["fused pass"](), calls["the same, step by step"]()
assert all(torch.equal(a.float(), b.float()) for one, two in zip(fused, stepwise) for a, b in zip(one, two))
said = ", ".join(f"{step} {1e3 * s:.0f} ms" for step, s in seconds.items())
course.show(figures.stages(seconds, "Two decoder blocks, measured on this CPU, float32"), f"Bars of seconds: {said}.")

# %% [markdown]
# The two middle bars give the same masks, codes and scales: the cell asserts it. But they differ in two things. The
# fused pass is one compiled loop over rows. The steps are PyTorch calls: each writes its result to memory, and a Python
# loop drives the scan. So their gap is not reading alone: a copy reads and writes all weights, and is the shortest bar.
#
# Wanda's scores and sort, two PyTorch calls without any mask or cast, take longer than the fused pass.
#
# ### Exercise 4.2: retention (easy, 5 minutes)
# All that follows is about it. You get three arrays of the same length: what the dense model predicts, what the
# compressed model predicts, and the right tokens. Return the retention as a ratio; if the dense model is never right,
# return nan.


# %% tags=["exercise"]
def retention(dense: Tensor, compressed: Tensor, target: Tensor) -> float:
    """All int64 [tokens]; returns the ratio of top-1 accuracies, 1.0 if nothing is lost."""
    ...


course.check("4.2", retention)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Count how often each model is right. Nowhere are the two models compared with each other.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `(dense == target).sum().item()` are the dense model's hits. If there are none, return `float("nan")`.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def retention(dense, compressed, target):
#     hits = (dense == target).sum().item()
#     return (compressed == target).sum().item() / hits if hits else float("nan")
# ```
#
# Agreement, `(dense == compressed).float().mean()`, is another quantity: two models can be wrong in the same way, and
# one that is right more often than the dense model would be punished for it.
# </details>

# %% [markdown]
# ## 5. What is kept, from 0 to 70 %
# All methods get the same 8,192 tokens, and cast to FP8 unless the line says no. [EWMA](GLOSSARY.md#ewma) is the joint
# pass with notebook 01's threshold in place of a sort. "Magnitude" is the same with the score `W^2`.
# [Compensation](GLOSSARY.md#compensation) lets the weights that stay make up for those that go.

# %% tags=["nbval-ignore-output"]
shares = ["about 92 %, as the paper says", "60 to 85 %", "less than 60 %"]
course.predict("kept", "A better choice of the half, no training: what will this model keep?", shares)


# %% tags=["nbval-ignore-output"]
def point(*text, label=None, **options):
    result, seconds = pts.timed(lambda: pk.compress(model, *text, **options))
    if result.tokens and not text:
        seconds += reading  # section 3 read the text for all of them
    return pts.measure(result, test, dense, label) | {"seconds": seconds}


points = [pts.point("dense", model, dense, dense)]
shapes = [{"sparsity": share} for share in (0, 0.2, 0.35, 0.5, 0.6, 0.7)] + [{"pattern": "2:4"}]
for options in [*({"fp8": "e4m3"} | shape for shape in shapes), {"sparsity": 0.5}]:
    points.append(point(calibration=calibration, **options))
for sparsity in (0.2, 0.5):
    points.append(point(label="magnitude", metric="magnitude", sparsity=sparsity, fp8="e4m3"))
for label, options in {"compensated EWMA": {"compensate": True}, "Wanda": {"method": "wanda"}}.items():
    options |= {"sparsity": 0.5, "fp8": "e4m3", "stop": False}
    points.append(point(full, label=label, **options))
pts.table(points, "Measured: 16 windows of 128 tokens; processor seconds, once. MB packed: predicted")

# %% [markdown]
# [Wanda](BIBLIOGRAPHY.md#wanda) goes through the model block by block, which takes its time. Everything is pruned [in
# one shot](GLOSSARY.md#one-shot), without training. The same as a picture:

# %% tags=["nbval-ignore-output"]
half = {p["method"]: p for p in points if p["pattern"] == "50 %" and p["fp8"]}
ewma = half["EWMA"]
said = ", ".join(f"{p['pattern']} {p['retention']:.0%} and {p['perplexity']:.0f}" for p in points[2:7])
said += f"; magnitude at 50 % {half['magnitude']['retention']:.0%}"
alt = f"Retention and perplexity over the share pruned, EWMA: {said}; as reported 99.4 % at 20 %, 91.57 % at 50 %."
course.show(figures.kept(points), alt)
answer = shares[0] if ewma["retention"] > 0.85 else shares[1] if ewma["retention"] >= 0.6 else shares[2]
course.reveal("kept", answer, f"Retention {ewma['retention']:.1%}, perplexity {ewma['perplexity']:.1f}.")

# %% [markdown]
# Up to 20 % little is lost. Beyond 50 % the model falls apart, and perplexity shows it earlier. Magnitude, blind to the
# inputs, is far behind at 50 %. [2:4](GLOSSARY.md#n-m-sparsity) prunes the same share as 50 % and keeps much less: it
# may not choose freely.
#
# Between EWMA and Wanda the gap is small. Is it a gap? And what does it cost not to sort? Compare in pairs:

# %% tags=["nbval-ignore-output"]
exact = pk.compress(model, calibration=calibration, sparsity=0.5, fp8="e4m3", select="exact")
rivals = half | {"a sort in its place": pts.measure(exact, test, dense)}
leads = {name: pts.lead(rivals[name], ewma, "perplexity") for name in rivals if name != "EWMA"}
fifth = [pts.find(points, method, "20 %") for method in ("magnitude", "EWMA")]
leads["magnitude, both at 20 %"] = pts.lead(*fifth, "perplexity")
words = {name: "cannot tell" if abs(gap) <= m else "better" if gap > 0 else "worse" for name, (gap, m) in leads.items()}
table = [(name, f"{-gap:+.3f} ± {m:.3f}", words[name]) for name, (gap, m) in leads.items()]
course.table(["over EWMA, FP8, at 50 %", "log-perplexity", "so it is"], table, "Measured in pairs, on the same tokens")

# %% [markdown]
# A sort in EWMA's place makes no difference that this text could show. That is the point of the method. Compensation
# is better by perplexity; its retention is within the margins of the first table. At 20 % this text
# cannot tell magnitude from EWMA.
#
# ### Exercise 4.3: spot the bug (medium, 10 minutes)
# Reviewing others' code: this Wanda runs, prunes half of the layer, and is much worse than it should be. Find out why
# and write it right: each row prunes its `int(sparsity * in)` lowest scores.
# ```python
# def wanda(W, E, sparsity):
#     score = W.abs() * E.sqrt()
#     threshold = score.flatten().kthvalue(int(sparsity * W.numel())).values
#     return score > threshold
# ```


# %% tags=["exercise"]
def wanda(W: Tensor, E: Tensor, sparsity: float) -> Tensor:
    """W: float32 [out, in]; E: float32 [in]; sparsity in [0, 1); returns bool [out, in], True where kept."""
    ...


course.check("4.3", wanda)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# What becomes of a row whose weights are all small? And what happens at a sparsity of 0?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `argsort(dim=1)` of the scores gives each row's places from the lowest up. The first `int(sparsity * in)` of them go.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# The scores of all rows are compared with each other, so that rows of small weights lose nearly everything: an output
# that is small is not an output that is unimportant, since the next layer may scale it up. Wanda compares within a row.
# (Ties are a second bug: `>` removes all scores equal to the threshold, and a sparsity of 0 raises an error.)
#
# ```python
# def wanda(W, E, sparsity):
#     order = (W.abs() * E.sqrt()).argsort(dim=1)
#     lowest = order[:, : int(sparsity * W.shape[1])]
#     return torch.ones_like(W, dtype=torch.bool).scatter(1, lowest, False)
# ```
# </details>

# %% [markdown]
# ## 6. The front
# Which configuration would you take? A point is on the front (the *Pareto front*) if no other is at least as cheap and
# at least as good, and strictly better in one of the two.
#
# ### Exercise 4.4: the front (medium, 10 minutes)
# Given cost (lower is better) and quality (higher is better) of some points, mark those on the front.
# Equal points do not push each other out.


# %% tags=["exercise"]
def front(cost: Tensor, quality: Tensor) -> Tensor:
    """Both float32 [points]; returns bool [points], True on the front."""
    ...


course.check("4.4", front)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# For one pair: when does `i` beat `j`? Two things must hold, and at least one of them strictly.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `cost[:, None] <= cost` compares all pairs at once. A point is on the front if no row beats it: `~beats.any(0)`.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def front(cost, quality):
#     no_worse = (cost[:, None] <= cost) & (quality[:, None] >= quality)
#     better = (cost[:, None] < cost) | (quality[:, None] > quality)
#     return ~(no_worse & better).any(0)
# ```
# </details>

# %% [markdown]
# Your rule takes every number at its word. The explorer below adds the margin: a point beats another only if it leads
# by more than the margin of the pair. A ring says that it is on the front, a dotted ring that this text cannot tell. A
# hollow marker is not cast to FP8.
#
# It opens on bytes on disk. Why do so many points stand at one size?

# %% tags=["nbval-ignore-output"]
course.widgets.trade_off(points)

# %% [markdown]
# A zero takes a byte in FP8, as any other code does. So pruning saves nothing on disk.
#
# Now choose *MB if zeros were packed*. That is a prediction: one bit for each weight, and the survivors. prunekit
# writes no such files. Then ask for more or less to be kept.
#
# ### Exercise 4.5: read the explorer (interpret, 5 minutes)
# Which of these follow from it?
# - a: Casting alone beats pruning alone: 50 % in bfloat16 is larger, and keeps less.
# - b: With zeros packed, 2:4 would be as small as 50 % chosen freely, and keeps less.
# - c: At 20 %, EWMA is better than magnitude.
# - d: 2:4 is of no use to anybody.
# - e: On disk, an FP8 model with 70 % zeros takes as much as one with none.

# %% tags=["exercise"]
answer = ""  # letters, such as "ad"
course.interpret("4.5", answer)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# A dotted ring says *cannot tell*. For a look for the hollow marker at 50 %.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# No axis shows the speed on a GPU. Look at the margins of the points at 20 %.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# a, b and e follow. Of c this text cannot tell, since the points at 20 % lie within each other's margin. Of d no axis
# says anything: what 2:4 can buy is speed on a GPU.
# </details>

# %% [markdown]
# ## 7. How fast?
# From text to weights. There are two fair ways to ask. On *the same tokens* only the method differs. By its *own
# default* `fast`, the preset with compensation, stops by itself after a few hundred tokens, while Wanda takes 8,192.

# %% tags=["nbval-ignore-output"]
times = {"Wanda + FP8, 8,192 tokens": half["Wanda"]["seconds"]}
times["EWMA + FP8, same tokens"] = ewma["seconds"]
times["fast + FP8, same tokens"] = half["compensated EWMA"]["seconds"]
short = pk.corpus(tokenizer, split="train", tokens=2048, context=32)
runs = [pts.timed(lambda: pk.compress(model, short, sparsity=0.5, fp8="e4m3", compensate=True)) for _ in range(4)]
own, times["fast + FP8, own default"] = min(runs, key=lambda run: run[1])
fast = {name: times["Wanda + FP8, 8,192 tokens"] / s for name, s in times.items()}
said = ", ".join(f"{name} {x:.1f}" for name, x in fast.items())
note = f"processor time; own default: {own.tokens} tokens, best of {len(runs)}"
course.show(figures.speeds(times, note), f"Times as fast as Wanda: {said}; {note}.")

# %% [markdown]
# There are two numbers for one method, neither wrong. On the same tokens `fast` is a few times as fast as Wanda. By its
# own default the ratio is many times larger, since it also reads far less. Whoever gives one number must say which.
# `fast` does all that EWMA does, and compensates: where its bar is longer on the same tokens, that is the machine's
# noise.
#
# And what does reading less cost? Compare in pairs again:

# %% tags=["nbval-ignore-output"]
few, many = pts.measure(own, test, dense), half["compensated EWMA"]
gap, margin = pts.lead(many, few, "perplexity")
table = [(f"{p['tokens']:,}", p["perplexity"], over) for p, over in ((many, ""), (few, f"{gap:+.3f} ± {margin:.3f}"))]
head = ["calibration tokens", "perplexity", "log-perplexity over 8,192"]
course.table(head, table, "Measured: fast + FP8 at 50 %, in pairs on 2,048 tokens")

# %% [markdown]
# About 8 % of perplexity, and the margin of the pair says that it is no chance.
#
# ### Exercise 4.6: where the speed comes from (interpret, 5 minutes)
# Take these numbers, not those above. On another machine `prunekit bench pipeline` measured 0.53 seconds for `fast`
# with FP8 on its own 512 tokens, and 25.5 for Wanda on 8,192: 48 times as fast. Say that time grows with tokens. How
# many of the 48 times does the method itself explain, once the fewer tokens are taken out?

# %% tags=["exercise"]
answer = None  # a number such as 10
course.interpret("4.6", answer)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# How many times fewer tokens are 512 than 8,192?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# The two factors multiply to 48.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# 8,192 / 512 = 16, and 48 / 16 = 3. Most of the speed is reading less. It is an estimate: a part of the time, selecting
# and casting, does not grow with the tokens. So the two bars of `fast` above need not differ by 16 times.
# </details>

# %% [markdown]
# ## 8. Claims beside measurements
# Where does each claim stand? The abstract of [the paper](BIBLIOGRAPHY.md#hwpq) gives some numbers, a blog summary
# gives others. What stands in no abstract is marked *as reported*. The abstract's 12.29 is over "the methods it is
# compared with", unnamed there; the summary's 43.75 over Wanda and SparseGPT. Ours is `fast` with FP8, over Wanda.

# %% tags=["nbval-ignore-output"]
mine = {share: pts.find(points, "EWMA", share) for share in ("20 %", "50 %")}
found = {share: f"{p['retention']:.1%} ± {p['margin']:.1%}" for share, p in mine.items()}
both = (
    f"{fast['fast + FP8, same tokens']:.1f} same tokens, {fast['fast + FP8, own default']:.1f} own default; over Wanda"
)
claims = [
    ("kept at 20 % pruned", "99.4 %", "blog summary, as reported", found["20 %"]),
    ("kept at 50 % pruned", "91.57 %", "blog summary, as reported", found["50 %"]),
    ("pruning, times as fast", "12.29 on average, up to 56.02", "abstract, arXiv version", both),
    ("pruning, times as fast", "43.75 on average", "blog summary, as reported", both),
    ("inference, times as fast", "1.50", "abstract, arXiv version", "not measured"),
]
course.table(["claim", "number", "where it stands", "here"], claims, "LLaMA-2 class models there, 135M weights here")

# %% [markdown]
# At 20 % the claim is about what we measure. At 50 % we keep clearly less. This is no refutation: the claims are for
# [LLaMA-2](BIBLIOGRAPHY.md#llama) class models, fifty times as large, which nobody pruned here.
#
# The abstract and the summary of one paper differ by a factor of 3.6. When you see such a number, ask: which tokens,
# which rival, what was counted?
#
# ## 9. What would mend it
# The first picture again, with answers. Below ours, which are cast to FP8, stand stored rows of `prunekit bench
# quality`, which are not, measured on more text: [SparseGPT](BIBLIOGRAPHY.md#sparsegpt), which solves for the weights
# that stay with the [Hessian](GLOSSARY.md#hessian); `balanced`, which does so by [ADMM](GLOSSARY.md#admm); and `best`,
# which trains.

# %% tags=["nbval-ignore-output"]
stored = {r["method"]: r for r in reversed(measured()["rows"]) if r["pattern"] == "50 %" and r["seed"] == 0}
kinds = ("EWMA", "compensated EWMA", "Wanda")
ours = [(f"{kind}, FP8", 100 * half[kind]["retention"], "measured here") for kind in kinds]
names = {"wanda": "Wanda", "sparsegpt": "SparseGPT", "balanced": "balanced", "best": "best, trained"}
for method, name in names.items():
    took = stored[method]["seconds"]
    took = f"{took:.0f} s" if took < 120 else f"{took / 60:.0f} minutes"
    ours.append((f"{name}, no FP8, {took}", 100 * stored[method]["texts"]["wikipedia"]["retention"], "stored"))
alt = "; ".join(f"{name} {value:.0f} %, {source}" for name, value, source in [*goals, *ours])
course.show(figures.halves([*goals, *ours], "Half of the weights pruned"), f"Retention: {alt}.")

# %% [markdown]
# Choosing by the inputs mends more than half of the damage, in seconds. Solving for the weights that stay mends more,
# in a minute. Training mends nearly all of it, in 19 minutes: that is [notebook 07](07_recovering_quality.ipynb).
#
# ### Exercise 4.7: the whole joint pass (hard, 20 minutes)
# One layer, from its inputs `X` to the weight that is left. `grid` holds the magnitudes of the format, from 0 up.
# 1. `E` is the mean square of each column of `X`.
# 2. Cast `W` to `Q`. The scale of a row is its largest magnitude over the largest of the grid, or 1 if that is 0.
# 3. Keep the `keep` weights of highest keep score in each row.
# 4. Cast what stays anew, with a scale from the survivors, by the same rule. The rest is 0.


# %% tags=["exercise"]
def joint_pass(W: Tensor, X: Tensor, grid: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """W: float32 [out, in]; X: [tokens, in]; grid: [k], ascending; returns mask and weight, both [out, in]."""
    ...


course.check("4.7", joint_pass)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Write the cast as a function: section 2 has it, for a grid that ends at 6. You call it twice. Your 4.1 gives the mask.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# The second call gets `W * mask`: then the largest magnitude is a survivor's. `torch.where(top > 0, top / grid[-1],
# 1.0)` is the scale.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def joint_pass(W, X, grid, keep):
#     def cast(W):
#         top = W.abs().amax(1, keepdim=True)
#         scale = torch.where(top > 0, top / grid[-1], 1.0)
#         nearest = ((W.abs() / scale)[..., None] - grid).abs().argmin(-1)
#         return W.sign() * grid[nearest] * scale
#
#     score = (W**2 - (W - cast(W)) ** 2) * X.square().mean(0)
#     best = score.topk(keep, dim=1).indices
#     mask = torch.zeros_like(W, dtype=torch.bool).scatter(1, best, True)
#     return mask, cast(W * mask)
# ```
# `pk.compress` does this in FP8, with an EWMA in place of `topk`.
# </details>

# %% [markdown]
# ## How far to trust this
# - *The paper*: only abstracts and summaries were at hand. The keep score with its provisional scale, and that the
#   scale comes from the survivors, are [our choices](CHOICES.md).
# - *One model* of 135M weights, once stored in [4 bits](BIBLIOGRAPHY.md#smollm2), which may make casting easy. 2,048
#   tokens, 16 windows: twice the standard error over windows is the margin. Perplexity depends on the window.
# - *Energies treat inputs as uncorrelated*, as Wanda does. In a coarser format than E4M3 the order may matter: not
#   measured.
# - *The two texts of section 9 differ*: stored rows are from 32,768 tokens and other machines
#   ([RESULTS](RESULTS.md#what-is-kept)). There magnitude is behind EWMA at 20 % as well.
# - *Times* depend on the machine. On the same tokens `fast` was 3 to 5 times as fast as Wanda, by its own default 25 to
#   48 ([RESULTS](RESULTS.md#how-fast) has one of the machines). Long ones were measured once. The stored run shared its
#   machine: seconds are those in which its processors worked for this. Read their ratios.
# - *"Performance"* in the claims may be another measure than next-token retention.
# - Where the CPU is fast in [bfloat16](GLOSSARY.md#bfloat16), models are judged in it.
#
# What this notebook says, held to this run:

# %%
course.holds("04", globals())

# %% [markdown]
# ## Quiz

# %% tags=["quiz", "nbval-ignore-output"]
course.quiz("04")

# %% [markdown]
# ## What you can do now
# 1. *Orders*: the joint score subtracts what casting loses anyway, and gives the best mask for a given scale. In E4M3
#    at 50 % pruning makes nearly all of the error, so the order hardly matters. One pass saves work.
# 2. *Keeping*: retention is a ratio of right guesses on the same tokens, with perplexity and a margin beside it. This
#    model keeps less than is claimed for larger ones, and a claim of speed needs its tokens and its rival.
# 3. *Front*: mark what nothing beats by more than the margin, then take the cheapest that is good enough. Bytes on disk
#    do not shrink by pruning.
#
# Where the time goes on a GPU, and what 2:4 buys there: [05 RTX speed profiling](05_rtx_speed_profiling.ipynb).
