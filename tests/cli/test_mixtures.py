"""Mixtures of experts: what transformers fuses into one tensor is left out, and said to be."""

import re

import pytest
import torch
import transformers
from tiny import MIXTURES, tiny_mixture

from prunekit.compression.compress import compress

pytestmark = pytest.mark.skipif(transformers.__version__.startswith("4."), reason="transformers 5 fuses experts")


@pytest.mark.parametrize("options", [{"sparsity": 0.5}, {"pattern": "2:4", "fp8": "e4m3"}], ids=["half", "2:4-fp8"])
@pytest.mark.parametrize("kind", MIXTURES)
def test_fused_experts_stay_and_all_else_is_compressed(ids, kind, options):
    model = tiny_mixture(kind)
    fused = {name: p for name, p in model.named_parameters() if p.ndim == 3}
    assert len(fused) == 4
    before = {name: p.clone() for name, p in fused.items()}
    result = compress(model, ids, **options)
    names = {entry["name"] for entry in result.layers}
    assert names == {f"model.layers.{i}.self_attn.{x}_proj" for i in (0, 1) for x in "qkvo"}
    new = dict(result.model.named_parameters())
    assert all(new[name] is p and torch.equal(p, before[name]) for name, p in fused.items())


@pytest.mark.parametrize("kind", MIXTURES)
def test_what_is_left_out_is_named_before_the_work(run, tokenizer, tmp_path, kind):
    model = tiny_mixture(kind)
    model.save_pretrained(tmp_path / "dense")
    tokenizer.save_pretrained(tmp_path / "dense")
    code, out, error = run("compress", "dense", "--sparsity", "0.5", "--method", "magnitude")
    assert code == 0, error
    (line,) = (line for line in out.splitlines() if line.startswith("left out"))
    fused = {re.sub(r"\d+", "*", name): list(p.shape) for name, p in model.named_parameters() if p.ndim == 3}
    assert len(fused) == 2
    for name, shape in fused.items():
        assert f"{name} [{'x'.join(map(str, shape))}]" in line
    share = sum(p.numel() for p in model.parameters() if p.ndim == 3) / model.num_parameters()
    assert f"{share:.0%} of the model's weights" in line and "only linear layers are compressed" in line


def test_where_nothing_is_left_out_nothing_is_said(run, folders):
    for folder in (folders.llama, folders.gpt2):
        assert "left out" not in run("compress", folder, "--sparsity", "0.5", "--method", "magnitude")[1]
