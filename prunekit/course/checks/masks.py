"""What the exercises of notebook 02 ask for: an N:M mask, packing 2:4, bytes of an N:M layer, removing neurons."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...method.masks import nm_mask
from ..printing import numbers
from .exercise import Exercise, exactly, whole


def _pick(rng: torch.Generator, choices: tuple):
    return choices[whole(rng, 0, len(choices) - 1)]


def _integers(rng: torch.Generator, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=rng).float()


def _parts(out, count: int) -> list[Tensor] | None:
    """`out` as `count` tensors of numbers, or None."""
    if isinstance(out, dict):
        out = list(out.values())
    if not isinstance(out, (tuple, list)) or len(out) != count:
        return None
    parts = [numbers(part) for part in out]
    return None if any(part is None for part in parts) else parts


# 2.1 -----------------------------------------------------------------------------------------------------------------


def _mask_inputs(size: int, rng: torch.Generator) -> tuple:
    m = _pick(rng, (1, 2, 3, 4, 4, 5, 8)) if size > 2 else _pick(rng, (2, 3, 4))
    n = whole(rng, 1, m)
    rows, groups = whole(rng, 1, size // 2 + 1), whole(rng, 1, size)
    L = _integers(rng, 0, _pick(rng, (2, 9, 30)), rows, groups * m)
    kind = whole(rng, 0, 4)
    if kind == 0:
        L = L - _pick(rng, (1, 4, 40))  # a score may be negative, all of a group too
    if kind == 1:
        L = torch.randn(L.shape, generator=rng) / 8
    if size >= 6 and whole(rng, 0, 1) == 0:
        L = L * 10.0 ** _integers(rng, -30, 30, rows, 1)  # scores of real layers may be tiny or huge
    return L, n, m


def _masks_of_layers() -> list[tuple]:
    """Neighbours in float32, tiny ones among ordinary ones, and a layer that is not small."""
    rng = torch.Generator().manual_seed(0)
    near = (1 + torch.randperm(16, generator=rng).float() * 2**-23).view(2, 8)
    layer = torch.randn(6, 96, generator=rng) ** 3 * 1e-5
    mixed = torch.tensor([[1e-12, 0.0, -1e-12, 0.0, 1e-30, 3e-30, 2e-30, 1e-3]])
    return [(mixed, 2, 4), (-near[:1, :4] / 1e6, 2, 4), (near, 2, 4), (layer, 2, 4), (layer, 3, 16), (layer, 1, 32)]


def _mask_verify(args: tuple, out) -> str | None:
    L, n, m = args
    mask = numbers(out)
    if mask is None or tuple(mask.shape) != tuple(L.shape):
        return f"the mask should have the shape of L, {tuple(L.shape)}; undo the grouping with flatten or view."
    if not ((mask == 0) | (mask == 1)).all():
        return "a mask holds only True and False (or 1 and 0)."
    groups, scores = mask.bool().unflatten(1, (-1, m)), L.unflatten(1, (-1, m))
    counts = groups.sum(-1)
    if not (counts == n).all():
        row, group = (counts != n).nonzero()[0].tolist()
        return (
            f"each group of {m} neighbours in a row should have exactly {n} True; group {group} of row {row} has "
            f"{counts[row, group]}."
        )
    kept_least = torch.where(groups, scores, math.inf).amin(-1)
    pruned_most = torch.where(groups, -math.inf, scores).amax(-1)
    if (kept_least < pruned_most).any():
        row, group = (kept_least < pruned_most).nonzero()[0].tolist()
        return (
            f"group {group} of row {row} keeps {kept_least[row, group]:.9g} and prunes {pruned_most[row, group]:.9g}, "
            "which is higher. A group is M neighbours along a row."
        )
    return None


# 2.2 -----------------------------------------------------------------------------------------------------------------


def _pack_inputs(size: int, rng: torch.Generator) -> tuple:
    rows, groups = whole(rng, 1, size), whole(rng, 1, size)
    W = _integers(rng, 1, 9, rows, 4 * groups) * (2 * _integers(rng, 0, 1, rows, 4 * groups) - 1)
    if size >= 3 and whole(rng, 0, 1):
        W = torch.randn(W.shape, generator=rng) * 10.0 ** _integers(rng, -6, 2, *W.shape)
    W = W * nm_mask(torch.rand(W.shape, generator=rng), 2, 4)
    if size >= 2:  # some groups have more zeros than they must
        W = W * (torch.rand(W.shape, generator=rng) < 0.7)
    return (W + 0.0,)


def _packed() -> list[tuple]:
    """A group with one weight at each place, an empty one, tiny and huge weights, and a layer."""
    rng = torch.Generator().manual_seed(0)
    single = [(torch.eye(4)[[place]] * sign,) for place in range(4) for sign in (2.5, -2.5)]
    layer = torch.randn(5, 64, generator=rng) / 50
    odd = torch.tensor([[1e-30, 0.0, 0.0, -1e30], [0.0, -1e-30, 3e-31, 0.0]])
    return [*single, (torch.zeros(1, 4),), (odd,), (layer * nm_mask(layer.abs(), 2, 4),)]


def pack(W: Tensor) -> tuple[Tensor, Tensor]:
    """Two values of each group of four, and their places."""
    keep = nm_mask(W.abs(), 2, 4)
    places = keep.unflatten(1, (-1, 4)).nonzero()[:, 2].view(len(W), -1)
    return W[keep].view(len(W), -1), places


def _pack_verify(args: tuple, out) -> str | None:
    (W,) = args
    parts = _parts(out, 2)
    shape = (W.shape[0], W.shape[1] // 2)
    if parts is None or any(tuple(part.shape) != shape for part in parts):
        return f"return (values, places), both of shape [out, in / 2], here {shape}: two of every four, zeros included."
    values, places = parts
    if not ((places >= 0) & (places <= 3) & (places == places.round())).all():
        return "a place is counted within its group of four, from 0 to 3, so that two bits hold it."
    pairs = places.long().unflatten(1, (-1, 2))
    if (pairs[..., 0] == pairs[..., 1]).any():
        return "the two places of a group must differ, also where fewer than two of its weights are not zero."
    if (pairs[..., 0] > pairs[..., 1]).any():
        return "go through each group from left to right: its first place is the smaller one."
    back = torch.zeros(W.shape[0], W.shape[1] // 4, 4, dtype=values.dtype)
    back = back.scatter_(2, pairs, values.unflatten(1, (-1, 2))).flatten(1)
    if not torch.equal(back, W.to(back.dtype)):
        row, column = (back != W.to(back.dtype)).nonzero()[0].tolist()
        return f"unpacked again, [{row}, {column}] is {back[row, column]:.9g}, but {W[row, column]:.9g} in W."
    return None


# 2.4 -----------------------------------------------------------------------------------------------------------------


def _neuron_inputs(size: int, rng: torch.Generator) -> tuple:
    width, neurons, outputs = whole(rng, 1, size + 1), whole(rng, 2, size + 2), whole(rng, 1, size + 1)
    W1, b1 = _integers(rng, -9, 9, neurons, width), _integers(rng, -9, 9, neurons)
    W2 = _integers(rng, -9, 9, outputs, neurons)
    kind = whole(rng, 0, 3) if size > 1 else 0
    if kind == 1:
        W1, b1, W2 = (torch.randn(t.shape, generator=rng) / 50 for t in (W1, b1, W2))
    if kind == 2:
        b1 = b1 * 0  # as in a layer without bias
    if kind == 3:
        W1[-1], b1[-1] = W1[0], b1[0]  # two neurons that see the same
    return W1, b1, W2, _pick(rng, (0, neurons - 1, whole(rng, 0, neurons - 1)))


def remove(W1: Tensor, b1: Tensor, W2: Tensor, j: int) -> tuple[Tensor, Tensor, Tensor]:
    """The MLP without neuron j."""
    keep = torch.arange(len(b1)) != j
    return W1[keep], b1[keep], W2[:, keep]


def _neuron_verify(args: tuple, out) -> str | None:
    W1, b1, W2, j = args
    parts = _parts(out, 3)
    if parts is None:
        return "return three tensors: W1, b1 and W2 without the neuron."
    right = [part.double() for part in remove(*args)]
    for name, part, want, old in zip(("W1", "b1", "W2"), parts, right, (W1, b1, W2)):
        if tuple(part.shape) == tuple(want.shape):
            continue
        if tuple(part.shape) == tuple(old.shape):
            return f"{name} is as large as before: cut out what belongs to the neuron there as well."
        return (
            f"{name} should have shape {tuple(want.shape)}, not {tuple(part.shape)}: a neuron is a row of W1, an entry "
            "of b1 and a column of W2."
        )
    wrong = [name for name, part, want in zip(("W1", "b1", "W2"), parts, right) if not torch.equal(part, want)]
    if not wrong:
        return None
    return (
        f"in {' and '.join(wrong)} not exactly what belongs to neuron {j}, counted from 0, is gone: all others stay as "
        "they are, in their order."
    )


# 2.3 -----------------------------------------------------------------------------------------------------------------


def _bytes_inputs(size: int, rng: torch.Generator) -> tuple:
    m = _pick(rng, (2, 4)) if size <= 2 else _pick(rng, (2, 3, 4, 5, 8, 16, 32))
    rows, columns = whole(rng, 1, 2 * size), m * whole(rng, 1, size)
    if size >= 6:
        rows, columns = rows * 64 + 1, columns * 32 + m
    return rows, columns, whole(rng, 1, m), m, _pick(rng, (1, 2, 2, 4))


def _layers() -> list[tuple]:
    """Real layers, and small ones whose places do not fill their bytes."""
    return [(4096, 14336, 2, 4, 2), (4095, 14340, 3, 5, 1), (3, 4, 1, 4, 2), (3, 5, 1, 5, 1), (5, 6, 2, 6, 1)]


def nm_bytes(rows: int, columns: int, n: int, m: int, width: int) -> int:
    """Bytes of the kept values and of their places."""
    kept = rows * columns * n // m
    return kept * width + math.ceil(kept * math.ceil(math.log2(m)) / 8)


def _bytes_verify(args: tuple, out) -> str | None:
    rows, columns, n, m, width = args
    number = numbers(out)
    if number is None or number.numel() != 1:
        return "return one number, the bytes of the whole weight."
    if exactly(number.item(), nm_bytes(*args)):
        return None
    kept, bits = rows * columns * n // m, math.ceil(math.log2(m))
    return (
        f"{kept} values of {width} byte(s) are kept, each with a place from 0 to {m - 1}, which {bits} bits hold; all "
        f"places together need {kept * bits} bits, in whole bytes {math.ceil(kept * bits / 8)}."
    )


# 2.5 -----------------------------------------------------------------------------------------------------------------


def _gated_inputs(size: int, rng: torch.Generator) -> tuple:
    neurons, width, outputs = whole(rng, 1, size + 2), whole(rng, 1, size + 1), whole(rng, 1, size + 1)
    gate, up = (_integers(rng, -9, 9, neurons, width) / 4 for _ in range(2))
    down, x = _integers(rng, -9, 9, outputs, neurons) / 4, _integers(rng, -9, 9, whole(rng, 1, size), width) / 4
    keep = torch.rand(neurons, generator=rng) < 0.6
    keep[whole(rng, 0, neurons - 1)] = True
    return gate, up, down, keep, x


def _hidden(gate: Tensor, up: Tensor, x: Tensor) -> Tensor:
    return torch.nn.functional.silu(x @ gate.T) * (x @ up.T)


def cut_gated(gate: Tensor, up: Tensor, down: Tensor, keep: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """The MLP of the neurons that stay, and its largest difference from the one whose other columns are zero."""
    small = gate[keep], up[keep], down[:, keep]
    outputs = _hidden(gate, up, x) @ (down * keep).T, _hidden(*small[:2], x) @ small[2].T
    return *small, (outputs[0] - outputs[1]).abs().max().item()


def _gated_verify(args: tuple, out) -> str | None:
    gate, up, down, keep, x = args
    parts = _parts(out, 4)
    if parts is None:
        return "return four things: gate, up and down without the neurons, and the largest difference."
    right = (gate[keep], up[keep], down[:, keep])
    for name, part, want in zip(("gate", "up", "down"), parts, right):
        if tuple(part.shape) != tuple(want.shape):
            return (
                f"{name} should have shape {tuple(want.shape)}, not {tuple(part.shape)}: rows of gate and up go, and "
                "columns of down."
            )
        if not torch.equal(part, want.double()):
            return f"{name} has the right shape, but other numbers: keep is True where a neuron stays, and order stays."
    far = (_hidden(gate, up, x) @ down.T).abs().max().item()
    if parts[3].numel() != 1 or not abs(float(parts[3])) <= 1e-3 * (1 + far):
        return (
            "the difference should be one number near 0. Compare with the large MLP whose other columns of down are 0."
        )
    return None


# 2.8 -----------------------------------------------------------------------------------------------------------------


def _smaller_inputs(size: int, rng: torch.Generator) -> tuple:
    multiple, width = _pick(rng, (1, 2, 3, 4)), whole(rng, 1, size + 1)
    neurons = multiple * whole(rng, 2, size + 2)
    gate, up = (_integers(rng, -9, 9, neurons, width) / 4 for _ in range(2))
    down = _integers(rng, -9, 9, whole(rng, 1, size + 1), neurons)
    if size > 2:  # columns of different sizes; and a neuron that nobody reads
        down = down * 10.0 ** _integers(rng, -2, 2, neurons)
        down[:, whole(rng, 0, neurons - 1)] = 0
    x = _integers(rng, -9, 9, whole(rng, 1, size + 1), width) / 4
    return gate, up, down, x, _pick(rng, (0.0, 0.25, 0.5, 0.625, 0.875)), multiple


def _neuron_loss(gate: Tensor, up: Tensor, down: Tensor, x: Tensor) -> Tensor:
    return _hidden(gate, up, x).square().mean(0) * down.square().sum(0)


def smaller_mlp(gate: Tensor, up: Tensor, down: Tensor, x: Tensor, share: float, multiple: int) -> tuple:
    """The gated MLP of the neurons whose loss would be largest."""
    count = max(int(len(gate) * (1 - share)) // multiple, 1) * multiple
    keep = _neuron_loss(gate, up, down, x).topk(count).indices.sort().values
    return gate[keep], up[keep], down[:, keep]


def _smaller_verify(args: tuple, out) -> str | None:
    gate, up, down, _, share, multiple = args
    parts, count = _parts(out, 3), len(smaller_mlp(*args)[0])
    if parts is None:
        return "return three tensors: gate, up and down of the neurons that stay."
    shapes = [(count, gate.shape[1]), (count, up.shape[1]), (len(down), count)]
    if [tuple(part.shape) for part in parts] != shapes:
        return (
            f"the three should have shapes {shapes}: of {len(gate)} neurons at least {share:g} goes, and what stays is "
            f"rounded down to a multiple of {multiple}, but is never less than {multiple}."
        )
    neurons, places = torch.cat([gate, up, down.T], 1).double(), iter(range(len(gate)))
    found = torch.cat([parts[0], parts[1], parts[2].T], 1)
    kept = [next((j for j in places if torch.equal(neurons[j], row)), None) for row in found]
    if None in kept:
        return (
            "row i of gate and of up and column i of down belong to one neuron, and those that stay keep their order."
        )
    scores, removed = _neuron_loss(*(part.double() for part in args[:4])), torch.ones(len(gate), dtype=torch.bool)
    removed[kept] = False
    if removed.any() and scores[removed].max() > scores[kept].min() * (1 + 1e-4):
        return (
            "a neuron went that loses more than one that stayed. Its score: the mean square of silu(gate) * up over "
            "the tokens, times the sum of squares of its column of down."
        )
    return None


EXERCISES: dict[str, Exercise] = {
    "2.1": Exercise(_mask_inputs, _mask_verify, ("L", "n", "m"), nm_mask, _masks_of_layers),
    "2.2": Exercise(_pack_inputs, _pack_verify, ("W",), pack, _packed),
    "2.4": Exercise(_neuron_inputs, _neuron_verify, ("W1", "b1", "W2", "j"), remove),
    "2.3": Exercise(_bytes_inputs, _bytes_verify, ("rows", "columns", "n", "m", "width"), nm_bytes, _layers),
    "2.5": Exercise(
        inputs=_gated_inputs,
        verify=_gated_verify,
        names=("gate", "up", "down", "keep", "x"),
        reference=cut_gated,
    ),
    "2.8": Exercise(
        inputs=_smaller_inputs,
        verify=_smaller_verify,
        names=("gate", "up", "down", "x", "share", "multiple"),
        reference=smaller_mlp,
    ),
}
