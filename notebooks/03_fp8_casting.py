# %% [markdown]
# # 03 FP8 casting
#
# A model is pruned, and what stays is put into bytes, in three lines that look right. Then all that the model says is
# `nan`. 60 of 155,520 rows did that. You will mend it.
#
# You will be able to
# 1. read any byte as E4M3 or E5M2 by hand, and say to which byte a number is rounded;
# 2. choose a scale, and say when one scale for all is enough and when it breaks;
# 3. cast a model to FP8 without NaN, and measure what that costs in error, perplexity and bytes.
#
# Needs: no GPU; three words of 01 and 02, [energy](GLOSSARY.md#energy), [contribution](GLOSSARY.md#contribution) and
# [2:4](GLOSSARY.md#n-m-sparsity). About 1 minute on two CPU cores, peak memory about 2.5 GB; 115 minutes with
# exercises.
# Before: [02 Structured masks](02_structured_masks.ipynb). Next: [04 Joint pipeline](04_joint_pipeline.ipynb).

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
# ## A model that says nan
# First the [pruning](GLOSSARY.md#pruning): of every four neighbours the two of highest contribution stay. You know that
# from 02.

# %% tags=["nbval-ignore-output"]
import math
from itertools import product
from copy import deepcopy
from tempfile import TemporaryDirectory
import torch
from torch import Tensor
from prunekit import course

figures = course.figures.casting
model, tokenizer = pk.load("embedded", device="cpu")
weights = {name: layer.weight.detach() for name, layer in pk.linear_layers(model).items()}
energy = pk.calibrate(model, pk.corpus(tokenizer, split="train", tokens=2048, context=32)).energy
masks = {name: pk.nm_mask(pk.contribution(W, energy[name]), 2, 4) for name, W in weights.items()}

# %% [markdown]
# Now the cast to [FP8](GLOSSARY.md#fp8), in the format [E5M2](GLOSSARY.md#e5m2). In each row the largest weight that
# stays, over the largest number of the format, is the scale. Divide by it, cast, multiply by it; the
# [mask](GLOSSARY.md#mask) makes the rest 0. The second function does so in a copy of the model. What does the copy say?


# %%
def careless(W, keep):
    scale = pk.scales(W, pk.E5M2, "row", keep)  # [out, 1]: the largest weight that stays over 57344
    return (W / scale).to(torch.float8_e5m2).float() * scale * keep


# %% tags=["nbval-ignore-output"]
def recast(change):
    new = deepcopy(model)
    with torch.no_grad():
        for name, layer in pk.linear_layers(new).items():
            layer.weight.copy_(change(layer.weight, masks[name]))
    return new


ruined = recast(careless)
ids = tokenizer("Water boils when it is hot.", return_tensors="pt").input_ids
loss = ruined(ids, labels=ids).loss.item()
print("loss of the model:", loss)

# %% [markdown]
# Every weight that stays fits: the scale was made for it. So which rows went wrong? Here is the worst.

# %% tags=["nbval-ignore-output"]
broken = {}
for name, layer in pk.linear_layers(ruined).items():
    for i in (~layer.weight.isfinite()).any(1).nonzero().flatten().tolist():
        W, keep = weights[name][i : i + 1], masks[name][i : i + 1]
        broken[name, i] = (W / pk.scales(W, pk.E5M2, "row", keep))[0], keep[0]
rows = sum(map(len, weights.values()))
print(f"{len(broken)} of {rows} rows hold NaN")
if broken:  # in a torch whose cast saturates there are none
    worst = max(broken, key=lambda row: broken[row][0].abs().max())
    alt = "Kept weights, as bars, end at 57344, in the field normal; in the field beyond a thick cross, a pruned one, "
    alt += f"{broken[worst][0].abs().max() / 57344:.2f} times as large."
    course.show(figures.in_format({f"{worst[0]}, row {worst[1]}": broken[worst]}, pk.E5M2, 0, 18), alt)
del ruined

# %% [markdown]
# The bars are the weights that stay; *normal* is what the format can say well (section 2). The thick cross is the
# culprit: a *pruned* weight, beyond the largest number. It was cast first and set to zero after. Why is that `nan`? For
# that, learn to read a byte.
#
# ## 1. One byte by hand
# An FP8 number is one byte with three fields: sign, exponent, mantissa. [E4M3](GLOSSARY.md#e4m3) has 4 exponent and 3
# mantissa bits, E5M2 has 5 and 2. Take the byte `0x43`, in bits `0100 0011`, as E4M3: sign `0`, exponent field `1000` =
# 8, mantissa field `011` = 3. The mantissa counts eighths behind a leading 1 that is not stored, and the exponent is
# the field minus a bias of 7:
#
# `value = 2^(8 - 7) * (1 + 3/8) = 2.75`

