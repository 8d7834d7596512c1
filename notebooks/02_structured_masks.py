# %% [markdown]
# # 02 Structured masks
#
# You will be able to
# 1. tell unstructured, N:M and neuron pruning apart, and say what each costs in accuracy at the same sparsity;
# 2. store a 2:4 weight by hand, and compute how many bytes a pattern really takes;
# 3. say which pattern makes what smaller and faster on which machine, and remove neurons so that your own CPU gains.
#
# Needs: no GPU. About 1 minute on two CPU cores, peak memory about 2.8 GB.
# Before: [01 EWMA scoring](01_ewma_scoring.ipynb). Next: [03 FP8 casting](03_fp8_casting.ipynb).
#
# Times in this notebook are either *measured*, on the CPU that ran it, or *published*, by the authors of
# [SlideSparse](BIBLIOGRAPHY.md#vllmbench) on an RTX 4090 and an H100. Nothing was measured on a GPU by us.

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
from torch.nn.functional import linear
from prunekit import course
from prunekit.calibration.observe import observing
from prunekit.course.lessons import layouts
from prunekit.course.lessons.clinic import as_csr
from prunekit.compression.neurons import kept_neurons, neuron_scores
from prunekit.speed.published import published_rows
from prunekit.bench.timing import speedup, time_in_turn

# %% [markdown]
# ## 1. Where may the zeros be?
# A [mask](GLOSSARY.md#mask) says which weights stay. Notebook 01 was about scores; this one is about the *pattern*:
# which masks are allowed at all. Here is a small [weight](GLOSSARY.md#weight) with 4 outputs (rows) and 8 inputs
# (columns). `E` is the [energy](GLOSSARY.md#energy) of each input, and the score is the
# [contribution](GLOSSARY.md#contribution) `W_ij^2 E_j`, as in notebook 01. Three patterns, each with half of the
# weights pruned:
#
# - [unstructured](GLOSSARY.md#unstructured): in each row, the four lowest scores go, wherever they are;
# - [2:4](GLOSSARY.md#n-m-sparsity): in each row, two go from every group of four neighbours;
# - by [neuron](GLOSSARY.md#neuron): whole columns go. If this weight is the second one of an MLP, its inputs are that
#   MLP's neurons, and column `j` holds all the weights that read neuron `j`. A neuron's score is the sum of its
#   column's contributions.

# %% tags=["nbval-ignore-output"]
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
stay = neuron_scores(W, E).sort(descending=True, stable=True).indices[:4]
columns = torch.zeros(8, dtype=torch.bool).index_fill(0, stay, True)
masks = {"dense": W == W, "unstructured": pk.exact_mask(L, 0.5), "2:4": pk.nm_mask(L, 2, 4)}
masks["neurons"] = columns.expand(4, 8)
assert all(pk.sparsity_of(keep) == 0.5 for name, keep in masks.items() if name != "dense")
ranks = ["all three the same", "unstructured, then 2:4, then neurons", "neurons, then 2:4, then unstructured"]
course.predict("lost", "All three prune 16 of 32 weights. Least contribution lost first, the order is ...", ranks)

# %% tags=["nbval-ignore-output"]
lost = {name: (L[~keep].sum() / L.sum()).item() for name, keep in masks.items()}
alt = "The 4 x 8 weight four times, pruned numbers hatched: single ones, two in each group of four, four whole columns."
course.show(course.figures.masks.patterns(W, masks, lost), alt)
course.reveal("lost", ranks[1], ", ".join(f"{name} {share:.1%}" for name, share in lost.items()) + ".")
assert lost["unstructured"] < lost["2:4"] < lost["neurons"]

