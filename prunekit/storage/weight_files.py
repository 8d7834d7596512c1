"""Which files hold a model's weights: only safetensors are ever read."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import PrunekitError


def weight_files(folder: Path) -> list[Path]:
    """The files with a model's weights: `model.safetensors`, or those that its index names; others may lie beside them.

    Args:
        folder: of a model.

    Raises:
        PrunekitError: there are none, or the index is damaged or names something else.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        if pickles := sorted(path.name for kind in ("*.bin", "*.pt", "*.pth") for path in folder.glob(kind)):
            raise PrunekitError(
                f"the folder {folder} holds weights as pickle ({pickles[0]}), which can run code and is never read: "
                "convert them to safetensors first."
            )
        raise PrunekitError(f"the folder {folder} holds no model.safetensors: download or save the model again.")
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        plain = all(Path(name).name == name and name.endswith(".safetensors") for name in names)
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        names, plain = set(), False
    if not (names and plain):
        raise PrunekitError(
            f"{index} is damaged or names other files than safetensors beside it: download or save the model again."
        )
    return [folder / name for name in sorted(names)]
