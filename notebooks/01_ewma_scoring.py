# %% [markdown]
# # 01 EWMA scoring: which weights to prune, without sorting
#
# You will be able to
#
# 1. compute the [contribution](GLOSSARY.md#contribution) of every [weight](GLOSSARY.md#weight) of a
#    [linear layer](GLOSSARY.md#linear-layer), and say what it assumes;
# 2. explain why no sort is needed to [prune](GLOSSARY.md#pruning) half of them, and why the
#    [sparsity](GLOSSARY.md#sparsity) comes out right all the same;
# 3. say when it would not come out right, and see it before it does harm.
#
# You need PyTorch; nothing of pruning. It runs in about 1 minute on two CPU cores, with 3.2 GB of memory at its peak.
# Reading and predicting take 60 minutes, the seven exercises 85 minutes more.
#
# Previous: [00 Start here](00_start_here.ipynb). Next: [02 Structured masks](02_structured_masks.ipynb).

# %% tags=["setup"]
# Set-up, the same in every notebook. Where prunekit is missing, put its wheel, which came with this notebook, beside it
# (on Colab into /content) and run this cell: it installs what is needed, and never another torch.
from importlib.util import find_spec

from IPython import get_ipython

if not find_spec("prunekit"):
    get_ipython().run_line_magic("pip", "install -q --no-deps --no-index -f . -f /content prunekit")
import prunekit as pk

pk.course.ready()

# %% [markdown]
# ## A number that hurts
#
# Half of a small language model's weights shall go. The obvious choice: in each row of each layer, the half with the
# smallest absolute values. We judge by [perplexity](GLOSSARY.md#perplexity) on text that the model never saw. Beside it
# stands what this notebook builds.
#
# Two names to keep apart. The paper calls its method EWMA, after a moving average: here **the mean rule**. What takes
# its place in prunekit, and still bears that name there, is **quantile tracking**.

# %% tags=["nbval-ignore-output"]
from math import exp, log
from time import perf_counter
import torch
from prunekit import course
from prunekit.bench.timing import time_in_turn

figures = course.figures.scoring
model, tokenizer = pk.load("embedded", device="cpu")
text = pk.corpus(tokenizer, split="train", tokens=2048, context=32)  # short windows come from more places
test = pk.corpus(tokenizer, split="test", tokens=2048)
calibration = pk.calibrate(model, text)


def judge(**options):
    new = pk.compress(model, calibration=calibration, sparsity=0.5, **options)
    keep = {name: layer.weight != 0 for name, layer in pk.linear_layers(new.model).items()}
    shares = [(~mask).float().mean().item() for mask in keep.values()]
    return {"keep": keep, "shares": shares, "perplexity": pk.evaluate(new.model, test)["perplexity"]}


dense = pk.evaluate(model, test)["perplexity"]
by = {"magnitude": judge(metric="magnitude"), "quantile tracking": judge()}
hurts, mended = (it["perplexity"] for it in by.values())
bars = {"dense model": dense, "half gone, by magnitude": hurts, "half gone, quantile tracking": mended}
course.show(
    figures.perplexities(bars), f"Perplexity: dense {dense:.1f}, magnitude {hurts:.1f}, quantile tracking {mended:.1f}."
)

# %% [markdown]
# The same number of zeros, and a fraction of the harm. Two ideas make the difference: a better score, and a threshold
# that finds half of each row *without sorting it*. Section 1 is about the score, the rest about the threshold.
#
# ## 1. From magnitude to contribution
#
# A linear layer computes `y = W x`. Here is one that you can check by hand: 4 outputs, 8 input features, and the
# inputs `X` of 4 [tokens](GLOSSARY.md#token).
#
# Under `X` stands the [energy](GLOSSARY.md#energy) of each feature, `E_j = mean(x_j^2)`: how loud it is.

# %% tags=["nbval-ignore-output"]
X = torch.tensor(
    [[1, 3, 2, 2, 2, 1, 0, 8], [1, -3, -2, 6, 2, -1, 0, 8], [-1, 1, 0, 0, 2, 1, 0, -8], [-1, -1, 0, 0, 0, -1, 1, -8.0]]
)
W = torch.tensor(
    [[2, -2, 4, 1, -1, 5, -6, 0.5], [-4, 1, -1, 1, 2, -3, -2, 0], [1, -3, 2, 1, 3, 6, 4, 1], [6, 2, 5, 2, 1, 1, 4, 1]]
)
E = X.square().mean(0)
alt = "Inputs X, 4 by 8; the energy of its columns, 1, 5, 2, 10, 3, 1, 0.25, 64; a weight W, 4 by 8."
course.show(figures.matrices({"inputs X, one row a token": X, "energy E": E, "weight W, one row an output": W}), alt)
pair = ["0.5, the smallest (column 7)", "-6, the largest (column 6)"]
course.predict("drop", "In row 0 of W, which of these two weights may go with less harm?", pair)

# %% [markdown]
# If `w_j` alone becomes zero, the output changes by `w_j x_j`. Let us measure: set each weight to zero in turn, and
# take the mean square of the change over the tokens. That is `w_j^2 mean(x_j^2)`, so it should be `L = W^2 E`.

