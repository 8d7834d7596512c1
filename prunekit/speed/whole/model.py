"""A model's sizes as a server runs it: fused linear layers, the KV cache, the output embedding, the context."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ...errors import PrunekitError
from ..shapes import EMBEDDED, Layer, config_layers, read_config


@dataclass(frozen=True)
class Model:
    """Sizes of a LLaMA-like model.

    Attributes:
        name: as in `MODELS`, or what the user called it.
        hidden: features of the residual stream.
        inner: neurons of an MLP.
        blocks: how many.
        queries: outputs of the query projection.
        keys: outputs of the key projection, as many as of the value projection.
        vocabulary: entries of the output embedding.
        context: tokens that the model was made for.
        tied: the output embedding is the input embedding, kept once.
    """

    name: str
    hidden: int
    inner: int
    blocks: int
    queries: int
    keys: int
    vocabulary: int
    context: int
    tied: bool

    @property
    def layers(self) -> list[Layer]:
        """The linear layers as servers run them: query, key and value in one product, gate and up in one."""
        return [
            Layer("qkv_proj", self.queries + 2 * self.keys, self.hidden, self.blocks),
            Layer("o_proj", self.hidden, self.queries, self.blocks),
            Layer("gate_up_proj", 2 * self.inner, self.hidden, self.blocks),
            Layer("down_proj", self.hidden, self.inner, self.blocks),
        ]

    @property
    def cache_bytes(self) -> int:
        """Keys and values of one token in all blocks, in 16 bits."""
        return self.blocks * 2 * self.keys * 2

    def weight_bytes(self, dtype: str, sparse24: bool) -> float:
        """Bytes of the weights: linear layers in `dtype`, embeddings in 16 bits.

        Args:
            dtype: "fp8", "bf16" or "fp16".
            sparse24: the linear layers hold half of their elements, and 2 bits of position for each.
        """
        size = 1 if dtype == "fp8" else 2
        each = size / 2 + 1 / 8 if sparse24 else size
        linear = sum(layer.N * layer.K * layer.count for layer in self.layers)
        return linear * each + self.vocabulary * self.hidden * 2 * (1 if self.tied else 2)

    def activation_bytes(self, dtype: str) -> int:
        """Bytes of a token at the widest place, the MLP: gate and up, their product, its cast, two residual streams."""
        return self.inner * (7 if dtype == "fp8" else 6) + self.hidden * 4


def find_model(name: str) -> Model:
    """One of the built-in models, "embedded", or that of a local folder; nothing is downloaded.

    Args:
        name: a name of `MODELS` in any spelling, "embedded", or a folder with config.json, or that file.

    Raises:
        PrunekitError: no such model here, or a configuration that lacks a size.
    """
    if name == "embedded":
        return config_model("SmolLM2-135M", EMBEDDED)
    if (folder := Path(name).expanduser()).exists():
        return config_model(name, read_config(folder))
    if (config := built_in_config(name)) is not None:
        return config_model(str(config["name"]), config)
    raise PrunekitError(
        f"there is no configuration of {name!r} here: give a folder with its config.json, 'embedded', or one of "
        f"{', '.join(MODELS)}."
    )


def config_model(name: str, config: Mapping) -> Model:
    """A model from its Hugging Face configuration.

    Args:
        name: what to call it.
        config: the configuration as a mapping.

    Raises:
        PrunekitError: as `config_layers`, or no vocabulary or context length.
    """
    query, key, _, _, gate, *_ = config_layers(config)
    inner = config.get("text_config")
    config = inner if isinstance(inner, Mapping) and inner else config
    sizes = {}
    for what in ("vocab_size", "max_position_embeddings"):
        value = config.get(what)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            says = "has no" if value is None else f"says {value!r} for"
            raise PrunekitError(
                f"the configuration of {name!r} {says} {what}, a positive whole number that tokens per second need."
            )
        sizes[what] = value
    return Model(
        name,
        hidden=query.K,
        inner=gate.N,
        blocks=query.count,
        queries=query.N,
        keys=key.N,
        vocabulary=sizes["vocab_size"],
        context=sizes["max_position_embeddings"],
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def built_in_config(name: str) -> dict | None:
    """The configuration of a built-in model, with its `name` and `source`; None where there is none of that name.

    Args:
        name: in any spelling: 'Qwen/Qwen2.5-7B-Instruct' and 'qwen2.5 7b' are one model.
    """
    return _BY_KEY.get(_key(name))


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9.]|instruct$", "", name.rpartition("/")[2].lower())


def _configs() -> dict[str, dict]:
    """The rows of `models.csv`, by name: models whose throughput has been published."""
    text = resources.files(__package__).joinpath("models.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["name"]: {key: int(v) if v.isdigit() else v for key, v in row.items()} for row in rows}


MODELS = _configs()
_BY_KEY = {_key(name): config for name, config in MODELS.items()}
_BY_KEY[_key("bitnet-b1.58-2B-4T")] = MODELS["BitNet-2B"]
