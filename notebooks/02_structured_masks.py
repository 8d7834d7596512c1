# %% [markdown]
# # 02 Structured masks
#
# Cut half of the [neurons](GLOSSARY.md#neuron) out of a small language model. A plain CPU runs it faster. But its
# [perplexity](GLOSSARY.md#perplexity) rises from 15 to 58.
#
# One may also set as many weights to zero one by one. What does that cost, what does it gain, and what is between?
#
# You will be able to
# 1. tell unstructured, N:M and neuron pruning apart, and say what each costs at the same
#    [sparsity](GLOSSARY.md#sparsity);
# 2. store a 2:4 weight by hand, and compute how many bytes a pattern really takes;
# 3. say which pattern is faster where, and remove neurons so that your own CPU gains.
#
# 110 minutes with all exercises. Runs 1 minute on two CPU cores, without a GPU; peak memory 2.8 GB.
# Before: [01 EWMA scoring](01_ewma_scoring.ipynb). Next: [03 FP8 casting](03_fp8_casting.ipynb).

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
import torch
from torch import Tensor
from torch.nn.functional import linear, silu
from prunekit import course
from prunekit.calibration.observe import observing
from prunekit.course.lessons import kernels_for_zeros, layouts
from prunekit.course.lessons.clinic import as_csr
from prunekit.compression.neurons import neuron_scores
from prunekit.bench.timing import fastest, time_in_turn

figures = course.figures.masks

# %% [markdown]
# ## 1. A number that hurts
# Half of the weights of every MLP shall go. Either single weights become zero, wherever that harms least. Or whole
# neurons are cut out, those that harm least. The model reads 4,096 [tokens](GLOSSARY.md#token) for
# [calibration](GLOSSARY.md#calibration), and is judged on 2,048 others.

# %% tags=["nbval-ignore-output"]
model, tokenizer = pk.load("embedded", device="cpu")
train = pk.corpus(tokenizer, split="train", tokens=4096, context=512)
test = pk.corpus(tokenizer, split="test", tokens=2048)
calibration = pk.calibrate(model, train, stop=False)

# %% tags=["nbval-ignore-output"]
which = ["the single zeros", "both alike: half is half", "the neurons"]
course.predict("single", "Which of the two harms the model more?", which)

# %% tags=["nbval-ignore-output"]
prune = partial(pk.compress, model, calibration=calibration, include=["mlp"])
models = {"dense": model, "unstructured 50%": prune(sparsity=0.5).model}
models["neurons 50%"] = pk.remove_neurons(model, 0.5, calibration)
judged = {name: pk.evaluate(m, test, batch=1) for name, m in models.items()}
for name, values in judged.items():
    values["megabytes"] = layouts.model_file_bytes(models[name]) / 1e6
rows = [(name, values["megabytes"], values["perplexity"]) for name, values in judged.items()]
course.table(["model", "file, MB", "perplexity"], rows, "Measured: real files in bfloat16, 2,048 tokens")
course.reveal("single", which[2], f"Perplexity {rows[2][2]:.0f} against {rows[1][2]:.0f}.")

# %% [markdown]
# Half is not half. Single zeros harm far less, but look at the file: it is as large as before.
#
# ## 2. Where may the zeros be?
# A [mask](GLOSSARY.md#mask) says which weights stay. Here is a small [weight](GLOSSARY.md#weight) `W` with 4 outputs
# and 8 inputs. `E` is the [energy](GLOSSARY.md#energy) of each input. The score is the
# [contribution](GLOSSARY.md#contribution) `W_ij^2 E_j`, as in notebook 01.

# %%
W = torch.tensor(
    [
        [5.0, -1, 0, 3, 2, -4, 1, 1],
        [1, 6, -2, 4, -3, 0, 1, -1],
        [-2, 3, 5, -4, 1, 2, -6, 0],
        [3, -2, 1, -4, 7, 1, -1, 2],
    ]
)
E = torch.tensor([1.0, 1, 4, 1, 1, 2, 1, 1])
L = pk.contribution(W, E)