# %% tags=["nbval-ignore-output"]
course.show(figures.bits(0x43), "The byte 0x43 in boxes: 2.75 as E4M3, 0 1000 011; 3.5 as E5M2, 0 10000 11.")

# %% [markdown]
# The same byte is 3.5 in E5M2: it means nothing without the name of its format.
#
# Two cases differ. If the exponent field is 0, there is no leading 1 and the exponent stays at `1 - 7 = -6`: these are
# the [subnormals](GLOSSARY.md#subnormal), and zero. If all seven bits below the sign are 1, the code is NaN. That is
# all of E4M3; in Python:


# %%
def decode_one(code: int) -> float:
    sign = -1.0 if code & 0b1000_0000 else 1.0
    exponent, mantissa = (code >> 3) & 0b1111, code & 0b111
    if exponent == 15 and mantissa == 7:
        return math.nan
    if exponent == 0:
        return sign * 2.0 ** (1 - 7) * mantissa / 8
    return sign * 2.0 ** (exponent - 7) * (1 + mantissa / 8)


assert decode_one(0x43) == 2.75

# %% [markdown]
# Now all 256 bytes: this loop, the vector version `pk.decode`, and PyTorch, which only has to look at the same bytes
# with another dtype.

# %%
codes = torch.arange(256).to(torch.uint8)
loop = torch.tensor([decode_one(code) for code in range(256)])
assert torch.allclose(loop, pk.decode(codes, pk.E4M3), rtol=0, atol=0, equal_nan=True)
for fmt in (pk.E4M3, pk.E5M2):
    values = pk.decode(codes, fmt)
    assert torch.allclose(values, codes.view(fmt.dtype).float(), rtol=0, atol=0, equal_nan=True)
    print(f"{fmt.name}: {values.isfinite().sum()} finite, {values.isinf().sum()} infinite, {values.isnan().sum()} NaN")

# %% [markdown]
# They agree. E4M3 spends two codes on NaN and none on infinity. E5M2 keeps the rules of larger formats: an exponent
# field of all ones is infinity if the mantissa is 0, and NaN otherwise.
#
# ### Exercise 3.1: decode E5M2 (easy, 8 minutes)
# Write the same for E5M2: 5 exponent bits with a bias of 15, 2 mantissa bits, and its infinities and NaNs.


# %% tags=["exercise"]
def decode_e5m2(code: int) -> float:
    """code: a byte, 0 to 255; returns its value in E5M2, which may be infinite or NaN."""
    ...


course.check("3.1", decode_e5m2)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Draw `0x43` in bits, `0 10000 11`. By how many places must it be shifted so that the exponent stands at the end? What
# does the mantissa count now, if not eighths?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `exponent = (code >> 2) & 0b11111`, `mantissa = code & 0b11`, in quarters. Three cases, by the exponent: 31, 0,
# others.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def decode_e5m2(code: int) -> float:
#     sign = -1.0 if code & 0x80 else 1.0
#     exponent, mantissa = (code >> 2) & 0b11111, code & 0b11
#     if exponent == 31:
#         return sign * math.inf if mantissa == 0 else math.nan
#     if exponent == 0:
#         return sign * 2.0 ** (1 - 15) * mantissa / 4
#     return sign * 2.0 ** (exponent - 15) * (1 + mantissa / 4)
# ```
#
# E5M2 is the upper byte of float16, so `struct.unpack("<e", bytes([0, code]))[0]` is right as well.
# </details>

# %% [markdown]
# ## 2. Range and gaps
# Near zero. Each format is enlarged to its own smallest numbers: look at the powers of two below.

# %% tags=["nbval-ignore-output"]
for fmt in (pk.E4M3, pk.E5M2):
    values = pk.decode(codes[1:128], fmt).nan_to_num(0, 0)
    print(f"{fmt.name}: smallest {values[0]:.3g}, smallest normal 2^{fmt.min_exponent}, largest {values.max():.0f}")
alt = "Near zero, enlarged. E4M3: 7 subnormals from 2^-9, normal from 2^-6. E5M2: 3 from 2^-16, normal from 2^-14."
course.show(figures.near_zero(), alt)

# %% [markdown]
# E4M3 has seven subnormals between zero and its normal numbers, E5M2 three, 256 times as small. Among them the distance
# stays the same, down to zero. Above, it doubles with each power of two: in E4M3 it is 0.25 from 2 to 4, and 32 from
# 256 to 448. Seen relative to the value:

