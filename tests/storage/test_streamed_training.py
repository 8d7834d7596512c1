"""Blocks of a streamed model are trained to give what the dense ones give: zeros stay, the error falls."""

import os

import pytest
import torch
from streamed_models import bytes_of, tensors_in, write_model

from prunekit.compression.compress import compress
from prunekit.compression.streamed.trained import STEP_TOKENS, lessons
from prunekit.errors import PrunekitError
from prunekit.evaluation.evaluate import evaluate
from prunekit.model.copies import replace_layers
from prunekit.model.linear import linear_layers, without_sign
from prunekit.recovery.blocks import BlockTraining, relative_error
from prunekit.storage.about import read_about
from prunekit.storage.load import load
from prunekit.storage.streamed.folder import compress_folder
from prunekit.storage.streamed.verify import verify
from prunekit.system import files

TRAINS = BlockTraining(12, rate=2e-3)
RECIPES = {
    "admm": {"method": "admm", "pattern": "2:4"},
    "fast in FP8": {"sparsity": 0.5, "compensate": True, "fp8": "e4m3"},
    "magnitude": {"method": "magnitude", "sparsity": 0.5, "fp8": "e5m2", "granularity": "tensor"},
}
KINDS = ("llama", "gpt2", "neox")
ALL = [("llama", "admm"), ("llama", "magnitude"), ("gpt2", "fast in FP8"), ("neox", "fast in FP8")]


@pytest.fixture(scope="module")
def sources(tmp_path_factory, tokenizer):
    base = tmp_path_factory.mktemp("sources")
    return {kind: write_model(kind, tokenizer, base / kind.replace(" ", "-")) for kind in KINDS}


@pytest.mark.parametrize("kind, recipe", ALL)
def test_zeros_stay_where_they_were_and_more_of_the_model_is_kept(sources, windows, tmp_path, kind, recipe):
    dense = load(str(sources[kind]))[0]
    compress_folder(sources[kind], tmp_path / "pruned", ids=windows, **RECIPES[recipe])
    written = compress_folder(sources[kind], tmp_path / "trained", ids=windows, trains=TRAINS, **RECIPES[recipe])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pruned", "trained"]
    assert read_about(tmp_path / "trained")["provenance"]["recovery"] == {"block_steps": 12, "rate": 2e-3}
    assert verify(tmp_path / "trained").sparsity == written.sparsity

    before, after = tensors_in(tmp_path / "pruned"), tensors_in(tmp_path / "trained")
    assert before.keys() == after.keys()
    layers = {f"{name}.weight" for name in linear_layers(dense)}
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype and after[name].shape == tensor.shape
        if name in layers:
            assert not without_sign(after[name].view(tensor.dtype))[without_sign(tensor) == 0].any()
            assert not torch.equal(after[name].view(torch.uint8), tensor.view(torch.uint8))
    kept = {n: evaluate(load(str(tmp_path / n))[0], windows, dense)["kl"] for n in ("pruned", "trained")}
    assert kept["trained"] < kept["pruned"]


def test_the_error_of_a_block_falls(llama):
    result = compress(llama, sparsity=0.5, method="magnitude")
    block, pruned = llama.model.layers[0], result.model.model.layers[0]
    before = {name: value.clone() for name, value in pruned.state_dict().items()}
    g = torch.Generator().manual_seed(0)
    texts = [torch.randn(4, 16, 64, generator=g) for _ in range(4)]
    kwargs = {"position_embeddings": llama.model.rotary_emb(texts[0], torch.arange(16)[None])}
    targets = [block(x, **kwargs) for x in texts]
    examples = [(x, ([], kwargs), target) for x, target in zip(texts, targets)]
    layers, norms = BlockTraining(40, rate=5e-3).train(pruned, [*linear_layers(pruned)], result.recipe, 10 * examples)
    assert layers.keys() == linear_layers(pruned).keys() and len(norms) == 2
    for name, value in pruned.state_dict().items():
        assert torch.equal(value, before[name])
    trained = replace_layers(pruned, layers | norms)
    for x, target in zip(texts, targets):
        assert relative_error(trained(x, **kwargs), target) < 0.8 * relative_error(pruned(x, **kwargs), target)


def test_each_token_counts_as_much_as_any_other():
    output, target = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    scale = torch.tensor([1.0, 1e3, 1e-2, 7.0, 1.0])[:, None]
    assert torch.isclose(relative_error(scale * output, scale * target), relative_error(output, target))
    assert relative_error(target, target) == 0 and torch.isclose(relative_error(0 * target, target), torch.tensor(1.0))


@pytest.mark.parametrize("windows_given", [3, 64, 200])
def test_each_window_is_read_as_often_as_any_other(windows_given):
    ids = torch.arange(windows_given)[:, None].expand(-1, 128)
    found = lessons(ids, 12)
    assert len(found) == 12 and {len(each) for each in found} == {STEP_TOKENS // 128}
    counts = torch.bincount(torch.cat(found)[:, 0], minlength=windows_given)[: min(windows_given, 48)]
    assert counts.max() - counts.min() <= 1 and counts.sum() == 48


def test_an_interrupted_training_goes_on_to_the_same_bytes(sources, windows, tmp_path, monkeypatch):
    options = {"ids": windows, "trains": BlockTraining(3), **RECIPES["fast in FP8"]}
    whole = compress_folder(sources["llama"], tmp_path / "whole", **options).out
    replace, left, out = os.replace, [2], tmp_path / "out"
    interruptions = 0

    def interrupted(*names):
        left[0] -= 1
        if left[0] > 0:
            replace(*names)
            return
        left[0] = 3 + interruptions % 5
        if left[0] % 2:  # just after the file has its name, or just before
            replace(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupted)
    while not out.exists():
        try:
            compress_folder(sources["llama"], out, **options)
        except KeyboardInterrupt:
            interruptions += 1
            assert interruptions < 99
    assert interruptions >= 5
    assert bytes_of(out) == bytes_of(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_other_steps_do_not_go_on_with_what_was_begun(sources, windows, tmp_path, monkeypatch):
    calls = []

    def full(*_):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(BlockTraining, "train", full)
    options = {"ids": windows, "sparsity": 0.5}
    with pytest.raises(KeyboardInterrupt):
        compress_folder(sources["llama"], tmp_path / "out", trains=BlockTraining(3), **options)
    for other in (BlockTraining(4), None):
        with pytest.raises(PrunekitError, match="left unfinished"):
            compress_folder(sources["llama"], tmp_path / "out", trains=other, **options)
    assert len(calls) == 1


@pytest.mark.parametrize("options", [(0,), (2.5,), (3, 0.0), (3, float("nan"))])
def test_numbers_that_are_none_above_0_are_refused(options):
    with pytest.raises(PrunekitError, match="expected"):
        BlockTraining(*options)


def test_a_rate_that_is_too_high_is_refused(sources, windows, tmp_path):
    with pytest.raises(PrunekitError, match="try a lower rate"):
        compress_folder(
            sources["llama"], tmp_path / "out", ids=windows, trains=BlockTraining(9, rate=1e30), sparsity=0.5
        )
    assert not (tmp_path / "out").exists()
