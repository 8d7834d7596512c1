# %% [markdown]
# # 04 Joint pipeline
#
# You will be able to
# 1. say what differs between pruning first, casting first and doing both jointly, and how much it matters;
# 2. measure what a compressed model keeps, beside rivals and published claims, and say how certain that is;
# 3. find the front of a trade-off and the cheapest configuration on it that is good enough.
#
# Needs: no GPU (the model stays on the CPU, so that times can be compared). About 2 minutes on two CPU cores, half of
# them for the rivals; peak memory about 2.5 GB.
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

# %%
from itertools import combinations
import torch
from torch import Tensor
from prunekit import course
from prunekit.evaluation import answers
from prunekit.course.lessons import pipeline, points as pts

# %% [markdown]
# ## 1. Three orders on a matrix that fits on this page
# [Pruning](GLOSSARY.md#pruning) sets [weights](GLOSSARY.md#weight) to zero. Casting rounds the others to a format with
# fewer values. Both lose something, and the loss of one weight, as in notebook 01, is weighed by the
# [energy](GLOSSARY.md#energy) `E` of its input: pruning loses `W^2 E`, casting to `Q` loses `(W - Q)^2 E`.
#
# With [FP8](GLOSSARY.md#fp8) the second loss would be too small to see here. So this section uses a format of four
# bits, [FP4 E2M1](BIBLIOGRAPHY.md#microscaling), with eight magnitudes from 0 to 6. Each row has a
# [scale](GLOSSARY.md#scale) that makes its largest weight a 6.

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
# In the first row 1.3 and 1.4 both became 1.5, and 0.7 became 0.5. So 0.7 is worth less than it seems: even if it is
# kept, part of it is lost. What keeping a weight really saves is the difference of the two losses, the
# **keep score** `(W^2 - (W - Q)^2) E`. First as a loop, then as the library writes it.


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
print("W^2 E     ", [f"{x:.2f}" for x in (W**2 * E)[0]])
print("Q^2 E     ", [f"{x:.2f}" for x in (Q**2 * E)[0]])
print("keep score", [f"{x:.2f}" for x in joint[0]])

# %% [markdown]
# These are the scores of the first row, by which each order chooses the three weights that it keeps:
# - **prune, then cast** ranks `W^2 E`: 6.0, 1.1 and then 0.7 (2.06), ahead of 1.4 (1.96);
# - **cast, then prune** ranks what it sees, `Q^2 E`: the two weights that were rounded up to 1.5 look larger than they
#   are, and push out 1.1 and 0.7;
# - **jointly** ranks the keep score: 0.7 falls to 1.89 and 1.4 stays at 1.95.
#
# The second difference is the scale. Whoever casts first takes it from all weights; after pruning it is taken from the
# [survivors](GLOSSARY.md#survivor). (The joint order needs a scale before it selects: it scores with a provisional one
# from the whole row, and casts with one from the survivors. That is [prunekit's own choice](BIBLIOGRAPHY.md#hwpq); the
# paper's rule is not in what we read.)

# %% tags=["nbval-ignore-output"]
scores = {pipeline.PRUNE_FIRST: W**2 * E, pipeline.CAST_FIRST: Q**2 * E, pipeline.JOINT: joint}
results = {}
for order, score in scores.items():
    keep = pk.exact_mask(score, 0.5)
    new = Q * keep if order == pipeline.CAST_FIRST else cast(W * keep)
    results[order] = keep, new, ((W - new) ** 2 * E).sum(1)
lost = {order: error.sum().item() for order, (_, _, error) in results.items()}
assert lost["jointly"] < lost["prune, then cast"] < lost["cast, then prune"]
alt = "A 2 x 6 matrix after each order. In row one each order keeps other weights, and jointly loses least."
course.show(course.figures.pipeline.orders(W, results), alt=alt + " In row two casting first loses more.")

# %% [markdown]
# Blue cells are what stays (with the value after casting), hatched ones are pruned. In the first row all three masks
# differ, and the joint one loses least. In the second all three are the same, but there the largest weight, 6.0, is
# pruned, because its input has little energy. The scale of the survivors is then 2.6 / 6: finer steps, a smaller loss.
#
# Is the joint mask merely better, or the best? For a given `Q` a row loses the sum of all `W^2 E`, less the keep scores
# of what is kept. That sum is fixed, so keeping the largest scores loses least. Three of six can be kept in 20 ways:

