# %% [markdown]
# # 00 Start here
#
# Take half of the weights out of a language model by the obvious rule: of 100 next words that it used to get right, 37
# are left. Here you hear how it speaks then. With all that the course teaches it is 95
# ([measured](RESULTS.md#what-is-kept)).
#
# You will be able to
# 1. hear what pruning does to a model, and say by three numbers how bad it is;
# 2. compress a model in seconds, and know what is left to repair;
# 3. work with predictions, exercises and live figures, and say what your machine runs live.
#
# Needs: Python and PyTorch as you know them; no GPU, no account. About 1 minute on two CPU cores, half a minute more
# the first time; peak memory about 2.5 GB; 45 minutes with exercises.
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

# %% [markdown]
# ## 1. A model speaks
# It goes on from three words, always with the [token](GLOSSARY.md#token), a word or a part of one, that it finds most
# likely.
#
# The cell also asks for a **prediction**. Choose before you run on: being wrong first is what makes it stick. Nothing
# is recorded. Stored outputs give the answers away, so clear them first, in the Edit menu.

# %% tags=["nbval-ignore-output"]
import torch
from prunekit import course

figures = course.figures.start
model, tokenizer = pk.load("embedded", device="cpu")
prompt = "Water boils when"
said = {"dense": pk.generate(model, tokenizer, prompt, tokens=20)}
print(said["dense"])
rule = "Next, half of all weights in its layers become zero: in each row of a matrix the smaller half. The model then"
course.predict("voice", rule, ["speaks much as before", "makes mistakes, in whole sentences", "babbles"])

# %% [markdown]
# Fluent, and not quite right. Now the obvious rule: small [weights](GLOSSARY.md#weight) can't matter much, so set them
# to zero. That is [pruning](GLOSSARY.md#pruning), by magnitude. The loop goes through all 210
# [linear layers](GLOSSARY.md#linear-layer), and in each row prunes what is not above the median.

# %% tags=["nbval-ignore-output"]
from copy import deepcopy

ruined = deepcopy(model)
with torch.no_grad():
    for layer in pk.linear_layers(ruined).values():
        size = layer.weight.abs()
        layer.weight *= size > size.median(dim=1, keepdim=True).values
said["ruined"] = pk.generate(ruined, tokenizer, prompt, tokens=20)
print(said["ruined"])
course.reveal("voice", "babbles", "It repeats itself, and says nothing.")

# %% [markdown]
# Words, but no sentence. And yet the larger half of the weights is still there. Must half of a model cost so much?
#
# This was measured beforehand, on a longer text: of 100 next tokens that the *dense* model, the one with all weights,
# gets right, how many does a pruned one get right?

# %% tags=["nbval-ignore-output"]
from prunekit.bench.measured import measured_rows

names = {"magnitude": "by magnitude", "EWMA": "the course's method", "best": "and then trained"}
rows = measured_rows("50 %")
kept = {names[name]: rows[name]["texts"]["wikipedia"]["retention"] for name in names}
course.show(*figures.story(kept))

# %% [markdown]
# Three times the same number of zeros. The course repairs the model in two steps. **Other weights go**: that brings 37
# to 76, in seconds, and you will hear it in section 4. **What is left makes up for the rest**: that brings 76 to 95, in
# 20 minutes, in notebook [07](07_recovering_quality.ipynb).
#
# ## 2. What was done to it
# A matrix small enough to see. Each row makes one output from four inputs.

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
course.show(
    figures.tiny(W, keep),
    alt="A 3 by 4 matrix. Kept: 0.4 and 0.3 in the first row, 0.6 and -0.5 in the second, -0.3 and 0.7 in the third.",
)
course.reveal("zeros", "6", f"There are {zeros}: the weight that was 0.0 is among the two smallest of its row.")

# %% [markdown]
# Blue stays; what is hatched is now zero. This field of yes and no is a [mask](GLOSSARY.md#mask).
#
# **Live figures** have controls. Drag this one: the share of each row that is pruned. Where no
# [kernel](GLOSSARY.md#kernel) runs, on a code host or in print, you see how it starts.


# %% tags=["nbval-ignore-output"]
import ipywidgets
from prunekit.course.widgets.live import LiveFigure


def draw(pruned: float):
    keep = pk.exact_mask(W.abs(), pruned)
    return figures.tiny(W, keep), f"The same matrix with {int(pruned * 4)} of 4 weights in each row set to zero."


LiveFigure(draw, pruned=ipywidgets.FloatSlider(0.25, min=0, max=0.75, step=0.25, description="pruned"))

# %% [markdown]
# ### Exercise 0.1: sparsity of each row (easy, 3 minutes)
# In an **exercise** you write a function, and a check tries it on many random inputs. If it is wrong you get the
# smallest counterexample found, and a hint. Two more hints and a solution are folded below.
#
# [Sparsity](GLOSSARY.md#sparsity) is the share of weights that are zero. Write it for each row. Mind the axis: rows are
# outputs.


