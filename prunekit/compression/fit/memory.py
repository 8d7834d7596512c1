"""Predicted: the memory and the disk that a compression takes, whole and block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...calibration.calibrate import BATCH_TOKENS
from ...calibration.windows import DEFAULTS
from ...method.compensation import SAMPLES
from ...model.linear import linear_layers, weight_of
from ...model.streamed.skeleton import Skeleton
from ...model.structure import text_config
from ..blockwise import BATCH_TOKENS as BLOCK_TOKENS
from ..blockwise import BLOCKWISE
from ..recipe import Recipe
from ..streamed.trained import STEP_TOKENS

# Bytes for each weight in recovery beside those of the dense model and the new one:
TRAINED = 17  # the weight, its gradient and two moments in float32, and whether it stays
UNUSED = 4  # what malloc holds but cannot give out again, for other sizes; measured with glibc
BASE = 650_000_000  # Python, torch, transformers, the compiled pass and a tokenizer: measured on Linux, CPU


@dataclass(frozen=True)
class Sizes:
    """What of a model decides about memory and time.

    Attributes:
        blocks: how many decoder blocks there are.
        shapes: ``(out, in)`` of the layers in one of them, the largest.
        inputs: how many columns the different inputs of these layers have; those that queries, keys and values share
            count once.
        block: numbers in that block.
        outside: numbers in the largest tensor outside the blocks, mostly an embedding.
        total: numbers in all tensors.
        width: of the hidden states.
    """

    blocks: int
    shapes: list[tuple[int, int]]
    inputs: list[int]
    block: int
    outside: int
    total: int
    width: int

    @classmethod
    def of(cls, skeleton: Skeleton) -> Sizes:
        """Those of a model."""
        counts = [sum(p.numel() for p in block.parameters()) for block in skeleton.blocks]
        largest = counts.index(max(counts))
        layers = linear_layers(skeleton.model)
        mine = {name: module for name, module in layers.items() if name.startswith(skeleton.inside(largest))}
        shapes = [(weight_of(module).shape[0], weight_of(module).shape[1]) for module in mine.values()]
        places = [(name.rpartition(".")[0], name.endswith(_OWN)) for name in mine]
        groups = {(place, columns): columns for place, (_, columns) in zip(places, shapes)}
        state = skeleton.model.state_dict()
        outer = [state[name].numel() for name in skeleton.outer_names()]
        total = sum(p.numel() for p in skeleton.model.parameters())
        width = text_config(getattr(skeleton.model, "config", None)).hidden_size
        return cls(len(counts), shapes, [*groups.values()], max(counts), max(outer), total, width)

    @property
    def weights(self) -> int:
        """Weights of the layers in one block."""
        return sum(rows * columns for rows, columns in self.shapes)


_OWN = ("o_proj", "down_proj", "out_proj", "c_proj", "dense")  # layers that share their input with no other


def more_memory(
    shapes: Sequence[Sequence[int]], itemsize: int, recipe: Recipe, recovers: bool, copied: bool = False
) -> int:
    """Predicted: what compressing a model takes beside the model itself, in bytes.

    New weights take one byte with FP8, else what the old ones take; channels are reordered in one more copy; ADMM holds
    four float32 matrices ``[in, in]`` and seven ``[out, in]`` of one layer.

    Args:
        shapes: ``(out, in)`` of each layer that is to be compressed.
        itemsize: bytes of each weight in the dense model.
        recipe: what to do.
        recovers: whether `recover` trains the result, which takes `TRAINED` and `UNUSED` bytes more for each weight.
        copied: whether it holds a copy of the dense model in bfloat16, too.

    Returns:
        Bytes.
    """
    weights, new = sum(rows * columns for rows, columns in shapes), 1 if recipe.fp8 else itemsize
    taken = weights * (new + itemsize * recipe.permute)
    if recipe.method == "admm":
        taken += max(4 * (4 * columns + 7 * rows) * columns for rows, columns in shapes)
    return max(taken, weights * (new + TRAINED + UNUSED + 2 * copied) if recovers else 0)


def whole_memory(
    sizes: Sizes, itemsize: int, recipe: Recipe, recovers: bool, copied: bool = False, base: int = BASE
) -> int:
    """Predicted: the peak of memory when the model is compressed as a whole, in bytes.

    Args:
        sizes: of the model.
        itemsize: bytes of each number in the dtype that it runs in.
        recipe: what to do.
        recovers: whether recovery follows.
        copied: whether it holds a copy of the dense model in bfloat16, too.
        base: what is taken before there is any model.
    """
    return base + sizes.total * itemsize + more_memory(sizes.shapes * sizes.blocks, itemsize, recipe, recovers, copied)


def streamed_memory(
    sizes: Sizes, itemsize: int, recipe: Recipe, bfloat16: bool, base: int = BASE, trains: bool = False
) -> int:
    """Predicted: the same block by block, the same for any number of blocks.

    Args:
        sizes: of the model.
        itemsize: bytes of each number in the dtype that it runs in.
        recipe: what to do.
        bfloat16: whether this CPU multiplies in bfloat16 (`modes.bfloat16_pays`).
        base: what is taken before there is any model.
        trains: whether blocks are trained, too (`streamed.trained`).
    """
    held = sizes.block * itemsize + sizes.weights * (1 if recipe.fp8 else itemsize)  # the old block and the new
    writing = 2 * sizes.weights * (not recipe.fp8)  # a narrow copy
    work = max(writing, _layer_work(sizes, recipe, bfloat16), _training(sizes) * trains)
    return base + max(held + work, (itemsize + 2) * sizes.outside)


def _training(sizes: Sizes) -> int:
    """What training a block takes, beside the old one and the new: the weights that move, and those in a step."""
    return (TRAINED + 2) * sizes.weights + STEP_TOKENS * 4 * 4 * sum(sizes.inputs)


def _layer_work(sizes: Sizes, recipe: Recipe, bfloat16: bool) -> int:
    """What reading the text and compressing the layers takes, beside the old block and the new."""
    widest = max(rows * columns for rows, columns in sizes.shapes)
    if not (recipe.method in BLOCKWISE and recipe.prunes):
        return max(BATCH_TOKENS * 4 * sum(sizes.inputs), (2 + recipe.compensate) * 4 * widest)
    if recipe.method == "wanda":
        return 3 * 4 * widest
    grams = [4 * columns**2 for _, columns in sizes.shapes]  # each goes when its layer is solved
    layers = (4 * (4 * columns + 7 * rows) * columns for rows, columns in sizes.shapes)
    solving = max(layer + sum(grams[index + 1 :]) for index, layer in enumerate(layers))
    copy = 2 * sizes.block * (recipe.method == "admm" and bfloat16)
    tokens = BLOCK_TOKENS * 4 * sum(sizes.inputs)  # activations of one batch
    return max(copy + tokens + sum(grams), solving)


def disk(sizes: Sizes, recipe: Recipe, streamed: bool, steps: int = 0) -> int:
    """Predicted: what is written, in bytes: the model, and block by block also hidden states and what was seen.

    Args:
        sizes: of the model.
        recipe: what to do.
        streamed: whether block by block.
        steps: of training for each block, which has two files more of hidden states, and both models.
    """
    weights = sizes.blocks * sizes.weights
    written = weights * (1 if recipe.fp8 else 2) + 2 * (sizes.total - weights)
    if streamed and steps:
        written = 2 * written + 4 * 4 * steps * STEP_TOKENS * sizes.width
    if not (streamed and recipe.needs_inputs):
        return written
    tokens, _ = DEFAULTS[recipe.method]
    seen = 0
    if recipe.method == "ewma":
        rows = tokens // BATCH_TOKENS + 3 * SAMPLES * recipe.compensate
        seen = 4 * sizes.blocks * rows * sum(sizes.inputs)
    return written + 2 * 4 * tokens * sizes.width + seen