# %% [markdown]
# Three patterns, each of which prunes 16 of the 32 weights:
# - [unstructured](GLOSSARY.md#unstructured): the four lowest scores of each row go, wherever they are;
# - [2:4](GLOSSARY.md#n-m-sparsity): two go from every group of four neighbours in a row;
# - by neuron: whole columns go. Column `j` holds all weights that read neuron `j`, and its score
#   is the sum of theirs.

# %% tags=["nbval-ignore-output"]
best = neuron_scores(W, E).sort(descending=True, stable=True).indices[:4]
columns = torch.zeros(8, dtype=torch.bool).index_fill(0, best, True)
masks = {"unstructured": pk.exact_mask(L, 0.5), "2:4": pk.nm_mask(L, 2, 4), "neurons": columns.expand(4, 8)}
assert all(pk.sparsity_of(keep) == 0.5 for keep in masks.values())
orders = ["all three alike", "unstructured, 2:4, neurons", "neurons, 2:4, unstructured"]
course.predict("lost", "From the least score lost to the most, the order is ...", orders)

# %% tags=["nbval-ignore-output"]
lost = {name: (L[~keep].sum() / L.sum()).item() for name, keep in masks.items()}
said = ", ".join(f"{name} {share:.1%}" for name, share in lost.items())
alt = f"A 4 x 8 weight with energies, its scores {L.int().tolist()} under three masks. Of these are lost: {said}."
course.show(figures.patterns(W, E, L, masks, lost), alt)
course.reveal("lost", orders[1], f"{said}.")

# %% [markdown]
# Blue stays, hatched goes. Find the two 16s in the second row: unstructured keeps both. 2:4 may keep only two of that
# group, so one 16 goes, and further right a mere 1 stays.
#
# Neurons are chosen for all rows at once. So the 25 in the corner goes, the second highest score of its row.
#
# How is an N:M mask found? In every group, keep the best `n`:

# %%
loop = torch.zeros(4, 8, dtype=torch.bool)
for i in range(4):
    for start in range(0, 8, 4):
        group = L[i, start : start + 4]
        for p in sorted(range(4), key=lambda p: -group[p])[:2]:
            loop[i, start + p] = True
assert torch.equal(loop, pk.nm_mask(L, 2, 4))
print(loop.int())

# %% [markdown]
# ### Exercise 2.1: an N:M mask (medium, 10 minutes)
# In every group of `m` neighbours along a row keep exactly `n` weights, those of the highest score. Scores may be
# negative, tiny or huge, and are compared exactly; of equal scores any may stay, but never more than `n`. Any
# `1 <= n <= m`; `m` divides the width. No loops, and no `pk.nm_mask`.


# %% tags=["exercise"]
def nm_mask(L: Tensor, n: int, m: int) -> Tensor:
    """L: float32 [out, in], scores; returns bool [out, in], True where a weight stays."""
    ...


course.check("2.1", nm_mask)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Give the groups a dimension of their own: `L.unflatten(1, (-1, m))` has shape `[out, in / m, m]`.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `topk(n, dim=2).indices` are the places to keep. `scatter_(2, places, True)` writes True there.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def nm_mask(L, n, m):
#     groups = L.unflatten(1, (-1, m))
#     keep = torch.zeros_like(groups, dtype=torch.bool)
#     keep.scatter_(2, groups.topk(n, dim=2).indices, True)
#     return keep.flatten(1)
# ```
# A threshold (`groups >= the n-th highest`) would keep too many where scores are equal. `topk` returns places, so it
# keeps exactly `n`.
# </details>

# %% [markdown]
# ## 3. What is stored
# A zero takes as many bytes as any other number. To save room, a format leaves the zeros out. Then it must say where
# the others belong. With 2:4 two bits do for each kept weight, since it is one of four. Here is the second row:

# %% tags=["nbval-ignore-output"]
alt = "The row 1 6 -2 4, -3 0 1 -1; arrows from 6, -2, -3 and 1 down to the kept values, with places 01 10 00 10."
course.show(figures.layout24(W[1], masks["2:4"][1]), alt)

# %% [markdown]
# Four places of two bits are one byte. Read it from the right. The loop puts the values back where they were:

