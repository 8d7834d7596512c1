"""Write a model block by block: one shard for each, one for what lies outside, and an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ...compression.result import zeros_of
from ...model.checks import check_weight_finite
from ...model.streamed.skeleton import Skeleton
from ...model.structure import head_of
from ...system.files import temporary_file, write_json
from ..tensors import checkpoint_tensors, narrow
from ..weight_files import INDEX
from .checkpoint import Checkpoint

LARGE = 1 << 24  # numbers in a tensor that gets a shard of its own


class ShardFolder:
    """The shards of one model.

    Args:
        folder: where they go.
        state: where it is noted how many weights are zero.
        skeleton: the dense model.
        granularity: of the FP8 scales, as in `Recipe`.
    """

    def __init__(self, folder: Path, state: Path, skeleton: Skeleton, granularity: str) -> None:
        self.folder, self.state, self.granularity = folder, state, granularity
        self.skeleton = skeleton
        self.count = len(skeleton.blocks)
        sizes = {name: tensor.numel() for name, tensor in skeleton.model.state_dict().items()}
        large = [[name] for name in self._outside() if sizes[name] > LARGE]
        small = [name for name in self._outside() if [name] not in large]
        self._groups = large + [small] * bool(small)  # of what lies outside, each in a shard of its own

    def done(self, index: int) -> bool:
        """Whether the block of that number was written already."""
        return self._path(index).exists()

    def write(self, index: int, block: nn.Module, new: dict[str, nn.Module]) -> None:
        """Write a block whose new layers are given by their names in the model.

        Raises:
            PrunekitError: the place cannot be written.
        """
        inside = self.skeleton.inside(index)
        tensors = checkpoint_tensors(block, self.granularity)
        write_json(self._report(index), [zeros_of(name, module) for name, module in new.items()])
        self._save({inside + name: tensor for name, tensor in tensors.items()}, index)

    def finish(self) -> Checkpoint:
        """Write what lies outside the blocks, and the index; gives what now lies in the folder.

        Raises:
            PrunekitError: the place cannot be written, or a weight is not finite.
        """
        for place, names in enumerate(self._groups, self.count):
            if not self.done(place):
                self._save({name: self._outer(name) for name in names}, place)
        places, size = {}, 0
        for index in range(self.count + len(self._groups)):
            with open(self._path(index), "rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            for name, about in header.items():
                if name != "__metadata__":
                    places[name] = self._path(index).name
                    size += about["data_offsets"][1] - about["data_offsets"][0]
        write_json(self.folder / INDEX, {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))})
        return Checkpoint(self.folder)

    def _outer(self, name: str) -> Tensor:
        """A tensor outside the blocks, as narrow as is exact."""
        tensor = self.skeleton.stored(name)
        if tensor.dtype != torch.bfloat16 or self.skeleton.dtype == torch.float16:  # else widening it changes nothing
            tensor = narrow(self.skeleton.read(name))
        check_weight_finite(name, tensor)
        return tensor.contiguous()

    def reports(self) -> list[dict]:
        """What `zeros_of` says of each layer."""
        found: list[dict] = []
        for index in range(self.count):
            found += json.loads(self._report(index).read_text("utf-8"))
        return found

    def _outside(self) -> list[str]:
        """Names of the tensors outside the blocks, a tied output embedding left out."""
        model: Any = self.skeleton.model
        names, state = self.skeleton.outer_names(), model.state_dict(keep_vars=True)
        if not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
            return names
        head = next(name for name, module in model.named_modules() if module is head_of(model))
        shared = {id(state[name]) for name in names if name.rpartition(".")[0] != head}
        return [n for n in names if n.rpartition(".")[0] != head or id(state[n]) not in shared]

    def _save(self, tensors: dict[str, Tensor], index: int) -> None:
        with temporary_file(self._path(index)) as temporary:
            save_file({name: tensor.cpu() for name, tensor in tensors.items()}, temporary, {"format": "pt"})

    def _path(self, index: int) -> Path:
        """The shard of a block; behind the last block comes what lies outside."""
        return self.folder / f"model-{index + 1:05}-of-{self.count + len(self._groups):05}.safetensors"

    def _report(self, index: int) -> Path:
        return self.state / f"zeros-{index:05}.json"
