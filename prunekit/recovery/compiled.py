"""Decoder blocks compiled by torch.compile, which fuses what lies between the matrix products."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import torch
from torch import nn

from ..errors import PrunekitError
from ..model.copies import replace_layers, shallow_copy
from ..model.structure import decoder_blocks
from ..system.files import cache_dir


def compiled(
    models: Sequence[nn.Module],
    layers: Iterable[str],
    attempt: Callable[[Sequence[nn.Module]], None],
    tell: Callable[[str], None],
) -> Sequence[nn.Module]:
    """Models with compiled blocks, if they work here; a compiler may be missing, or not understand the models.

    What this process compiled before is forgotten, and so has no influence: with it the same code might be compiled
    for tensors of any size, and then rounds otherwise.

    Args:
        models: causal language models, which stay as they are.
        layers: as in `with_compiled_blocks`.
        attempt: calls the models in all the ways in which they will be called. What it needs is compiled meanwhile.
        tell: gets a line if compiling fails.

    Returns:
        The new models, or the given ones.
    """
    _keep_compiled_code_to_oneself()
    torch.compiler.reset()
    try:
        fast = [with_compiled_blocks(model, layers) for model in models]
        attempt(fast)
    except PrunekitError:  # no blocks to compile
        return models
    except Exception as error:  # of whatever kind: the models work without
        tell(
            f"torch.compile does not work here ({type(error).__name__}; it needs a C++ compiler), so that each step "
            "takes longer"
        )
        return models
    return fast


def _keep_compiled_code_to_oneself() -> None:
    """Have torch.compile keep its code in the user's cache: its own place in /tmp anybody can foresee, and fill."""
    folder = cache_dir() / "inductor"
    with suppress(OSError):  # no cache can be written: torch's own place
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def with_compiled_blocks(model: nn.Module, layers: Iterable[str]) -> nn.Module:
    """A copy of the model whose decoder blocks, but for the first, are compiled when they first run.

    Blocks that are alike are compiled once. The first is not quite like the others, since its input needs no gradient.

    Args:
        model: a causal language model; the copy shares its tensors.
        layers: names of layers that lie in the blocks.

    Raises:
        PrunekitError: the layers are not in one list of blocks, or the model was compiled, or spread over devices.
    """
    name, blocks = decoder_blocks(model, layers)
    copies = {f"{name}.{i}": shallow_copy(block) for i, block in enumerate(blocks) if i > 0}
    for block in copies.values():
        block.compile(dynamic=False)
    return replace_layers(model, copies)