# %%
every = torch.stack([torch.zeros(6).index_fill(0, torch.tensor(c), 1) for c in combinations(range(6), 3)])
losses = ((W[:, None] - Q[:, None] * every) ** 2 * E).sum(-1)
ours = ((W - Q * pk.exact_mask(joint, 0.5)) ** 2 * E).sum(1)
print(f"the least loss of {len(every)} masks: {losses.amin(1)}, of the keep score's: {ours}")
assert torch.allclose(losses.amin(1), ours)

# %% [markdown]
# No mask does better while the scale stays put. (The second row's 9.64 is with the scale from all weights; the picture
# shows 9.41, after the change of scale.) The sum over weights is itself a simplification: it treats inputs as
# uncorrelated, as [Wanda](BIBLIOGRAPHY.md#wanda) does. [SparseGPT](BIBLIOGRAPHY.md#sparsegpt) does not; it comes later.
#
# ### Exercise 4.1: the joint mask (medium, 10 minutes)
# Given a weight, the same weight after casting, and the energy of the inputs, keep `keep` weights of every row so that
# the row loses least: `W^2 E` for each pruned weight, `(W - Wq)^2 E` for each kept one.


# %% tags=["exercise"]
def joint_mask(W: Tensor, Wq: Tensor, E: Tensor, keep: int) -> Tensor:
    """W, Wq: float32 [out, in]; E: float32 [in]; returns bool [out, in], True where a weight is kept."""
    ...


course.check("4.1", joint_mask)

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
# ## 2. The three orders on real layers
# Now FP8, format [E4M3](GLOSSARY.md#e4m3): it rounds a normal number by at most a sixteenth of itself. Squared, that is
# 1/256, so there the keep score is within 0.4 % of `W^2 E` and only near ties are decided otherwise. Below that is
# checked on one layer. The model is [SmolLM2-135M](BIBLIOGRAPHY.md#smollm2), [calibrated](GLOSSARY.md#calibration)
# once, with 2,048 [tokens](GLOSSARY.md#token) of training articles. It was stored in 4 bits once, so that casting may
# find it easier than a fresh model.

# %% tags=["nbval-ignore-output"]
apart = ["more than 5 %", "1 to 5 %", "less than 1 %, and this text tells", "less than this text can tell"]
question = "At 50 % in E4M3, by how much will the three perplexities differ on 2,048 tokens?"
course.predict("orders", question, apart)
shares = ["about 92 %, as the paper says", "60 to 85 %", "less than 60 %"]
course.predict("kept", "The paper claims 91.57 % kept at 50 %. What will this model keep, in one shot?", shares)
model, tokenizer = pk.load("embedded", device="cpu")
text = pk.corpus(tokenizer, split="train", tokens=2048, context=128)
calibration = pk.calibrate(model, text, stop=False)

# %% [markdown]
# First that one layer. Then the error of the output of 42 layers (six of the 30 blocks): `|X (W - W')^T|^2 /
# |X W^T|^2` on 512 tokens of test articles, correlations of the inputs included.

# %% tags=["nbval-ignore-output"]
name, layer = list(pk.linear_layers(model).items())[88]
weight, energy = layer.weight, calibration.energy[name]
scale = pk.scales(weight)
rounded = pk.uncast(pk.cast(weight, scale), scale)
normal = weight.abs() > scale * 2**-6
both = pk.contribution(weight, energy), pk.keep_score(weight, rounded, energy)
assert (((weight - rounded) ** 2)[normal] <= 1.001 * (weight**2)[normal] / 256).all()
changed = (pk.exact_mask(both[0], 0.5) != pk.exact_mask(both[1], 0.5)).float().mean().item()
print(f"{name}: {normal.float().mean():.2%} of the weights are normal numbers; {changed:.3%} of decisions change")
assert normal.float().mean() > 0.95 and changed < 0.01
test = pk.corpus(tokenizer, tokens=2048, context=128)
rows = pipeline.layer_errors(model, calibration.energy, test[:4], 0.5, blocks=(0, 6, 12, 18, 24, 29))
share, ratios = pipeline.medians(rows)
assert share < 0.1 and all(abs(ratio - 1) < 0.02 for ratio in ratios.values())
alt = "Left: in nearly every layer casting makes a few percent of the output error. Right: the orders differ little."
course.show(course.figures.pipeline.layers(rows), alt=alt)