# %% tags=["nbval-ignore-output"]
alt = "Gap over value. Normal: 7 to 12.5 % in E4M3, 14 to 25 % in E5M2. Below 2^-6 and 2^-14 it grows to 100 %."
course.show(figures.gaps(), alt)
course.predict("tie", "E4M3 has 2.75, then 3. Cast to it, 2.875 becomes", ["2.75", "3", "either, at random"])

# %% [markdown]
# At most an eighth of the value in E4M3, a quarter in E5M2, all over the normal range: 15 powers of two in E4M3, 30 in
# E5M2. That is the whole trade: **one bit moved from the mantissa to the exponent doubles the gaps, and doubles the
# number of powers.**
#
# ## 3. Rounding
# [Rounding](GLOSSARY.md#rounding) takes the nearest number of the format. And if two are equally near?

# %% tags=["nbval-ignore-output"]
x = torch.tensor([2.8, 2.625, 2.875, 2.876])
for fmt in (pk.E4M3, pk.E5M2):
    assert torch.equal(pk.encode(x, fmt), x.to(fmt.dtype).view(torch.uint8))
    table = zip(x.tolist(), pk.decode(pk.encode(x, fmt), fmt).tolist(), pk.encode(x, fmt).tolist())
    print(fmt.name, *[f"{number:g} -> {value:g} (0x{code:02X})" for number, value, code in table], sep="   ")
course.reveal("tie", "3", "The mantissa of 2.75 ends in 1, that of 3 in 0, and ties go to the even one.")

# %% [markdown]
# Ties go to the code whose last bit is 0. So 2.625, halfway between `0x42` and `0x43`, goes down, and 2.875, halfway
# between `0x43` and `0x44`, goes up: on average ties push neither way.
#
# How wrong can one rounding be? Half a gap at most. Measure it:

# %%
most = {}
for fmt in (pk.E4M3, pk.E5M2):
    many = torch.logspace(fmt.min_exponent, math.log2(fmt.max), 100_000, base=2.0)
    most[fmt.name] = (pk.decode(pk.encode(many, fmt), fmt) / many - 1).abs().max().item()
print({name: f"{error:.1%}" for name, error in most.items()})

# %% [markdown]
# The worst place is the middle of the first gap above a power of two. In E4M3 half of it is 1/16 and the value 1 +
# 1/16, that is 1/17; in E5M2 1/8 over 1 + 1/8, 1/9.
#
# ### Exercise 3.2: round to the nearest code (medium, 15 minutes)
# `values[c]` is the value of code `c`, ascending from 0. Find each number's code: the nearest value; on a tie the even
# code; beyond the last value the last code. A number beside a tie, be it by its last bit, is no tie. The check uses a
# grid of eight values, and E4M3's 127.


# %% tags=["exercise"]
def nearest_codes(x: Tensor, values: Tensor) -> Tensor:
    """x: float32 [n], 0 or above; values: float32 [k], ascending from 0; returns whole numbers [n], 0 to k - 1."""
    ...


course.check("3.2", nearest_codes)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# `(x[:, None] - values).abs()` is the distance of each number from each value. `argmin` of it is nearly right. For
# which numbers is it not?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# Mark all values at the smallest distance, one or two of them; among those take the one whose position is even. A very
# large `x` has the same distance from all values in float32: clamp it first.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def nearest_codes(x: Tensor, values: Tensor) -> Tensor:
#     distance = (x.clamp(max=values[-1])[:, None] - values).abs()
#     tied = distance == distance.amin(1, keepdim=True)
#     odd = torch.arange(len(values)) % 2
#     return torch.where(tied, odd, 2).argmin(1)
# ```
#
# Among the nearest values, one or two, the even one comes first. `argmin` of the distance alone would send every tie
# down. The clamp is for very large `x`: in float32 all distances from 1e10 are equal.
# </details>

# %% [markdown]
# ## 4. Beyond the largest number
# Here the broken row broke. E4M3 ends at 448, E5M2 at 57344. What becomes of more?

# %% tags=["nbval-ignore-output"]
course.predict("beyond", "By the rules of rounding alone, E4M3 makes of 500", ["448", "infinity", "NaN"])

