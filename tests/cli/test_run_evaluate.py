"""`prunekit evaluate` and `prunekit generate`."""

import json
from pathlib import Path

import pytest
import torch


def test_the_model_against_itself(run, model, text_file, tmp_path):
    options = ("--text", text_file, "--tokens", 512, "--context", 64, "--json", "report.json")
    assert run("evaluate", model, "--dense", model, *options)[0] == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["kl"] == 0 and report["retention"] in (1, None)  # None where the model is never right


def test_an_unknown_dense_model(refused, model, text_file):
    assert "unknown model" in refused("evaluate", model, "--dense", "no/such/folder", "--text", text_file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"Too short a text.", "fewer than the"),
        (b"caf\xe9 " * 5000, "is not UTF-8 text (byte 3 cannot be decoded)"),
        (None, "cannot read the text"),
    ],
)
def test_bad_texts(refused, model, tmp_path, content, message):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    for method in ("ewma", "wanda", "sparsegpt"):
        options = ("--method", method, "--calibration-text", "text.txt", "--out", "out", "--json", "report.json")
        assert message in refused("compress", model, "--sparsity", "0.5", *options)
    assert message in refused("evaluate", model, "--text", "text.txt", "--json", "report.json")
    if message != "fewer than the":  # only a tokenizer can tell
        assert message in refused("compress", "no model", "--sparsity", "0.5", "--calibration-text", "text.txt")
        assert message in refused("evaluate", "no model", "--text", "text.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tokens", "0"), "0 tokens in windows of 512"),
        (("--tokens", "-5"), "-5 tokens"),
        (("--tokens", "511"), "511 tokens in windows of 512"),
        (("--context", "1"), "windows of 1"),
        (("--context", "0"), "windows of 0"),
        (("--tokens", "abc"), "argument --tokens: invalid int value: 'abc'"),
        (("--context", "2.5"), "argument --context: invalid int value: '2.5'"),
        (("--tokens", "100000000"), "fewer than the"),
        (("--dtype", "double"), "unknown dtype 'double'"),
    ],
    ids=str,
)
def test_bad_numbers_of_evaluate(refused, model, text_file, options, message):
    assert message in refused("evaluate", model, "--text", text_file, *options, "--json", "report.json")


def test_inputs_are_cast_where_that_is_asked_for(run, refused, model, text_file, tmp_path):
    assert run("compress", model, "--sparsity", "0.5", "--fp8", "e4m3", "--method", "magnitude", "--out", "fp8")[0] == 0
    options = ("--text", text_file, "--tokens", 64, "--context", 32, "--json", "report.json")
    found = {}
    for activations in ("none", "dynamic"):
        assert run("evaluate", "fp8", *options, "--activations", activations)[0] == 0
        report = json.loads((tmp_path / "report.json").read_text("utf-8"))
        assert report["activations"] == activations
        found[activations] = report["perplexity"]
    assert found["none"] != found["dynamic"] == pytest.approx(found["none"], rel=0.2)
    assert "no FP8 layers" in refused("evaluate", model, *options[:-2], "--activations", "dynamic")
    assert "leave out --stream" in refused("evaluate", "fp8", *options[:-2], "--activations", "dynamic", "--stream")


def test_bad_prompts_and_numbers_of_generate(refused, model):
    for prompt in ("", "  ", "\n"):
        assert "the prompt is empty" in refused("generate", model, prompt)
    for tokens in ("0", "-3"):
        assert "--tokens is" in refused("generate", model, "The", "--tokens", tokens)
    assert "invalid int value" in refused("generate", model, "The", "--tokens", "few")
    assert "not valid Unicode" in refused("generate", model, "caf\udce9")


def test_models_of_different_vocabularies(refused, model, make_model, tokenizer, text_file, tmp_path, capsys):
    other = make_model("gpt2")
    other.resize_token_embeddings(310, mean_resizing=False)
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    capsys.readouterr()
    options = ("--text", text_file, "--tokens", 64, "--context", 32)
    assert "have vocabularies of 310 and 300" in refused("evaluate", model, "--dense", "other", *options)
    other.resize_token_embeddings(50, mean_resizing=False)
    other.save_pretrained(tmp_path / "other")
    capsys.readouterr()
    assert "but a model knows 50: tokenize" in refused("evaluate", model, "--dense", "other", *options)


def test_windows_longer_than_the_model_has_positions(refused, folders, text_file):
    error = refused("evaluate", folders.gpt2, "--text", text_file, "--tokens", 512, "--context", 256)
    assert "256 tokens in a row, but the model takes at most 128" in error
    assert "takes at most 128" in refused("generate", folders.gpt2, "<end>", "--tokens", 129)


def test_a_model_is_judged_on_the_split_that_is_asked_for(run, refused, model, monkeypatch):
    seen = []
    monkeypatch.setattr("prunekit.cli.evaluate.corpus", lambda *a: seen.append(a[1:]) or torch.ones(2, 8).long())
    options = ("--text", "news", "--tokens", 16, "--context", 8)
    assert run("evaluate", model, *options)[0] == 0
    code, out, _ = run("evaluate", model, *options, "--split", "train")
    assert code == 0 and "protocol: news (train), 2 windows of 8 tokens" in out
    assert seen == [("news", "test", 16, 8), ("news", "train", 16, 8)]
    assert "unknown split 'all'" in refused("evaluate", model, *options, "--split", "all")


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_offered_where_it_is_faster(run, model, text_file, monkeypatch, fast):
    monkeypatch.setattr("prunekit.model.modes.fast_bfloat16", lambda: fast)
    options = ("evaluate", model, "--text", text_file, "--tokens", 512, "--context", 64, "--device", "cpu")
    said = run(*options)[1]
    assert ("with --dtype bfloat16" in said) == fast and "64 tokens in float32" in said
    said = run(*options, "--dtype", "bfloat16", "--json", "report.json")[1]
    assert "with --dtype" not in said and "64 tokens in bfloat16" in said
    assert json.loads(Path("report.json").read_text("utf-8"))["dtype"] == "bfloat16"
