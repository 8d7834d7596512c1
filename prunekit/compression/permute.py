"""Reorder a model's channels so that an N:M pattern costs less: the same function, better neighbours.

In which order the neurons of an MLP stand is arbitrary, and so is the order of the values within a head and that of
the residual stream: rows of the weights that write them and columns of those that read them can change places together.
An N:M pattern compares neighbours, though, so that the order decides what is lost. That idea is channel permutation
(Pool and Yu 2021, "Channel Permutations for N:M Sparsity"); exchanging one channel of every group at a time by a
linear assignment is Zhang et al. 2024's (ICLR, "Plug-and-Play", RIA).
"""

from __future__ import annotations

from math import ceil

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ..calibration.calibrate import calibrate
from ..errors import PrunekitError
from ..method.scores import contribution
from ..method.targets import check_width, parse_pattern
from ..model.checks import check_text
from ..model.copies import replace_layers, shallow_copy, with_columns, with_rows
from ..model.distributed.spread import gathered_up
from ..model.fp8_linear import Fp8Linear
from ..model.linear import linear_layers, weight_of
from ..model.modes import device_of, without_dropout
from ..model.structure import find_mlps

_TINY = torch.finfo(torch.float32).tiny  # for a mean of zero
ROUNDS = 6
AT_ONCE = 128  # groups that exchange channels: more take far longer and gain little
ROWS = 4096  # rows that are looked at for one order
TOKENS = 2048  # that say which channels carry energy
ROUNDING = 0.05  # share of the logits' norm by which they may differ afterwards
_READ = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")  # from the residual stream
_WRITE = ("o_proj", "down_proj")  # to it


def channel_order(L: Tensor, n: int, m: int, rounds: int = ROUNDS) -> Tensor:
    """An order of the channels in which an N:M pattern keeps more; never one in which it keeps less.

    Each round takes one channel out of every group and gives them back, within some groups drawn at random, to where
    they are worth most together. A channel is worth to a group what it adds to the N largest scores of each row.

    Args:
        L: scores of the weights that read the channels, ``[rows, channels]``, any float dtype, 0 or more.
        n: weights kept of every
        m: neighbours; the channels are a multiple of it.
        rounds: how often.

    Returns:
        int64 ``[channels]``, a permutation: ``L[:, order]`` is what to prune.

    Raises:
        PrunekitError: not ``1 <= n <= m``, or `m` does not divide the number of channels.
    """
    parse_pattern(f"{n}:{m}")
    check_width(L.shape[1], m, "the table of scores")
    L, order = L.float(), torch.arange(L.shape[1], device=L.device)
    if n == m:  # nothing is pruned
        return order
    groups = order.view(-1, m)
    g = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        groups = groups[torch.randperm(len(groups), generator=g).to(L.device)]
        groups = groups.gather(1, torch.rand(groups.shape, generator=g).argsort(1).to(L.device))
        for some in groups.split(AT_ONCE):  # views: what is assigned stays
            rest = L[:, some[:, 1:].flatten()].view(len(L), -1, m - 1)
            bar = rest.topk(n, -1).values[..., -1].T  # what a channel must exceed to be kept, [groups, rows]
            moved = L[:, some[:, 0]].T
            # The sum over rows of max(moved - bar, 0), for each group and each channel.
            gain = (torch.cdist(bar, moved, p=1.0) + moved.sum(1) - bar.sum(1, keepdim=True)) / 2
            _, place = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
            some[:, 0] = some[torch.as_tensor(place, device=L.device), 0]
    return groups.flatten()