# %% tags=["nbval-ignore-output"]
ways = {
    "rounding alone": lambda x, fmt: pk.decode(pk.encode(x, fmt, saturate=False), fmt),
    "torch's cast": lambda x, fmt: x.to(fmt.dtype).float(),
    "clamp, then cast": lambda x, fmt: x.clamp(-fmt.max, fmt.max).to(fmt.dtype).float(),
}
x, sweeps = torch.linspace(0.935, 1.3, 366), {}
for fmt in (pk.E4M3, pk.E5M2):
    for way, cast in ways.items():
        sweeps[fmt.name, way] = cast(x * fmt.max, fmt)
lines = [f"{way} {sweeps['e4m3', way][-1]:g} and {sweeps['e5m2', way][-1]:g}" for way in ways]
alt = f"What becomes of numbers beyond 464 in E4M3 and beyond 61440 in E5M2, by line: {'; '.join(lines)}."
course.show(figures.beyond(x, sweeps), alt)
course.reveal("beyond", "NaN", "500 lies past the midpoint, 464, and E4M3 has no infinity to go to.")
print("torch", torch.__version__)

# %% [markdown]
# Up to the midpoint to where the next number would be, a number still rounds to the largest. Beyond it there is nothing
# to round to: E5M2 says infinity, E4M3 NaN. The middle line, `torch's cast`, is what this version of PyTorch does by
# itself, and it need not treat the formats alike.
#
# The last line is the same everywhere: [clamp](GLOSSARY.md#clamp) first, and what is too large becomes the largest
# number. That is [saturation](GLOSSARY.md#saturation). Now for `nan`:

# %% tags=["nbval-ignore-output"]
large = torch.tensor(1.2 * 57344)
for way, cast in ways.items():
    print(f"{way:>16}: {cast(large, pk.E5M2).item():g} times a mask of 0 is {(cast(large, pk.E5M2) * 0).item():g}")

# %% [markdown]
# Infinity times zero is NaN: the mask came too late. One such weight makes its output NaN for every
# [token](GLOSSARY.md#token), and the layers behind it spread that.
#
# At the other end nothing breaks. A number below half the smallest one becomes zero, by
# [underflow](GLOSSARY.md#underflow).
#
# ## 5. A scale
# A row of weights has its largest anywhere. So each weight is divided by a [scale](GLOSSARY.md#scale) before the cast
# and multiplied by it afterwards, and the scale puts the largest weight on the largest number.
#
# Sections 1 to 4 and the scale in one picture. Click bits. Drag the scale, and watch a real weight move through the
# format.

# %% tags=["nbval-ignore-output"]
example = weights["model.layers.14.mlp.down_proj"]
course.widgets.fp8_bits(example, name="down_proj of decoder block 14")

# %% [markdown]
# At power 0 of the slider `scale x 2^`, the usual scale, nothing saturates and next to nothing is subnormal: all but 1
# % of the weights lie within eleven powers of two, and E4M3's normal range has fifteen.
#
# ## 6. Who shares a scale
# One scale for the whole tensor, one for each row, or one for each tile of 128 x 128 ([block
# scale](GLOSSARY.md#block-scale)): that is its [granularity](GLOSSARY.md#granularity).
#
# Here is the way into a byte and back that the rest of the notebook takes. A third kind takes part:
# [INT8](GLOSSARY.md#int8), the whole numbers from -127 to 127, evenly spaced. It is tried on a matrix whose last row is
# an outlier, on purpose an extreme one.

# %%
FORMATS = {"e4m3": pk.E4M3, "e5m2": pk.E5M2}


def there_and_back(W, kind, each="tensor", keep=None, factor=1.0):
    if kind == "int8":  # pk.scales puts the largest weight on 448, and INT8 ends at 127
        scale = pk.scales(W, pk.E4M3, each, keep) * (448 / 127 * factor)
        return (W / scale).round().clamp(-127, 127) * scale
    scale = pk.scales(W, FORMATS[kind], each, keep) * factor
    # pk.cast divides by the scale, clamps, makes the pruned 0 and rounds to bytes; pk.uncast multiplies again
    return pk.uncast(pk.cast(W, scale, FORMATS[kind], keep), scale)


# %% tags=["nbval-ignore-output"]
W = torch.tensor([[0.30, -0.12, 0.07, 0.05], [0.09, -0.035, 0.02, 0.008], [4480, -1500, 960, 64]])
backs = {"W": W} | {f"E4M3, a scale per {each}": there_and_back(W, "e4m3", each) for each in ("tensor", "row")}
backs["E5M2, a scale per tensor"] = there_and_back(W, "e5m2", "tensor")
off = [((back[1] - W[1]).norm() / W[1].norm()).item() for back in backs.values()]
alt = "W and what casts leave of it. Error of the small row: 12 % with one E4M3 scale, 0.8 % with its own, 8 % in E5M2."
course.show(figures.digits(backs, {key: back == 0 for key, back in backs.items()}), alt)

