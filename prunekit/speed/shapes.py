"""The shapes to predict: a model's linear layers from its configuration, or a CSV file with columns M, N, K."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import PrunekitError, first_line
from .devices import Gpu
from .latency import check_sizes

# What keeps a model type from having the seven layers of LLaMA-like models.
UNLIKE = {
    kind: reason
    for reason, kinds in {
        "the MLPs of {} have no gate, unlike those of LLaMA-like models": "albert apertus arcee bert biogpt "
        "camembert distilbert electra gpt_neox gpt_neox_japanese nemotron persimmon phi roberta starcoder2 "
        "vit xlm-roberta",
        "{} keeps several of the seven layers of LLaMA-like models in one": "glm glm4 phi3",
        "{} has state-space layers, unlike LLaMA-like models": "bamba falcon_h1 nemotron_h zamba zamba2",
        "{} has recurrent layers, unlike LLaMA-like models": "recurrent_gemma",
    }.items()
    for kind in kinds.split()
}
# SmolLM2-135M, the embedded model: the keys of its config.json that decide the shapes, the cache and the context.
EMBEDDED = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Layer:
    """A linear layer with weight `[N, K]` that a model has `count` times."""

    name: str
    N: int
    K: int
    count: int


@dataclass(frozen=True)
class ShapeRow:
    """One row of a shapes file: its line in the file, its sizes and all of its columns as they were."""

    line: int
    M: int
    N: int
    K: int
    columns: dict[str, str]


def config_layers(config: Mapping) -> list[Layer]:
    """The seven linear layers of a LLaMA-like block (Llama, Qwen, Mistral, SmolLM, ...), counted over all blocks.

    Args:
        config: the model's Hugging Face configuration as a mapping.

    Returns:
        The layers in the order query, key, value, output, gate, up, down.

    Raises:
        PrunekitError: a size is missing or no positive whole number, or the model has experts, no gate, several layers
            in one, or blocks of another kind.
    """
    inner = config.get("text_config")
    config = inner if isinstance(inner, Mapping) and inner else config
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if config.get(key):
            raise PrunekitError(
                f"the model's configuration has {key}: mixtures of experts are not supported; "
                "list their shapes in a file for --shapes."
            )
    kind = str(config.get("model_type") or "")
    if kind in UNLIKE:
        raise PrunekitError(f"{UNLIKE[kind].format(kind)}; list other models' shapes in a file for --shapes.")
    kinds = {str(x) for x in config["layer_types"]} if isinstance(config.get("layer_types"), list) else set()
    unlike = {x for x in kinds if not x.endswith("attention") or "linear" in x}
    if unlike or config.get("kv_lora_rank"):
        what = " and ".join(sorted(unlike)) or "low-rank keys and values (kv_lora_rank)"
        raise PrunekitError(
            f"{kind or 'the model'} has {what} in its blocks, unlike LLaMA-like models; "
            "list other models' shapes in a file for --shapes."
        )

    def size(key: str, default: int | None = None) -> int:
        value = config.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            what = "has no" if value is None else f"says {value!r} for"
            raise PrunekitError(
                f"the configuration of {kind or 'this kind of model'} {what} {key}, a positive whole number in "
                "LLaMA-like models; list other models' shapes in a file for --shapes."
            )
        return value

    hidden, inner, blocks = size("hidden_size"), size("intermediate_size"), size("num_hidden_layers")
    heads = size("num_attention_heads")
    kv_heads = size("num_key_value_heads", heads)
    head = size("head_dim", hidden // heads)
    return [
        Layer("q_proj", heads * head, hidden, blocks),
        Layer("k_proj", kv_heads * head, hidden, blocks),
        Layer("v_proj", kv_heads * head, hidden, blocks),
        Layer("o_proj", hidden, heads * head, blocks),
        Layer("gate_proj", inner, hidden, blocks),
        Layer("up_proj", inner, hidden, blocks),
        Layer("down_proj", hidden, inner, blocks),
    ]


def exceeds_cache(gpu: Gpu, dtype: str, layers: Iterable[Layer]) -> bool:
    """Whether a model's dense weights outgrow the L2 cache, so that every layer finds its own evicted.

    Args:
        gpu: a card of `prunekit.speed.devices`.
        dtype: "fp8", one byte a weight, or "bf16" or "fp16", two.
        layers: the model's linear layers.
    """
    weights = sum(layer.N * layer.K * layer.count for layer in layers)
    return weights * (1 if dtype == "fp8" else 2) > gpu.l2_mb * 1e6 / gpu.l2_parts


def model_layers(model: str = "embedded") -> list[Layer]:
    """The linear layers of "embedded" (SmolLM2-135M), of a local folder, or of a Hugging Face name.

    Args:
        model: "embedded", the folder or its config.json, or the name.

    Raises:
        PrunekitError: as `model_config` and `config_layers`.
    """
    return config_layers(model_config(model))


def model_config(model: str) -> Mapping:
    """The configuration of "embedded" (SmolLM2-135M), of a local folder, or of a Hugging Face name.

    Args:
        model: "embedded", the folder or its config.json, or the name.

    Raises:
        PrunekitError: the folder has no readable config.json, or the name cannot be resolved.
    """
    if model == "embedded":
        return EMBEDDED
    if (folder := Path(model).expanduser()).exists():
        return read_config(folder)
    try:
        from transformers import AutoConfig

        from ..system.notices import quiet

        with quiet():  # the hub's retries drown the sentence
            return AutoConfig.from_pretrained(model, trust_remote_code=False).to_dict()
    except Exception as error:  # transformers raises many kinds: no network, no such name, a gated model
        raise PrunekitError(
            f"{model!r} is neither 'embedded' nor a local folder; as a Hugging Face name it fails: "
            f"{first_line(error).rstrip('.')}."
        ) from error


def read_config(folder: Path) -> dict:
    """The configuration of a local folder, or of its config.json.

    Args:
        folder: the folder or the file.

    Raises:
        PrunekitError: unreadable, or no JSON object.
    """
    file = folder / "config.json" if folder.is_dir() else folder
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PrunekitError(f"cannot read the model's configuration {str(file)!r}: {_reason(error)}.") from error
    if not isinstance(config, dict):
        raise PrunekitError(f"{str(file)!r} is no model configuration: it holds no JSON object.")
    return config


def read_shapes(path: str | Path, sparse24: bool = True) -> tuple[list[str], list[ShapeRow]]:
    """Read a shapes file: a header with at least M, N and K, then one product a line; blank lines do not count.

    Args:
        path: the file, CSV in UTF-8.
        sparse24: whether the shapes must suit 2:4 as well (K a multiple of 4).

    Returns:
        The header, and the rows in order.

    Raises:
        PrunekitError: unreadable or empty file, missing column, or a bad row, named by its line.
    """
    name = str(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            table = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PrunekitError(f"cannot read the shapes file {name!r}: {_reason(error)}.") from error
    if not table:
        raise PrunekitError(f"the shapes file {name!r} is empty: it needs a header with M,N,K and rows of shapes.")
    header = table[0][1]
    missing = [column for column in "MNK" if header.count(column) != 1]
    if missing:
        raise PrunekitError(
            f"the shapes file {name!r} needs each of the columns M, N and K once, but its header "
            f"{','.join(header)!r} does not have {' and '.join(missing)} so."
        )
    if len(table) == 1:
        raise PrunekitError(f"the shapes file {name!r} has a header but no row.")
    return header, [_shape_row(name, line, header, cells, sparse24) for line, cells in table[1:]]


def _shape_row(name: str, line: int, header: list[str], cells: list[str], sparse24: bool) -> ShapeRow:
    where = f"line {line} of the shapes file {name!r}"
    if len(cells) != len(header):
        raise PrunekitError(f"{where} has {len(cells)} fields, but the header has {len(header)}.")
    columns = dict(zip(header, cells))
    for column in "MNK":
        if not re.fullmatch(r"[+-]?[0-9]{1,1000}", columns[column]):
            raise PrunekitError(f"{where}: {column} is {columns[column]!r}, but it must be a whole number.")
    M, N, K = (int(columns[column]) for column in "MNK")
    try:
        check_sizes(M, N, K, sparse24)
    except PrunekitError as error:
        raise PrunekitError(f"{where}: {error}") from None
    return ShapeRow(line, M, N, K, columns)


def _reason(error: Exception) -> str:
    """An error in a few words, without its file name twice."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8 text"
    return getattr(error, "strerror", None) or str(error)