# %%
packed = layouts.pack24(W * masks["2:4"])
byte = packed["places"][1].item()
print("values", packed["values"][1].tolist(), "places as one byte", byte, f"{byte:08b}")
row = [0.0] * 8
for k, value in enumerate(packed["values"][1].tolist()):
    row[4 * (k // 2) + (byte >> 2 * k & 3)] = value  # the k-th pair of bits, from the right
print(row)
assert row == (W * masks["2:4"])[1].tolist()
assert torch.equal(layouts.unpack24(**packed), W * masks["2:4"])

# %% [markdown]
# From the right the byte says 01, 10, 00, 10, as in the picture.
#
# ### Exercise 2.2: pack a 2:4 weight (medium, 15 minutes)
# From each group of four take two values and their places, 0 to 3, from left to right. A group may hold three or four
# zeros. Even then it gets two entries, at two different places.


# %% tags=["exercise"]
def pack(W: Tensor) -> tuple[Tensor, Tensor]:
    """W: float32 [out, in], at most two of each four not zero; returns values and places, both [out, in / 2]."""
    ...


course.check("2.2", pack)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Which two places of a group? Those of its two largest absolute values: if some are zero, any zero will do.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `topk` gives places in the order of size: sort them. Then `groups.gather(2, places)` fetches the values.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def pack(W):
#     groups = W.unflatten(1, (-1, 4))
#     places = groups.abs().topk(2, dim=2).indices.sort(dim=2).values
#     return groups.gather(2, places).flatten(1), places.flatten(1)
# ```
# `W[W != 0]` would be shorter, but fails as soon as a group has three zeros. The `abs` keeps negative weights.
# </details>

# %% [markdown]
# Two other formats take zeros anywhere. CSR stores the column of each kept value, and where each row starts, each in 4
# bytes. A bitmap stores one bit for every weight. The same row in [bfloat16](GLOSSARY.md#bfloat16), a box for each
# byte:

# %% tags=["nbval-ignore-output"]
single, pairs = ((W * masks[name])[1:2].bfloat16() for name in ("unstructured", "2:4"))
forms = {"dense": {"values": W[1:2].bfloat16()}, "CSR": layouts.compressed_rows(single)}
forms |= {"bitmap": layouts.bitmap(single), "2:4": layouts.pack24(pairs)}
alt = "One row of eight: dense 16 bytes; CSR 8 for values, 4 x 4 for columns, 2 x 4 for rows; bitmap 8 + 1; 2:4 8 + 1."
course.show(figures.row_bytes(forms), alt)

# %% [markdown]
# ### Exercise 2.3: the bytes of an N:M layer (easy, 5 minutes)
# The kept values take `width` bytes each (2 in bfloat16, 1 in FP8). Each has a place from 0 to
# `m - 1`, written with the fewest bits that hold any such place. All places are packed tightly, one after the other;
# together, those of all rows, they are rounded up to whole bytes, once. Places are stored even where `n = m`.


# %% tags=["exercise"]
def nm_bytes(rows: int, columns: int, n: int, m: int, width: int) -> int:
    """Bytes of the values and places of an N:M weight [rows, columns]; m divides columns."""
    ...


course.check("2.3", nm_bytes)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# How many values are kept? Places from 0 to 3 need two bits. How many do places from 0 to 4 need?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `(m - 1).bit_length()` bits for each kept value; `(bits + 7) // 8` rounds up to bytes.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def nm_bytes(rows, columns, n, m, width):
#     kept = rows * columns * n // m
#     bits = kept * (m - 1).bit_length()
#     return kept * width + (bits + 7) // 8
# ```
# For 2:4 in bfloat16: half of 2 bytes and half of 2 bits per weight, 1.125 bytes, 9/16 of dense. In FP8 it is 0.625
# bytes, 5/8 of dense: the smaller the values, the more the places weigh.
# </details>

# %% [markdown]
# ## 4. A real layer
# Now `down_proj` of decoder block 15: 576 outputs, 1,536 neurons as inputs. `x` is what it reads for 512 tokens of the
# test text. How wrong are the outputs after pruning? We compare `||x W^T - x W'^T||^2` with `||x W^T||^2`.

# %% tags=["nbval-ignore-output"]
name, inputs = "model.layers.15.mlp.down_proj", []
down = model.get_submodule(name)
with torch.inference_mode(), observing({name: down}, torch.clone, lambda _, x: inputs.append(x)):
    model.base_model(test[:1], use_cache=False)
x, W1 = inputs[0].clone(), down.weight.detach().clone()
E1 = calibration.energy[name]
L1 = pk.contribution(W1, E1)


# %% tags=["nbval-ignore-output"]
def output_error(keep):
    return ((x @ (W1 * ~keep).T).square().sum() / (x @ W1.T).square().sum()).item()


stay = neuron_scores(W1, E1).topk(768).indices.sort().values
keep = {"unstructured": pk.exact_mask(L1, 0.5), "2:4": pk.nm_mask(L1, 2, 4)}
keep["neurons"] = torch.zeros(576, 1536, dtype=torch.bool).index_fill(1, stay, True)
error = {pattern: output_error(mask) for pattern, mask in keep.items()}
course.table(["pattern", "output error"], [(p, f"{e:.1%}") for p, e in error.items()], "Measured, half is pruned")

# %% [markdown]
# The order of the small example, on real weights. Now the bytes of real files:

# %%
half = W1.bfloat16()
zeros = half * keep["unstructured"]
stored = {"dense": half, "unstructured, zeros stored": zeros, "unstructured, CSR": layouts.compressed_rows(zeros)}
stored["unstructured, bitmap"] = layouts.bitmap(zeros)
stored |= {"2:4, packed": layouts.pack24(half * keep["2:4"]), "neurons cut out": half[:, stay]}
size = {form: layouts.file_bytes(tensors) for form, tensors in stored.items()}
rows = [(form, f"{count:,}", f"{count / size['dense']:.3f}") for form, count in size.items()]
course.table(["form", "bytes", "of dense"], rows, "Measured: safetensors files in bfloat16, headers included")

# %% [markdown]
# - A mask alone saves nothing: stored zeros are as large as other numbers.
# - CSR at 50 % is *larger* than dense: beside each value of 2 bytes stands a column of 4.
# - A bitmap takes 9/16 of dense, just as 2:4 does. So room is not the reason for 2:4.
# - Half of the neurons is half of the file, without any format.
#
# ## 5. Better neighbours
# 2:4 loses when loud weights sit in one group. But the order of neurons is arbitrary. Let two change places, the
# columns here and the rows that feed them: the MLP computes what it did before.

# %% tags=["nbval-ignore-output"]
first = torch.tensor([[1.0, 2], [0, 1], [3, -1], [1, 1], [2, 2], [-1, 4], [0, 3], [1, -2]])  # 8 neurons, 2 inputs
token, order = torch.tensor([2.0, 1.0]), [0, 1, 2, 5, 4, 3, 6, 7]  # neurons 3 and 5 change places
assert torch.equal(W @ torch.relu(first @ token), W[:, order] @ torch.relu(first[order] @ token))
kept, moved = pk.nm_mask(L[1:2], 2, 4)[0], pk.nm_mask(L[1:2, order], 2, 4)[0]
alt = "Scores of the second row under 2:4: as it stands 18 is lost; after 16 and 0 change places, 3."
course.show(figures.reordered(L[1], order, kept, moved), alt)

# %% [markdown]
# Now both 16s stay. A real layer needs one order for all its rows. `pk.channel_order` looks for a good one, which is
# called [channel permutation](GLOSSARY.md#channel-permutation).

# %% tags=["nbval-ignore-output"]
order = pk.channel_order(L1, 2, 4)
mask = pk.nm_mask(L1[:, order], 2, 4)
error["2:4, reordered"] = output_error(keep["2:4"].index_copy(1, order, mask))  # each column in its old place
print(f"2:4 {error['2:4']:.1%}, reordered {error['2:4, reordered']:.1%}, unstructured {error['unstructured']:.1%}")

# %% [markdown]
# A part of what 2:4 costs is won back, and the matrices are as large as before. `pk.compress(..., pattern="2:4",
# permute=True)` begins with this, and reorders [attention heads](GLOSSARY.md#attention-head) and the [residual
# stream](GLOSSARY.md#residual-stream), too.
#
# ## 6. What is faster: this CPU, measured

# %% tags=["nbval-ignore-output"]
speeds = ["about twice as fast as dense", "about as fast as dense", "slower than dense"]
course.predict("csr", "Half of the weights are zeros and left out (CSR). On a CPU the product is ...", speeds)

# %% tags=["nbval-ignore-output"]
tokens, unstructured = x[:256].contiguous(), W1 * keep["unstructured"]
calls = {
    "dense": partial(linear, tokens, W1),
    "unstructured, zeros stored": partial(linear, tokens, unstructured),
    "unstructured, CSR": partial(torch.mm, as_csr(unstructured), tokens.T.contiguous()),
    "2:4, zeros stored": partial(linear, tokens, W1 * keep["2:4"]),
    "neurons cut out": partial(linear, tokens[:, stay].contiguous(), W1[:, stay].contiguous()),
}
timed = time_in_turn(calls, rounds=180, sample_s=0)
fast = {form: fastest(timed["dense"], timing)[0] for form, timing in timed.items()}
said = ", ".join(f"{form} {value:.2f}" for form, value in fast.items())
alt = f"Bars, times as fast as dense: {said}."
course.show(figures.measured_times(timed, "256 tokens, down_proj 576 x 1536, half of it pruned"), alt)
csr, cut = fast["unstructured, CSR"], fast["neurons cut out"]
course.reveal("csr", speeds[(csr < 1.4) + (csr < 0.8)], f"CSR {csr:.2f}, neurons cut out {cut:.2f} times as fast.")

# %% [markdown]
# The processor multiplies a stored zero like any other number. CSR skips the zeros, but looks up a column for each
# weight that is left, and loses. The smaller matrix gains, because it is an ordinary dense product.
#
# ## 7. What is faster: a GPU, published
# [Sparse tensor cores](GLOSSARY.md#sparse-tensor-core) multiply packed 2:4 weights as they are. They do up to twice the
# arithmetic in the same time. How much of that arrives?

# %% tags=["nbval-ignore-output"]
alt = (
    "How many times as fast 2:4 is over tokens, four layers on an RTX 4090 in FP8, published: at 64 tokens from 0.56 "
    "to 1.13, three of the layers below 1; from 4,096 tokens on between 1.92 and 2.07."
)
course.show(figures.published24("RTX 4090", "fp8"), alt)

# %% [markdown]
# With many tokens 2:4 is nearly twice as fast. With few it may be slower. So it is on an H100: 44 of 189 published
# products in FP8 are slower with 2:4. A chat with one user means one token at a time: time the sizes that you will run.
#
# ### Where zeros pay, in 2026
# Zeros gain nothing without a [kernel](GLOSSARY.md#kernel) for them. These are the kernels:

# %%
kernels_for_zeros.show_kernels_for_zeros()

# %% [markdown]
# Two lines are worth a second look. 2:4 has fast kernels, and yet vLLM, which serves models, dropped it. And
# unstructured zeros do have a kernel now, for one token at a time on consumer cards.
#
# ## 8. Removing neurons
# A gated MLP computes `down (silu(gate x) * (up x))`; `silu` is a smooth ReLU. Neuron `j` is row `j` of `gate_proj`,
# row `j` of `up_proj` and column `j` of `down_proj`. All three go together:

# %% tags=["nbval-ignore-output"]
alt = "Gated MLP: gate_proj and up_proj lose rows 0, 5, 6, 7, down_proj the same columns; the next layer is unchanged."
course.show(figures.gated(columns), alt)

# %% [markdown]
# Without a gate it is easier to see. Zero four columns, and nobody reads those neurons. So their rows may go, too:

# %%
zeroed = (W * columns) @ torch.relu(first @ token)
cut_out = W[:, columns] @ torch.relu(first[columns] @ token)
print("zeroed", zeroed.tolist(), "cut out", cut_out.tolist())
assert torch.equal(zeroed, cut_out)

# %% [markdown]
# The same four numbers, from 24 weights instead of 48.
#
# ### Exercise 2.4: remove a neuron (easy, 5 minutes)
# Cut neuron `j` (counted from 0) out of an MLP `W2 f(W1 x + b1)`. What stays keeps its order.


# %% tags=["exercise"]
def remove_neuron(W1: Tensor, b1: Tensor, W2: Tensor, j: int) -> tuple[Tensor, Tensor, Tensor]:
    """W1: float32 [neurons, in]; b1: [neurons]; W2: [out, neurons]; returns all three without neuron j."""
    ...


course.check("2.4", remove_neuron)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# A neuron is a row of `W1`, a number of `b1` and a column of `W2`.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `keep = torch.arange(len(b1)) != j` is a mask that all three can be indexed with.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def remove_neuron(W1, b1, W2, j):
#     keep = torch.arange(len(b1)) != j
#     return W1[keep], b1[keep], W2[:, keep]
# ```
# </details>

# %% [markdown]
# ### Exercise 2.5: cut a gated MLP, and prove it (medium, 15 minutes)
# Cut the neurons where `keep` is False out of a gated MLP. Then run both MLPs on `x`: the small one, and the large one
# with the other columns of `down` set to zero. Return the small matrices and the largest absolute difference of the
# outputs. It should be rounding, and no more.


# %% tags=["exercise"]
def cut_gated(gate: Tensor, up: Tensor, down: Tensor, keep: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """gate, up: [neurons, in]; down: [out, neurons]; keep: bool [neurons]; x: [tokens, in]; all float32."""
    ...


course.check("2.5", cut_gated)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Write the MLP as a function of `gate`, `up` and `down`. Then you can call it twice.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `silu(x @ gate.T) * (x @ up.T)` has one column for each neuron. `down * keep` sets the other columns to zero.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def cut_gated(gate, up, down, keep, x):
#     def mlp(gate, up, down):
#         return (silu(x @ gate.T) * (x @ up.T)) @ down.T
#
#     small = gate[keep], up[keep], down[:, keep]
#     return *small, (mlp(*small) - mlp(gate, up, down * keep)).abs().max().item()
# ```
# Not exactly 0: sums of fewer numbers are rounded elsewhere.
# </details>

# %% [markdown]
# ## 9. Five models
# `pk.remove_neurons` does this in every decoder block. Back to the whole model: 2:4 joins, and 30 % of the neurons as
# a milder cut. What is timed is one decoder block of each model; all 30 are alike.

# %% tags=["nbval-ignore-output"]
halves = ["about 1.1 times as fast", "about 1.4 times as fast", "twice as fast"]
course.predict("half", "Half of all neurons are gone. A decoder block reads 128 tokens ...", halves)

# %% tags=["nbval-ignore-output"]
models["2:4"] = prune(pattern="2:4").model
models["neurons 30%"] = pk.remove_neurons(model, 0.3, calibration)
hidden = torch.randn(1, 128, 576)
rotary = model.model.rotary_emb(hidden, torch.arange(128)[None])
blocks = {n: partial(m.model.layers[15], hidden, position_embeddings=rotary) for n, m in models.items()}
blocks["MLP of dense"] = partial(model.model.layers[15].mlp, hidden)
with torch.inference_mode():
    timed = time_in_turn(blocks, rounds=180)
five = {}
for name in ("dense", "unstructured 50%", "2:4", "neurons 30%", "neurons 50%"):
    values = judged.get(name) or pk.evaluate(models[name], test, batch=1)
    size_mb = layouts.model_file_bytes(models[name], packed=name == "2:4") / 1e6
    ratio, *spread = fastest(timed["dense"], timed[name])
    five[name] = values | {"megabytes": size_mb, "fast": ratio, "spread": spread}

# %% tags=["nbval-ignore-output"]
range_of = {n: "{:.2f} to {:.2f}".format(*v["spread"]) for n, v in five.items()}
said = [f"{n} {v['megabytes']:.0f} MB, {v['fast']:.2f} ({range_of[n]}), {v['perplexity']:.1f}" for n, v in five.items()]
alt = f"File, times as fast as dense (with whiskers), and perplexity: {'; '.join(said)}. 2:4: packed file, zeros timed."
course.show(figures.models(five), alt)
faster = five["neurons 50%"]["fast"]
course.reveal("half", halves[(faster > 1.25) + (faster > 1.7)], f"Measured: {faster:.2f} times as fast.")

# %% [markdown]
# The bar of 2:4 has two halves: its file is packed, but what was timed multiplies stored zeros. No kernel here takes
# the packed form.
#
# In the layer of section 4, 2:4 had twice the error of unstructured, and neurons five times. In the whole model its
# perplexity lies near that of the neurons. One layer's error does not tell what 90 layers do together.
#
# ### Exercise 2.6: why not twice as fast? (interpret, 5 minutes)
# Half of the neurons makes an MLP twice as fast. But a decoder block has attention, too. Say its MLP takes 60 % of the
# time. How many times as fast is the whole block then?

# %% tags=["exercise"]
answer = None  # a number such as 1.1
course.interpret("2.6", answer)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Let the dense block take 100 seconds. How many of them are not spent in its MLP?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# 40 seconds stay as they are, and 60 become 30.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# 100 / (40 + 30) = 1.43. Even with no MLP at all it would be 100 / 40 = 2.5 times as fast. What stays decides.
# </details>

# %% [markdown]
# And here? The dense block's MLP was timed alone, too, in the same rounds. Predict from that:

# %% tags=["nbval-ignore-output"]
share = 1 / fastest(timed["dense"], timed["MLP of dense"])[0]
print(f"MLP: {share:.0%} of the block's time. Times as fast:")
for name, gone in {"neurons 30%": 1 - 1056 / 1536, "neurons 50%": 0.5}.items():
    predicted, measured = 1 / (1 - share * gone), five[name]["fast"]
    print(f"{name}: predicted {predicted:.2f}, measured {measured:.2f} ({range_of[name]})")

# %% [markdown]
# They agree roughly. The prediction takes half of an MLP for half of its time, which need not be exact.
#
# ### Exercise 2.7: read the figure of the five models (interpret, 5 minutes)
# Which of these follow from it?
# - a: Half of the MLP weights can be zero and the file no smaller.
# - b: Of the three models with half of the MLP weights pruned, the one with the largest file has the best quality.
# - c: Cutting 30 % of the neurons is better in every respect than pruning 50 % unstructured.
# - d: 2:4 would not be faster on a GPU either.
# - e: Cutting all neurons would leave a file of almost nothing.

# %% tags=["exercise"]
answer = ""  # letters, such as "cd"
course.interpret("2.7", answer)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Compare one column of bars at a time. For c all three.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# The figure shows this CPU. And half of the neurons saves 80 MB: how much would all of them save?
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# a and b follow. Against c speaks the perplexity, against e that
# [embedding](GLOSSARY.md#embedding) and attention stay. About d the figure says
# nothing: this CPU multiplied 2:4 as a dense weight.
# </details>

# %% [markdown]
# So this is the trade. Single zeros cost least, and pay where a kernel takes them. 2:4 pays on the right card, with
# many tokens. Neurons pay on any machine and cost most: of the 58, a cut of 30 % leaves about 29.
#
# What would mend the rest is training afterwards, as [notebook 07](07_recovering_quality.ipynb) does for single zeros.
#
# ### Exercise 2.8: the whole method (hard, 20 minutes)
# Build `pk.remove_neurons` for one gated MLP: from inputs `x` the energies of what `down` reads, then scores, then the
# cut. At least `share` of the neurons goes. What stays is rounded down to a multiple of `multiple`, and is at least one
# multiple. `multiple` divides the number of neurons.


# %% tags=["exercise"]
def smaller_mlp(
    gate: Tensor, up: Tensor, down: Tensor, x: Tensor, share: float, multiple: int
) -> tuple[Tensor, Tensor, Tensor]:
    """gate, up: [neurons, in]; down: [out, neurons]; x: [tokens, in]; returns gate, up and down of what stays."""
    ...


course.check("2.8", smaller_mlp)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# `down` does not read `x`, but `silu(x @ gate.T) * (x @ up.T)`. The energy of a neuron is its mean square over the
# tokens.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# The score is the energy times `down.square().sum(0)`. Keep `int(neurons * (1 - share)) // multiple * multiple` of
# them, at least `multiple`, and sort their places before you index.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def smaller_mlp(gate, up, down, x, share, multiple):
#     energy = (silu(x @ gate.T) * (x @ up.T)).square().mean(0)
#     scores = energy * down.square().sum(0)
#     count = max(int(len(gate) * (1 - share)) // multiple * multiple, multiple)
#     keep = scores.topk(count).indices.sort().values
#     return gate[keep], up[keep], down[:, keep]
# ```
# </details>

# %% [markdown]
# ## 10. Explore
# The layer of section 4. Set the pattern to *unstructured* and the sparsity to 0.9. When does CSR become smaller than
# dense, and when faster?

# %% tags=["nbval-ignore-output"]
course.widgets.mask_explorer(W1, E1)

# %% [markdown]
# CSR takes 6 bytes for each weight that is left, and dense 2 for every weight. So it is smaller where less than a third
# is left. When it is faster, your machine decides.
#
# ## How far to trust this
# - One model of 135M weights, a small text, one seed, one machine. Trust the order and the sizes. With other text the
#   perplexities, dense too, may be half as large again.
# - Zeros are in the MLPs only, so that patterns compare. Times are of the fastest of every 20 rounds. Stored zeros
#   that look slower or faster are noise.
#   `prunekit bench neurons` takes more rounds: [RESULTS](RESULTS.md#neurons).
# - Nothing was measured on a GPU by us. The curves of section 7 are [SlideSparse's](BIBLIOGRAPHY.md#vllmbench). Why 2:4
#   loses with few tokens we do not know; [05](05_rtx_speed_profiling.ipynb) says why some ratios exceed 2.
# - 2:4: [Mishra and others](BIBLIOGRAPHY.md#nm-ampere), from [compute
#   capability](GLOSSARY.md#compute-capability) 8.0. Reordering: [Pool and
#   Yu](BIBLIOGRAPHY.md#channel-permutations). Coupled rows and columns: [LLM-Pruner](BIBLIOGRAPHY.md#llm-pruner). The
#   score of a neuron, one width for all decoder blocks, and multiples of 32 are our choice.
# - Sources of the table: [cuSPARSELt](BIBLIOGRAPHY.md#cusparselt), [torchao](BIBLIOGRAPHY.md#torchao),
#   [ModelOpt](BIBLIOGRAPHY.md#modelopt), [SpenseGPT](BIBLIOGRAPHY.md#spensegpt), [MACKO](BIBLIOGRAPHY.md#macko),
#   [TensorRT-LLM](BIBLIOGRAPHY.md#tensorrt-llm-sparsity), [vLLM](BIBLIOGRAPHY.md#vllm-sparse24), [LLM
#   Compressor](BIBLIOGRAPHY.md#llm-compressor).
#
# What this notebook says, held to this run:

# %%
course.holds("02", globals())

# %% [markdown]
# ## Quiz

# %% tags=["quiz", "nbval-ignore-output"]
course.quiz("02")

# %% [markdown]
# ## What you are able to do now
# 1. *Tell the patterns apart.* Unstructured: any weight of a row. N:M: N stay of every M neighbours. Neurons: whole
#    columns, with the rows that feed them. In this order the loss grew in all that was measured.
# 2. *Store 2:4 by hand.* Two values of four and two bits for each: 9/16 of dense in bfloat16. A mask alone saves
#    nothing, and CSR at 50 % is larger than dense.
# 3. *Say what is faster where.* Removed neurons anywhere, by as much as the MLPs' share of the time allows. Zeros where
#    a kernel takes them: 2:4 with many tokens, unstructured with one.
#
# Next: [03 FP8 casting](03_fp8_casting.ipynb), where the values that stay become smaller.