# %% [markdown]
# Nearly all weights of that layer are normal numbers, and few decisions change. The left picture explains the right
# one. At 50 % nearly all of the error comes from pruning; casting adds a few percent of it, so that weighing it in can
# gain no more than a part of those. The exceptions on the far left are layers of the first block, whose total error is
# tiny. On the right, casting first is a little worse in most layers and better in some: the loss that the joint score
# minimises ignores correlations, and this error does not.
#
# Protocol of all that follows: 2,048 tokens of test articles that calibration never saw, 16 windows of 128.
# [Perplexity](GLOSSARY.md#perplexity) depends on the window (shorter is harder), so compare within this table only.
# [Retention](GLOSSARY.md#retention) is [top-1](GLOSSARY.md#top-1) accuracy over the dense model's. After +- stands
# twice the standard error, with the 16 windows as the sample. Gaps are paired, on the same tokens, and are differences
# of *log-perplexity*, the mean loss of a token: +0.01 is a perplexity 1 % higher, +0.085 one 9 % higher. Where the CPU
# is fast in bfloat16 (`prunekit info` says so) the models are judged in it, else in float32.

# %% tags=["nbval-ignore-output"]
pipeline.prepare()
dense = answers.judge(model, test)
gaps = pipeline.compare_orders(model, calibration.energy, test, dense, 0.5)
most = max(0, *(gap for gap, _ in gaps.values())) - min(0, *(gap for gap, _ in gaps.values()))
assert most < 0.05
known = max(margin for _, margin in gaps.values())
answer = apart[3] if most < known else apart[2] if most < 0.01 else apart[1]
course.reveal("orders", answer, f"The furthest two are {most:.2%} apart; gaps to the joint order +-{known:.1%}.")

# %% [markdown]
# With a margin as large as the gap or larger, this text cannot tell which order is best. What can be said: at 50 % in
# E4M3 the order does not matter at this precision. In a coarser format it may (section 1 made an example); that was
# not measured.
#
# ## 3. Why jointly, then: one pass
# The reason that remains is work. Step by step, the weights are read and written again for scoring, for each scan of
# the threshold, for the scale and for the cast. The fused pass reads each row from memory once; all the rest happens
# while the row is in the processor's cache. `pk.compress(..., fp8="e4m3")` uses it, and says what each stage took.

# %% tags=["nbval-ignore-output"]
seconds = pipeline.stage_seconds(model, calibration.energy)
alt = "Bars of seconds: copying is shortest, the fused pass some times that, separate steps and a sort much longer."
course.show(course.figures.pipeline.stages(seconds, "Three blocks, measured on this CPU, float32"), alt=alt)
whole = pk.compress(model, text, sparsity=0.5, fp8="e4m3", stop=False).seconds
print("the whole model, seconds:", {stage: round(value, 2) for stage, value in whole.items()})
print(f"fused pass: as long as {seconds['fused pass'] / seconds['copy the weights']:.0f} copies")

# %% [markdown]
# The two middle bars do the same selection and cast; the fused one saves the traffic (and torch's overhead for many
# small steps). The last line compares it with a copy of the same weights, the cheapest thing one can do with them; how
# many copies it takes depends much on the processor (over the whole model, measured on two cores of an AMD EPYC: 4.4;
# here three blocks). Wanda's scores and sort, with no mask or cast, take longer than the fused pass. For the whole
# model most time now goes to calibration, which runs the model on text. All of it is measured, on one machine that may
# be busy: trust the order of the bars, not the digits.
#
# ### Exercise 4.2: retention (easy, 5 minutes)
# This is what all tables from here on are about (0.3 was its core). You get three arrays of the same length: what the
# dense model predicts, what the compressed model predicts, and the right tokens. Return the retention as a ratio; if
# the dense model is never right, return nan.


# %% tags=["exercise"]
def retention(dense: Tensor, compressed: Tensor, target: Tensor) -> float:
    """All int64 [tokens]; returns the ratio of top-1 accuracies, 1.0 if nothing is lost."""
    ...


course.check("4.2", retention)

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
# ## 4. What is kept, from 0 to 70 %
# There are two fair comparisons. *The same tokens*: every method calibrates on the same 2,048 tokens, so that only the
# method differs. *Each its own default*: EWMA stops by itself after a few hundred tokens, while the rivals take 8,192.
# This section makes the first comparison, with one line for EWMA's own default; the second follows below it.
#
# "Magnitude" here is the same EWMA selection with the score `W^2`, so that only the score differs. Everything is pruned
# [in one shot](GLOSSARY.md#one-shot), without recovery, and cast to FP8, but for three lines that say so: the dense
# model, FP8 alone, and EWMA at 50 % without FP8.

# %% tags=["nbval-ignore-output"]
points = [pts.point("dense", model, dense, dense)]
for sparsity in (0, 0.2, 0.35, 0.5, 0.6, 0.7):
    result = pk.compress(model, calibration=calibration, sparsity=sparsity, fp8="e4m3")
    points.append(pts.measure(result, test, dense))
