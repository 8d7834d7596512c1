"""The tiny models that the tests compress, and what describes them."""

from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]

VOCABULARY = 300

SENTENCES = (
    "The weights of a model are many, and most of them hardly matter.",
    "A small weight on a loud input may matter more than a large one on a silent input.",
    "Half of the weights can go; the sentence that follows is still a sentence.",
    "In the spring the river rises and the town counts its bridges.",
    "Nobody sorts a library to find the heavier half of its books.",
)

CHAT_TEMPLATE = """{{ bos_token }}{% if tools %}[tools {{ tools | tojson }}]
{% endif %}{% for m in messages %}{% if m.role == 'critic' %}{{ raise_exception('There is no critic here') }}{% endif %}
<{{ m.role }}>{{ m.content }}{% for call in m.tool_calls or [] %}({{ call.function.name }}){% endfor %}
{% endfor %}"""


def cast_parameters(model, dtype):
    """Cast as a checkpoint of that dtype is opened: buffers, such as rotary frequencies, stay float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


def tiny_llama(seed=0, dtype=torch.float32, **options):
    """A LLaMA of two blocks with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2}
    options = {"tie_word_embeddings": True} | sizes | options
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        **options,
    )
    torch.manual_seed(seed)
    return cast_parameters(LlamaForCausalLM(config).eval().requires_grad_(False), dtype)


def tiny_gpt2(seed=0, dtype=torch.float32):
    """A GPT-2 of two blocks with random weights, biases too; its layers are `Conv1D`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=64,
        n_inner=160,
        n_layer=2,
        n_head=4,
        n_positions=128,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(std=0.1)
    return cast_parameters(model, dtype)


def tiny_gemma2(seed=0, dtype=torch.float32, **options):
    """A Gemma 2 of one block with random weights; it scales its embeddings by a buffer that no checkpoint holds."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(seed)
    model = Gemma2ForCausalLM(Gemma2Config(vocab_size=VOCABULARY, **sizes | heads | options))
    return cast_parameters(model.eval().requires_grad_(False), dtype)


FAMILIES = {
    "llama": ("Llama", {"num_key_value_heads": 2}),
    "mistral": ("Mistral", {"num_key_value_heads": 2}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 24}),
    "gemma2": ("Gemma2", {"num_key_value_heads": 2, "head_dim": 16}),
    "gemma3": ("Gemma3", {"num_key_value_heads": 2, "head_dim": 16}),
    "opt": ("OPT", {"ffn_dim": 160, "word_embed_proj_dim": 64, "max_position_embeddings": 64}),
    "phi": ("Phi", {}),
    "phi3": ("Phi3", {}),
    "gpt_neox": ("GPTNeoX", {}),
}


def tiny_family(kind, **options):
    """A model of another family with two blocks, random weights, biases and norms; it knows 99 tokens."""
    import transformers

    name, its = FAMILIES[kind]
    its = ({} if kind == "opt" else {"intermediate_size": 160}) | its | options
    sizes = {"vocab_size": 99, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    torch.manual_seed(0)
    kind = "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config"
    config = getattr(transformers, kind)(**sizes, **special, initializer_range=0.2, **its)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


MIXTURES = {"olmoe": "Olmoe", "mixtral": "Mixtral", "qwen3_moe": "Qwen3Moe", "gpt_oss": "GptOss"}


def tiny_mixture(kind="olmoe"):
    """A mixture of four experts with two blocks and random weights."""
    import transformers

    sizes = {"hidden_size": 64, "intermediate_size": 32, "moe_intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}
    experts = {"num_experts_per_tok": 2, "num_local_experts" if kind in ("mixtral", "gpt_oss") else "num_experts": 4}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = getattr(transformers, f"{MIXTURES[kind]}Config")
    torch.manual_seed(0)
    config = config(vocab_size=VOCABULARY, **sizes, **heads, **experts, **special, initializer_range=0.3)
    return getattr(transformers, f"{MIXTURES[kind]}ForCausalLM")(config).eval().requires_grad_(False)


MAKERS = {"llama": tiny_llama, "gpt2": tiny_gpt2, "gemma2": tiny_gemma2}


class Seen(Exception):
    """Ends a command as soon as what it passes on has been seen."""