# %% tags=["nbval-ignore-output"]
change = torch.zeros_like(W)
for i in range(4):
    for j in range(8):
        dropped = W.clone()
        dropped[i, j] = 0
        change[i, j] = (X @ W.T - X @ dropped.T).square().mean(0).sum()
L = pk.contribution(W, E)
assert torch.allclose(L, change)
masks = {"W, by magnitude": pk.exact_mask(W.abs(), 0.5), "L, by contribution": pk.exact_mask(L, 0.5)}
alt = "W and L, half of each row hatched. In row 0 magnitude prunes 0.5 and keeps -6; L, with 9 against 16, prunes -6."
course.show(figures.matrices({"W, by magnitude": W, "energy E": E, "L, by contribution": L}, masks), alt)
course.reveal("drop", pair[1], f"It contributes {L[0, 6]:g}, the 0.5 contributes {L[0, 7]:g}.")

# %% [markdown]
# `L` is the **contribution**. Hatched cells are pruned. Magnitude throws away the 0.5 on the loud feature and keeps
# the -6 on the silent one; contribution does the opposite. Within a row it orders weights as
# [Wanda](BIBLIOGRAPHY.md#wanda) does.
#
# For one weight the formula is exact. Do contributions add up when two weights go at once?

# %% tags=["nbval-ignore-output"]
for j, k in [(0, 5), (0, 7)]:
    true = (W[0, j] * X[:, j] + W[0, k] * X[:, k]).square().mean()
    together = (X[:, j] * X[:, k]).mean()
    print(f"columns {j}, {k}: contributions {L[0, j] + L[0, k]:g}, true change {true:g}, mean(x_j x_k) = {together:g}")

# %% [markdown]
# Features 0 and 5 are uncorrelated, and the sum is right. Features 0 and 7 move together, and it is short by
# `2 w_j w_k mean(x_j x_k)`, which is 16. Contribution is blind to how weights help each other out. Seeing it takes the
# [Hessian](GLOSSARY.md#hessian) `X^T X`, `in x in` numbers a layer where contribution needs `in`;
# [SparseGPT](BIBLIOGRAPHY.md#sparsegpt) inverts it.
#
# ### Exercise 1.1: contribution from weights and inputs (easy, 5 minutes)
# Write the score without the library, from `W` and the inputs of some tokens.


