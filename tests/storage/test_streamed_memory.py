"""How much memory a model takes that is compressed block by block: as much with twice the blocks."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from tiny import ROOT

WIDTH, MLP, VOCABULARY = 2048, 5632, 32000
LIMITS = {"fast": 1.5e9, "admm": 2.5e9}
OPTIONS = {
    "fast": ("--sparsity", "0.5", "--fp8", "e4m3"),
    "admm": ("--pattern", "2:4", "--method", "admm", "--no-permute"),
}


def shapes_of(blocks):
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "lm_head.weight": (VOCABULARY, WIDTH)}
    shapes["model.norm.weight"] = (WIDTH,)
    for index in range(blocks):
        inside = f"model.layers.{index}."
        shapes |= {f"{inside}self_attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"}
        shapes |= {f"{inside}mlp.{name}_proj.weight": (MLP, WIDTH) for name in ("gate", "up")}
        shapes |= {f"{inside}mlp.down_proj.weight": (WIDTH, MLP)}
        shapes |= {f"{inside}{name}_layernorm.weight": (WIDTH,) for name in ("input", "post_attention")}
    return shapes


def write_random(folder, blocks, tokenizer):
    """A checkpoint of LLaMA's shape, random bfloat16, in three shards."""
    folder.mkdir()
    tokenizer.save_pretrained(folder)
    shapes = shapes_of(blocks)
    names, places, g = list(shapes), {}, torch.Generator().manual_seed(0)
    for shard in range(3):
        file = f"model-{shard + 1:05}-of-00003.safetensors"
        mine = names[shard::3]
        tensors = {}
        for name in mine:
            random = torch.randn(shapes[name], generator=g, dtype=torch.bfloat16)
            tensors[name] = 0.02 * random if random.ndim > 1 else torch.ones_like(random)
        save_file(tensors, folder / file, {"format": "pt"})
        places |= dict.fromkeys(mine, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}
    config |= {"hidden_size": WIDTH, "intermediate_size": MLP, "vocab_size": VOCABULARY, "num_attention_heads": 16}
    config |= {"num_hidden_layers": blocks, "num_key_value_heads": 16, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def prunekit(*arguments):
    """What a command says, in a process of its own: peaks are those of a whole process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "prunekit", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("method", LIMITS)
def test_the_peak_of_memory_does_not_depend_on_the_number_of_blocks(tokenizer, text_file, tmp_path, method):
    peaks = {}
    for blocks in (24, 48):
        source = write_random(tmp_path / f"in-{blocks}", blocks, tokenizer)
        out, report = tmp_path / f"out-{blocks}", tmp_path / f"{blocks}.json"
        options = ("--calibration-text", text_file, "--json", report, "--out", out, "--stream")
        said = prunekit("compress", source, *OPTIONS[method], *options)
        peaks[blocks] = json.loads(report.read_text())["peak_rss"]
        predicted = 1e9 * float(re.search(r"([\d.]+) GB of memory", said)[1])
        assert predicted == pytest.approx(peaks[blocks], rel=0.15)
    assert max(peaks.values()) <= LIMITS[method]
    assert abs(peaks[24] - peaks[48]) <= 0.2e9
