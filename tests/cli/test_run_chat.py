"""Conversations on the command line: calibration, recovery and evaluation read them through the model's template."""

import json
import shutil

import pytest
from tiny import SENTENCES

from prunekit.storage.about import read_recipe


@pytest.fixture
def chatty(folders, speaker, tmp_path):
    """A checkpoint whose tokenizer has a chat template, and conversations in a file."""
    shutil.copytree(folders.llama, tmp_path / "chatty")
    speaker.save_pretrained(tmp_path / "chatty")
    turns = lambda i: [{"role": "user", "content": SENTENCES[i % 5]}, {"role": "tool", "content": f"{i}"}]  # noqa: E731
    (tmp_path / "chat.jsonl").write_text("\n".join(json.dumps({"messages": turns(i)}) for i in range(100)))
    return tmp_path


@pytest.mark.parametrize("options", ["--recover --steps 1", "--stream"])
def test_conversations_all_the_way(run, chatty, options):
    options = f"--sparsity 0.5 --method wanda --calibration-tokens 512 --out small {options}".split()
    code, out, error = run("compress", "chatty", *options, "--calibration-text", "chat.jsonl")
    assert code == 0 and "calibration text: chat.jsonl" in out, error
    assert read_recipe(chatty / "small")[1].text == ("chat.jsonl",)
    code, out, error = run("evaluate", "small", "--text", "chat.jsonl", "--tokens", "128", "--context", "64")
    assert code == 0 and "2 windows of 64 tokens" in out, error