# %% [markdown]
# Unstructured pruning can't lose more than the other two: theirs, too, have four zeros in each row, and of all such
# masks it prunes the lowest scores. Look at the second row. Unstructured pruning keeps the 4 (score 16) and drops the 1
# in the seventh column (score 1). 2:4 must keep two of the right-hand group, so the 1 stays; the left-hand group may
# keep only two, so the 4 goes (its score equals that of the -2 beside it, and among equals the one further left stays).
# Removing neurons decides for all rows at once, and the 5 in the upper left corner goes although it is among the
# highest scores of its row. Between 2:4 and neurons nothing is certain (if the right half were all zero, neurons would
# lose nothing), but here, and in the models below, neurons lose more.
#
# How is an N:M mask found? By definition, in a loop over groups; or for all groups at once, by counting for each weight
# how many of its group beat it. `pk.nm_mask` does the latter. It needs no sort.

# %%
loop = torch.zeros(4, 8, dtype=torch.bool)
for i in range(4):
    for start in range(0, 8, 4):
        group = L[i, start : start + 4]
        best = sorted(range(4), key=lambda p: -group[p])[:2]  # Python's sort is stable: ties to the left
        for p in best:
            loop[i, start + p] = True
assert torch.equal(loop, pk.nm_mask(L, 2, 4))
print(loop.int())

# %% [markdown]
# Both agree. Each group of four in the printed mask has two ones.
#
# ### Exercise 2.1: an N:M mask (medium, 10 minutes)
# In every group of `m` neighbours along a row keep exactly `n` weights, those of the highest score. Scores may be
# negative, tiny or huge, and are compared exactly; of equal scores any may stay, but never more than `n`. Any
# `1 <= n <= m`; `m` divides the width. Don't call `pk.nm_mask`.


# %% tags=["exercise"]
def nm_mask(L: Tensor, n: int, m: int) -> Tensor:
    """L: float32 [out, in], scores; returns bool [out, in], True where a weight stays."""
    ...


course.check("2.1", nm_mask)

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
# ## 2. What is stored: 2:4 and its metadata
# A zero takes as many bytes as any other number. To save room, a format must leave the zeros out, and then it must say
# where the others belong. With 2:4 that is cheap: a kept weight is one of four, so two bits say which
# ([Mishra and others](BIBLIOGRAPHY.md#nm-ampere)). Here is the second row.

# %% tags=["nbval-ignore-output"]
alt = "The row 1 6 -2 4, -3 0 1 -1; arrows from 6, -2, -3 and 1 down to the kept values, with places 01 10 00 10."
course.show(course.figures.masks.layout24(W[1], masks["2:4"][1]), alt)

