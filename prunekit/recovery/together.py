"""Recovery in several processes: each has a share of a step's windows, and all move their weights alike.

Data-parallel by DistributedDataParallel; or sharded by FSDP2, where each process holds a part of every trained weight
(neither on GPUs tested yet).
"""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..model.structure import body_of, decoder_blocks
from ..system.parallel import gathered, world


def averaging(step: nn.Module) -> nn.Module:
    """A module that is called like the given one, and whose gradients are averaged over the processes.

    Args:
        step: what it gives is a loss.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of another name for the first option, which older torch lacks
        # Text may not reach all that is trained: an expert, or a vision tower.
        return nn.parallel.DistributedDataParallel(step, broadcast_buffers=False, find_unused_parameters=True)


def sharded(model: nn.Module, layers: Iterable[str], device: torch.device) -> nn.Module:
    """A copy of a model whose blocks and norms are spread over all processes; each is whole only while it is used.

    Args:
        model: a causal language model. Of a student what needs gradients is spread, of a teacher all in the blocks.
        layers: names of layers that lie in the blocks.
        device: where the parts go. What lies outside the blocks, such as the embedding, goes there as a whole.

    Raises:
        PrunekitError: the layers are not in one list of blocks.
    """
    from torch.distributed.fsdp import fully_shard

    trains = any(p.requires_grad for p in model.parameters())
    name, blocks = decoder_blocks(model, layers, "leave sharding out")
    inside = {id(p) for p in blocks.parameters()}
    memo: dict[int, Any] = {}
    for p in model.parameters():
        place = p.device if id(p) in inside and (p.requires_grad or not trains) else device
        memo[id(p)] = nn.Parameter(p.detach().to(place), requires_grad=p.requires_grad)
    model = deepcopy(model, memo)
    copies = model.get_submodule(name)
    parted = {id(p) for p in (model if trains else copies).parameters() if p.requires_grad or not trains}
    ignored = {p for p in model.parameters() if id(p) not in parted}
    for block in copies.children():
        fully_shard(block, ignored_params=ignored)
    if trains:
        fully_shard(body_of(model), ignored_params=ignored)
    return model.to(device)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be spread over the processes, which all ask for it."""
    parted: Any = tensor
    return parted.full_tensor() if _is_parted(tensor) else tensor


def local_of(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process has, in its own memory."""
    parted: Any = tensor
    return parted.to_local() if _is_parted(tensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """What of a whole tensor this process has, spread as another is; of one that is not spread, the tensor."""
    if not _is_parted(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    parted: Any = like
    return distribute_tensor(tensor.to(like.device), parted.device_mesh, parted.placements)


def _is_parted(tensor: Tensor) -> bool:
    if world() == 1:  # nor does anything wait for the import, which takes more than half a second
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


@contextmanager
def in_step() -> Iterator[Callable[[float], float]]:
    """Let Ctrl-C stop all processes after the same step.

    Yields:
        A function from the loss of this process to the mean of all; `KeyboardInterrupt` where one was stopped.
    """
    usual, asked = signal.getsignal(signal.SIGINT), list[tuple]()
    holds = world() > 1 and callable(usual) and threading.current_thread() is threading.main_thread()

    def agree(value: float) -> float:
        values, stops = zip(*gathered((value, bool(asked))))
        if any(stops):
            raise KeyboardInterrupt
        return sum(values) / len(values)

    if holds:
        signal.signal(signal.SIGINT, lambda *arguments: asked.append(arguments))
    try:
        yield agree
    finally:
        if holds:
            signal.signal(signal.SIGINT, usual)