points.append(pts.measure(pk.compress(model, calibration=calibration, pattern="2:4", fp8="e4m3"), test, dense))
points.append(pts.measure(pk.compress(model, calibration=calibration, sparsity=0.5), test, dense))
short = pk.corpus(tokenizer, split="train", tokens=2048, context=32)
points.append(pts.measure(pk.compress(model, short, sparsity=0.5, fp8="e4m3"), test, dense, "EWMA, own default"))
for sparsity in (0.2, 0.5):
    result = pk.compress(model, metric="magnitude", sparsity=sparsity, fp8="e4m3")
    points.append(pts.measure(result, test, dense, "magnitude"))
for method in ("wanda", "sparsegpt"):
    points.append(pts.measure(pk.compress(model, text, sparsity=0.5, method=method, fp8="e4m3"), test, dense))
pts.table(points)

# %% [markdown]
# [Wanda](BIBLIOGRAPHY.md#wanda) and [SparseGPT](BIBLIOGRAPHY.md#sparsegpt) go through the model block by block and are
# slow, so they run at 50 % only. Seconds are from text to weights, measured once.
#
# The second comparison, each with its own default, takes minutes. `prunekit bench pipeline` makes it; on two cores of
# an AMD EPYC it measured (other passages than above, in windows of 512 tokens, so other perplexities; no FP8 for the
# rivals):
#
# | method | calibration tokens | seconds | perplexity |
# |---|---|---|---|
# | EWMA with FP8 | 512, stopped by itself | 0.39 | 61.7 |
# | EWMA with [compensation](GLOSSARY.md#compensation) and FP8 | 512, stopped by itself | 0.53 | 59.3 |
# | EWMA with FP8, on the rivals' tokens | 8,192 | 4.7 | 58.1 |
# | Wanda | 8,192 | 25.5 | 56.6 |
# | SparseGPT | 8,192 | 46.6 | 53.1 |

# %% tags=["nbval-ignore-output"]
half = {p["method"]: p for p in points if p["pattern"] == "50 %" and p["fp8"]}
ewma = half["EWMA"]
assert ewma["perplexity"] < half["magnitude"]["perplexity"] / 2
found = {name: half[name]["answers"] for name in ("EWMA", "EWMA, own default", "Wanda", "SparseGPT")}
exact = pk.compress(model, calibration=calibration, sparsity=0.5, fp8="e4m3", select="exact")
beside = answers.log_gaps(found | {"a sort in its place": answers.judge(exact.model, test)}, "EWMA")
assert all(abs(gap) < margin for name, (gap, margin) in beside.items() if name != "EWMA, own default")
assert all(pts.find(points, name, "20 %")["retention"] > 0.9 for name in ("EWMA", "magnitude"))
kept = ewma["retention"]
answer = shares[0] if kept > 0.85 else shares[1] if kept >= 0.6 else shares[2]
course.reveal("kept", answer, f"Retention {kept:.1%}, perplexity {ewma['perplexity']:.1f}.")
alt = (
    "Left: retention falls slowly to 35 % pruned, then fast; magnitude is far lower at 50 %, the paper's claim higher."
)
course.show(course.figures.pipeline.kept(points), alt=alt + " Right: perplexity rises with the share pruned.")

# %% [markdown]
# - Up to 20 % little is lost; between 50 % and 70 % the model falls apart, and perplexity shows it earlier and more
#   clearly than retention. (Wanda, SparseGPT and magnitude are drawn a little aside, to be seen.)
# - Magnitude, blind to the inputs, is within the others' margins at 20 % (on 32,768 tokens it is behind: `prunekit
#   bench quality` measured 97.7 % against 98.7 %, without FP8), and far behind at 50 %.
# - What does it cost not to sort? The same pass with a sort in EWMA's place differs from it by less than the margin of
#   the pair (the lines above the figure: same tokens, so that what is hard for both cancels). Wanda, too, stays within
#   its margin: it sorts the same score, but takes the energies from the outputs of the blocks already pruned.
# - **SparseGPT keeps more at 50 %, given enough text**: with 8,192 tokens it is ahead of all (second table), because
#   the weights that stay make up for those that go. It takes many times as long on the same tokens, and about a hundred
#   times as long where each has its own default (second table). With the 2,048 tokens of this notebook its lead is
#   gone: the pair's margin is larger than the gap to EWMA. A likely reason is its [Hessian](GLOSSARY.md#hessian), which
#   has up to 1,536 x 1,536 numbers to learn from them, where EWMA has 1,536.
# - 2:4, the pattern that a GPU can use, prunes the same share and keeps much less: it may not choose freely.
# - EWMA's own default sees fewer tokens (the table says how many), in windows of 32 in place of 128: faster, and here
#   somewhat worse.
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
# ## 5. The paper's claims beside our measurements
# Published: abstracts and summaries of [arXiv 2501.16376](BIBLIOGRAPHY.md#hwpq), which differ on speed. Measured: the
# table above.