@torch.no_grad()
def permute_channels(model: nn.Module, ids: Tensor, pattern: str) -> nn.Module:
    """The same model with its channels in an order that suits an N:M pattern, for `compress`.

    Reordered are the neurons of each MLP, the values within each head where `v_proj` and `o_proj` are layers of
    their own, and the residual stream where all that reads and writes it is known (LLaMA and its kin).

    The model that is given stays as it is. Weights that do not change are shared with it.

    Args:
        model: a causal language model.
        ids: calibration tokens, int64 ``[windows, context]``, of which the first `TOKENS` are used.
        pattern: ``"N:M"``.

    Returns:
        A new model of the same class. Its logits are the same up to rounding.

    Raises:
        PrunekitError: a bad pattern, text that the model cannot read, nothing that can be reordered, or the logits are
            not the same after all.
    """
    n, m = parse_pattern(pattern)
    check_text(model, ids)
    model = gathered_up(model)
    layers = linear_layers(model)
    for name, module in layers.items():
        if isinstance(module, Fp8Linear):
            raise PrunekitError(f"{name} is FP8 already: permute the dense model instead.")
    energy = calibrate(model, ids[: ceil(TOKENS / ids.shape[1])], layers, stop=False).energy

    rows, columns = orders_within(model, layers, energy, pattern)
    others = _beside(model, layers, m)
    if others:
        readers = [name for name in layers if name.endswith(_READ)]
        most = max(1, ROWS // len(readers))
        L = torch.cat([x / x.mean().clamp_min(_TINY) for x in (_scores(layers[n], energy[n], most) for n in readers)])
        order = channel_order(L, n, m)
        rows |= {name: order for name in layers if name.endswith(_WRITE)}
        columns |= dict.fromkeys(readers, order)
        others = _reordered(others, order)
    if not columns:
        raise PrunekitError("this model has no channels that are known to be free: leave permute out (--no-permute).")
    permuted = replace_layers(model, with_orders(layers, rows, columns) | others)
    _check(model, permuted, ids[:1, :16])
    return permuted


def orders_within(
    part: nn.Module, layers: dict[str, nn.Module], energy: dict[str, Tensor], pattern: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Orders of what lies within a block: the neurons of MLPs, and the values within heads.

    Args:
        part: a model, or one of its decoder blocks.
        layers: its linear layers, by name in it.
        energy: mean square of each feature of their inputs, by the same names.
        pattern: ``"N:M"``.

    Returns:
        By layer the order of its rows, and by layer that of its columns.
    """
    n, m = parse_pattern(pattern)
    rows: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    for mlp in find_mlps(part):
        L = _scores(layers[mlp.after], energy[mlp.after])
        if L.shape[1] % m == 0:
            columns[mlp.after] = channel_order(L, n, m)
            rows |= dict.fromkeys(mlp.before, columns[mlp.after])
    for v, o, width in _heads(part):
        if width % m == 0:
            L = _scores(layers[o], energy[o])
            rows[v], columns[o] = _order_in_heads(L, len(weight_of(layers[v])), width, n, m)
    return rows, columns


def with_orders(
    layers: dict[str, nn.Module], rows: dict[str, Tensor], columns: dict[str, Tensor]
) -> dict[str, nn.Module]:
    """New layers by name for those whose rows or columns get another order."""
    new = {name: layers[name] for name in rows.keys() | columns.keys()}
    for name, order in rows.items():
        new[name] = with_rows(new[name], order)
    for name, order in columns.items():
        new[name] = with_columns(new[name], order)
    return new


def _scores(layer: nn.Module, E: Tensor, most: int = ROWS) -> Tensor:
    """Scores of at most so many rows of a layer's weight."""
    W = weight_of(layer)
    return contribution(W[:: ceil(len(W) / most)], E)


def _heads(model: nn.Module) -> list[tuple[str, str, int]]:
    """Of each attention whose values have a layer of their own: that layer, the one that reads them, a head's width."""
    found = []
    for prefix, module in model.named_modules():
        children, width = dict(module.named_children()), getattr(module, "head_dim", None)
        for o in ("o_proj", "out_proj"):
            if isinstance(width, int) and {"v_proj", o} <= children.keys():
                values, read = len(weight_of(children["v_proj"])), weight_of(children[o]).shape[1]
                gated = any("gate" in name or name == "g_proj" for name in children)
                gated |= "q_proj" in children and len(weight_of(children["q_proj"])) != read
                if values % width == 0 and read % values == 0 and not gated:
                    found.append((f"{prefix}.v_proj", f"{prefix}.{o}", width))
    return found


def _order_in_heads(L: Tensor, values: int, width: int, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Orders of the rows that write the values and of the columns that read them, each value within its head.

    With grouped queries several heads read the same values one after another, and all see them in the same order.
    """
    rows, columns = [], []
    for head, its in enumerate(L.view(len(L), values // width, -1, width).unbind(1)):
        order = channel_order(its.flatten(0, 1), n, m)
        rows.append(head * width + order)
        repeats = its.shape[1]
        columns += [(head * repeats + r) * width + order for r in range(repeats)]
    return torch.cat(rows), torch.cat(columns)


def _beside(model: nn.Module, layers: dict[str, nn.Module], m: int) -> dict[str, nn.Module]:
    """What touches the residual stream beside the layers: embeddings and norms.

    Empty if anything is unknown, or the stream's width is no multiple of `m`.
    """
    get = getattr(model, "get_input_embeddings", None), getattr(model, "get_output_embeddings", None)
    embeddings = [f() for f in get if f]
    if not embeddings or embeddings[0] is None:
        return {}
    size = embeddings[0].weight.shape[1]
    if size % m:
        return {}
    found = {}
    for name, module in model.named_modules():
        parameters = dict(module.named_parameters(recurse=False))
        if name in layers:
            if not name.endswith(_READ + _WRITE):
                return {}
        elif parameters and not name.endswith(("q_norm", "k_norm")):  # these two see queries and keys
            is_embedding = any(module is e for e in embeddings) and parameters.keys() == {"weight"}
            if not is_embedding and any(p.shape != (size,) for p in parameters.values()):
                return {}
            found[name] = module
    return found


def _reordered(modules: dict[str, nn.Module], order: Tensor) -> dict[str, nn.Module]:
    """Copies of embeddings and norms with their last axis in another order; what was tied stays tied."""
    new: dict[str, nn.Module] = {}
    done: dict[int, nn.Parameter] = {}
    for name, module in modules.items():
        new[name] = shallow_copy(module)
        for p in module.parameters():
            done.setdefault(id(p), nn.Parameter(p.detach()[..., order], requires_grad=False))
        new[name]._parameters = {k: p if p is None else done[id(p)] for k, p in module._parameters.items()}
    return new


def _check(model: nn.Module, permuted: nn.Module, ids: Tensor) -> None:
    """Raise `PrunekitError` unless both models say the same about a few tokens."""
    ids = ids.to(device_of(model))
    with without_dropout(model, permuted):
        before, after = (m(ids, use_cache=False).logits.float() for m in (model, permuted))
    if not (after - before).norm() <= ROUNDING * before.norm():
        raise PrunekitError(
            "this model's channels cannot be reordered: something besides its layers depends on their order; leave "
            "permute out (--no-permute)."
        )
