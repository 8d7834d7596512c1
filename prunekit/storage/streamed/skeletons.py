"""Open a folder as a skeleton: the model on the meta device, and a way to read its tensors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import PrunekitError
from ...model.checks import check_dense
from ...model.experts import with_experts
from ...model.linear import linear_layers
from ...model.streamed.skeleton import Skeleton
from ...model.structure import decoder_blocks, head_of, text_config
from ...system.notices import explained, quiet
from ..about import read_about
from ..compatibility import savable
from ..load import DTYPES, locate
from ..pretrained import QUANTIZED
from ..reopen import fp8_layer, stays_float32
from .checkpoint import Checkpoint
from .names import ADVICE, Names


def local_folder(source: str | Path) -> Path:
    """The folder of a model.

    Raises:
        PrunekitError: there is none: it is on the hub, or nowhere.
    """
    folder = Path(locate(str(source)))
    if not folder.is_dir():
        raise PrunekitError(f"{source} is no folder: download the model first, and give its folder.")
    return folder


def open_skeleton(folder: Path, dtype: str, device: str = "cpu", blocks: bool = True) -> Skeleton:
    """A dense or a compressed model's skeleton.

    Args:
        folder: of the model.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own; FP8 stays.
        device: where blocks are to be put.
        blocks: whether the blocks are asked for, and not only tensors.

    Returns:
        `Skeleton`, which `evaluate_streamed` judges.

    Raises:
        PrunekitError: the folder is damaged, lacks weights or has them under other names, or the model's layers are
            not in one list of blocks.
    """
    if dtype not in ("auto", *DTYPES):
        raise PrunekitError(f"unknown dtype {dtype!r}: expected one of {', '.join(DTYPES)}.")
    checkpoint = Checkpoint(folder)
    about = None
    if (folder / "prunekit.json").is_file():
        with explained(str(folder), "model"):
            about = read_about(folder)
    model, target = _on_meta(checkpoint, dtype, about)
    names = Names(model, checkpoint)
    fp8 = set(about["fp8_layers"]) if about else set()
    layers = {n: partial(_fp8, n, checkpoint, about or {}, target) for n in linear_layers(model) if n in fp8}
    if fp8 != layers.keys():
        raise PrunekitError(f"prunekit.json in {folder} names layers that the model does not have: compress it again.")
    own = {name: tensor.dtype for name, tensor in model.state_dict().items()}  # a class may insist on float32
    _check(model, names, own, fp8)

    def stored(name: str) -> Tensor:
        return checkpoint.tensor(names.stored(name))

    def read(name: str) -> Tensor:
        tensor = stored(name)
        if tensor.dtype not in (torch.bfloat16, torch.float16, torch.float32):
            return tensor
        return tensor.to(torch.float32 if stays_float32(model, name, target) else own[name])

    prefix = decoder_blocks(model, linear_layers(model), ADVICE)[0] if blocks else ""
    return Skeleton(model, prefix, read, stored, layers, torch.device(device))


def _on_meta(checkpoint: Checkpoint, dtype: str, about: dict | None) -> tuple[Any, torch.dtype]:
    """The model of a folder's config, and the dtype in which it runs."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    folder = checkpoint.folder
    with quiet(), explained(str(folder), "model"):
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if about is not None and hasattr(config, "quantization_config"):
            del config.quantization_config
        named = getattr(text_config(config), "dtype", None)
        target = named if dtype == "auto" and isinstance(named, torch.dtype) else checkpoint.usual_dtype()
        target = target if dtype == "auto" else getattr(torch, dtype)
        with init_empty_weights(include_buffers=False):  # what no checkpoint holds, rotary frequencies, is computed
            dense = AutoModelForCausalLM.from_config(config, dtype=target, trust_remote_code=False)
        model: Any = with_experts(dense, (about or {}).get("experts", ()))
        model.tie_weights()
        if (folder / "generation_config.json").is_file():
            model.generation_config = savable(GenerationConfig.from_pretrained(folder))
    return model.eval().requires_grad_(False), target


def _check(model: nn.Module, names: Names, own: dict[str, torch.dtype], fp8: set[str]) -> None:
    """Refuse a checkpoint that lacks something, holds it in another shape, or quantized."""
    checkpoint, state = names.checkpoint, model.state_dict()
    for name in checkpoint.shapes:
        if name.endswith(QUANTIZED) and not fp8:
            raise PrunekitError(
                f"the checkpoint {checkpoint.folder} holds {name}, which belongs to a kind of quantization that is not "
                "read: give the dense model."
            )
    for name in own:
        stored = names.stored(name)
        if name.rpartition(".")[0] in fp8:
            continue
        if list(state[name].shape) != checkpoint.shapes[stored]:
            raise PrunekitError(
                f"{stored} in {checkpoint.folder} has the shape {checkpoint.shapes[stored]}, and its config asks for "
                f"{list(state[name].shape)}: download or save the model again."
            )
        if checkpoint.dtypes[stored].startswith("F8"):
            check_dense(name, torch.float8_e4m3fn)
    head = next(name for name, module in model.named_modules() if module is head_of(model)) + ".weight"
    tied = names.stored(names.tied(head))
    if tied != names.stored(head) and not torch.equal(checkpoint.tensor(head), checkpoint.tensor(tied)):
        raise PrunekitError(
            f"{checkpoint.folder} has an output embedding of its own, and its config ties it to the input: set "
            f"tie_word_embeddings to false there, or {ADVICE}."
        )


def _fp8(name: str, checkpoint: Checkpoint, about: dict, dtype: torch.dtype, old: nn.Module) -> nn.Module:
    """A layer of a folder that prunekit wrote."""
    with explained(str(checkpoint.folder), "model"):
        parts = (f"{name}.weight", f"{name}.weight_scale", f"{name}.bias")
        return fp8_layer(name, old, {n: checkpoint.tensor(n) for n in parts if n in checkpoint.shapes}, about, dtype)
