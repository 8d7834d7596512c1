"""How much memory a model takes that is compressed block by block: as much with twice the blocks."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import ROOT

LARGE = 2048, 5632  # width and MLP of a model of 1.4 billion weights with 24 blocks
SEVEN = 4096, 11008  # of LLaMA-2-7B
VOCABULARY = 32000
LIMITS = {"fast": 1.5e9, "admm": 2.5e9, "trained": 2.5e9}
BLOCKS = {"fast": (24, 48), "admm": (2, 4), "trained": (2, 4)}  # ADMM takes minutes for each
OPTIONS = {
    "fast": ("--sparsity", "0.5", "--fp8", "e4m3"),
    "admm": ("--pattern", "2:4", "--method", "admm", "--no-permute"),
    "trained": ("--sparsity", "0.5", "--block-steps", "3"),
}


def shapes_of(blocks, width, mlp):
    shapes = {"model.embed_tokens.weight": (VOCABULARY, width), "lm_head.weight": (VOCABULARY, width)}
    shapes["model.norm.weight"] = (width,)
    for index in range(blocks):
        inside = f"model.layers.{index}."
        shapes |= {f"{inside}self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        shapes |= {f"{inside}mlp.{name}_proj.weight": (mlp, width) for name in ("gate", "up")}
        shapes |= {f"{inside}mlp.down_proj.weight": (width, mlp)}
        shapes |= {f"{inside}{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    return shapes


def write_random(folder, blocks, tokenizer, width, mlp):
    """A checkpoint of LLaMA's shape, random bfloat16, in three shards."""
    folder.mkdir()
    tokenizer.save_pretrained(folder)
    shapes = shapes_of(blocks, width, mlp)
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
    config |= {"hidden_size": width, "intermediate_size": mlp, "vocab_size": VOCABULARY, "tie_word_embeddings": False}
    config |= {"num_hidden_layers": blocks, "num_attention_heads": width // 128, "num_key_value_heads": width // 128}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def long_text(text_file, tmp_path):
    """Enough for any method's default."""
    path = tmp_path / "long.txt"
    path.write_text(5 * text_file.read_text("utf-8"), "utf-8")
    return path


def prunekit(*arguments):
    """What a command says, in a process of its own: peaks are those of a whole process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "prunekit", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("method", LIMITS)
def test_the_peak_of_memory_does_not_depend_on_the_number_of_blocks(tokenizer, long_text, tmp_path, method):
    peaks = {}
    few, many = BLOCKS[method]
    for blocks in (few, many):
        source = write_random(tmp_path / f"in-{blocks}", blocks, tokenizer, *LARGE)
        peaks[blocks] = peak_of(source, tmp_path / f"out-{blocks}", method, long_text)
        shutil.rmtree(source)
    assert max(peaks.values()) <= LIMITS[method]
    assert abs(peaks[few] - peaks[many]) <= 0.2e9


@pytest.mark.embedded
@pytest.mark.slow
def test_the_peak_of_the_embedded_model_in_training_is_as_predicted(long_text, tmp_path):
    assert peak_of(Path("embedded"), tmp_path / "out", "trained", long_text) <= 1e9


@pytest.mark.slow
def test_a_model_of_7_billion_weights_passes_through_4_gigabytes(tokenizer, long_text, tmp_path):
    if shutil.disk_usage(tmp_path).free < 30e9:
        pytest.skip("needs 30 GB of disk")
    source = write_random(tmp_path / "in", 32, tokenizer, *SEVEN)
    assert sum(file.stat().st_size for file in source.glob("*.safetensors")) == pytest.approx(13.5e9, rel=0.01)
    assert peak_of(source, tmp_path / "out", "fast", long_text) <= 4e9


def peak_of(source, out, method, text):
    """The peak of memory in bytes, which is within 15 % of what was said beforehand; `out` is removed."""
    report = out.with_suffix(".json")
    options = ("--calibration-text", text, "--json", report, "--out", out, "--stream")
    said = prunekit("compress", source, *OPTIONS[method], *options)
    peak = json.loads(report.read_text())["peak_rss"]
    print(f"{source.name} {method}: peak {peak / 1e9:.2f} GB, {said.splitlines()[-2]}")
    shutil.rmtree(out)
    predicted = 1e9 * float(re.search(r"([\d.]+) GB of memory", said)[1])
    assert predicted == pytest.approx(peak, rel=0.15)
    return peak
