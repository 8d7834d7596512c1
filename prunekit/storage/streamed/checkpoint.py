"""A folder's safetensors, read one tensor at a time; no file stays mapped, since mapped pages count as memory."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import PrunekitError, first_line
from ..weight_files import INDEX, weight_files

_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


class Checkpoint:
    """The tensors of a model's folder by name.

    Args:
        folder: of the model.

    Attributes:
        folder: the same.
        shapes: of each tensor, by name.
        dtypes: of each tensor, as safetensors names them (``BF16``), by name.

    Raises:
        PrunekitError: a file is missing or damaged, or the index does not say what they hold.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = weight_files(folder)
        self.shapes: dict[str, list[int]] = {}
        self.dtypes: dict[str, str] = {}
        self._file: dict[str, Path] = {}
        for file in self.files:
            header = _header(file)
            for name, about in header.items():
                if name in self._file:
                    raise PrunekitError(f"{file} and {self._file[name]} both hold {name}: save the model again.")
                self.shapes[name], self.dtypes[name] = about["shape"], about["dtype"]
                self._file[name] = file
        self._check_index()

    def tensor(self, name: str) -> Tensor:
        """A tensor as it is stored, in memory of its own.

        Raises:
            PrunekitError: its file cannot be read.
        """
        try:
            with safe_open(self._file[name], "pt") as file:
                return file.get_tensor(name).clone()
        except (OSError, SafetensorError) as error:
            raise PrunekitError(_damaged(self._file[name], error)) from None

    def usual_dtype(self) -> torch.dtype:
        """Which of float32, bfloat16 and float16 most numbers have; see `tensors.usual_dtype`."""
        counts = dict.fromkeys((torch.float32, torch.bfloat16, torch.float16), 0)
        for name, kind in self.dtypes.items():
            if kind in _DTYPES:
                size = 1
                for extent in self.shapes[name]:
                    size *= extent
                counts[_DTYPES[kind]] += size
        return max(counts, key=counts.__getitem__)

    def fingerprint(self) -> str:
        """What tells this checkpoint from others without reading all of it: of each file the name, the size and a
        checksum of its header, its middle and its end; and all of the config."""
        digest = hashlib.sha256((self.folder / "config.json").read_bytes())
        for path in self.files:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with open(path, "rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                digest.update(file.read(length + (1 << 16)))
                for place in (size // 2, size - (1 << 16)):
                    file.seek(max(0, place))
                    digest.update(file.read(1 << 16))
        return digest.hexdigest()

    def _check_index(self) -> None:
        index = self.folder / INDEX
        if self.files != [self.folder / "model.safetensors"]:
            said = json.loads(index.read_text("utf-8"))["weight_map"]
            wrong = [name for name, file in said.items() if self._file.get(name) != self.folder / file]
            if wrong:
                raise PrunekitError(
                    f"{index} says that {wrong[0]} lies in {said[wrong[0]]}, where it does not: download or save the "
                    "model again."
                )


def _header(file: Path) -> dict[str, dict]:
    """What a safetensors file says that it holds, by name.

    Raises:
        PrunekitError: there is no such file, or it is damaged.
    """
    try:
        with safe_open(file, "pt"):  # which compares the header with the file's length
            pass
        with open(file, "rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length))
    except (OSError, ValueError, SafetensorError, struct.error) as error:
        raise PrunekitError(_damaged(file, error)) from None
    header.pop("__metadata__", None)
    return header


def _damaged(file: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{file} is missing, and holds a part of the model: download or save it again."
    return f"cannot read {file}, which seems damaged or incomplete ({first_line(error)}): download or save it again."