# %% [markdown]
# Behind each row stands its error, `|W - cast(W)| / |W|` with the root of the sum of squares as norm. One scale for all
# is `4480 / 448 = 10`. In units of it the middle row is subnormal, and 0.008 is nothing. E5M2 reaches further down and
# keeps all four, coarsely. A scale of its own mends the row, for four bytes.
#
# A pruned weight needs no range, so the scale is taken from the [survivors](GLOSSARY.md#survivor). How often does that
# matter?

# %%
changed = 0
for name, weight in weights.items():
    changed += (pk.scales(weight, keep=masks[name]) != pk.scales(weight)).sum().item()
print(f"2:4 changes the scale of {changed / rows:.1%} of {rows} rows")

# %% [markdown]
# Hardly ever: the largest weight of a row nearly always stays. The few other rows gain a little, and some of them are
# the rows that broke.
#
# ### Exercise 3.3: the scale of the survivors (easy, 8 minutes)
# One E4M3 scale for each row: its largest surviving `|W|` over 448. Where no nonzero weight survives, the scale is 1,
# since a scale of 0 would mean dividing by 0.


# %% tags=["exercise"]
def row_scales(W: Tensor, keep: Tensor) -> Tensor:
    """W: float32 [out, in]; keep: bool [out, in]; returns float32 [out, 1]."""
    ...


course.check("3.3", row_scales)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# What must stand in the place of a pruned weight so that it can never be the largest? Take absolute values before the
# maximum.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `amax(1, keepdim=True)` gives `[out, 1]`. Then one `torch.where` for the rows in which it is 0.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def row_scales(W: Tensor, keep: Tensor) -> Tensor:
#     top = torch.where(keep, W, 0.0).abs().amax(1, keepdim=True)
#     return torch.where(top > 0, top / 448, 1.0)
# ```
# </details>

# %% [markdown]
# ### Exercise 3.4: spot the bug (medium, 10 minutes)
# These are the three lines that broke the model. Here the scale may also come from an older version of the weights, so
# that anything may be larger than 57344 times its scale, pruned or not.
#
# ```python
# def through_e5m2(W, keep, scale):
#     codes = (W / scale).to(torch.float8_e5m2)
#     return codes.float() * scale * keep
# ```
#
# Write it so that pruned weights are 0, survivors that are too large become 57344 times their scale, with their own
# sign, and nothing is ever infinite or NaN.


# %% tags=["exercise"]
def through_e5m2(W: Tensor, keep: Tensor, scale: Tensor) -> Tensor:
    """W: float32 [out, in]; keep: bool [out, in]; scale: float32 [out, 1]; returns float32 [out, in]."""
    ...


course.check("3.4", through_e5m2)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# In which order do the mask and the cast come? And what of a survivor that is too large?
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# First 0 where a weight is pruned, by `torch.where`; then a clamp to both sides; then the cast; then the scale.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def through_e5m2(W: Tensor, keep: Tensor, scale: Tensor) -> Tensor:
#     codes = torch.where(keep, W / scale, 0.0).clamp(-57344, 57344).to(torch.float8_e5m2)
#     return codes.float() * scale
# ```
#
# Without the clamp a pruned outlier becomes infinity, and infinity times 0 is NaN. With E4M3 the same bug hides in
# PyTorch versions whose cast saturates, and comes out in the others.
# </details>

# %% [markdown]
# ## 7. When one scale breaks
# Two rows of random weights share one scale. Multiply the first by a growing ratio. The second suffers: from when on?

# %% tags=["nbval-ignore-output"]
course.predict("ratio", "At a ratio of 1,000 the E4M3 error", ["hardly grows", "grows 10 times", "grows 1,000 times"])

# %% tags=["nbval-ignore-output"]
pair = torch.randn(2, 4096, generator=torch.Generator().manual_seed(0))
alone = {"e4m3": {}, "e5m2": {}, "int8": {}}
for power in range(0, 33, 2):
    W = pair * torch.tensor([[2.0**power], [1.0]])
    for kind in alone:
        small = there_and_back(W, kind)[1]
        alone[kind][power] = ((small - W[1]).norm() / W[1].norm()).item()
notes = {"E4M3 breaks": (14.5, 3.4), "E5M2 breaks": (27, 3.4), "INT8 breaks at once": (7, 1.4)}
alt = "Error of the small row by ratio. INT8 0.9 %, grows at once; E4M3 2.5 %, more from 2^12; E5M2 5.4 %, from 2^28."
course.show(figures.curves(alone, "ratio of the two rows", "the small row", notes), alt)
course.reveal("ratio", "hardly grows", f"{alone['e4m3'][0]:.2%} becomes {alone['e4m3'][10]:.2%}.")