# %% tags=["exercise"]
def row_sparsity(W: torch.Tensor) -> torch.Tensor:
    """W: float32 [out, in]; returns float32 [out], each from 0 to 1."""
    ...


course.check("0.1", row_sparsity)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# `W == 0` is a tensor of yes and no. Its mean would be the share that you want, but for two things.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# Booleans have no mean: make them floats. And you want a mean for each row, not for the whole: which `dim` goes away?
# </details>

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
# Our model has 30 decoder blocks, with seven such matrices in each. How much of it is that?

# %% tags=["nbval-ignore-output"]
layers = pk.linear_layers(model).values()
linear = sum(layer.weight.numel() for layer in layers)
total = sum(p.numel() for p in model.parameters())
course.show(
    figures.where_weights_are(model),
    alt="Million parameters by kind: q_proj and o_proj 10.0 each, k_proj and v_proj 3.3 each, the three of the MLP "
    "26.5 each, embedding 28.3, norms nearly none.",
)
print(f"{total / 1e6:.1f} million parameters, {linear / total:.0%} of them in {len(layers)} linear layers")

# %% [markdown]
# Four fifths: that is what the course compresses. The [embedding](GLOSSARY.md#embedding), which is also the output
# layer, stays as it is.
#
# ## 3. How wrong is it?
# Babble is an impression; we want a number. At each position a model gives a probability to every possible next token.
# Look at the token that really comes: how likely did the two models find it?

# %% tags=["nbval-ignore-output"]
ids = tokenizer("The Eiffel Tower is a famous landmark in the city of Paris.", return_tensors="pt").input_ids
words = [tokenizer.decode(token) for token in ids[0, 1:]]
log_probs = {}
for name, each in {"dense": model, "ruined": ruined}.items():
    with torch.no_grad():
        scores = each(ids).logits[0, :-1].log_softmax(-1)
    log_probs[name] = scores.gather(1, ids[0, 1:, None])[:, 0]
course.show(*figures.sentence(words, log_probs))

# %% [markdown]
# Little words, *is*, *a* and *of*, the ruined model still finds. What it has lost is that *Tower* comes after "The
# Eiffel", and that this city is *Paris*.
#
# The geometric mean sums each row of points up. [Perplexity](GLOSSARY.md#perplexity) is one over it: as if the model
# had guessed among so many tokens each time. By hand, and by the library:

# %% tags=["nbval-ignore-output"]
p = log_probs["dense"].exp()
by_hand = 1 / p.prod().item() ** (1 / len(p))
by_library = pk.evaluate(model, ids)["perplexity"]
print(f"{by_hand:.2f}, {by_library:.2f}")
assert abs(by_library / by_hand - 1) < 1e-3

# %% [markdown]
# ### Exercise 0.2: perplexity (easy, 5 minutes)
# Now for long texts, where that product would underflow. You get the natural logarithms of the probabilities of the
# tokens that really came. (Their negative mean, in [nats](GLOSSARY.md#nat), is the loss of training.)


# %% tags=["exercise"]
def perplexity(log_probs: torch.Tensor) -> float:
    """log_probs: float32 [tokens], natural logarithms, 0 or below; returns a number, 1 or above."""
    ...


course.check("0.2", perplexity)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# The logarithm of a product is a sum, and that of an n-th root is a division by n.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# The logarithm of the geometric mean is the mean of the logarithms. "One over" is a minus sign there. `exp` comes last.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def perplexity(log_probs):
#     return torch.exp(-log_probs.mean()).item()
# ```
#
# One over the root of the product is the same on paper, but the product underflows after some tokens.
# </details>

# %% [markdown]
# ## 4. Which weights go
# The idea of [the paper](BIBLIOGRAPHY.md#hwpq) behind this course: a weight matters as much as what it is multiplied
# with. So read a little text first, and see how strong the [activations](GLOSSARY.md#activation) are that enter each
# layer: their [energy](GLOSSARY.md#energy). That is [calibration](GLOSSARY.md#calibration). Then prune where weight and
# energy are small, and [quantize](GLOSSARY.md#quantization) the others: cast them to eight bits,
# [FP8](GLOSSARY.md#fp8). What do you expect?

# %% tags=["nbval-ignore-output"]
course.predict(
    "perplexity",
    "Half of the weights in all 210 layers become zero by this method, with no training afterwards. The perplexity is",
    ["hardly larger", "about two to three times as large", "more than ten times as large"],
)
course.predict(
    "size",
    "Dense, the weights take 269 MB (2 bytes each). FP8 stores a weight of a linear layer in 1 byte, and half of those "
    "are zero; the embedding keeps its 2 bytes each. As a checkpoint on disk it takes",
    ["about 110 MB", "about 165 MB", "about 270 MB"],
)