# %% tags=["exercise"]
def contribution(W: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
    """W: float32 [out, in]; X: float32 [tokens, in]; returns float32 [out, in]."""


course.check("1.1", contribution)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Two steps: first one number for each column of `X`, then one for each weight.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `X.square().mean(0)` has shape `[in]`, and `[out, in] * [in]` multiplies each column by its own number.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def contribution(W, X):
#     return W**2 * X.square().mean(0)
# ```
# </details>

# %% [markdown]
# ## 2. Why sorting is the cost
#
# To prune half of each [row](GLOSSARY.md#per-row), one can sort it and cut in the middle. A copy of the row is the
# least that any method must do: read each weight, write each weight. How much more is a sort?

# %% tags=["nbval-ignore-output"]
guess = ["about 2 times as long", "about 5 times", "over 10 times"]
course.predict("sort", "How long does sorting rows of 1,024 numbers take, against copying them?", guess)

# %% tags=["nbval-ignore-output"]
x, out = torch.rand(2, 1024, 1024)
calls = {"copy": lambda: out.copy_(x), "find the median": lambda: x.kthvalue(512), "sort": lambda: x.sort(dim=1)}
times = {name: 1e9 * timing.median / 2**20 for name, timing in time_in_turn(calls, rounds=7).items()}
course.table(("1,024 rows of 1,024", "ns a weight"), list(times.items()), "measured here, median of 7 rounds")
ratio = times["sort"] / times["copy"]
course.reveal("sort", guess[0 if ratio < 3 else 1 if ratio < 10 else 2], f"Measured here: {ratio:.0f} times as long.")

# %% [markdown]
# A sort finds the place of *every* score, and reads and writes the row many times for it. Finding the median alone is
# a smaller question, and still moves numbers about. If we knew it, a single pass from left to right would do.
#
# ## 3. An average in place of a sort
#
# The paper ([HWPQ](BIBLIOGRAPHY.md#hwpq)), known to us by an abstract and two summaries, carries a moving average
# ([EWMA](GLOSSARY.md#ewma)) along the row and prunes where `L < m - k d`. There `m` is the moving mean of the scores,
# `d` that of their distances from `m`; `a` and `b` say how fast both forget.
#
# Two kinds of rows: squared Gaussian numbers, as scores of Gaussian weights would be, and a
# [heavy tail](GLOSSARY.md#heavy-tail), in which a few scores are enormous.

# %% tags=["nbval-ignore-output"]
one, other = torch.randn(2, 256, 1536, generator=torch.Generator().manual_seed(0))
gauss, heavy = one**2, (one / other) ** 2


def mean_rule(scores, k, a=0.05, b=0.05):
    m = scores[:64].mean(0)
    d = (scores[:64] - m).abs().mean(0)
    pruned, path = [], []
    for score in scores:
        pruned.append(score < m - k * d)
        path.append(torch.stack([m, d, m - k * d]))
        d = d + b * ((score - m).abs() - d)
        m = m + a * (score - m)
    return torch.stack(pruned), torch.stack(path)


guess = ["under 40 %", "about half", "over 60 %"]
course.predict("mean", "With k = 0.56 Gaussian rows lose half. What share of a heavy-tailed row goes?", guess)

# %% tags=["nbval-ignore-output"]
tail = heavy[0, :400]
pruned, path = mean_rule(tail, k=0.56)
carried = dict(zip(["m", "d", "m - k d"], path.T.tolist()))
share, below = pruned.float().mean().item(), (path[:, 2] < 0).float().mean().item()
alt = f"A heavy-tailed row: {share:.0%} pruned, after jumps of m; m - k d is below 0 at {below:.0%} of the weights."
course.show(figures.along_row(tail, pruned, carried, f"mean rule: {share:.0%} pruned, 50% asked for"), alt)
course.reveal("mean", guess[0 if share < 0.4 else 1 if share < 0.6 else 2], f"This row loses {share:.0%}.")

# %% [markdown]
# Follow one giant score. It lifts `m` and `d` together. Then `m` sinks towards the ordinary scores, but `d` has them
# all far from `m` and sinks more slowly. Soon `m - k d` is below zero, and nothing can be pruned.
#
# Perhaps `k` was wrong. **Your turn:** change `mine` and run again, until both kinds of rows lose half.

# %% tags=["nbval-ignore-output"]
mine = 0.56
ks = sorted({0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, mine})
kinds = {"squared Gaussians": gauss[:64], "heavy tail": heavy[:64]}
shares = {name: [mean_rule(rows.T, k)[0].float().mean().item() for k in ks] for name, rows in kinds.items()}
alt = "Share pruned against k. Gaussian rows cross one half near k = 0.54, heavy-tailed rows near 0.38: never together."
course.show(figures.strengths(ks, shares, mine), alt)

# %% [markdown]
# Each kind of row crosses one half, but at another `k`. To choose `k` you must know the distribution.
#
# **The rule never checks its target.** No step compares what was pruned with what was asked for. So let us tell it.
#
# ## 4. The threshold is told what it did
#
# We want a number `q` with a share `s` of the row below it: a [quantile](GLOSSARY.md#quantile). Pruned one? `q` was
# perhaps too high: lower `log q` by `eta (1 - s)`. Kept one? Raise it by `eta s`. In one line:
#
# `log q <- log q + eta (s - [L < q])`, where `[L < q]` is 1 if the weight is pruned.
#
# The logarithm makes the step relative, so that scores of any magnitude can use the same `eta`. Now the same row again.


# %% tags=["nbval-ignore-output"]
def track(scores, sparsity, eta, q, scans=1):
    keep, path = [], [q]
    for score in scores * scans:
        pruned = score < q
        keep.append(not pruned)
        q = q * exp(eta * (sparsity - pruned))
        path.append(q)
    return keep[-len(scores) :], path


keep, path = track(tail.tolist(), sparsity=0.5, eta=0.1, q=tail[0].item())
told, late = (1 - sum(part) / len(part) for part in (keep, keep[-200:]))
alt = (
    f"The same row: q falls from its first score to the median and stays there; {told:.0%} pruned, at last {late:.0%}."
)
title = f"{told:.0%} pruned, {late:.0%} of the last 200; 50% asked for"
course.show(figures.along_row(tail, ~torch.tensor(keep), {"threshold q": path[:-1]}, title), alt)

# %% [markdown]
# Giants no longer matter: a score counts as above or below, never by how much. Of the last 200 weights about half went;
# too many had gone on the way down from a start that was far too high. This is
# [quantile tracking](GLOSSARY.md#quantile-tracking), a case of
# [stochastic approximation](BIBLIOGRAPHY.md#robbins-monro).
#
# **Where does `q` end?** Let us count in eight numbers, row 0 of the small matrix, with a long step.

# %% tags=["nbval-ignore-output"]
row = L[0].tolist()
keep, path = track(row, sparsity=0.5, eta=0.5, q=row[0])
rows = [("score", *map("{:g}".format, row)), ("decision", *("kept" if kept else "pruned" for kept in keep))]
course.table(["column", *map(str, range(8))], rows, "scan 1, from q = 4: 2 pruned, 6 kept")
guess = ["4 again", "4 e = 10.9", "4 e^2 = 29.6"]
course.predict("end", "Kept: log q rises by 0.25. Pruned: it falls by 0.25. From q = 4, where does q end?", guess)

# %% tags=["nbval-ignore-output"]
keep, path = track(row, sparsity=0.5, eta=0.5, q=row[0], scans=2)
course.show(figures.threshold(row, path), "Two scans: q climbs from 4 to 10.9, and ends the second at 10.9.")
course.reveal("end", guess[1], "Six up and two down are four up: log q rises by 4 x 0.25 = 1.")
assert keep == pk.exact_mask(L, 0.5)[0].tolist()

# %% [markdown]
# You did not need the scores to say where `q` ends, only the *count*. Read it the other way round: from where `q`
# ended you can tell how many were pruned. In scan 2 it ends where it began. So exactly half went, and they are those
# that a sort takes.
#
# The next cell draws that way as an arrow, the net travel, and checks long rows, too.

# %% tags=["nbval-ignore-output"]
cases = [(row, 0.5, path[0]), (row, 0.5, path[8]), (tail.tolist(), 0.1, 1e3), (gauss[0].tolist(), 0.01, 1e-3)]
for scores, eta, q in cases:
    keep, way = track(scores, 0.5, eta, q)
    travel, counted = log(way[-1] / way[0]), 1 - sum(keep) / len(keep)
    told = 0.5 - travel / (eta * len(scores))
    print(f"{len(scores)} weights: net travel {travel:+.2f}, so the share must be {told:.4f}; counted {counted:.4f}")
    assert abs(told - counted) < 1e-9
course.show(figures.threshold(row, path, travel=True), "The net travel of log q: +1.00 in scan 1, 0.00 in scan 2.")

# %% [markdown]
# All steps add up, and each `log q` in between comes once with plus and once with minus: the sum
# [telescopes](GLOSSARY.md#telescoping). What is left is the arrow.
#
# `log q_end - log q_start = eta (n s - number pruned)`, hence
#
# **`share pruned = s - (log q_end - log q_start) / (eta n)`.**
#
# It is exact for any scores. The miss *is* the net travel, over `eta n`. A threshold that has settled goes to and fro
# about one place, and does not travel. So the shape of the distribution should not matter:

# %% tags=["nbval-ignore-output"]
layers, name = pk.linear_layers(model), "model.layers.10.mlp.down_proj"
real = pk.contribution(layers[name].weight, calibration.energy[name])
kinds = {"squared Gaussians": gauss, "a real layer": real, "the same, 20 % asked": real, "heavy tail": heavy}
kinds["log-normal"], asked = (2 * one).exp(), [0.5, 0.5, 0.2, 0.5, 0.5]
lost = {}
for rule, mask in {"mean rule": pk.mean_mask, "quantile tracking": pk.quantile_mask}.items():
    lost[rule] = {kind: 1 - mask(kinds[kind], s).float().mean(1) for kind, s in zip(kinds, asked)}
means = {rule: [round(share.mean().item(), 2) for share in found.values()] for rule, found in lost.items()}
alt = f"Mean share that rows lose, 0.5, 0.5, 0.2, 0.5 and 0.5 asked for: {means}. Tracked rows show no scatter."
course.show(figures.row_shares(lost, asked), alt)
course.widgets.ewma_replay(real[0], sparsity=0.5)

# %% [markdown]
# Left, the mean rule: it comes close where its `k` was made for the rows, and elsewhere by luck. Right, quantile
# tracking: every single row, of every kind, at its target.
#
# <details><summary>What <code>pk.quantile_mask</code> adds to <code>track</code></summary>
#
# - *Start*: `q` begins at the mean of the first 64 scores, times the factor that would be right for Gaussian weights.
# - *Warm-up*: three scans that decide nothing let `q` settle, with steps that begin at 0.2 and shrink. In a row of
#   fewer than 342 weights there are more.
# - *Step*: 0.01 for a half, longer for shares far from it, since fewer scores lie near such a threshold.
# - *Groups*: `q` moves once for 64 weights, by the sum of their steps. The identity still holds. `block=1` moves it
#   after each weight, as `track` does.
#
# Four scans are not four passes over memory: compiled code keeps a few rows in the cache meanwhile.
# </details>
#
# The last picture replays one row of the real layer. With a running kernel, move the sliders: scrub along the row,
# change the step, switch the warm-up off. Squares mark where a sort decides otherwise.
#
# ### Exercise 1.2: one scan over all rows (medium, 15 minutes)
# `track` takes one row. Write one scan for all rows at once: a loop over columns, each row with a threshold of its own.
# Return what is **pruned** (`L < q`) and `log_q` after the last weight.


# %% tags=["exercise"]
def scan(L: torch.Tensor, sparsity: float, eta: float, log_q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """L: float32 [rows, in]; log_q: float32 [rows]; returns (pruned: bool [rows, in], log_q: float32 [rows])."""


course.check("1.2", scan)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# The loop is over `j`, the columns. In column `j` all rows decide at once: `L[:, j] < log_q.exp()` has shape `[rows]`.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# Begin with `pruned = torch.zeros(L.shape, dtype=torch.bool)` and fill one column at a time. The update of `track`
# becomes `log_q = log_q + eta * (sparsity - pruned[:, j].float())`; `log_q += ...` would change the argument.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def scan(L, sparsity, eta, log_q):
#     pruned = torch.zeros(L.shape, dtype=torch.bool)
#     for j in range(L.shape[1]):
#         pruned[:, j] = L[:, j] < log_q.exp()
#         log_q = log_q + eta * (sparsity - pruned[:, j].float())
#     return pruned, log_q
# ```
# </details>

# %% [markdown]
# ## 5. Six ways to fail
#
# The identity says where to look: the share is wrong where the threshold travels far, in units of `eta n`. And it says
# nothing about *which* weights go. Each row below gets one scan, from its first score. Beside the picture stand two
# masks: that scan's, and `pk.quantile_mask`'s, which first makes scans that decide nothing, its *warm-up*.
#
# First a row without trouble. Below it, predict all six failures before you go on.

# %% tags=["nbval-ignore-output"]
SHARE, found = ["under 45 %", "about half", "over 55 %"], {}


def one_scan(name, scores, eta):
    keep, path = track(scores.tolist(), 0.5, eta, q=scores[0].item())
    exact, library = pk.exact_mask(scores[None], 0.5)[0], pk.quantile_mask(scores[None], 0.5)[0]
    beside = {}
    for who, mask in {"one scan": torch.tensor(keep), "pk.quantile_mask": library}.items():
        beside[who] = [round(hits.float().mean().item(), 3) for hits in (~mask, mask == exact)]
        beside[who].append(round(((scores[~mask].sum() + 1e-9) / (scores[~exact].sum() + 1e-9)).item(), 2))
    found[name], share = beside, beside["one scan"][0]
    alt = f"{name}: q goes from {path[0]:.3g} to {path[-1]:.3g}. Pruned, as a sort decides, times its loss: {beside}."
    course.show(figures.along_row(scores, exact.new_tensor(keep) < 1, {"threshold q": path[:-1]}, name, beside), alt)
    return SHARE[0 if share < 0.45 else 1 if share <= 0.55 else 2]


base = torch.randn(1000, generator=torch.Generator().manual_seed(0)) ** 2
one_scan("no trouble", base, eta=0.05)
wrong, both = ["the share", "the choice of weights", "nothing"], ["both", "the share alone", "the weights alone"]
course.predict("short", "1. Only the first 20 of these weights, with a step of 0.01. What share goes?", SHARE)
course.predict("small", "2. All 1,000 weights, with a step of 0.0005. What share goes?", SHARE)
course.predict("long", "3. The same with a step of 1, twenty times that of the good row. What is wrong?", wrong)
course.predict("sorted", "4. The same weights in ascending order, a step of 0.05. What share goes?", SHARE)
course.predict("drift", "5. Scores that grow a thousandfold along the row. What does a warm-up get right?", both)
course.predict("zeros", "6. 70 % of the scores are zero, half shall go. What share does go, warmed up?", SHARE)

# %% [markdown]
# One scan of 1,000 weights lands within a few percent. The rest is the way down from the first score.
#
# ### Failure 1: a short row

# %% tags=["nbval-ignore-output"]
answer = one_scan("only 20 weights", base[:20], eta=0.01)
course.reveal("short", answer, f"One scan prunes {found['only 20 weights']['one scan'][0]:.0%}.")

# %% [markdown]
# The threshold hardly moved, and the share is off by a tenth. `eta n` is only 0.2, so that a travel of 0.02 is already
# a miss of 0.1. A warm-up mends it: the scan that decides then starts where `q` belongs.
#
# ### Failure 2: a step too small

# %% tags=["nbval-ignore-output"]
answer = one_scan("step too small", base, eta=0.0005)
course.reveal("small", answer, f"One scan prunes {found['step too small']['one scan'][0]:.0%}.")

# %% [markdown]
# The same illness: many weights, but each moves `q` so little that it never arrives. `q` stands too high all the way.
# The first score decides the share, and it was drawn by lot.
#
# ### Failure 3: a step too long

# %% tags=["nbval-ignore-output"]
one_scan("step too long", base, eta=1.0)
share, equal, _ = found["step too long"]["one scan"]
course.reveal("long", wrong[1], f"{share:.1%} pruned, but only {equal:.0%} of the decisions are a sort's.")

# %% [markdown]
# The share is perfect, since `eta n` is huge against any travel. But `q` shakes, and near it weights live or die by the
# moment in which they are met. A step is a bargain between arriving and lying still.
#
# ### Failure 4: a sorted row

# %% tags=["nbval-ignore-output"]
answer = one_scan("sorted", base.sort().values, eta=0.05)
course.reveal("sorted", answer, f"One scan prunes {found['sorted']['one scan'][0]:.0%}.")

# %% [markdown]
# `q` runs after the scores and is late all the way up. It ends far above its start, so too few were pruned. After a
# warm-up it begins at the top, falls while small scores pass, meets the others near the median, and climbs back.
#
# ### Failure 5: scores that drift

# %% tags=["nbval-ignore-output"]
one_scan("drifting", base * torch.logspace(0, 3, 1000), eta=0.05)
share, _, loses = found["drifting"]["pk.quantile_mask"]
course.reveal("drift", both[1], f"{share:.1%} pruned, and with them {loses:.2f} times the score that a sort loses.")

# %% [markdown]
# With a warm-up `q` comes back to where it was, so the *share* is right. On the way it follows the drift: weights that
# are small for the row's end go, and smaller ones at its beginning stay. Compare the loss of the same mask on the row
# without trouble: 1.00. The identity promises how many, never which.
#
# Why did the sorted row not suffer so? There `q` met the scores once, at the median. Here small and large ones are
# mixed, and it meets them all the way.
#
# ### Failure 6: most scores are zero

# %% tags=["nbval-ignore-output"]
one_scan("70 % zeros", base * (base > base.quantile(0.7)), eta=0.05)
course.reveal("zeros", SHARE[2], f"{found['70 % zeros']['pk.quantile_mask'][0]:.0%} go.")

# %% [markdown]
# No threshold lies between equal scores, so nearly all zeros go together. It does no harm, since pruning a zero changes
# nothing. Equal scores above zero are split as `q` jumps over them and back, and which go is an accident.
#
# Rows of language models have hundreds of columns, in no particular order. So we expect none of this there. That is a
# claim about real layers; let us test it on all of them.
#
# ## 6. All layers of a real model

# %% tags=["nbval-ignore-output"]
by["mean rule"], by["sorting"] = judge(select="ewma-mean"), judge(select="exact")
shown = {rule: by[rule]["shares"] for rule in ("mean rule", "quantile tracking", "sorting")}
ends = {rule: f"{min(each):.3f} to {max(each):.3f}" for rule, each in shown.items()}
course.show(figures.layers(shown, 0.5), f"Share of 210 layers pruned, each a mark, 0.5 asked for: {ends}.")
guess = ["near contribution's", "near magnitude's", "near the dense model's"]
course.predict("rank-one", "The paper's score, W_ij^2 / (1 - E_j / sum of E): where does its perplexity lie?", guess)

# %% [markdown]
# Each mark is a layer. Sorting gives exactly one half. Quantile tracking is within a fraction of a percent of it in
# every layer; the mean rule is far off in some.
#
# One more candidate: the score that two summaries of the paper print. It is
# [Optimal Brain Surgeon](BIBLIOGRAPHY.md#obs) with the Hessian of a single input.
#
# <details><summary>How that follows</summary>
#
# Optimal Brain Surgeon scores a weight by `w_j^2 / [H^-1]_jj`. A single input gives `H = x x^T + t I`, with a small `t`
# that makes it invertible. Its inverse has the diagonal `(1 - x_j^2 / (t + sum of x^2)) / t`. Leave out the common `t`
# and write `E` for `x^2`: that is `W_ij^2 / (1 - E_j / sum of E)`.
# </details>

# %% tags=["nbval-ignore-output"]
by["rank-one"] = judge(metric="rank-one")
kept, rows, gone, waste = by["sorting"]["keep"], [("dense", dense, "", "")], {}, {}
for rule, it in by.items():
    masks = it["keep"].items()
    gone[rule] = [pk.contribution(layers[n].weight, calibration.energy[n])[~mask].sum() for n, mask in masks]
for rule, it in by.items():
    equal = sum((mask == kept[n]).sum() for n, mask in it["keep"].items()) / sum(map(torch.numel, kept.values()))
    waste[rule] = (torch.stack(gone[rule]) / torch.stack(gone["sorting"])).median().item()
    rows.append((rule, it["perplexity"], f"{equal:.1%}", f"{waste[rule]:.2f}"))
head = ("rule", "perplexity", "decides as sorting", "contribution lost, in multiples of sorting's")
course.table(head, rows, "half of 210 layers pruned, 2,044 tokens, measured here; last column: median over layers")
course.reveal("rank-one", guess[1], f"{rows[-1][1]:.0f}, magnitude {hurts:.0f}, dense {dense:.1f}.")
size, loud, other = layers[name].weight.abs(), calibration.energy[name].expand_as(real), by["magnitude"]["keep"][name]
disputed = {"magnitude": kept[name] & ~other, "sorting by contribution": other & ~kept[name]}
rows = [(who, *(f"{x[at].median():.3g}" for x in (size, loud, real))) for who, at in disputed.items()]
course.table(("pruned by this alone", "|weight|", "energy", "contribution"), rows, f"{name}: medians")

# %% [markdown]
# Quantile tracking is as good as a sort. The mean rule is clearly worse, though it prunes less. The rank-one score
# lands beside magnitude: `E_j` is tiny against the sum, so it is nearly blind to the inputs.
#
# Mind the third column. Magnitude decides nine times in ten as sorting does, and still ruins the model. What counts is
# *which* differ (second table): those that magnitude alone prunes are a little smaller, but their inputs are louder.
#
# ### Exercise 1.3: spot the bug (medium, 10 minutes)
# This function shall prune a share of *each row*, `floor(sparsity * in)` of its smallest scores. The total is right
# but for rounding, yet the masks are wrong. Write it right. Which of two equal scores goes is
# up to you. Scores may be negative, and `floor` is of the product as Python computes it, `int(sparsity * in)`.
#
# ```python
# def mask(L, sparsity):
#     keep = torch.ones(L.numel(), dtype=torch.bool)
#     keep[L.flatten().argsort()[: int(sparsity * L.numel())]] = False
#     return keep.view(L.shape)
# ```


# %% tags=["exercise"]
def mask(L: torch.Tensor, sparsity: float) -> torch.Tensor:
    """L: float32 [out, in]; returns bool [out, in], True where a weight is kept."""


course.check("1.3", mask)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# What does `flatten` forget? Think of two rows, one with scores a thousand times those of the other.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `L.argsort(dim=1)` ranks each row by itself. `torch.ones(L.shape, dtype=torch.bool).scatter(1, places, False)` writes
# False at some places of each row.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# It ranks over the whole layer: an output with small scores loses nearly all of its inputs, another none. Scores of
# different rows are about different outputs, which the next layer may scale as it likes.
#
# ```python
# def mask(L, sparsity):
#     smallest = L.argsort(dim=1)[:, : int(sparsity * L.shape[1])]
#     return torch.ones(L.shape, dtype=torch.bool).scatter(1, smallest, False)
# ```
# </details>

# %% [markdown]
# ## 7. When to stop reading
#
# Scores need energies, and energies need [calibration](GLOSSARY.md#calibration) text. How much? After each batch
# `pk.calibrate` decides anew for eight rows of each layer, and stops when fewer than a given share of that changed.
# Here it reads 64 tokens at a time: once to the end, and once with leave to stop below 1 %.

# %% tags=["nbval-ignore-output"]
whole = pk.calibrate(model, text[:32], batch_tokens=64, tolerance=0)
early = pk.calibrate(model, text[:32], batch_tokens=64, tolerance=0.01)
tokens = [128 + 64 * i for i in range(len(whole.changes))]
alt = f"Decisions that change after 128, 192 ... tokens: {', '.join(f'{c:.2%}' for c in whole.changes)}; "
alt += f"a line at 1%; stopped at {early.tokens} tokens."
course.show(figures.stopping(tokens, whole.changes, 0.01, early.tokens), alt)

# %% [markdown]
# The curve crosses the line, and there it stops. That it would have risen above it once more does little harm: what
# still flips are weights near the threshold, of which it matters least whether they stay.
#
# It would stop *wrongly* where batches are alike but unlike what the model will meet. The rule sees changes, not truth.
#
# The energies of batches are averaged by `M <- decay M + (1 - decay) E_batch`, from `M = 0`. That start makes the
# average too small, by the factor `1 - decay^t` after `t` batches. Dividing by it repairs this, as
# [Adam](BIBLIOGRAPHY.md#adam) does.
#
# ### Exercise 1.4: a corrected moving average (easy, 10 minutes)
# Average the batches from the first to the last, from zero, and correct at the end. Their rows are energies already.


# %% tags=["exercise"]
def average_of(batches: torch.Tensor, decay: float) -> torch.Tensor:
    """batches: float32 [batches, in]; decay in [0, 1); returns float32 [in]."""


course.check("1.4", average_of)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Begin with `raw = torch.zeros_like(batches[0])` and go through the batches with the formula above.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# Correct once, after the loop: the weights of `t` batches add up to `1 - decay ** t`, and `t` is `len(batches)`.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def average_of(batches, decay):
#     raw = torch.zeros_like(batches[0])
#     for x in batches:
#         raw = decay * raw + (1 - decay) * x
#     return raw / (1 - decay ** len(batches))
# ```
# </details>

# %% [markdown]
# ## 8. Where the time goes
#
# Read the text, select, and cast what stays to [FP8](GLOSSARY.md#fp8): three parts of a whole compression. The cast is
# timed as a pass of its own. Does the sort that we avoided matter?

# %% tags=["nbval-ignore-output"]
casts = [pk.compress(model, sparsity=0, fp8="e4m3").seconds["select"] for _ in range(2)]
parts = {}
for way, select in {"quantile tracking": "ewma", "a sort": "exact"}.items():
    begin = perf_counter()
    read, alone = pk.compress(model, text, sparsity=0.5, select=select).seconds.values()
    rest = perf_counter() - begin - read - alone
    split = zip(("calibration", "selection", "cast", "the rest"), (read, alone, min(casts), rest))
    parts[way] = {part: round(value, 2) for part, value in split}
course.show(figures.seconds(parts), f"Seconds of a compression: {parts}.")

# %% [markdown]
# With a sort, selecting takes most of the time. With quantile tracking it no longer does, and calibration comes to the
# fore. That is why the stop rule matters.
#
# ## 9. Three last exercises
#
# ### Exercise 1.5: what is certain? (interpret, 5 minutes)
# `track` made one scan over 1,000 positive scores, with `sparsity=0.5` and `eta=0.01`. It pruned 57 % of them. That is
# all you know. Which of these are certain?
#
# - a: `q` ended lower than it began.
# - b: `q` ended at about half of where it began.
# - c: `q` began above the row's median.
# - d: `q` never rose during the scan.
# - e: The pruned ones are the 570 smallest.
# - f: Another scan, from where `q` ended, would come closer to 50 %.

# %% tags=["exercise"]
answer = ""  # such as "cf"
course.interpret("1.5", answer)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# The identity knows two places of the threshold, the first and the last. What does it say of them, in numbers?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `0.57 = 0.5 - travel / (0.01 * 1000)`. For the claims about the scores, think of rows that drift down or up.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# `ab`. The travel is `-0.07 * 0.01 * 1000 = -0.7`, so that `q` ended at `exp(-0.7) = 0.50` of its start. Nothing else
# is certain: the identity speaks of the first and the last `q`, not of the way, not of the scores, and not of the
# next scan. With 570 scores of a millionth and 430 of a million, that would prune the 570 again.
# </details>

# %% [markdown]
# ### Exercise 1.6: the right share, the wrong weights (hard, 20 minutes)
# Build a row of `n` positive scores, `n` from 2,048 to 4,096 and even, on which `pk.quantile_mask(row[None], 0.5)`
# prunes half, within 1 %, and still loses at least 1.2 times the score that a sort loses. Its step for a half is 0.01:
# each weight moves `log q` by 0.005, up or down.


# %% tags=["exercise"]
def fooled(n: int) -> torch.Tensor:
    """n: an even number from 2048 to 4096; returns float32 [n], scores between 1e-9 and 1e9."""


course.check("1.6", fooled)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# The share is right wherever `q` ends the row where it began it. Which of the six failures had that, and still another
# choice than a sort? Make it worse.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# Let `q` follow: it moves by 0.005 of `log q` for each weight, and no faster. So let the first half of the row have
# small scores and the second half scores some ten times as large, each half with small and large ones mixed.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# Each half loses about half of its own. A sort would take nearly all from the first. In `log q` a factor of 10 is 2.3,
# for which the threshold needs some 460 weights.
#
# ```python
# def fooled(n):
#     row = torch.tensor([1.0, 2.0]).repeat(n // 2)
#     row[n // 2 :] *= 10
#     return row
# ```
# </details>

# %% [markdown]
# ### Exercise 1.7: the whole method (hard, 20 minutes)
# Put the parts together: contribution, a threshold for each row, and one scan for each step in `etas`. The first
# threshold of a row is the mean of its scores; each scan goes on where the one before ended. The last scan decides.


# %% tags=["exercise"]
def prune(W: torch.Tensor, X: torch.Tensor, sparsity: float, etas: list[float]) -> torch.Tensor:
    """W: float32 [out, in]; X: float32 [tokens, in]; no row of scores is all zero; returns bool, True where kept."""


course.check("1.7", prune)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Exercise 1.1 gives `L`, and exercise 1.2 one scan. What remains is the start, and a loop over `etas`.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `log_q = L.mean(1).log()`; then for each `eta`: a new `pruned`, the columns from left to right, `log_q` carried on.
# Return `~pruned` of the last scan.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def prune(W, X, sparsity, etas):
#     L = W**2 * X.square().mean(0)
#     log_q = L.mean(1).log()
#     for eta in etas:
#         keep = torch.ones(L.shape, dtype=torch.bool)
#         for j in range(L.shape[1]):
#             keep[:, j] = L[:, j] >= log_q.exp()
#             log_q = log_q + eta * (sparsity - (~keep[:, j]).float())
#     return keep
# ```
# </details>

# %% [markdown]
# ## How far to trust this
#
# - One small model, whose weights were stored in 4 bits once; one text of 2,044 tokens; energies from 512. A few
#   percent between perplexities are noise of the text. Do not compare with notebook 00: its windows lie elsewhere.
# - Quantile tracking in place of the paper's rule, its constants, the stop rule, and 64 imagined tokens that steady
#   energies are ours: see [CHOICES](CHOICES.md).
# - We judge two summaries' reading of the paper, whose full text was not at hand.
# - The sum of contributions is exact where `mean(x_j x_k) = 0`; *uncorrelated* asks for means of zero besides.
# - Times are of this machine, in section 8 of single runs. There the cast is a pass of its own; prunekit does it in the
#   pass that selects, for less. Whole models on other machines are in [RESULTS](RESULTS.md); `prunekit bench select`
#   and `prunekit bench pipeline` repeat them on yours.

# %%
course.holds("01", globals())

# %% [markdown]
# ## Quiz
#
# Five questions on what you have seen.

# %% tags=["quiz", "nbval-ignore-output"]
course.quiz("01")

# %% [markdown]
# ## What you can do now
#
# 1. **Contribution**, `W_ij^2 E_j`, is exactly the mean square of the output's change if this weight alone goes. Added
#    up over many, it assumes uncorrelated inputs.
# 2. **No sort is needed**: each decision moves one number, and the moves telescope. The miss is the net travel over
#    `eta n`, and a settled threshold does not travel.
# 3. **It fails** where the threshold still travels, where it shakes, where scores drift, and where many are equal. To
#    see it, compare `mask.float().mean(1)` with the target, and a few rows with `pk.exact_mask`.
#
# The perplexity that hurt is mended to twice the dense model's. [Compensation](GLOSSARY.md#compensation), in
# [04](04_joint_pipeline.ipynb), and training what is left, in [07](07_recovering_quality.ipynb), do more.
#
# Next: [02 Structured masks](02_structured_masks.ipynb). A mask alone makes nothing faster; patterns do.