# %% tags=["nbval-ignore-output"]
pts.claims(points)
assert ewma["retention"] + ewma["margin"] < pts.CLAIMS[0.5]

# %% [markdown]
# At 20 % the claim lies within our margin or close to it; at 50 % we keep clearly less than claimed. Reasons to expect
# that: the claims are for [LLaMA-2](BIBLIOGRAPHY.md#llama) class models of 7 billion parameters and more, fifty times
# this one, and larger models have more to spare; here pruning is one shot, without recovery; "performance" may be
# another measure than next-token retention, and how it was measured is not known to us. So this is no
# refutation. It says what you get at this size, with the rules that prunekit had to choose itself.
#
# The speed depends on what is counted. Neither row is the second comparison of section 4: from its table Wanda takes 65
# times and SparseGPT 119 times as long as EWMA with FP8. Our selection has less to do than a sort, but calibration is
# in both sums and dilutes the ratio; with fewer tokens it is diluted less. That a summary and the abstracts of one
# paper differ by a factor of 3.6 should make you ask for the protocol, of theirs and of ours.
#
# ## 6. The front
# A configuration is on the front (the *Pareto front*) if no other is at least as cheap and at least as good, and
# strictly better in one of the two.
#
# ### Exercise 4.4: the front (medium, 10 minutes)
# Given cost (lower is better) and quality (higher is better) of some points, mark those on the front.
# Equal points do not push each other out.


# %% tags=["exercise"]
def front(cost: Tensor, quality: Tensor) -> Tensor:
    """Both float32 [points]; returns bool [points], True on the front."""
    ...


course.check("4.4", front)

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

# %% tags=["nbval-ignore-output"]
assert len({p["bytes"] for p in points if p["fp8"]}) == 1, "an FP8 model takes the same space whatever its zeros"
free, fixed = (pts.find(points, "EWMA", pattern) for pattern in ("50 %", "2:4"))
bare, cast_only = pts.find(points, "EWMA", "50 %", fp8=False), pts.find(points, "FP8 alone", "dense")
assert abs(fixed["packed"] / free["packed"] - 1) < 0.01 and fixed["retention"] < free["retention"]
assert cast_only["packed"] < bare["packed"] and cast_only["retention"] > bare["retention"]
course.widgets.trade_off(points)

# %% [markdown]
# Filled marks are FP8, hollow ones bfloat16; ringed ones are on the front, pale ones beyond a limit. Choose what
# counts as cheap and how much you want to keep; the title says which point is then the cheapest. Three things to see:
# - **On disk, pruning saves nothing here**: choose "MB on disk". A zero takes a byte in FP8 as any other code does, so
#   all FP8 models have the same size, and only the one that keeps most can be on the front, beside the dense model:
#   casting alone, or one within its margin.
# - The starting axis *predicts* the size if zeros were packed (one bit per weight for where they are, and the
#   survivors). prunekit does not write such files. Even so, 2:4 is not on the front: the same share, chosen freely,
#   keeps more. What 2:4 can buy is speed on a GPU that has it, which no axis here shows.
# - If you may do only one of the two, cast: 50 % in bfloat16 is beaten by FP8 without a single zero, smaller and nearly
#   lossless.
#
# On other text points near each other may change places: at 50 % EWMA, Wanda and SparseGPT; likewise EWMA at 20 %,
# magnitude at 20 % and FP8 alone, whichever is ringed here (on more text magnitude is behind, section 4). See the
# margins in the table.

# %% [markdown]
# ## What you can do now
# 1. *Orders*: casting first scores rounded weights and keeps a scale made for weights that are gone; the joint score
#    subtracts what casting loses anyway, and is the best mask for a given scale. In E4M3 at 50 % pruning makes nearly
#    all of the error, so the order hardly matters; one pass saves work.
# 2. *Keeping*: retention is a ratio of accuracies on the same tokens, with perplexity and a margin beside it. This
#    model keeps less than the paper claims for larger ones; SparseGPT keeps more than EWMA given enough text,
#    for far more time.
# 3. *Front*: mark what nothing beats, then take the cheapest that is good enough. Say what "cheap" is: bytes on disk
#    do not shrink by pruning alone.
#
# Where the time goes on a GPU, and what 2:4 buys there: [05 RTX speed profiling](05_rtx_speed_profiling.ipynb).
# Your own model: [06 Your model](06_your_model.ipynb).