# %% tags=["nbval-ignore-output"]
text = pk.corpus(tokenizer, split="train", tokens=2048, context=32)  # at most; calibration stops when masks hold still
result = pk.compress(model, text, sparsity=0.5, fp8="e4m3")
said["compressed"] = pk.generate(result.model, tokenizer, prompt, tokens=20)
print("measured:", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items()))
print(f"sparsity {result.sparsity:.4f} after {result.tokens} tokens of calibration\n")
print(said["compressed"])

# %% [markdown]
# It has English sentences again, and goes in circles. Half of the weights are zero as before; only the choice differs.
#
# The choice was made without sorting any row, by a threshold that follows a [quantile](GLOSSARY.md#quantile). (The
# method's name, [EWMA](GLOSSARY.md#ewma), comes from the paper's moving average.) The cast came in the same sweep: a
# [joint pass](GLOSSARY.md#joint-pass). How that meets the target is the subject of notebook 01. The times include
# compiling, where this runs for the first time.
#
# Now judge all three on [text](BIBLIOGRAPHY.md#text) that calibration never saw, in [windows](GLOSSARY.md#window) of
# 256 tokens. A second number: [top-1](GLOSSARY.md#top-1) accuracy, the share of tokens for which the model's first
# choice is right.

# %% tags=["nbval-ignore-output"]
models = {"dense": model, "ruined": ruined, "compressed": result.model}
judged = pk.evaluate_all(models, pk.corpus(tokenizer, tokens=1280, context=256))
for name, each in models.items():
    judged[name] |= {"retention": judged[name].get("retention", 1.0), "bytes": pk.stored_bytes(each)}
course.table(
    ("model", "perplexity", "top-1 [%]", "retention [%]", "stored [MB]"),
    [(name, j["perplexity"], 100 * j["top1"], 100 * j["retention"], j["bytes"] / 1e6) for name, j in judged.items()],
    "Measured on 1,280 tokens of Wikipedia articles, windows of 256; bytes counted",
)

# %% [markdown]
# [Retention](GLOSSARY.md#retention) is a model's top-1 accuracy over that of the dense one. You know it: it is what the
# first picture showed.

# %% tags=["nbval-ignore-output"]
dense, ruin, half = judged.values()
course.show(*figures.before_after(judged, "1,280 tokens"))
ratio = half["perplexity"] / dense["perplexity"]
course.reveal("perplexity", "about two to three times as large", f"Measured: {ratio:.1f} times.")
course.reveal("size", "about 165 MB", f"Counted: {half['bytes'] / 1e6:.0f} MB.")

# %% [markdown]
# The ruined model is as large as the dense one: **a zero still takes its bytes**. The file of the compressed one shrank
# by FP8 alone, from two bytes to one, and the embedding stays at two.
#
# Retention looks kinder than perplexity. It asks about the first choice only.
#
# ### Exercise 0.3: retention (easy, 5 minutes)
# You get the tokens that really came, and the first choices of the dense and of another model. Return the retention.


# %% tags=["exercise"]
def retention(target: torch.Tensor, dense: torch.Tensor, model: torch.Tensor) -> float:
    """Each int64 [tokens]: the right ones, then both models' choices; dense is right at least once."""
    ...


course.check("0.3", retention)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Count the hits of each model on its own. Which of the two counts belongs below the line?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `(model == target).sum()` are the hits of one model. Nothing asks whether both are right on the same tokens.
# </details>

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
# ### Exercise 0.4: what the table says (interpret, 5 minutes)
# Which of these follow from the table above?
#
# - **a** Half of the weights at zero made the file no smaller.
# - **b** Of five tokens that the dense model gets right, the compressed one gets four of *the same* right.
# - **c** The compressed file is smaller because half of its weights are zero.
# - **d** Two models with half of their weights at zero can differ more from each other than the better one differs
#   from the dense one.
# - **e** On a text of news the compressed model's perplexity would be about 60, too.

# %% tags=["exercise"]
answer = ""  # such as "bc"
course.interpret("0.4", answer)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Compare two rows at a time. In which column do dense and ruined differ, and in which not?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# For b, look at your function of 0.3. For c, look at the ruined model: it has the zeros, too. For e, look at the
# table's caption.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# **a** and **d**. *a*: ruined and dense take the same bytes. *d*: in perplexity and in retention the compressed model
# lies nearer to the dense than to the ruined one. *b*: retention counts each model's hits on its own. *c*: FP8 did
# that; zeros did nothing for the ruined one. *e*: one kind of text says nothing of another.
# </details>

