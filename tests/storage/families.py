"""The families of models that are tried, and the table of them in RESULTS; run as a script, it writes that table."""

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from tiny import FAMILIES, ROOT, tiny_family, tiny_gpt2, tiny_mixture
from torch import nn
from transformers import AutoModelForCausalLM

from prunekit.compression.compress import compress
from prunekit.compression.result import Compressed
from prunekit.storage.reopen import open_compressed
from prunekit.storage.save import save

RESULTS = ROOT / "notebooks" / "RESULTS.md"
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"
NAMES = {
    **{"llama": "LLaMA", "mistral": "Mistral", "qwen2": "Qwen 2", "qwen3": "Qwen 3", "gemma2": "Gemma 2"},
    **{"gemma3": "Gemma 3", "phi": "Phi", "phi3": "Phi 3", "opt": "OPT", "gpt2": "GPT-2", "gpt_neox": "GPT-NeoX"},
    **{"olmoe": "OLMoE", "mixtral": "Mixtral", "qwen3_moe": "Qwen 3 MoE", "gpt_oss": "GPT-OSS"},
}
RECIPES = {"fp8": {"sparsity": 0.5, "fp8": "e4m3", "compensate": True}, "2:4": {"pattern": "2:4"}}
IDS = torch.randint(1, 99, (8, 32), generator=torch.Generator().manual_seed(1))


class NoTokenizer:
    """Stands in for one where nothing is tokenized."""

    def save_pretrained(self, folder):
        pass


@dataclass
class Tried:
    """A family that was compressed, saved and opened again, here and by transformers alone."""

    dense: nn.Module
    result: Compressed
    loaded: nn.Module
    plain: nn.Module
    config: dict


def tiny(kind, **options):
    """A tiny random model of a family."""
    if kind in FAMILIES:
        return tiny_family(kind, **options)
    return tiny_gpt2() if kind == "gpt2" else tiny_mixture(kind)


def attempt(kind, recipe, folder):
    """Try a family with one of `RECIPES`, in a folder of its own."""
    dense = tiny(kind)
    result = compress(dense, IDS, **RECIPES[recipe])
    save(result, NoTokenizer(), folder)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return Tried(dense, result, open_compressed(folder, "float32"), plain, config)


def table(tried):
    """The table in Markdown.

    Args:
        tried: gives a `Tried` for a family and a recipe.
    """
    lines = ["| family | layers | left out | 16 bits | FP8 |", "|---|---|---|---|---|"]
    for kind, name in NAMES.items():
        dense, cast = tried(kind, "2:4"), tried(kind, "fp8")
        layers = dict.fromkeys(entry["name"].rpartition(".")[2] for entry in dense.result.layers)
        left = dict.fromkeys(re.sub(r".*\.\d+\.", "", name) for name in dense.result.left_out)
        described = "quantization_config" in cast.config
        cells = (name, " ".join(layers), " ".join(left), opens(dense), opens(cast) if described else "widened")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def opens(found):
    """What transformers alone makes of a folder."""
    with torch.no_grad():
        same = torch.allclose(found.plain(IDS).logits, found.result.model(IDS).logits, rtol=1e-4, atol=1e-4)
    return "yes" if same else "other logits"


def with_table(text, new):
    """RESULTS with another table."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{new}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as base:
        new = table(lambda kind, recipe: attempt(kind, recipe, Path(base) / f"{kind}-{recipe.replace(':', '')}"))
    RESULTS.write_text(with_table(RESULTS.read_text("utf-8"), new), "utf-8")
