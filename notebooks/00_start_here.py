# %% [markdown]
# # 00 Start here
#
# You will be able to
# 1. say what this course teaches, in which order, and which of it your machine runs live;
# 2. work with its predictions, exercises and live figures;
# 3. compress a language model in seconds, and say by three numbers what that did to it.
#
# Needs: Python and PyTorch as you know them; nothing of pruning, no GPU, no account. About 1 minute on two CPU cores
# (half a minute more the first time, when a kernel is compiled), peak memory about 2 GB; 30 minutes with reading.
# Next: [01 EWMA scoring](01_ewma_scoring.ipynb).

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
import ipywidgets
import torch
from prunekit import course
from prunekit.course.widgets.live import LiveFigure
from prunekit.speed import doctor

figures = course.figures.start

# %% [markdown]
# ## 1. What this is
# A language model is mostly [linear layers](GLOSSARY.md#linear-layer): matrices of [weights](GLOSSARY.md#weight). This
# course compresses them in two ways at once. [Pruning](GLOSSARY.md#pruning) sets the weights that matter least to zero
# (which by itself makes nothing smaller, as you will see); [quantization](GLOSSARY.md#quantization) stores the others
# in eight bits ([FP8](GLOSSARY.md#fp8)). The method comes from [one paper](BIBLIOGRAPHY.md#hwpq): it chooses the
# weights by a moving average ([EWMA](GLOSSARY.md#ewma)) in place of sorting them.
#
# Only the paper's abstracts and some summaries were at hand when this was written; the full text is public, and
# comparing it with what follows is worth an hour. The course rebuilds the idea, says which choices are ours, and
# measures what comes out. Where that is less than the paper claims, you will see it. The map:

# %% tags=["nbval-ignore-output"]
course.show(
    figures.course_map(),
    alt="Eight notebooks as bars: 00 start here 30 minutes, 01 EWMA scoring 75, 02 structured masks 65, 03 FP8 casting "
    "70, 04 joint pipeline 65, 05 RTX speed profiling 60, 06 your model 60, "
    "07 recovering quality 60. Estimated minutes of work.",
)

# %% [markdown]
# The minutes are estimates of reading, thinking and exercises; running a notebook takes half a minute to four.
# Each opens with what it needs and starts on its own. If you have 90 minutes: this notebook, then 06. If you want the
# idea: 01.
#
# Words are linked to the [glossary](GLOSSARY.md), claims to the [bibliography](BIBLIOGRAPHY.md).
#
# ## 2. How to work with it
# **Predictions.** Before some cells you are asked what will come out. Choose before you run on: being wrong first is
# what makes it stick. (Stored outputs give the answers away: in the Edit menu, clear all outputs before you begin.)
# Nothing is recorded. Try it on this matrix, of which half is to be pruned:

# %% tags=["nbval-ignore-output"]
W = torch.tensor([[0.4, -0.1, 0.3, 0.0], [-0.2, 0.6, 0.1, -0.5], [0.1, 0.2, -0.3, 0.7]])
course.predict(
    "zeros",
    "W has 3 rows of 4 weights, one of them 0.0 already. In each row the two of smallest magnitude become zero. "
    "How many zeros are there then?",
    ["5", "6", "7"],
)

# %% tags=["nbval-ignore-output"]
keep = pk.exact_mask(W.abs(), 0.5)
zeros = (W * keep == 0).sum().item()
course.show(figures.tiny(W, keep), alt="A 3 by 4 matrix: per row two weights kept with their values, two are zero.")
course.reveal("zeros", "6", f"There are {zeros}: the weight that was 0.0 is among the two smallest of its row.")
assert zeros == 6

# %% [markdown]
# The picture shows what stays, and a 0 on a hatched field where something was. That boolean field of what stays is a
# [mask](GLOSSARY.md#mask).
#
# **Live figures.** Some figures have controls. Drag this one: the share that is pruned of each row. Where no
# [kernel](GLOSSARY.md#kernel) runs (on a code host, in print) you see the picture of the starting state.


