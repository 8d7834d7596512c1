"""A model that is compressed block by block from its folder, against the same model compressed as a whole."""

import json

import pytest
import torch
from streamed_models import FAMILIES, assert_same_tensors, write_model
from tiny import VOCABULARY

from prunekit.calibration.calibrate import Convergence
from prunekit.calibration.windows import calibration_text
from prunekit.compression.compress import compress
from prunekit.compression.recipe import Provenance
from prunekit.errors import PrunekitError
from prunekit.evaluation.evaluate import evaluate, evaluate_all
from prunekit.evaluation.streamed import evaluate_streamed
from prunekit.storage.load import load
from prunekit.storage.save import save
from prunekit.storage.streamed.folder import compress_folder
from prunekit.storage.streamed.skeletons import open_skeleton

FAST = {"method": "ewma", "compensate": True}
RECIPES = {
    "magnitude": {"method": "magnitude", "sparsity": 0.5},
    "magnitude in FP8": {"method": "magnitude", "sparsity": 0.5, "fp8": "e5m2", "granularity": "tensor"},
    "ewma": {"sparsity": 0.5},
    "ewma of blocks": {"pattern": "4:8", "fp8": "e4m3", "granularity": "block"},
    "fast": {**FAST, "sparsity": 0.5},
    "fast in FP8": {**FAST, "pattern": "2:4", "fp8": "e4m3"},
    "cast": {"sparsity": 0.0, "fp8": "e4m3"},
    "wanda": {"method": "wanda", "pattern": "2:4"},
    "sparsegpt": {"method": "sparsegpt", "sparsity": 0.5, "fp8": "e4m3"},
    "admm": {"method": "admm", "pattern": "2:4"},
}
TELLING = ("magnitude in FP8", "fast in FP8", "sparsegpt", "admm")
TEXTS = {"config.json", "generation_config.json", "prunekit.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory, tokenizer):
    base = tmp_path_factory.mktemp("sources")
    return {kind: write_model(kind, tokenizer, base / kind.replace(" ", "-")) for kind in FAMILIES}


def both_ways(source, out, windows, recipe, **options):
    """Compress whole and streamed, for whoever compares the two folders."""
    model, tokenizer = load(str(source))
    whole = compress(model, windows, **recipe, **options)
    save(whole, tokenizer, out / "whole")
    written = compress_folder(source, out / "streamed", ids=windows, **recipe, **options)
    return whole, written


ALL = [(kind, recipe) for kind in FAMILIES for recipe in (RECIPES if kind == "tied llama" else TELLING)]


@pytest.mark.parametrize("kind, recipe", ALL)
def test_the_tensors_are_those_of_the_whole_model(sources, windows, tmp_path, kind, recipe):
    whole, written = both_ways(sources[kind], tmp_path, windows, RECIPES[recipe])
    assert_same_tensors(tmp_path / "whole", tmp_path / "streamed")
    assert (written.tokens, written.sparsity, written.layers) == (whole.tokens, whole.sparsity, whole.layers)
    for name in TEXTS:
        ours, theirs = (json.loads((tmp_path / way / name).read_text()) for way in ("streamed", "whole"))
        assert ours == theirs, name
    assert not list(tmp_path.glob("*partial*"))
    with torch.no_grad():
        logits = [load(str(tmp_path / way))[0](windows[:1]).logits for way in ("whole", "streamed")]
    assert torch.equal(*logits)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_model_is_judged_block_by_block_as_it_is_as_a_whole(sources, windows, tmp_path, kind):
    compress_folder(sources[kind], tmp_path / "small", ids=windows, **RECIPES["fast in FP8"])
    folders = {"model": tmp_path / "small", "dense": sources[kind]}
    streamed = evaluate_streamed({n: open_skeleton(f, "float32") for n, f in folders.items()}, windows[:5])
    whole = evaluate_all({n: load(str(f))[0] for n, f in folders.items()}, windows[:5])
    for name, figures in whole.items():
        assert streamed[name] == pytest.approx(figures, rel=1e-5, abs=1e-6, nan_ok=True)


def test_calibration_stops_where_it_would_have_stopped(sources, windows, tmp_path):
    for stop in (True, False):
        written = compress_folder(sources["llama"], tmp_path / str(stop), ids=windows, stop=stop, sparsity=0.5)
        whole = compress(load(str(sources["llama"]))[0], windows, stop=stop, sparsity=0.5)
        assert written.tokens == whole.tokens
        assert (written.tokens < windows.numel()) == stop


@pytest.mark.parametrize("batches", [1, 2, 3, 5, 9])
def test_text_is_read_in_two_parts_to_the_tensors_of_one(sources, windows, tmp_path, monkeypatch, batches):
    def settled(self, energy):
        self.calls = getattr(self, "calls", 0) + 1
        return self.calls == batches

    monkeypatch.setattr(Convergence, "settled", settled)
    whole, written = both_ways(sources["llama"], tmp_path, windows, RECIPES["fast in FP8"])
    assert whole.tokens == written.tokens == min(256 * batches, windows.numel())
    assert_same_tensors(tmp_path / "whole", tmp_path / "streamed")


def test_a_mixture_of_experts_that_transformers_assembles_is_refused(tokenizer, windows, tmp_path):
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = MixtralForCausalLM(MixtralConfig(vocab_size=VOCABULARY, num_local_experts=2, **sizes))
    model.save_pretrained(tmp_path / "moe")
    tokenizer.save_pretrained(tmp_path / "moe")
    with pytest.raises(PrunekitError, match=r"block by block: leave out --stream"):
        compress_folder(tmp_path / "moe", tmp_path / "out", ids=windows, sparsity=0.5)


@pytest.mark.embedded
@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fast", "fast in FP8"])
def test_the_embedded_model_is_the_same_bit_for_bit(tmp_path, recipe):
    model, tokenizer = load("embedded")
    windows = calibration_text(tokenizer, "ewma", 2048)
    save(compress(model, windows, stop=False, **RECIPES[recipe]), tokenizer, tmp_path / "whole")
    compress_folder("embedded", tmp_path / "streamed", given=Provenance(tokens=2048), **RECIPES[recipe])
    assert_same_tensors(tmp_path / "whole", tmp_path / "streamed")


@pytest.mark.parametrize("recipe", [{"method": "admm"}, {**FAST, "fp8": "e4m3"}], ids=["admm", "fast"])
def test_reordering_within_blocks_keeps_more_of_the_model(sources, windows, tmp_path, recipe):
    dense = load(str(sources["llama"]))[0]
    kept = {}
    for permute in (False, True):
        out = tmp_path / str(permute)
        compress_folder(sources["llama"], out, ids=windows, pattern="2:4", permute=permute, **recipe)
        kept[permute] = evaluate(load(str(out))[0], windows, dense)["kl"]
    assert kept[True] < kept[False]


def test_permute_without_text_is_refused(sources, windows, tmp_path):
    with pytest.raises(PrunekitError, match="--no-permute"):
        compress_folder(sources["llama"], tmp_path / "out", pattern="2:4", method="magnitude", permute=True)
    assert not list(tmp_path.iterdir())
