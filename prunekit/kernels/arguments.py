"""What the fused passes check before they trust the sizes of their arguments, the same on every device."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import PrunekitError
from ..method.fp8 import Format


def check_size(
    tensor: Tensor, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None, contiguous: bool = False
) -> None:
    """Refuse what would make a kernel read or write beyond an array.

    Raises:
        PrunekitError: another shape or dtype, or not contiguous where that is asked.
    """
    off = tuple(tensor.shape) != tuple(shape) or (dtype is not None and tensor.dtype != dtype)
    if off or (contiguous and not tensor.is_contiguous()):
        raise PrunekitError(
            f"{name} is {tensor.dtype} {list(tensor.shape)}: expected {'contiguous ' * contiguous}"
            f"{dtype or 'float'} {list(shape)}."
        )


def results(
    W: Tensor, fmt: Format, out: tuple[Tensor, Tensor, Tensor] | None, contiguous: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask, codes and row scales to write into: those that are given, checked, or new ones.

    Raises:
        PrunekitError: see `check_size`.
    """
    if out is None:
        return (
            torch.empty(W.shape, dtype=torch.bool, device=W.device),
            torch.empty(W.shape, dtype=fmt.dtype, device=W.device),
            torch.empty(W.shape[0], 1, device=W.device),
        )
    check_size(out[0], "out[0]", W.shape, torch.bool, contiguous)
    check_size(out[1], "out[1]", W.shape, fmt.dtype, contiguous)
    check_size(out[2], "out[2]", (W.shape[0], 1), torch.float32, contiguous)
    return out