# %% tags=["nbval-ignore-output"]
def draw(pruned: float):
    keep = pk.exact_mask(W.abs(), pruned)
    alt = f"The same matrix with {int(pruned * 4)} of 4 weights in each row set to zero."
    return figures.tiny(W, keep), alt


LiveFigure(draw, pruned=ipywidgets.FloatSlider(0.25, min=0, max=0.75, step=0.25, description="pruned"))

# %% [markdown]
# **Exercises.** You write a function; a check tries it on many small random inputs. If it is wrong you get the smallest
# counterexample that was found, and a hint. Until you have written anything it says "not attempted yet" and the
# notebook runs on. A solution is folded below (in copies for a class it is left out).
#
# ### Exercise 0.1: sparsity of each row (easy, 3 minutes)
# [Sparsity](GLOSSARY.md#sparsity) is the share of weights that are zero. Write it for each row of a matrix. Mind
# the axis: rows are outputs.


# %% tags=["exercise"]
def row_sparsity(W: torch.Tensor) -> torch.Tensor:
    """W: float32 [out, in]; returns float32 [out], each from 0 to 1."""
    ...


course.check("0.1", row_sparsity)

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def row_sparsity(W):
#     return (W == 0).float().mean(dim=1)
# ```
#
# `W[i, :]` holds all weights that feed output `i`, so the mean goes over `dim=1`.
# </details>

# %% [markdown]
# ## 3. What your machine can do
# `prunekit doctor` runs tiny products in each format and reports what works. It takes two seconds.

# %% tags=["nbval-ignore-output"]
report = doctor.examine()
print("\n".join(doctor.describe(report)))
course.show(
    figures.what_runs_where(report),
    alt="A table of four classes of machine. Pruning, casting, judging, removing neurons and timing run live on all. "
    "The speed of 2:4 needs compute capability 8.0, that of FP8 8.9; elsewhere numbers are published or predicted.",
)

# %% [markdown]
# The last line of the report is the verdict; the frame in the table is around your column. Notebooks 00 to 04, 06 and
# 07 run live without a GPU, on a laptop for instance (under Linux; we have not tried other systems); only the GPU times
# in 02 are published ones. Measuring *speed on a GPU* needs a GPU of a certain [compute
# capability](GLOSSARY.md#compute-capability), NVIDIA's number for what a GPU can do. [Tensor
# cores](GLOSSARY.md#tensor-core) for [2:4 sparsity](GLOSSARY.md#n-m-sparsity) come with 8.0 (whether they gain anything
# depends on how many tokens come at once, as 02 shows), those for FP8 with 8.9. Where you have none, notebook 05 shows
# [published measurements](BIBLIOGRAPHY.md#vllmbench) of an RTX 4090 and an H100, and predictions, labelled as such.
# Every speed in the course says which it is: measured, published or predicted. The stored outputs come from a machine
# without GPU, so cells that use one have not been seen to run by us.
#
# ## 4. The model
# [SmolLM2-135M-Instruct](BIBLIOGRAPHY.md#smollm2), a small model of the [LLaMA](BIBLIOGRAPHY.md#llama) kind, comes as a
# Python package (hence "embedded"; its embedding is another matter): no account, no download beyond installation. It
# was packaged with 4-bit weights and is widened to [bfloat16](GLOSSARY.md#bfloat16), so FP8 may find it easier than a
# model fresh from training. On a CPU it computes in float32.

# %% tags=["nbval-ignore-output"]
model, tokenizer = pk.load("embedded", device="cpu")
linear = sum(layer.weight.numel() for layer in pk.linear_layers(model).values())
total = sum(p.numel() for p in model.parameters())
print(f"{total / 1e6:.1f} million parameters, {pk.stored_bytes(model) / 1e6:.0f} MB stored")
course.show(
    figures.where_weights_are(model),
    alt="Parameters by kind as bars: four attention projections, three MLP projections, embedding, norms. The three of "
    "the MLP are nearly as long as the embedding, the longest.",
)
assert 0.75 < linear / total < 0.85 and len(pk.linear_layers(model)) == 210

