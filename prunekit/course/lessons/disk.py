"""What a checkpoint holds, by kind: FP8 codes, their scales, the embedding, and all other weights."""

import json
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from ...errors import PrunekitError
from ...model.linear import linear_layers, zeros_in
from ...storage.tensors import stored_tensors

KINDS = ("embedding", "FP8 codes", "FP8 scales", "other weights")


def parts_of_folder(folder: str | Path) -> dict[str, int]:
    """Bytes by kind in the safetensors files of a folder, from the files' headers.

    Args:
        folder: where the files lie.

    Returns:
        Bytes of each of the `KINDS`.

    Raises:
        PrunekitError: there are none.
    """
    found = []
    for path in sorted(Path(folder).glob("*.safetensors")):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        for name, about in header.items():
            begin, end = about["data_offsets"]
            found.append((name, about["dtype"], end - begin))
    if not found:
        raise PrunekitError(f"the folder {folder} holds no safetensors: save the model there first.")
    return _sums(found)


def parts_of_model(model: nn.Module) -> dict[str, int]:
    """Bytes by kind in a checkpoint of a model, without writing one."""
    tensors = stored_tensors(model).items()
    return _sums(
        (name, str(t.dtype).removeprefix("torch.").upper(), t.numel() * t.element_size()) for name, t in tensors
    )


def zeros(model: nn.Module) -> int:
    """How many weights of a model's linear layers are zero, FP8 codes included."""
    return sum(zeros_in(layer.weight) for layer in linear_layers(model).values())


def _sums(tensors: Iterable[tuple[str, str, int]]) -> dict[str, int]:
    sums = dict.fromkeys(KINDS, 0)
    for name, dtype, size in tensors:
        sums[_kind(name, dtype)] += size
    return sums


def _kind(name: str, dtype: str) -> str:
    if dtype.startswith(("F8", "FLOAT8")):
        return "FP8 codes"
    if name.endswith("weight_scale"):
        return "FP8 scales"
    return "embedding" if any(part in name for part in ("embed", "lm_head", "wte", "wpe")) else "other weights"
