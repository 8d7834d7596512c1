"""Checkpoints say under older names what transformers 4 and servers look for, and are the same to transformers 5."""

import json

import pytest
import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from prunekit.storage.compatibility import add_older_names, with_older_names

PLAIN, LINEAR = {"rope_type": "default"}, {"rope_type": "linear", "factor": 8.0}
BY_LAYER = {"sliding_attention": PLAIN | {"rope_theta": 2e4}, "full_attention": LINEAR | {"rope_theta": 2e6}}
GEMMA = {"rope_theta": 2e6, "rope_local_base_freq": 2e4, "rope_scaling": LINEAR}
CASES = [
    ("LlamaConfig", {"rope_theta": 5e5} | PLAIN, {"rope_theta": 5e5, "rope_scaling": None}),
    ("LlamaConfig", {"rope_theta": 5e5} | LINEAR, {"rope_theta": 5e5, "rope_scaling": LINEAR}),
    ("PhiConfig", {"rope_theta": 2e4, "partial_rotary_factor": 0.4} | PLAIN, {"partial_rotary_factor": 0.4}),
    (
        "GPTNeoXConfig",
        {"rope_theta": 2e4, "partial_rotary_factor": 0.5} | PLAIN,
        {"rotary_emb_base": 2e4, "rotary_pct": 0.5},
    ),
    ("Gemma3TextConfig", BY_LAYER, GEMMA),
]
five = pytest.mark.skipif(transformers.__version__.startswith("4."), reason="transformers 4 writes them itself")


def as_stored(config):
    return json.loads(json.dumps(config.to_dict()))


@five
@pytest.mark.parametrize(("kind", "rope", "older"), CASES, ids=[case[0] for case in CASES])
def test_rotary_settings_stand_under_their_older_names_and_mean_the_same(kind, rope, older):
    config = getattr(transformers, kind)(rope_parameters=rope)
    stored = as_stored(config)
    named = with_older_names(stored)
    assert older.items() <= named.items() and stored.items() <= named.items()
    assert as_stored(type(config).from_dict(named)) == stored


@five
def test_a_text_model_within_another_gets_them_too():
    config = transformers.Gemma3Config(text_config={"rope_parameters": BY_LAYER})
    named = with_older_names(as_stored(config))
    assert GEMMA.items() <= named["text_config"].items()
    assert as_stored(type(config).from_dict(named)) == as_stored(config)


def test_what_has_no_rotary_positions_gets_no_such_names():
    assert with_older_names({"model_type": "gpt2", "dtype": "float16"}) == {
        "model_type": "gpt2",
        "dtype": "float16",
        "torch_dtype": "float16",
    }


def test_a_tokenizer_is_of_a_class_that_transformers_4_knows_and_keeps_its_special_tokens(tokenizer, tmp_path):
    mine = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, additional_special_tokens=["<one>"])
    mine.save_pretrained(tmp_path)
    add_older_names(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not isinstance(settings.get("extra_special_tokens"), list)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert "<one>" in again.all_special_tokens and again("a <one> b").input_ids == mine("a <one> b").input_ids


def test_a_folder_without_them_is_left_alone(tmp_path):
    add_older_names(tmp_path)
    assert list(tmp_path.iterdir()) == []
