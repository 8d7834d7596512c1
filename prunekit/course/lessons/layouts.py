"""How a pruned weight can be stored: zeros in their places, compressed rows, a bitmap, packed 2:4, fewer columns.

Each function turns a weight ``[out, in]`` that holds zeros into the tensors that a file would have to hold.
"""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from ...errors import PrunekitError
from ...method.masks import nm_mask
from ...storage.tensors import stored_tensors


def pack24(W: Tensor) -> dict[str, Tensor]:
    """A 2:4 weight as its kept values and their places, 2 bits each (the idea of arXiv 2104.08378).

    Args:
        W: ``[out, in]`` with at most two weights that are not zero in each group of four; 8 divides ``in``.

    Returns:
        ``values`` ``[out, in / 2]`` in the dtype of `W`, left to right, and ``places``, uint8 ``[out, in / 8]``: four
        places from 0 to 3 in a byte, the first in its lowest two bits. GPUs put the same bits in another order.

    Raises:
        PrunekitError: `W` is not 2:4, or 8 does not divide its width.
    """
    if W.shape[1] % 8 or int((W.unflatten(1, (-1, 4)) != 0).sum(-1).max()) > 2:
        raise PrunekitError("packing needs two zeros in each group of four, and a width that 8 divides.")
    keep = nm_mask(W.abs().float(), 2, 4)
    values = W[keep].view(len(W), -1)
    places = keep.unflatten(1, (-1, 4)).nonzero()[:, 2].view(len(W), -1, 4)
    return {"values": values, "places": (places << places.new_tensor([0, 2, 4, 6])).sum(-1).to(torch.uint8)}


def unpack24(values: Tensor, places: Tensor) -> Tensor:
    """The weight ``[out, in]`` that `pack24` packed."""
    places = places.long().unsqueeze(-1)
    index = (places >> places.new_tensor([0, 2, 4, 6])) & 3
    groups = values.new_zeros(len(values), values.shape[1] // 2, 4)
    return groups.scatter_(2, index.view(len(values), -1, 2), values.unflatten(1, (-1, 2))).flatten(1)


def compressed_rows(W: Tensor) -> dict[str, Tensor]:
    """The weights that are not zero, the column of each (int32), and where each row begins (int32): CSR."""
    rows = (W != 0).sum(1).cumsum(0)
    columns = (W != 0).nonzero()[:, 1].to(torch.int32)
    return {"values": W[W != 0], "columns": columns, "rows": torch.cat([rows.new_zeros(1), rows]).to(torch.int32)}


def bitmap(W: Tensor) -> dict[str, Tensor]:
    """The weights that are not zero, and one bit for every weight that says whether it is one of them."""
    bits = torch.from_numpy(np.packbits((W != 0).cpu().numpy(), axis=1))
    return {"values": W[W != 0], "bits": bits}


def file_bytes(tensors: dict[str, Tensor] | Tensor) -> int:
    """The size of a safetensors file with these tensors, in bytes, header included."""
    tensors = {"weight": tensors} if isinstance(tensors, Tensor) else tensors
    return len(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def model_file_bytes(model: nn.Module, packed: bool = False) -> int:
    """The size of a safetensors file with a model's weights, in bytes, header included.

    Args:
        model: a causal language model; weights that bfloat16 holds exactly count as bfloat16.
        packed: whether weights of an ``mlp`` are packed by `pack24`, which they must fit.

    Raises:
        PrunekitError: they do not fit.
    """
    tensors = stored_tensors(model)
    if packed:
        for name in [name for name in tensors if ".mlp." in name and name.endswith(".weight")]:
            tensors |= {f"{name}.{part}": t for part, t in pack24(tensors.pop(name)).items()}
    return file_bytes(tensors)
