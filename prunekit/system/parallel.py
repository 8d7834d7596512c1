"""Several processes at one piece of work, as torchrun starts them; with one process nothing here does anything.

All processes call the same functions of this module in the same order. They talk by gloo on CPUs and by nccl on GPUs,
one for each process (not tested there yet).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
V = TypeVar("V")
PATIENCE = timedelta(minutes=30)  # for the others at one point: the first may be saving a large model
LOST = "another of the processes ended, or waited for too long: see what it said; start all of them again."
_ENDED = re.compile("gloo|nccl|connection (closed|reset|refused)|broken pipe|timed out", re.IGNORECASE)


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0 on."""
    return dist.get_rank() if world() > 1 else 0


def first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def own_device() -> torch.device:
    """Where this process works: the GPU that is its own, or the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def mine(items: Sequence[T]) -> Sequence[T]:
    """What this process gets of some items that are dealt out in turn."""
    return items[rank() :: world()]


def gathered(value: T) -> list[T]:
    """What each process gives, in the order of their ranks. Tensors in it belong on the CPU."""
    if world() == 1:
        return [value]
    found: list = [None] * world()
    dist.all_gather_object(found, value)
    return found


def in_turn(items: Sequence[T], work: Callable[[int, T], V]) -> Iterator[V]:
    """What some work gives for each item, by its number, in their order; the processes take the items in turn.

    Where the work of one round is not wanted to its end, what the others did of it was in vain.

    Args:
        items: what to work on.
        work: is called with an item's number and the item. Tensors that it gives belong on the CPU.
    """
    for begin in range(0, len(items), world()):
        here = begin + rank()
        done = work(here, items[here]) if here < len(items) else None
        yield from cast(list[V], gathered(done)[: len(items) - begin])


def from_first(value: T) -> T:
    """What the first process gives."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def summed(sums: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The sums over processes of tensors by name; what a process lacks counts as zero.

    Args:
        sums: by name; of a name all that have it have tensors of one shape and dtype.
        device: where they are.
    """
    if world() == 1:
        return sums
    kinds: dict[str, tuple[torch.Size, torch.dtype]] = {}
    for its in gathered({name: (x.shape, x.dtype) for name, x in sums.items()}):
        kinds = its | kinds
    total = {}
    for name, (shape, dtype) in kinds.items():
        x = sums[name].clone() if name in sums else torch.zeros(shape, dtype=dtype, device=device)
        dist.all_reduce(x)
        total[name] = x
    return total


def handed_out(owner: int, tensor: Tensor | None, shape: Sequence[int], dtype: torch.dtype, device: Any) -> Tensor:
    """A tensor of one process, for all.

    Args:
        owner: rank of the process that has it.
        tensor: there the tensor; elsewhere it is not looked at.
        shape: its shape.
        dtype: its dtype; any, since bytes are sent.
        device: where it is wanted.
    """
    if rank() == owner:
        assert tensor is not None
        x = tensor.detach().contiguous()
    else:
        x = torch.empty(shape, dtype=dtype, device=device)
    dist.broadcast(x.flatten().view(torch.uint8), src=owner)
    return x


def meet() -> None:
    """Wait for all others."""
    if world() > 1:
        gathered(None)


def lost(error: BaseException) -> bool:
    """Whether an error is what is left of another process."""
    return world() > 1 and isinstance(error, RuntimeError) and bool(_ENDED.search(f"{type(error)} {error}"))


@contextmanager
def processes() -> Iterator[Callable[[], bool]]:
    """Join the processes that torchrun started, and leave them; all but the first are silent meanwhile.

    Yields:
        A function that says whether this process is the first to call it: the one that tells why the work ended. Its
        standard error is open then.
    """
    store, number, count = next(dist.rendezvous("env://", timeout=PATIENCE))
    loud = sys.stderr

    def tells() -> bool:
        try:
            alone = store.add("prunekit told", 1) == 1
        except RuntimeError:  # what kept the store is gone
            alone = number == 0
        if alone:
            sys.stderr = loud
        return alone

    with ExitStack() as quiet:
        if number > 0:
            nowhere = quiet.enter_context(open(os.devnull, "w"))
            quiet.enter_context(redirect_stdout(nowhere))
            quiet.enter_context(redirect_stderr(nowhere))
        _take_gpu(int(os.environ["LOCAL_RANK"]), tells)
        own = dist.PrefixStore("prunekit", store)
        dist.init_process_group(store=own, rank=number, world_size=count, timeout=PATIENCE)
        try:
            yield tells
        except Exception:
            if not tells():  # it follows from what another has told
                sys.exit(2)
            raise
    dist.destroy_process_group()


def _take_gpu(number: int, tells: Callable[[], bool]) -> None:
    """Have the GPU of that number for this process alone, where there are GPUs."""
    gpus = torch.cuda.device_count()
    if 0 < gpus <= number:
        if tells():
            print(
                f"prunekit: torchrun started more processes than there are GPUs: give --nproc-per-node {gpus}, or hide "
                "the GPUs (CUDA_VISIBLE_DEVICES=) to work on the CPU.",
                file=sys.stderr,
            )
        sys.exit(2)
    if gpus:
        torch.cuda.set_device(number)