# %% [markdown]
# With rows alike INT8 is the *best* of the three. Its numbers lie evenly, so every doubling of the ratio doubles the
# small row's error, and at 2^8 all of that row is rounded to 0. Floating point is indifferent to powers of two, until
# the small row reaches the subnormals. **Floating point buys room, not accuracy.**
#
# ### Exercise 3.5: how far apart may they be? (interpret, 5 minutes)
# One E4M3 scale puts the largest weight of a tensor on 448. How many times smaller may another weight be and still be a
# *normal* number?

# %% tags=["exercise"]
answer = ""  # a number, such as 1000
course.interpret("3.5", answer)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Which is the smallest normal number of E4M3? Section 2 printed it.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# 448 divided by `2^-6`. No power of two: 448 is `1.75 * 2^8`.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# `448 / 2^-6 = 28,672`. That is for one weight. A row leaves its floor sooner, at a ratio of 2^12, some 4,000: it has
# small weights as well as large ones, and here the largest of a row is four times as large as most.
# </details>

# %% [markdown]
# ## 8. The real model
# Do its rows lie so far apart? All 210 layers, three kinds of bytes, and who shares a scale; "block" is the tile of 128
# x 128. The error of a layer hardly sees its small rows, so the worst row of all is sought as well.

# %% tags=["nbval-ignore-output"]
errors, hardest = {}, (0.0, "", 0)
for kind, each in [("e4m3", "block"), *product(("e4m3", "e5m2", "int8"), ("tensor", "row"))]:
    layers, worst_row = [], 0.0
    for key, W in weights.items():
        lost, energies = (there_and_back(W, kind, each) - W).square().sum(1), W.square().sum(1)
        layers.append((lost.sum() / energies.sum()).sqrt().item())
        row = (lost / energies).sqrt()
        worst_row = max(worst_row, row.max().item())
        if (kind, each) == ("e4m3", "tensor"):
            hardest = max(hardest, (row.max().item(), key, row.argmax().item()))
    errors[kind, each] = sum(layers) / len(layers), max(layers), worst_row
table = [(kind.upper(), each, *(f"{100 * e:.2f}" for e in found)) for (kind, each), found in errors.items()]
head = ("byte", "a scale for each", "mean error [%]", "worst layer [%]", "worst row [%]")
course.table(head, table, "Measured: relative error of 210 layers and their 155,520 rows, cast without pruning")

# %% [markdown]
# E4M3's 2.6 % is a mean, section 3's 5.9 % the worst of one number: few weights lie midway. E5M2's error is twice that
# of E4M3, as its gaps are. In both **granularity hardly matters**. In INT8 it does: with a scale for each row it is the
# most accurate of all, with one for the tensor it has the worst layer.
#
# Only the worst rows show something. Is E4M3's too small for the shared scale? Look at it.

# %% tags=["nbval-ignore-output"]
_, key, i = hardest
row, everything, own, rounded = weights[key][i], torch.ones_like(weights[key][i], dtype=torch.bool), {}, []
for title, scale in {"the tensor": weights[key].abs().max() / 448, "this row": row.abs().max() / 448}.items():
    y = row / scale
    largest = y[y.abs().argmax()].reshape(1, 1)
    rounded.append((largest.item(), pk.decode(pk.encode(largest)).item()))
    own[f"scale of {title}: the largest weight, {rounded[-1][0]:.1f}, becomes {rounded[-1][1]:.0f}"] = y, everything
share = (row.square().max() / row.square().sum()).item()
alt = f"The worst row under both scales, all normal; one weight holds {share:.0%} of its squares. {', '.join(own)}."
course.show(figures.in_format(own, pk.E4M3, -14, 12), alt)
print(f"row {i} of {key}: one weight holds {share:.0%} of its sum of squares")
choices = ["stays", "grows 3 or 4 times", "grows 4,000 times"]
course.predict("scale", "At 2^12, some 4,000 times its scale, a layer's E4M3 error", choices)

# %% [markdown]
# The row is normal under either scale, and one weight holds half of its squares. Under the shared scale that weight
# falls midway between two numbers, as bad as rounding gets. Under its own it *is* the largest number, kept exactly. Bad
# luck, no lack of range.
#
# So how much room is left? Give one layer a scale that is too small or too large:

