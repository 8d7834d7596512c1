"""What calibration sees of one block, batch by batch: kept in a file until it is known how many batches are enough."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...calibration.calibrate import few_rows, with_prior
from ...calibration.observe import check_finite, check_reached, mean_square
from ...calibration.samples import Samples
from ...method.ewma import BatchEWMA
from ...model.linear import weight_of
from ...system.files import temporary_file

DECAY = 0.99  # as in `calibrate`


class Records:
    """Mean squares and sampled rows of a block's layers, batch by batch; layers that read one input share them.

    Args:
        samples: how many rows are to be kept in the end.
        batch: the number of the first batch.
    """

    def __init__(self, samples: int, batch: int = 0) -> None:
        self.batch = batch
        self._count = samples
        self._picker = Samples(samples)
        self._last: tuple[object, str] = (None, "")
        self._first: dict[str, str] = {}
        self._seen: dict[str, list[tuple[int, Tensor, Tensor | None]]] = {}

    @property
    def reached(self) -> Collection[str]:
        """Names of the layers of which something was seen."""
        return self._first.keys()

    def observe(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is kept of an input ``[tokens, in]``."""
        self._picker.batches = self.batch
        return mean_square(x), self._picker.pick(x) if self._count else None

    def take(self, name: str, seen: tuple[Tensor, Tensor | None]) -> None:
        """Keep what was observed of a layer's input."""
        if self._last[0] is not seen:
            self._last = seen, name
            self._seen.setdefault(name, []).append((self.batch, *seen))
        self._first[name] = self._last[1]

    def save(self, path: Path, layers: Mapping[str, nn.Module]) -> None:
        """Write all to a safetensors file, with a few rows of the layers' weights, by which `Convergence` judges."""
        tensors = {f"{name}.few": few_rows(weight_of(module)).cpu().contiguous() for name, module in layers.items()}
        for name, seen in self._seen.items():
            tensors[f"{name}.batch"] = torch.tensor([batch for batch, *_ in seen])
            tensors[f"{name}.square"] = torch.stack([square.cpu() for _, square, _ in seen])
            if self._count:
                rows = [rows.cpu() for _, _, rows in seen if rows is not None]
                tensors[f"{name}.rows"] = torch.cat(rows)
                tensors[f"{name}.counts"] = torch.tensor([len(some) for some in rows])
        with temporary_file(path) as temporary:
            save_file(tensors, temporary, {"first": json.dumps(self._first)})


class _Part:
    """What one file that `Records` wrote holds."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self._path, self._device = path, device
        with safe_open(path, "pt") as file:
            self.first: dict[str, str] = json.loads(file.metadata()["first"])
            self.batches = {n: file.get_tensor(f"{n}.batch").tolist() for n in dict.fromkeys(self.first.values())}

    def tensor(self, name: str) -> Tensor:
        """One of the file's tensors."""
        with safe_open(self._path, "pt") as file:
            return file.get_tensor(name).to(self._device, copy=True)

    def rows(self) -> dict[str, Tensor]:
        """By layer a few rows of its weight."""
        with safe_open(self._path, "pt") as file:
            names = [name for name in file.keys() if name.endswith(".few")]  # noqa: SIM118
            return {n.removesuffix(".few"): file.get_tensor(n).to(self._device, copy=True) for n in names}

    def samples(self, first: str) -> list[Tensor]:
        """The sampled rows of an input, batch by batch."""
        return list(self.tensor(f"{first}.rows").split(self.tensor(f"{first}.counts").tolist()))


class Replay:
    """What `calibrate` would have found of one block's layers after the first batches.

    Args:
        paths: files that `Records` wrote, of one batch after another.
        device: where the tensors are wanted.
    """

    def __init__(self, paths: Sequence[Path], device: torch.device) -> None:
        self._parts = [_Part(path, device) for path in paths]
        self._inputs: dict[tuple[str | None, ...], list[str]] = {}  # layers that read one input, by its name in parts
        for name in dict.fromkeys(name for part in self._parts for name in part.first):
            self._inputs.setdefault(tuple(part.first.get(name) for part in self._parts), []).append(name)

    def reached(self, batches: int) -> set[str]:
        """The layers that the first so many batches reach."""
        return {n for part in self._parts for n, first in part.first.items() if part.batches[first][0] < batches}

    def squares(self) -> dict[str, tuple[list[int], Tensor]]:
        """By layer the numbers of the batches that reach it, and a mean square ``[in]`` for each of them."""
        found: dict[str, tuple[list[int], Tensor]] = {}
        for firsts, names in self._inputs.items():
            seen = [(part, first) for part, first in zip(self._parts, firsts) if first]
            numbers = [number for part, first in seen for number in part.batches[first]]
            values = torch.cat([part.tensor(f"{first}.square") for part, first in seen])
            found |= dict.fromkeys(names, (numbers, values))
        return found

    def rows(self) -> dict[str, Tensor]:
        """By layer a few rows of its weight."""
        return self._parts[0].rows()

    def energy(self, layers: Iterable[str], batches: int, tokens: int) -> dict[str, Tensor]:
        """`Calibration.energy` of some layers, after so many batches that hold so many tokens.

        Raises:
            PrunekitError: an input is not finite, or the text does not reach a layer.
        """
        check_reached(layers, self.reached(batches))
        found = {}
        squares = self.squares()
        for name in layers:
            average = BatchEWMA(DECAY)
            for batch, square in zip(*squares[name]):
                if batch < batches:
                    average.update_(square)
            found[name] = with_prior(average.value, tokens)
            check_finite(f"inputs of {name}", found[name])
        return found

    def samples(self, count: int, batches: int) -> dict[str, Tensor]:
        """`Calibration.samples` of all layers after so many batches."""
        kept = Samples(count)
        for firsts, names in self._inputs.items():
            for part, first in zip(self._parts, firsts):
                for batch, some in zip(part.batches[first], part.samples(first)) if first else ():
                    if batch < batches:
                        kept.batches = batch
                        kept.take(names[0], some)
        found = kept.by_layer()
        return {name: found[names[0]] for names in self._inputs.values() for name in names}