# %% [markdown]
# Seven linear layers in each of 30 blocks make 210, with about four fifths of all parameters. They are what the course
# compresses. The [embedding](GLOSSARY.md#embedding), which also serves as output layer, stays as it is: it is large in
# a small model.
#
# ## 5. Perplexity
# At each position the model gives a probability to every possible next [token](GLOSSARY.md#token). How good it is shows
# in the probability of the token that really comes. Here for one sentence, token by token:

# %% tags=["nbval-ignore-output"]
ids = tokenizer("The Eiffel Tower is a famous landmark in the city of Paris.", return_tensors="pt").input_ids
with torch.no_grad():
    scores = model(ids).logits[0, :-1].log_softmax(-1)
log_probs = scores.gather(1, ids[0, 1:, None])[:, 0]
words = [tokenizer.decode(token) for token in ids[0, 1:]]
course.show(
    figures.sentence(words, log_probs),
    alt="Probability of each token of the sentence on a logarithmic scale, from under 0.0001 for E to nearly 1 for "
    "Paris; a dashed line at their geometric mean.",
)
by_hand = 1 / log_probs.exp().prod().item() ** (1 / len(log_probs))
assert log_probs.argmin() == 0 and log_probs[words.index(" Paris")].exp() > 0.8
assert abs(pk.evaluate(model, ids)["perplexity"] / by_hand - 1) < 1e-3

# %% [markdown]
# "Tower" after "The Eiffel" and "Paris" at the end of this sentence are nearly certain; that a sentence goes on with an
# "E" after "The" is a surprise. The geometric mean of the probabilities sums it up, and
# [perplexity](GLOSSARY.md#perplexity) is one over it: as if the model had guessed among so many tokens each time. The
# last line asserts that `pk.evaluate` computes just that. One sentence says nothing about a model; below it will be
# 2,048 tokens.
#
# ### Exercise 0.2: perplexity (easy, 5 minutes)
# You get the natural logarithms of the probabilities of the tokens that really came. Return the perplexity. Long texts
# must not underflow.


# %% tags=["exercise"]
def perplexity(log_probs: torch.Tensor) -> float:
    """log_probs: float32 [tokens], natural logarithms, 0 or below; returns a number, 1 or above."""
    ...


course.check("0.2", perplexity)

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def perplexity(log_probs):
#     return torch.exp(-log_probs.mean()).item()
# ```
#
# One over the root of the product of all probabilities is the same on paper, but the product underflows after some
# tokens.
# </details>

# %% [markdown]
# ## 6. Compressed in seconds
# Now the whole method in one call: a little text to see which inputs carry [energy](GLOSSARY.md#energy)
# ([calibration](GLOSSARY.md#calibration)), then half of each row pruned without sorting, the rest cast to FP8. What do
# you expect?

# %% tags=["nbval-ignore-output"]
course.predict(
    "perplexity",
    "Half of the weights in all 210 layers become zero, with no training afterwards. The perplexity becomes",
    ["hardly larger", "about two to three times as large", "more than ten times as large"],
)
course.predict(
    "size",
    "Dense, the weights take 269 MB (2 bytes each). Half of those in linear layers are now zero, the rest take 1 byte. "
    "As a checkpoint on disk it takes",
    ["about 110 MB", "about 165 MB", "about 270 MB"],
)

# %% tags=["nbval-ignore-output"]
text = pk.corpus(tokenizer, split="train", tokens=2048, context=32)  # at most; calibration stops when masks hold still
result = pk.compress(model, text, sparsity=0.5, fp8="e4m3")
print(f"{len(result.layers)} layers, sparsity {result.sparsity:.4f}, after {result.tokens} tokens of calibration")
print("measured:", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items()))
assert abs(result.sparsity - 0.5) < 0.005