# %% tags=["nbval-ignore-output"]
valley = {"e4m3": {}, "e5m2": {}, "int8": {}}
for kind, power in product(valley, range(-6, 19, 2)):
    back = there_and_back(example, kind, factor=2.0**power)
    valley[kind][power] = ((back - example).norm() / example.norm()).item()
notes = {"saturation": (-4.6, 4), "the usual scale": (0, 75), "E4M3:\nunderflow": (15.9, 14)}
alt = "At 2^-6 80 %. E4M3 2.6 % to 2^8, 9 % at 2^12; E5M2 5.3 % to 2^18; INT8 4.1 % at 2^0, 16 % at 2^2, 63 % at 2^4."
course.show(figures.curves(valley, "scale over the usual scale", "the layer", notes), alt)
floor, at_8, at_12 = (f"{valley['e4m3'][power]:.2%}" for power in (0, 8, 12))
course.reveal("scale", choices[1], f"{floor} becomes {at_12}; at 2^8 it is still {at_8}.")

# %% [markdown]
# A valley with a flat floor, up to 2^8. To the left weights saturate, to the right they sink into the subnormals and to
# zero. INT8 has only a best place.
#
# ### Exercise 3.6: what the valley says (interpret, 5 minutes)
# Which of these follow from the table and the valley?
#
# - **a** This layer's E4M3 scale may be 16 times too large, and hardly anything is lost.
# - **b** Rounded up to a power of two, it would do as well.
# - **c** INT8 is less accurate than E4M3.
# - **d** This layer's INT8 scale may be four times too large, and hardly anything is lost.
# - **e** Far to the right E5M2 beats E4M3, although its gaps are twice as wide.
# - **f** In a model of 70 billion parameters one scale for each tensor is enough.

# %% tags=["exercise"]
answer = ""  # letters, such as "ac"
course.interpret("3.6", answer)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# For a, b and e go along one curve to the right. For c and d look at INT8 in the table and in the valley.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# Rounding up to a power of two makes a scale at most twice as large. Of other models none of the figures says anything.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# a, b, e. INT8 with a scale for each row has the smallest error of the table, so c fails; at four times the scale
# INT8's error is four times as large, so d fails; only one model was measured, so f fails.
# </details>

# %% [markdown]
# ### Exercise 3.7: the whole cast (hard, 20 minutes)
# Now from the parts, without any FP8 type of PyTorch. `values[c]` is the value of E4M3's code `c`, from 0 to 126.
# Return the codes, whole numbers from 0 to 255, and the scales.
#
# 1. The scale of each row comes from its survivors, and is 1 where no nonzero weight survives.
# 2. A survivor over its scale goes to the nearest value, on a tie to the even code. A negative one gets the sign bit.
# 3. A pruned weight gets code 0.


