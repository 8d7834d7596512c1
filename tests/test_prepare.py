"""What comes before compression: which articles each step sees."""

import importlib

import pytest
import torch

from prunekit import prepare
from prunekit.cli import main
from prunekit.presets import recovery_minutes


@pytest.fixture
def asked(monkeypatch):
    """What `corpus` is asked for: text, split, tokens, context, seed."""
    calls = []

    def corpus(tokenizer, text="wikipedia", split="test", tokens=8192, context=512, seed=0):
        calls.append((text, split, tokens, context, seed))
        return torch.zeros(9, 2, dtype=torch.long)

    monkeypatch.setattr(prepare, "corpus", corpus)
    monkeypatch.setattr(importlib.import_module("prunekit.corpus"), "corpus", corpus)
    return calls


def test_calibration_sees_training_articles_only(asked):
    prepare.calibration_text(None, "ewma", None)
    prepare.calibration_text(None, "admm", None, seed=3)
    prepare.calibration_text(None, "wanda", 1000, "news", 1)
    prepare.calibration_text(None, "wanda", 1000, limit=128)
    prepare.calibration_text(None, "ewma", 100)
    assert asked == [
        ("wikipedia", "train", 2048, 32, 0),
        ("wikipedia", "train", 32_768, 128, 3),
        ("news", "train", 1000, 512, 1),
        ("wikipedia", "train", 1000, 128, 0),
        ("wikipedia", "train", 100, 100, 0),
    ]


def test_recovery_trains_on_training_articles_and_watches_others(asked, llama, gpt2):
    train, watch = prepare.recovery_text(llama, None, seed=2)
    assert len(train) == 9 and len(watch) == 8
    prepare.recovery_text(gpt2, None)  # which has 128 positions
    kinds = [("wikipedia", split, None, context, seed) for context, seed in ((256, 2), (128, 0)) for split in SPLITS]
    assert asked == kinds


SPLITS = ("train", "validation")


def test_a_model_is_judged_on_test_articles(asked, folders):
    assert main(["evaluate", str(folders.llama), "--tokens", "64", "--context", "32"]) == 0
    assert asked == [("wikipedia", "test", 64, 32, 0)]


def test_recovery_takes_longer_the_more_is_pruned_but_never_too_long():
    shares = (0.01, 0.1, 0.2, 0.5, 0.75)
    assert [recovery_minutes(share, 75.0) for share in shares] == pytest.approx([1.0, 3.6, 7.2, 18.0, 18.0])
    assert [recovery_minutes(share, 3600.0) for share in shares] == pytest.approx([1.0, 1.0, 2.0, 5.0, 5.0])