# %% [markdown]
# ### Exercise 0.5: prune it yourself (medium, 8 minutes)
# Put the method together from its parts, with a sort where the course has none. The score of a weight, its
# [contribution](GLOSSARY.md#contribution), is its square times the energy of its input: `W[i, j]^2 E[j]`. In each row
# the `count` weights of the lowest score become zero; where scores are equal, choose as you like.
#
# If every energy is 1, your function is the rule that ruined the model.


# %% tags=["exercise"]
def prune(W: torch.Tensor, E: torch.Tensor, count: int) -> torch.Tensor:
    """W: float32 [out, in]; E: float32 [in], above 0; count: from 0 to in; returns a pruned copy of W."""
    ...


course.check("0.5", prune)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Three lines: scores, the places of the lowest ones in each row, and a copy of `W` with zeros there. `E` has one number
# for each column, so `W**2 * E` fits as it is.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `scores.argsort(dim=1)[:, :count]` are the places, `W.scatter(1, places, 0.0)` is the copy.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def prune(W, E, count):
#     lowest = (W**2 * E).argsort(dim=1)[:, :count]
#     return W.scatter(1, lowest, 0.0)
# ```
#
# A threshold, as in the loop of section 1, prunes too many where scores are equal.
# </details>

# %% [markdown]
# ## 5. What your machine runs
# `prunekit doctor` tries tiny products in each format. The frame in the table is around your column.

# %% tags=["nbval-ignore-output"]
from prunekit.speed import doctor

report = doctor.examine()
print("\n".join(doctor.describe(report)))
course.show(
    figures.what_runs_where(report),
    alt="A table of four classes of machine. Pruning, casting, judging, removing neurons and timing run live on all. "
    "The speed of 2:4 needs compute capability 8.0, that of FP8 8.9; elsewhere numbers are published or predicted.",
)

# %% [markdown]
# Only *speed on a GPU* needs a GPU. Beside its general [CUDA cores](GLOSSARY.md#cuda-core) it must have [tensor
# cores](GLOSSARY.md#tensor-core) for the format, which its [compute capability](GLOSSARY.md#compute-capability) tells:
# 8.9 for FP8, 8.0 for [2:4](GLOSSARY.md#n-m-sparsity), where two of every four weights stay. Elsewhere notebook 05
# shows [published measurements](BIBLIOGRAPHY.md#vllmbench) and predictions. Every speed in the course says whether it
# is measured, published or predicted.
#
# The map of the course:

# %% tags=["nbval-ignore-output"]
course.show(*figures.course_map())

# %% [markdown]
# Each notebook starts on its own. In 90 minutes: this one, then [06](06_your_model.ipynb), with a model of yours. For
# the idea: [01](01_ewma_scoring.ipynb). Words are linked to the [glossary](GLOSSARY.md), claims to the
# [bibliography](BIBLIOGRAPHY.md).
#
# ## Quiz

# %% tags=["quiz", "nbval-ignore-output"]
course.quiz("00")

# %% [markdown]
# ## How far to trust this
# - *The first picture* is from 32,704 tokens of Wikipedia, windows of 512; on news the pruned models keep 28, 73 and
#   94.
#   The last model took 19 minutes on two cores ([RESULTS](RESULTS.md#what-is-kept)); 07 runs a short part of that.
# - *The table* is from 1,275 predicted tokens. Were they independent, top-1 would have a
#   [standard error](GLOSSARY.md#standard-error) of 1.4 percentage points. Those of one article are not: notebook 06
#   finds more on Wikipedia.
# - *A voice* is one sentence: an impression, no measurement.
# - *The model*, [SmolLM2-135M-Instruct](BIBLIOGRAPHY.md#smollm2) of the [LLaMA](BIBLIOGRAPHY.md#llama) kind, was
#   packaged with 4-bit weights and widened to [bfloat16](GLOSSARY.md#bfloat16). FP8 may find it easier than a model
#   fresh from training. Many of its weights are equal, so that the median rule prunes 50.3 %.
# - *The paper*: only abstracts and summaries were at hand. What is ours stands in [CHOICES](CHOICES.md). It
#   [claims](BIBLIOGRAPHY.md#hwpq) 91.57 % kept at half of the weights, for models fifty times larger.
# - *Machines*: tried under Linux without a GPU. Cells that use one have not been seen to run by us.

# %%
course.holds("00", globals())

# %% [markdown]
# ## What you can do now
# 1. *Hear and measure*: the same number of zeros, chosen in two ways. Perplexity, retention and bytes tell them apart.
# 2. *Compress*: `pk.compress`, in seconds. Left to repair: every fifth right token, and the bytes that zeros take.
# 3. *Work with the notebooks*: predict, drag, write, read the counterexample. Only speed on a GPU needs a GPU.
#
# Next: [01 EWMA scoring](01_ewma_scoring.ipynb), on which weights matter, and how to choose them without a sort.
