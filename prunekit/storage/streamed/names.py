"""Under which names a checkpoint holds what a model's state names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import PrunekitError
from .checkpoint import Checkpoint

ADVICE = "leave out --stream"


class Names:
    """Names as they are, as transformers renames them, without the prefix of the model's body, or of a tied tensor.

    Args:
        model: on the meta device.
        checkpoint: what its folder holds.

    Raises:
        PrunekitError: transformers computes some tensors of the model from others.
    """

    def __init__(self, model: Any, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._prefix = f"{model.base_model_prefix}."
        self._tied: dict[int, list[str]] = {}
        self._state = model.state_dict(keep_vars=True)
        own = {name: name for name in checkpoint.shapes if name in self._state}
        others = checkpoint.shapes.keys() - own.keys()
        self._renamed = own | _renamed(model, sorted(others), str(checkpoint.folder))
        for name, tensor in self._state.items():
            self._tied.setdefault(id(tensor), []).append(name)

    def tied(self, name: str) -> str:
        """The first name in the model of the same tensor."""
        return self._tied[id(self._state[name])][0]

    def stored(self, name: str) -> str:
        """The name in the checkpoint.

        Raises:
            PrunekitError: there is none.
        """
        for each in (name, *self._tied[id(self._state[name])]):
            for known in (each, each.removeprefix(self._prefix)):
                if known in self._renamed:
                    return self._renamed[known]
        raise PrunekitError(
            f"the checkpoint {self.checkpoint.folder} has no tensor {name}: it is damaged, or its tensors have other "
            f"names than the model's; {ADVICE}."
        )


def _renamed(model: Any, names: Iterable[str], folder: str) -> dict[str, str]:
    """A checkpoint's names by those that transformers 5 gives them; transformers 4 leaves them as they are."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter
    except ImportError:
        return {name: name for name in names}
    changes = get_model_conversion_mapping(model)
    found = {}
    for name in names:
        new = name
        for change in changes:
            renamed, matched = change.rename_source_key(new)
            if matched is not None and isinstance(change, WeightConverter):
                raise PrunekitError(
                    f"transformers computes {renamed} from other tensors of {folder} ({name} among them), which cannot "
                    f"be done block by block: {ADVICE}."
                )
            new = renamed
        found[new] = name
    return found
