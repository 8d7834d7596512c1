"""What a checkpoint holds: FP8 as codes and scales, the rest as narrow as is exact, tied weights once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from ..model.fp8_linear import Fp8Linear
from ..model.linear import check_model, exact_dtype
from ..model.structure import head_of, text_config


def usual_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """Which of float32, bfloat16 and float16 most of the tensors' numbers have; others do not count."""
    counts = dict.fromkeys((torch.float32, torch.bfloat16, torch.float16), 0)
    for t in tensors:
        if t.dtype in counts:
            counts[t.dtype] += t.numel()
    return max(counts, key=counts.__getitem__)


def narrow(tensor: Tensor) -> Tensor:
    """The same values in bfloat16 or float16 if all of them fit it, so that widening for a CPU costs no disk space."""
    return tensor.to(exact_dtype(tensor)) if tensor.dtype == torch.float32 else tensor


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint of the model holds, by name: FP8 layers as codes and scales, the rest as narrow as
    is exact, tied weights once."""
    return dict(_stored(model))


def checkpoint_tensors(model: nn.Module, granularity: str) -> dict[str, Tensor]:
    """`stored_tensors` as transformers expects them: the FP8 scale of a whole tensor as ``[1]``."""
    tensors = stored_tensors(model)
    if granularity == "tensor":
        tensors |= {n: t.reshape(1) for n, t in tensors.items() if n.endswith("weight_scale")}
    return tensors


def stored_bytes(model: nn.Module) -> int:
    """Size of the weights in a checkpoint of the model, without writing one.

    Args:
        model: any model, compressed or not.

    Returns:
        Bytes: FP8 as codes and scales, the rest as narrow as is exact, tied weights once.
    """
    return sum(t.numel() * t.element_size() for _, t in _stored(model))


def _stored(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """`stored_tensors`, one after the other."""
    check_model(model)
    seen = set()
    tied = getattr(text_config(getattr(model, "config", None)), "tie_word_embeddings", False)
    head = head_of(model) if tied and hasattr(model, "get_output_embeddings") else None  # or it is a part of a model
    for name, tensor in model.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        place = (tensor.data_ptr(), tensor.shape)
        if place in seen:
            if module is head:
                continue
            tensor = tensor.clone()  # what the config does not tie is written for each name, or would not be found
        seen.add(place)
        if isinstance(module, Fp8Linear) and leaf != "bias":
            if leaf == "weight" and not is_described(module):
                W = module.dense_weight().cpu()
                tensor = W.T if module.transposed else W
            yield name, tensor.contiguous()
        else:
            yield name, narrow(tensor.detach()).contiguous()


def is_described(module: Fp8Linear) -> bool:
    """Whether the compressed-tensors format can hold this layer."""
    return module.weight.dtype == torch.float8_e4m3fn and not module.transposed
