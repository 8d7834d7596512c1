"""What comes before compression: which articles each step sees."""

from types import SimpleNamespace

import pytest
import torch

from prunekit.calibration import windows as module
from prunekit.cli.compress import forecast
from prunekit.cli.main import main
from prunekit.compression.layer import warm_up
from prunekit.compression.recipe import Recipe
from prunekit.model.linear import linear_layers
from prunekit.recovery.budget import recovery_minutes


@pytest.fixture
def asked(monkeypatch):
    """What `corpus` is asked for: text, split, tokens, context, seed."""
    calls = []

    def corpus(tokenizer, text="wikipedia", split="test", tokens=8192, context=512, seed=0):
        calls.append((text, split, tokens, context, seed))
        return torch.zeros(9, 2, dtype=torch.long)

    monkeypatch.setattr(module, "corpus", corpus)
    monkeypatch.setattr("prunekit.cli.evaluate.corpus", corpus)
    return calls


def test_calibration_sees_training_articles_only(asked):
    module.calibration_text(None, "ewma", None)
    module.calibration_text(None, "admm", None, seed=3)
    module.calibration_text(None, "wanda", 1000, "news", 1)
    module.calibration_text(None, "wanda", 1000, limit=128)
    module.calibration_text(None, "ewma", 100)
    assert asked == [
        ("wikipedia", "train", 2048, 32, 0),
        ("wikipedia", "train", 32_768, 128, 3),
        ("news", "train", 1000, 512, 1),
        ("wikipedia", "train", 1000, 128, 0),
        ("wikipedia", "train", 100, 100, 0),
    ]


def test_recovery_trains_on_two_kinds_of_training_articles_and_watches_others(asked, llama, gpt2):
    train, watch = module.recovery_text(llama, None, seed=2)
    assert len(train) == 9 and len(watch) == 8
    module.recovery_text(gpt2, None)  # which has 128 positions
    windows = ((256, 2), (128, 0))
    kinds = [(module.RECOVERY_TEXTS, split, None, context, seed) for context, seed in windows for split in SPLITS]
    assert asked == kinds


def test_of_a_file_some_windows_are_watched_and_not_trained_on(llama, tokenizer, tmp_path):
    file = tmp_path / "numbers.txt"
    file.write_text(" ".join(str(n * n) for n in range(2000)), "utf-8")
    train, watch = module.recovery_text(llama, tokenizer, str(file))
    assert len(train) > len(watch) == 8
    assert not (train[:, None] == watch).all(-1).any()


@pytest.mark.parametrize(("windows", "trained"), [(2, 2), (8, 8), (9, 9), (15, 15), (16, 8), (40, 32)])
def test_as_much_is_trained_on_as_is_watched_or_all_of_it(llama, monkeypatch, windows, trained):
    ids = torch.arange(windows)[:, None].expand(-1, 4)
    monkeypatch.setattr(module, "corpus", lambda *_: ids)
    train, watch = module.recovery_text(llama, None, "a file")
    assert len(train) == trained and torch.equal(watch, ids[:8])


@pytest.mark.parametrize(
    ("dtype", "recipe", "recovers", "bytes_each", "ways"),
    [
        (torch.float32, {"fp8": "e4m3"}, False, 1, "--dtype bfloat16, a machine with more"),
        (torch.float32, {"pattern": "2:4", "permute": True}, False, 8, "--no-permute"),
        (torch.bfloat16, {"fp8": "e4m3"}, True, 22, "try no recovery, a machine"),
        (torch.bfloat16, {"method": "admm"}, False, 2, "try a machine with more"),
    ],
    ids=["fp8", "2:4", "recovery", "admm"],
)
def test_too_little_memory_is_said_beforehand(make_model, monkeypatch, dtype, recipe, recovers, bytes_each, ways):
    model = make_model(dtype=dtype)
    layers = linear_layers(model)
    recipe = Recipe(**({} if "pattern" in recipe else {"sparsity": 0.5}) | recipe)
    needed = bytes_each * sum(layer.weight.numel() for layer in layers.values())
    if recipe.method == "admm":
        needed += max(16 * layer.in_features**2 + 28 * layer.weight.numel() for layer in layers.values())
    monkeypatch.setattr(forecast, "fast_bfloat16", lambda: True)
    monkeypatch.setattr(forecast, "memory_free", lambda device: needed)
    assert forecast.cautions(layers, recipe, recovers) == []
    monkeypatch.setattr(forecast, "memory_free", lambda device: needed - 1)
    (caution,) = forecast.cautions(layers, recipe, recovers)
    assert ways in caution and "predicted" in caution


def test_a_cpu_that_is_slow_in_bfloat16_is_said_beforehand(make_model, monkeypatch):
    monkeypatch.setattr(forecast, "fast_bfloat16", lambda: False)
    recipe = Recipe(sparsity=0.5)
    wide, narrow = make_model(), make_model(dtype=torch.bfloat16)
    assert forecast.cautions(linear_layers(wide), recipe, False) == []
    (caution,) = forecast.cautions(linear_layers(narrow), recipe, False)
    assert "--dtype float32" in caution


SPLITS = ("train", "validation")


def test_a_model_is_judged_on_test_articles(asked, folders):
    assert main(["evaluate", str(folders.llama), "--tokens", "64", "--context", "32"]) == 0
    assert asked == [("wikipedia", "test", 64, 32, 0)]


def test_recovery_takes_longer_the_more_is_pruned_but_never_too_long():
    shares = (0.01, 0.1, 0.2, 0.5, 0.75)
    assert [recovery_minutes(share, 75.0) for share in shares] == pytest.approx([1.0, 3.6, 7.2, 18.0, 18.0])
    assert [recovery_minutes(share, 3600.0) for share in shares] == pytest.approx([1.0, 1.0, 2.0, 5.0, 5.0])


@pytest.mark.parametrize("pattern", ["2:4", "1:3", "2:5"])
def test_kernels_are_warmed_up_for_any_pattern(pattern):
    from prunekit.compression.recipe import Recipe

    for options in ({}, {"compensate": True}, {"fp8": "e4m3"}):
        warm_up(Recipe(pattern=pattern, **options))


@pytest.mark.parametrize("options", [{"pattern": "2:4"}, {"sparsity": 0.5}, {"sparsity": 0.0}], ids=str)
def test_what_admm_selects_with_is_compiled_before_it_fills_the_memory(monkeypatch, options):
    from prunekit.compression import layer

    targets = []
    selecting = SimpleNamespace(select=lambda W, E, **target: targets.append(target))
    monkeypatch.setattr(layer, "fastest", lambda device: selecting)
    warm_up(Recipe(method="admm", **options))
    target = {"sparsity": options.get("sparsity"), "pattern": options.get("pattern")}
    assert targets == ([target] if options.get("sparsity") != 0 else [])


def test_float16_is_not_said_to_be_slow(make_model, monkeypatch):
    from prunekit.compression.recipe import Recipe

    monkeypatch.setattr(forecast, "fast_bfloat16", lambda: False)
    assert forecast.cautions(linear_layers(make_model(dtype=torch.float16)), Recipe(sparsity=0.5), False) == []