# %% [markdown]
# The sparsity is what was asked for, although no row was sorted: why, is the subject of notebook 01. Now judge both
# models on the same [text](BIBLIOGRAPHY.md#text), articles that calibration never saw, cut into
# [windows](GLOSSARY.md#window) of 256 tokens that are read each by itself; the first token of a window is given, the
# others are predicted. Besides perplexity: [top-1](GLOSSARY.md#top-1) accuracy, the share of tokens for which the
# model's first choice is right.

# %% tags=["nbval-ignore-output"]
models = {"dense": model, "compressed": result.model}
quality = pk.evaluate_all(models, pk.corpus(tokenizer, tokens=2048, context=256))
rows = {name: quality[name] | {"bytes": pk.stored_bytes(m)} for name, m in models.items()}
course.show(
    figures.before_after(rows, "2,048 tokens of Wikipedia articles, windows of 256"),
    alt="Dense and compressed side by side: perplexity about 27 and 60, top-1 about 38 and 30 percent, 269 and 163 MB.",
)
before, after = rows["dense"], rows["compressed"]
ratio = after["perplexity"] / before["perplexity"]
course.reveal("perplexity", "about two to three times as large", f"Measured: {ratio:.1f} times.")
course.reveal("size", "about 165 MB", f"Counted: {after['bytes'] / 1e6:.0f} MB.")
print(f"retention {after['retention']:.3f}")
assert 1.7 < ratio < 3.5 and 0.68 < after["retention"] < 0.88 and 150e6 < after["bytes"] < 180e6

# %% [markdown]
# Three lessons that the course comes back to. Perplexity is more than twice as large: half of the weights are too many
# for so small a model, in one shot. Top-1 accuracy looks kinder: for five next tokens that the dense model gets right,
# the compressed one gets about four right. That ratio is called [retention](GLOSSARY.md#retention). And the file shrank
# by FP8 alone: **a zero still takes a byte**, and the embedding stays at two bytes.
#
# How far to trust it: 2,040 predicted tokens give top-1 a [standard error](GLOSSARY.md#standard-error) of about one
# percentage point if tokens were independent. Those of one article are not, and notebook 06 finds nearly twice as much.
# It is one kind of text, and one choice of windows. The [paper](BIBLIOGRAPHY.md#hwpq) claims 91.57 % kept at 50 %, for
# models fifty times larger.
#
# ### Exercise 0.3: retention (easy, 5 minutes)
# You get the tokens that really came, and the first choices of the dense and the compressed model. Return the
# retention.


# %% tags=["exercise"]
def retention(target: torch.Tensor, dense: torch.Tensor, model: torch.Tensor) -> float:
    """Each int64 [tokens]: the right ones, then both models' choices; dense is right at least once."""
    ...


course.check("0.3", retention)

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def retention(target, dense, model):
#     return ((model == target).sum() / (dense == target).sum()).item()
# ```
#
# It does not ask whether both are right on the same tokens, and it can be above 1.
# </details>

# %% [markdown]
# ## 7. Its voice
# Numbers first, then listen. Both models continue two beginnings, always with the most likely token.

# %% tags=["nbval-ignore-output"]
for prompt in ("The history of the city begins", "Water boils when"):
    for name, each in models.items():
        print(f"{name:>10}: {' '.join(pk.generate(each, tokenizer, prompt, tokens=24).split())}")

# %% [markdown]
# The dense model is fluent, and not always right. The compressed one still writes English, and tends to go in circles.
# Two sentences are an impression, not a measurement: they show what a perplexity of 60 sounds like, no more.
#
# ## What you can do now
# 1. *What the course teaches and what runs live*: the map in section 1, and your column of the table in section 3. Only
#    speed on a GPU needs a GPU.
# 2. *Predictions, exercises, live figures*: choose before you run; write the function, read the counterexample; drag.
# 3. *Compress and judge*: `pk.compress`, then perplexity, retention and bytes, on text that calibration never saw.
#
# Next: [01 EWMA scoring](01_ewma_scoring.ipynb) takes `pk.compress` apart, beginning with the question which weights
# matter. In a hurry? [06 Your model](06_your_model.ipynb) runs all of it on a model of yours.
