"""What a checkpoint holds, by kind: FP8 codes, their scales, the embedding, and all other weights."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import PrunekitError
from ...model.linear import linear_layers, zeros_in
from ...storage.tensors import stored_tensors
from ...storage.weight_files import weight_files

KINDS = ("embedding", "FP8 codes", "FP8 scales", "other weights")


def parts_of_folder(folder: str | Path) -> dict[str, int]:
    """Bytes by kind in the weights of a model's folder; other files in it do not count.

    Args:
        folder: of the model.

    Returns:
        Bytes of each of the `KINDS`.

    Raises:
        PrunekitError: there are none, or they are damaged.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_files(Path(folder)):
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise PrunekitError(f"cannot read {path} ({error}): save the model again.") from None
    return _sums(tensors)


def parts_of_model(model: nn.Module) -> dict[str, int]:
    """Bytes by kind in a checkpoint of a model, without writing one."""
    return _sums(stored_tensors(model))


def zeros(model: nn.Module) -> int:
    """How many weights of a model's linear layers are zero, FP8 codes included."""
    return sum(zeros_in(layer.weight) for layer in linear_layers(model).values())


def _sums(tensors: dict[str, Tensor]) -> dict[str, int]:
    sums = dict.fromkeys(KINDS, 0)
    for name, tensor in tensors.items():
        sums[_kind(name, tensor)] += tensor.numel() * tensor.element_size()
    return sums


def _kind(name: str, tensor: Tensor) -> str:
    if tensor.element_size() == 1:
        return "FP8 codes"
    if name.endswith("weight_scale"):
        return "FP8 scales"
    return "embedding" if any(part in name for part in ("embed", "lm_head", "wte", "wpe")) else "other weights"
