"""Published throughputs: 240 settings of vLLM, dense and 2:4, on an RTX 4090 and an RTX 5080.

The file `end_to_end.csv` in the folder above was measured by the authors of SlideSparse (arXiv 2603.05232;
repository bcacdwk/vllmbench, commit 92a8ca49, Apache-2.0) with vLLM as they modified it, CUDA 12.9, torch 2.9, and is
carried here with this citation, unchanged. Weights and activations are in `dtype`; a figure is missing where there
was not enough memory (GPU memory utilisation 0.8).

- *prefill*: prompts of up to 1,024 tokens, one token written for each, `M` tokens at once, 128 times over;
- *decode*: `M` prompts of 16 tokens at once, 256 tokens written for each; tokens per second count all 272.

Four FP8 figures on the RTX 4090 are not like their neighbours: 2:4 of Qwen2.5-7B at 32,768 tokens of prefill (a third
of what 16,384 give: the gain is 0.51), both of Llama3.2-3B at 65,536 (0.89 and 0.46 of what 32,768 give) and dense
Llama3.2-1B there (a fifth). Each lies at the end of its series, where memory runs out; `OUTLIERS` lists them, and
the medians count them nonetheless.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ..devices import find_gpu

OUTLIERS = (
    ("RTX4090", "Qwen2.5-7B", 32768),
    ("RTX4090", "Llama3.2-3B", 65536),
    ("RTX4090", "Llama3.2-1B", 65536),
)


@dataclass(frozen=True)
class Setting:
    """One published setting: tokens per second, None where memory did not suffice; `dtype` in lower case."""

    gpu: str
    dtype: str
    phase: str
    model: str
    M: int
    dense: float | None
    sparse24: float | None

    @property
    def gain(self) -> float | None:
        """How many times faster the 2:4 model is."""
        return self.sparse24 / self.dense if self.dense and self.sparse24 else None

    @property
    def task(self) -> tuple[int, int, int]:
        """Tokens of a prompt, prompts at once, and tokens written for each."""
        if self.phase == "decode":
            return 16, self.M, 256
        return min(self.M, 1024), max(1, self.M // 1024), 1


@cache
def _all() -> tuple[Setting, ...]:
    text = resources.files("prunekit.speed").joinpath("end_to_end.csv").read_text(encoding="utf-8")
    return tuple(
        Setting(
            r["gpu"],
            r["dtype"].lower(),
            r["phase"],
            r["model"],
            int(r["M"]),
            float(r["dense_tokens_per_s"]) if r["dense_tokens_per_s"] else None,
            float(r["sparse24_tokens_per_s"]) if r["sparse24_tokens_per_s"] else None,
        )
        for r in csv.DictReader(text.splitlines())
    )


def published_settings(gpu: str | None = None, dtype: str | None = None) -> list[Setting]:
    """The published settings in which at least one of the two ran, in the order of the file.

    Args:
        gpu: "RTX4090" or "RTX5080", in any spelling that `find_gpu` takes; default both.
        dtype: "fp8" or "int8"; default both.

    Raises:
        PrunekitError: unknown card.
    """
    wanted = find_gpu(gpu).name if gpu else None
    return [
        setting
        for setting in _all()
        if (setting.dense or setting.sparse24)
        and (wanted is None or find_gpu(setting.gpu).name == wanted)
        and (dtype is None or setting.dtype == dtype.lower())
    ]