# %%
packed = layouts.pack24(W * masks["2:4"])
print("values", packed["values"][1].tolist(), "places as one byte", packed["places"][1].tolist(), f"{137:08b}")
row = [0.0] * 8
for k, value in enumerate(packed["values"][1].tolist()):
    row[4 * (k // 2) + (137 >> 2 * k & 3)] = value  # the k-th pair of bits, from the right
assert row == (W * masks["2:4"])[1].tolist() and packed["places"][1, 0] == 137
assert torch.equal(layouts.unpack24(**packed), W * masks["2:4"])

# %% [markdown]
# Four places of two bits each make one byte: read from the right, `10001001` is 01, 10, 00, 10, the places in the
# picture. The loop puts the values back where they were. (GPUs store the same number of bits in an order that suits
# their hardware.)
#
# ### Exercise 2.2: pack a 2:4 weight (medium, 15 minutes)
# From each group of four take two values and their places in the group, 0 to 3, from left to right. A group may hold
# three or four zeros; even then it gets two entries, at two different places (which of its zeros are stored doesn't
# matter).


# %% tags=["exercise"]
def pack(W: Tensor) -> tuple[Tensor, Tensor]:
    """W: float32 [out, in], at most two of each four not zero; returns values and places, both [out, in / 2]."""
    ...


course.check("2.2", pack)

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
# ### Exercise 2.3: the bytes of an N:M layer (easy, 5 minutes)
# The kept values take `width` bytes each (2 in [bfloat16](GLOSSARY.md#bfloat16), 1 in FP8). Each has a place from 0 to
# `m - 1`, written with the fewest bits that hold any such place. All places are packed tightly, one after the other;
# together, those of all rows, they are rounded up to whole bytes, once. Places are stored even where `n = m`.


# %% tags=["exercise"]
def nm_bytes(rows: int, columns: int, n: int, m: int, width: int) -> int:
    """Bytes of the values and places of an N:M weight [rows, columns]; m divides columns."""
    ...


course.check("2.3", nm_bytes)

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
# ## 3. A real layer: error and bytes
# Now `down_proj` of block 15 (of 0 to 29) of the embedded model, 576 outputs and 1536 inputs (neurons). Its energies
# come from [calibration](GLOSSARY.md#calibration), and the inputs `x` are those of 512 other tokens. The output error
# is `||x W^T - x W'^T||^2 / ||x W^T||^2`, on text that calibration didn't see. Files are real: the size is that of the
# safetensors file, in bfloat16, its header included. Three forms are new: CSR lists the kept values of each row with
# their columns, a bitmap says with one bit for each weight whether it is kept, and "2:4, reordered" is explained below.

# %% tags=["nbval-ignore-output"]
model, tokenizer = pk.load("embedded", device="cpu")
train = pk.corpus(tokenizer, split="train", tokens=4096, context=512)
test = pk.corpus(tokenizer, split="test", tokens=2048)
calibration = pk.calibrate(model, train, stop=False)
name, inputs = "model.layers.15.mlp.down_proj", []
down = model.get_submodule(name)
with torch.inference_mode(), observing({name: down}, torch.clone, lambda _, x: inputs.append(x)):
    model.base_model(test[:1], use_cache=False)
x, W1, E1 = inputs[0].clone(), down.weight.detach().clone(), calibration.energy[name]
assert x.shape == (512, 1536) and W1.shape == (576, 1536)

# %% tags=["nbval-ignore-output"]
L1, half = pk.contribution(W1, E1), W1.bfloat16()
stay = neuron_scores(W1, E1).topk(768).indices.sort().values
keep = {"unstructured": pk.exact_mask(L1, 0.5), "2:4": pk.nm_mask(L1, 2, 4)}
order = pk.channel_order(L1, 2, 4)
keep["2:4, reordered"] = keep["2:4"].index_copy(1, order, pk.nm_mask(L1[:, order], 2, 4))  # each in its old place
keep["neurons"] = torch.zeros(576, 1536, dtype=torch.bool).index_fill(1, stay, True)
error = {}
for pattern, mask in keep.items():
    error[pattern] = ((x @ (W1 * ~mask).T).square().sum() / (x @ W1.T).square().sum()).item()
    print(f"{pattern:<15} contribution lost {L1[~mask].sum() / L1.sum():6.1%}   output error {error[pattern]:6.1%}")
zeros = half * keep["unstructured"]
stored = {"dense": half, "unstructured, zeros stored": zeros, "unstructured, CSR": layouts.compressed_rows(zeros)}
stored["unstructured, bitmap"] = layouts.bitmap(zeros)
stored |= {"2:4, packed": layouts.pack24(half * keep["2:4"]), "neurons cut out": half[:, stay]}
size = {form: layouts.file_bytes(tensors) for form, tensors in stored.items()}
for form, count in size.items():
    print(f"{form:<28} {count:9,} bytes, {count / size['dense']:.3f} of dense")
assert error["unstructured"] < error["2:4, reordered"] < error["2:4"] < error["neurons"]
assert size["unstructured, zeros stored"] == size["dense"] < size["unstructured, CSR"]

# %% [markdown]
# The order of the errors is that of the small example. (The contribution lost and the output error differ somewhat:
# the first ignores that inputs are correlated, and comes from other text.)
#
# The bytes:
# - A mask alone saves nothing: zeros that are stored are as large as before.
# - Compressed rows (CSR) are *larger* than dense: beside each value of 2 bytes they keep a column number of 4 bytes.
# - With one bit for each weight, unstructured zeros take 9/16 of dense, just as much as 2:4. So room isn't the reason
#   for 2:4; a bitmap must be expanded before a product, and no mainstream hardware multiplies it as it is.
# - Cutting out half of the neurons halves the file, and needs no format at all.
#
# ### Better neighbours
# And "2:4, reordered"? In which order an MLP's neurons stand is arbitrary: let two change places, the columns here and
# the rows that feed them, and the model computes what it did before. Unstructured masks don't care. 2:4 does, since it
# compares neighbours: of three loud columns in one group a row must drop one, while elsewhere two quiet ones stay. So
# look for a better order first, which is [channel permutation](GLOSSARY.md#channel-permutation). `pk.channel_order`
# takes one column out of every group, gives all back to where they are worth most, and repeats that.
#
# A part of what 2:4 costs beyond unstructured pruning is won back in this way, and the model is as fast as before. The
# same freedom is in the values within an [attention head](GLOSSARY.md#attention-head) and in the whole [residual
# stream](GLOSSARY.md#residual-stream): `pk.permute_channels` reorders all three, and `pk.compress(..., pattern="2:4",
# permute=True)` begins with it.
#
# ## 4. What is faster: this CPU, measured
# The same layer multiplies 256 tokens. The five forms are timed in turn, so that a slow moment hits all of them, and
# compared round by round.

# %% tags=["nbval-ignore-output"]
choices = ["half as long as dense", "about as long as dense", "longer than dense"]
course.predict("csr", "Half of the weights are zeros and left out (CSR). On a CPU the product takes ...", choices)
tokens, unstructured = x[:256].contiguous(), W1 * keep["unstructured"]
forms = {
    "dense": partial(linear, tokens, W1),
    "unstructured, zeros stored": partial(linear, tokens, unstructured),
    "unstructured, CSR": partial(torch.mm, as_csr(unstructured), tokens.T.contiguous()),
    "2:4, zeros stored": partial(linear, tokens, W1 * keep["2:4"]),
    "neurons cut out": partial(linear, tokens[:, stay].contiguous(), W1[:, stay].contiguous()),
}

# %% tags=["nbval-ignore-output"]
timed = time_in_turn(forms, rounds=15)
alt = "Times over dense as bars: stored zeros about 1, compressed rows beyond 1, marked slower, neurons about a half."
course.show(course.figures.masks.measured_times(timed, "256 tokens, down_proj 576 x 1536, half of it pruned"), alt)
csr, cut = (speedup(timed[form], timed["dense"])[0] for form in ("unstructured, CSR", "neurons cut out"))
answer = choices[(csr > 0.7) + (csr > 1.3)]
course.reveal("csr", answer, f"Measured: {csr:.1f} times as long; with half of the neurons, {cut:.2f}.")

# %% [markdown]
# Stored zeros take as long as other numbers, whatever their pattern: the processor multiplies them like any other. (If
# a bar of theirs is far from 1, something else was running.) CSR skips the zeros, but looks up a column for each
# weight that is left, and loses. Only the smaller matrix is faster, about in proportion to its size, because it is an
# ordinary dense product.
#
# ## 5. What is faster: 2:4 on a GPU, published
# [Sparse tensor cores](GLOSSARY.md#sparse-tensor-core) multiply packed 2:4 weights as they are, doing up to twice
# the arithmetic in the same time. How much of that arrives? The picture shows published latencies for the layers of one
# model of 1B weights; the counts below it are of all products that were published.

# %% tags=["nbval-ignore-output"]
alt = "Speed-up of 2:4 over tokens for four layers: below 1 for some up to 512 tokens, near 2 from 4096 tokens on."
course.show(course.figures.masks.published24("RTX 4090", "fp8"), alt)
for gpu, dtype in (("RTX 4090", "fp8"), ("RTX 4090", "bf16"), ("H100", "fp8"), ("H100", "bf16")):
    rows = published_rows(gpu, dtype)
    slower = [row.M for row in rows if row.speedup < 1]
    print(f"{gpu} {dtype}: 2:4 is slower in {len(slower)} of {len(rows)} products, the largest of {max(slower)} tokens")
    assert slower and max(row.speedup for row in rows) > 1.5

# %% [markdown]
# On this card, in FP8, 2:4 is nearly twice as fast from 4,096 tokens on. At 64 tokens three of these four layers
# are slower (the hatched part): there such products take 12 to 21 microseconds dense and 12 to 29 with 2:4 (published,
# the same file), and why 2:4 loses there we do not know ([notebook 05](05_rtx_speed_profiling.ipynb) tries to predict
# it). On both cards some products are slower with 2:4, on the H100 up to 2,048 tokens. Some ratios lie above 2;
# [notebook 05](05_rtx_speed_profiling.ipynb) says why. Generating text for one user means one token at a time, so test
# the sizes that you will run. 2:4 needs a card of compute capability 8.0 or newer; Colab's free T4 has 7.5, and a CPU
# has none of it.
#
# ## 6. Removing neurons
# An MLP computes `W2 f(W1 x)`, and neuron `j` is row `j` of `W1` with column `j` of `W2`. Where column `j` is zero,
# nobody reads the neuron, so its row may go as well. Two small matrices come out, which compute exactly what the
# zeroed large ones compute.

# %%
first = torch.tensor([[1.0, 2], [0, 1], [3, -1], [1, 1], [2, 2], [-1, 4], [0, 3], [1, -2]])  # W1: 8 neurons, 2 inputs
token = torch.tensor([2.0, 1.0])
zeroed = (W * columns) @ torch.relu(first @ token)
cut_out = W[:, columns] @ torch.relu(first[columns] @ token)
print("zeroed", zeroed.tolist(), "cut out", cut_out.tolist())
assert torch.equal(zeroed, cut_out)

# %% [markdown]
# Both print the same four numbers, the second from 24 weights instead of 48.
#
# ### Exercise 2.4: remove a neuron (easy, 5 minutes)
# Cut neuron `j` (counted from 0) out of an MLP `W2 f(W1 x + b1)`. What stays keeps its order.


# %% tags=["exercise"]
def remove_neuron(W1: Tensor, b1: Tensor, W2: Tensor, j: int) -> tuple[Tensor, Tensor, Tensor]:
    """W1: float32 [neurons, in]; b1: [neurons]; W2: [out, neurons]; returns all three without neuron j."""
    ...


course.check("2.4", remove_neuron)

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
# `pk.remove_neurons` does this in every block of a model, for the gated MLP of [LLaMA](BIBLIOGRAPHY.md#llama): a neuron
# is a row of `gate_proj` and one of `up_proj`, and a column of `down_proj`. Coupled structures are removed together in
# [LLM-Pruner](BIBLIOGRAPHY.md#llm-pruner), which scores them by gradients; our score, `E_j` times the squared
# norm of the column, is our own choice, and so is removing the same number in each block, which lets the config of the
# model state one width. What stays is rounded down to a multiple of 32, because matrix libraries are
# slower on widths that are not such multiples.
#
# Now whole models, with the zeros in the MLPs only, so that the patterns compare: half of the MLP weights go in three
# ways, and 30 % of the neurons as a milder fourth. File sizes are real. The time is that of reading a prompt of 256
# tokens, end to end, measured in turn. [Perplexity](GLOSSARY.md#perplexity) is on 2,048 tokens of test articles, in
# windows of 512.

# %% tags=["nbval-ignore-output"]
prune = partial(pk.compress, model, calibration=calibration, include=["mlp"])
models = {"dense": model, "unstructured 50%": prune(sparsity=0.5).model, "2:4": prune(pattern="2:4").model}
models |= {f"neurons {s:.0%}": pk.remove_neurons(model, s, calibration) for s in (0.5, 0.3)}
assert models["neurons 30%"].config.intermediate_size == kept_neurons(1536, 0.3) == 1056
with torch.inference_mode():
    reading = {n: partial(m, test[:1, :256], use_cache=False, logits_to_keep=1) for n, m in models.items()}
    timed = time_in_turn(reading, rounds=5, warmup=1)
judged = {name: pk.evaluate(m, test, batch=1) for name, m in models.items()}
for name, values in judged.items():
    values["time"] = speedup(timed[name], timed["dense"])[0]
    values["megabytes"] = layouts.model_file_bytes(models[name], packed=name == "2:4") / 1e6

# %% tags=["nbval-ignore-output"]
for name, v in judged.items():
    faster, low, high = speedup(timed["dense"], timed[name])
    print(f"{name:<17} {v['megabytes']:6.1f} MB   {faster:.2f}x [{low:.2f}, {high:.2f}]", end="   ")
    print(f"perplexity {v['perplexity']:7.1f}   top-1 {v['top1']:.3f}")
alt = "Bars for five models. File: only packed 2:4 and neurons are smaller. Time: only neurons are faster. Perplexity."
course.show(course.figures.masks.models(judged), alt)
unstructured, two_four, fifty, thirty = list(judged.values())[1:]
assert unstructured["perplexity"] < min(two_four["perplexity"], thirty["perplexity"])
assert fifty["perplexity"] > max(two_four["perplexity"], thirty["perplexity"])
assert unstructured["megabytes"] > thirty["megabytes"] > fifty["megabytes"]

# %% [markdown]
# The figure is the summary of this notebook. (In brackets above: the quartiles over the rounds. Unstructured and 2:4
# run the very product of the dense model, so where they differ from 1, even as "slower", it is the machine's noise.)
# Unstructured zeros keep the most quality of the three ways to prune half, and gain nothing here. 2:4 makes the file
# smaller (it is packed; this CPU still multiplies it as a dense weight), and speed needs the right GPU. Removing
# neurons makes file and time smaller on any machine, and costs the most quality: half of them leave a poor model, and
# even 30 % without retraining cost more than pruning half of the weights unstructured. In practice one trains such a
# model for a while afterwards. [Notebook 07](07_recovering_quality.ipynb) does that where single weights were pruned;
# for removed neurons this course doesn't.
#
# How far to trust this: one model of 135M weights, a small text, one seed, one machine. Trust the order and the sizes,
# not the perplexities: four windows are four places in the text, and with other text the dense model's alone may be
# half as large again, or more. The times depend on the machine. File and time shrink less than the MLPs do, because
# embedding and attention stay. `prunekit bench neurons` repeats the timing with more rounds and prints its protocol.
#
# ## 7. Explore
# The layer of section 3. The left side shows a corner of the weight. On the right everything is over dense: the
# contribution that is lost, the file, and the time, measured on this CPU with 64 tokens (the least of some rounds: a
# tenth more or less is noise), or published for 2:4. Move the sparsity to 0.9 with compressed rows: when do they become
# smaller, and when faster? (Smaller where less than a third of the weights is left, as each then takes 6 bytes and a
# dense one 2; when faster, the machine decides.)

# %% tags=["nbval-ignore-output"]
course.widgets.mask_explorer(W1, E1)

# %% [markdown]
# ## What you are able to do now
# 1. *Tell the patterns apart.* Unstructured: any weight of a row; N:M: N stay of every M neighbours; neurons: whole
#    columns, with the rows that feed them. At the same sparsity the loss grew in this order in all that was measured.
# 2. *Store 2:4 by hand.* Two values of four and two bits for each: 9/16 of dense in bfloat16. A mask alone saves
#    nothing, CSR at 50 % is larger than dense, a bitmap is as small as 2:4.
# 3. *Say what is faster where.* On a CPU, only removed neurons. On a GPU from compute capability 8.0, 2:4 with many
#    tokens; with few it can be slower.
#
# Next: [03 FP8 casting](03_fp8_casting.ipynb), where the values that stay become smaller.
