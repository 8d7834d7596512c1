"""Tiny models of several families for the tests of what is streamed, in shards."""

import torch
from tiny import VOCABULARY, cast_parameters, tiny_gemma2, tiny_gpt2, tiny_llama

SIZES = {"hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4, "num_hidden_layers": 3}


def tiny_qwen2():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(vocab_size=VOCABULARY, num_key_value_heads=2, initializer_range=0.15, **SIZES)
    return _random(Qwen2ForCausalLM, config)


def tiny_neox():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return _random(GPTNeoXForCausalLM, GPTNeoXConfig(vocab_size=VOCABULARY, initializer_range=0.15, **SIZES))


def _random(kind, config):
    torch.manual_seed(0)
    return kind(config).eval().requires_grad_(False)


def kinds_of_gemma2():
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return tiny_gemma2(num_hidden_layers=3, layer_types=kinds, sliding_window=8, initializer_range=0.15)


FAMILIES = {
    "llama": lambda: tiny_llama(num_hidden_layers=3, tie_word_embeddings=False),
    "tied llama": tiny_llama,
    "qwen": tiny_qwen2,
    "neox": tiny_neox,
    "gemma2": kinds_of_gemma2,
    "gpt2": tiny_gpt2,
}


def write_model(kind, tokenizer, folder):
    """A checkpoint of that family in bfloat16, in several shards."""
    model = cast_parameters(FAMILIES[kind](), torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="100KB")
    tokenizer.save_pretrained(folder)
    return folder


def tensors_in(folder):
    from safetensors.torch import load_file

    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def assert_same_tensors(one, other):
    ours, theirs = tensors_in(one), tensors_in(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype and tensor.shape == theirs[name].shape, name
        assert torch.equal(tensor.view(torch.uint8), theirs[name].view(torch.uint8)), name


def bytes_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
