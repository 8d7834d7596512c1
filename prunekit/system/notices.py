"""Open and save models by transformers without its notices, and with one sentence when that fails."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import PrunekitError, first_line, out_of_memory

_REASONS = {  # what transformers says, and what it means here
    "Unrecognized configuration class": "it is not a causal language model; give one",
    "does not recognize this architecture": "the installed transformers does not know its kind; a newer one may",
    "custom code|trust_remote_code": "it brings code of its own, which is never run; give one that transformers knows",
    "ignore_mismatched_sizes": "its weights have other shapes than its config says; it is damaged, so save it again",
    "model requires|pip install|No package metadata": "it needs a package that is not installed; give the dense model",
}


@contextmanager
def explained(source: str, what: str) -> Iterator[None]:
    """Turn whatever goes wrong while a model is read into one sentence."""
    try:
        yield
    except PrunekitError:
        raise
    except BaseException as error:  # transformers raises nearly anything for a damaged folder
        panic = type(error).__name__ == "PanicException"  # of a library in Rust, which is no Exception
        if out_of_memory(error) or not (panic or isinstance(error, Exception)):
            raise
        text = first_line(error)[:150]
        for pattern, reason in _REASONS.items():
            if what == "model" and re.search(pattern, str(error)):
                raise PrunekitError(f"cannot open the {what} {source}: {reason} ({text}).") from error
        if Path(source).is_dir():
            raise PrunekitError(
                f"cannot read the {what} in {source}, which seems damaged or incomplete ({text}): "
                "download or save it again."
            ) from error
        raise PrunekitError(
            f"cannot get the {what} {source!r} from the Hugging Face hub (no network, no such name, no access, or what "
            f"it says: {text}): check the name and the network, or give 'embedded' or a local folder."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and notices of transformers and the hub meanwhile."""
    from transformers.utils import logging as hf

    verbosity, bars = hf.get_verbosity(), hf.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    hf.set_verbosity_error()
    hf.disable_progress_bar()
    hub.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf.set_verbosity(verbosity)
        hub.setLevel(hub_level)
        if bars:
            hf.enable_progress_bar()
