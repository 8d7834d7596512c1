"""What a recovery needs to go on after an interruption, in one safetensors file."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import PrunekitError
from ..system.files import temporary_file
from ..system.parallel import first, meet
from .together import part_of, whole

_MOMENTS = ("exp_avg", "exp_avg_sq")


def checksum(tensors: Iterable[Tensor]) -> int:
    """Of all numbers in their order, whatever their dtype; CRC-32."""
    total = 0
    for tensor in tensors:
        total = crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data, total)
    return total


def save_state(
    path: Path | str,
    plan: dict,
    moving: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Write weights, the optimizer's moments and the position under a temporary name, then rename.

    Of several processes, which all call this, the first writes.

    Args:
        path: the file.
        plan: what must be the same when the recovery goes on.
        moving: the trained parameters by name.
        optimizer: AdamW over them.
        step: steps done.
        seconds: time spent.

    Raises:
        PrunekitError: the file cannot be written.
    """
    tensors = {}
    for name, p in moving.items():
        moments = {f"{name}:{key}": optimizer.state[p][key] for key in _MOMENTS if key in optimizer.state[p]}
        for key, tensor in ({name: p.detach()} | moments).items():
            full = whole(tensor)
            if first():
                tensors[key] = full if full is tensor else full.cpu()
    position = {"plan": json.dumps(plan), "step": str(step), "seconds": repr(seconds)}
    try:
        if first():
            with temporary_file(Path(path)) as temporary:
                save_file(tensors, temporary, metadata=position)
    finally:
        meet()  # what is written may be read now


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended, so that what is saved then fits together."""
    waiting, usual = [], signal.getsignal(signal.SIGINT)
    if not callable(usual) or threading.current_thread() is not threading.main_thread():  # nothing to hold back
        yield
        return
    signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if waiting:
            usual(*waiting[0])


def check_state(path: Path | str, part: dict) -> dict:
    """See early whether a recovery could go on.

    Args:
        path: the file, which need not exist.
        part: what is known already of the plan that `load_state` will be given.

    Returns:
        The plan in the file, empty if there is none.

    Raises:
        PrunekitError: the file is damaged or belongs to another recovery.
    """
    if not Path(path).exists():
        return {}
    with _opened(path) as file:
        plan = _plan(file)
        if not isinstance(plan, dict) or any(plan.get(key) != value for key, value in part.items()):
            raise _another(path)
        return plan


@torch.no_grad()
def load_state(
    path: Path | str, plan: dict, moving: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Put what `save_state` wrote into the parameters and the optimizer, both changed in place.

    Returns:
        (steps done, seconds spent): zeros if there is no such file.

    Raises:
        PrunekitError: the file is damaged or belongs to another recovery.
    """
    path = Path(path)
    if not path.exists():
        return 0, 0.0
    with _opened(path) as file:
        known = set(file.keys())
        earlier = _plan(file)
        if earlier != plan and isinstance(earlier, dict) and earlier | {"mask": plan["mask"]} == plan:
            raise PrunekitError(
                f"{path} was begun with another mask: give the same model and options, on the same machine with as "
                "many threads, or remove it to begin anew."
            )
        if earlier != plan or not moving.keys() <= known:
            raise _another(path)
        position = file.metadata()
        step, seconds = int(position["step"]), float(position["seconds"])
        if step < 0 or not 0 <= seconds < inf:
            raise ValueError(f"it is at step {step} after {seconds} seconds")
        _check_shapes(file, moving)
        for name, p in moving.items():
            p.copy_(part_of(file.get_tensor(name), p))
            if f"{name}:{_MOMENTS[0]}" in known:  # not so where text does not reach, as in a vision tower
                moments = {key: file.get_tensor(f"{name}:{key}").to(p.device, copy=True) for key in _MOMENTS}
                parts = {key: part_of(moment, p) for key, moment in moments.items()}
                optimizer.state[p] = {"step": torch.tensor(float(step), device=p.device), **parts}
        return step, seconds


def _check_shapes(file: Any, moving: dict[str, Tensor]) -> None:
    """Raise `ValueError` where a weight or its moments have other shapes than the parameter, which might still fit."""
    for name in file.keys():  # noqa: SIM118
        shape, owner = file.get_slice(name).get_shape(), name.partition(":")[0]
        if owner in moving and shape != [*moving[owner].shape]:
            raise ValueError(f"{name} has the shape {shape}, and its parameter {[*moving[owner].shape]}")


@contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except PrunekitError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise PrunekitError(f"cannot go on from {path}: {error}; remove it to begin anew.") from None


def _plan(file: Any) -> object:
    return json.loads((file.metadata() or {}).get("plan", "null"))


def _another(path: Path | str) -> PrunekitError:
    return PrunekitError(
        f"{path} holds the state of another recovery: remove it to begin anew, or give the same options."
    )