# %% tags=["exercise"]
def cast_rows(W: Tensor, keep: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """W: float32 [out, in]; keep: bool [out, in]; values: float32 [127]; returns [out, in] and [out, 1]."""
    ...


course.check("3.7", cast_rows)

# %% [markdown] tags=["hint"]
# <details><summary>Hint 1</summary>
#
# Your 3.3 gives the scales, and your 3.2 the codes of a flat list of magnitudes. What is left: the mask, the shape, and
# the sign.
# </details>

# %% [markdown] tags=["hint"]
# <details><summary>Hint 2</summary>
#
# `y = torch.where(keep, W, 0.0) / scale`; the codes of `y.abs().flatten()`, back in the shape of `W`; plus 128 where `y
# < 0`.
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def cast_rows(W: Tensor, keep: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
#     top = torch.where(keep, W, 0.0).abs().amax(1, keepdim=True)
#     scale = torch.where(top > 0, top / 448, 1.0)
#     y = torch.where(keep, W, 0.0) / scale
#     distance = (y.abs().clamp(max=448)[..., None] - values).abs()
#     tied = distance == distance.amin(-1, keepdim=True)
#     codes = torch.where(tied, torch.arange(127) % 2, 2).argmin(-1)
#     return codes + 128 * (y < 0), scale
# ```
#
# This is `pk.cast` in seven lines. The mask comes first, so that nothing pruned can be too large.
# </details>

# %% [markdown]
# ## 9. The model speaks again
# The model of the first page, with mask and clamp before the cast. Beside it the dense model, cast without pruning.

# %% tags=["nbval-ignore-output"]
e4m3 = pk.compress(model, sparsity=0, fp8="e4m3")
models = {
    "dense": model,
    "E4M3": e4m3.model,
    "E5M2": recast(lambda W, keep: there_and_back(W, "e5m2", "row")),
    "2:4, then E5M2": recast(lambda W, keep: there_and_back(W, "e5m2", "row", keep)),
}
text = pk.corpus(tokenizer, split="test", tokens=1536, context=512)
found = pk.evaluate_all(models, text, batch=1)
head = ("model", "perplexity", "retention [%]", "KL divergence [nats per token]")
table = [(k, r["perplexity"], 100 * r.get("retention", 1.0), r.get("kl", 0.0)) for k, r in found.items()]
course.table(head, table, "Measured on 1,536 tokens of Wikipedia articles, windows of 512; a scale for each row")

# %% [markdown]
# No NaN: the last line has a [perplexity](GLOSSARY.md#perplexity). E5M2 alone costs some percent of it, so that it is
# so high is the price of 2:4, which [04](04_joint_pipeline.ipynb) and [07](07_recovering_quality.ipynb) lower. The
# casts alone cost hardly any [retention](GLOSSARY.md#retention); above 100 it is the chance of a short text.
#
# [KL divergence](GLOSSARY.md#kl-divergence) compares two models on every token, in [nats](GLOSSARY.md#nat). In it E5M2
# is about four times as far from the dense model as E4M3: twice the error, and near 0 the divergence grows with its
# square.
#
# And the bytes: the file holds a byte for each cast weight in place of the two of [bfloat16](GLOSSARY.md#bfloat16), a
# float32 scale of four bytes for each row, and the rest as it was. Compute it, write the model, and compare.

# %% tags=["nbval-ignore-output"]
numbers = sum(W.numel() for W in weights.values())
dense, small = pk.stored_bytes(model), pk.stored_bytes(e4m3.model)
assert small == dense - 2 * numbers + numbers + 4 * rows
with TemporaryDirectory() as folder:
    saved = pk.save(e4m3, tokenizer, f"{folder}/fp8")
    disk = sum(file.stat().st_size for file in saved.glob("*.safetensors"))
print(f"dense {dense / 1e6:.1f} MB; FP8 {small / 1e6:.1f} MB computed, {disk / 1e6:.1f} MB on disk: {disk / dense:.3f}")

# %% [markdown]
# Three fifths and not half: the [embedding](GLOSSARY.md#embedding) is not cast, a fifth of this small model. A zero
# takes its byte like any other code, and casting makes nothing faster by itself. Which cards gain time from FP8 is the
# subject of [05](05_rtx_speed_profiling.ipynb).
#
# ## Quiz

# %% tags=["quiz", "nbval-ignore-output"]
course.quiz("03")

# %% [markdown]
# ## How far to trust this
# - *The formats* are those of [FP8 Formats for Deep Learning](BIBLIOGRAPHY.md#fp8-formats). Which format and which
#   scale the [paper](BIBLIOGRAPHY.md#hwpq) that this course follows uses is not in what we read; E4M3 with a scale for
#   each row is ours ([CHOICES](CHOICES.md)).
# - *One model*, of 135 million parameters. Larger ones may have outliers that this one lacks. Its weights [were 4-bit
#   once](BIBLIOGRAPHY.md#smollm2), which may make it easier to cast than a model fresh from training.
# - *PyTorch's cast* beyond the largest number is that of the printed version, on a CPU. Where it saturates, the first
#   page shows no broken row.
# - *Section 7* is about normal random numbers. That a scale for each row is a hair better in section 8 is presumably
#   because the largest weight of each row is kept exactly.
# - *Perplexity* of so short a text: read sizes, not digits. [RESULTS](RESULTS.md#what-is-kept) has longer texts.
# - *Inputs* stay as they are here; only weights are cast. Each is rounded by itself; [GPTQ](BIBLIOGRAPHY.md#gptq) lets
#   later ones correct earlier ones, with the [Hessian](GLOSSARY.md#hessian).
# - The file has the format of [compressed-tensors](BIBLIOGRAPHY.md#compressed-tensors).

# %%
course.holds("03", globals())

# %% [markdown]
# ## What you can do now
# 1. *Read a byte, round a number*: sign, exponent field minus bias, leading 1 unless the field is 0; nearest value, and
#    ties to the even code.
# 2. *Choose a scale*: largest survivor over the format's largest number. One for all breaks where rows lie 2^12, some
#    4,000 times, apart in E4M3, at once in INT8, and not in this model.
# 3. *Cast a model without NaN, and measure it*: mask and clamp first; then error, KL divergence, perplexity, bytes.
#
# Next: [04 Joint pipeline](04_joint_pipeline.ipynb) prunes and casts in one pass, and lets each know of the other.
