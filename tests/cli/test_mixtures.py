"""Mixtures of experts on the command line: what is compressed and what is left out is said beforehand."""

import re
from pathlib import Path

import pytest
import transformers
from tiny import tiny_mixture

pytestmark = pytest.mark.skipif(transformers.__version__.startswith("4."), reason="transformers 5 fuses experts")
CUT = ("--sparsity", "0.5", "--method", "magnitude")


@pytest.fixture
def folder(tokenizer, tmp_path, capsys):
    def make(kind):
        tiny_mixture(kind).save_pretrained(tmp_path / kind)
        tokenizer.save_pretrained(tmp_path / kind)
        capsys.readouterr()  # of transformers' progress
        return kind

    return make


def left_out(out):
    return [line for line in out.splitlines() if line.startswith("left out")]


@pytest.mark.parametrize(("kind", "up"), [("olmoe", "up_proj"), ("mixtral", "w3")])
def test_experts_are_among_the_layers(run, folder, kind, up):
    code, out, error = run("compress", folder(kind), *CUT, "--out", "out")
    assert code == 0, error
    assert out.startswith("32 layers:") and f"8 x model.layers.*.mlp.experts.*.{up}  [32x64]" in out
    (line,) = left_out(out)
    assert line.endswith("% of the model's weights: 2 x model.layers.*.mlp.gate.weight [4x64]: no plain linear layer")
    assert "`model.layers.*.mlp.gate.weight`" in (Path("out") / "README.md").read_text("utf-8")
    assert "32 layers hold what the recipe says" in run("verify", "out")[1]
    assert run("evaluate", "out", "--dense", kind, "--tokens", "64", "--context", "32")[0] == 0


def test_experts_of_another_layout_are_left_out_with_the_reason(run, folder):
    out = run("compress", folder("gpt_oss"), *CUT)[1]
    (line,) = (line for line in left_out(out) if "experts" in line)
    share = sum(p.numel() for n, p in tiny_mixture("gpt_oss").named_parameters() if re.search("experts.*proj$", n))
    assert f"{share / tiny_mixture('gpt_oss').num_parameters():.0%} of the model's weights" in line
    assert "2 x model.layers.*.mlp.experts.gate_up_proj [4x64x64]" in line and "in a layout from which" in line


def test_what_options_leave_out_is_said(run, folder, model):
    kind = folder("olmoe")
    lines = left_out(run("compress", kind, *CUT, "--exclude", "experts.0.")[1])
    (line,) = (line for line in lines if "2 x model.layers.*.mlp.experts.*.up_proj [32x64]" in line)
    assert line.endswith("as --include and --exclude have it")
    (line,) = left_out(run("compress", model, *CUT, "--include", "mlp")[1])
    assert "2 x model.layers.*.self_attn.q_proj [64x64]" in line


def test_in_fp8_an_expert_alone_is_refused(refused, folder):
    error = refused("compress", folder("mixtral"), *CUT, "--fp8", "e4m3", "--exclude", "experts.0.", "--out", "out")
    assert "3 of 4 experts" in error and "name all of them or none" in error


def test_fp8_by_blocks_leaves_experts_out(run, folder):
    out = run("compress", folder("olmoe"), *CUT, "--fp8", "e4m3", "--granularity", "block")[1]
    assert out.startswith("8 layers:") and "FP8 by blocks is not read where experts are fused" in out


def test_where_nothing_is_left_out_nothing_is_said(run, folders):
    for folder in (folders.llama, folders.gpt2):
        assert "left out" not in run("compress", folder, *CUT)[1]
