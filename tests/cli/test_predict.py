import csv
import json
import os

import pytest
import torch

from prunekit.cli.main import main
from prunekit.speed.latency import predict
from prunekit.speed.shapes import EMBEDDED
from prunekit.speed.whole.throughput import predict_model


def run(*words):
    try:
        return main([str(word) for word in words])
    except SystemExit as exit:
        return exit.code


def test_the_embedded_model_on_a_card(capsys):
    assert run("predict", "--gpu", "rtx4090", "--dtype", "bf16", "--batch", "1,4096") == 0
    out = capsys.readouterr().out
    assert out.startswith("Predicted latency on RTX 4090, bf16")
    assert out.count("q_proj") == 2 and "all layers, M = 4096" in out
    assert "Predicted, not measured" in out and "not fitted, but looked at" in out
    assert "Below 64 tokens" in out
    table = [line for line in out.splitlines() if "_proj" in line]
    assert len({line.index("x  ") for line in table}) == 1  # aligned


def test_what_nothing_published_covers_is_said(capsys):
    run("predict", "--gpu", "rtx4090", "--batch", "65536")
    assert "published:" not in (covered := capsys.readouterr().out) and "Beyond" not in covered
    run("predict", "--gpu", "rtx3070", "--dtype", "bf16", "--batch", "65537")
    out = capsys.readouterr().out
    assert "Beyond M 65536" in out and "No bf16 row of RTX 3070 was published" in out and "burst assumed" in out


def test_totals_count_every_layer(tmp_path, capsys):
    file = tmp_path / "out.csv"
    run("predict", "--gpu", "H100", "--batch", "64", "--csv", str(file))
    rows = list(csv.DictReader(file.open()))
    assert list(rows[0]) == ["layer", "count", "M", "N", "K", "dense_us", "sparse24_us", "speedup"]
    dense, sparse = (sum(int(r["count"]) * float(r[kind]) for r in rows) for kind in ("dense_us", "sparse24_us"))
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("all layers"))
    assert all(f"{number:.{digits}f}" in line for number, digits in ((dense, 1), (sparse, 1), (dense / sparse, 2)))
    assert all(float(r["speedup"]) == pytest.approx(float(r["dense_us"]) / float(r["sparse24_us"]), 0.01) for r in rows)


def test_the_default_format_is_the_narrowest(capsys):
    for name, dtype in (("RTX 4090", "fp8"), ("RTX 3090", "bf16"), ("T4", "fp16")):
        run("predict", "--gpu", name, "--batch", "64")
        assert f"on {name}, {dtype}:" in capsys.readouterr().out


def test_a_card_without_2_4_leaves_the_column_empty(tmp_path, capsys):
    file = tmp_path / "out.csv"
    run("predict", "--gpu", "T4", "--batch", "64", "--csv", str(file))
    assert "T4 has no 2:4 tensor cores" in capsys.readouterr().out
    assert {(r["sparse24_us"], r["speedup"]) for r in csv.DictReader(file.open())} == {("", "")}


def test_a_shapes_file_keeps_its_columns(tmp_path, capsys):
    shapes, out = tmp_path / "shapes.csv", tmp_path / "out.csv"
    shapes.write_text("name,M,N,K\na,64,4096,4096\nb,2048,4096,4096\n")
    run("predict", "--gpu", "RTX 4090", "--dtype", "fp8", "--shapes", str(shapes), "--csv", str(out))
    rows = list(csv.DictReader(out.open()))
    assert list(rows[0]) == ["name", "M", "N", "K", "dense_us", "sparse24_us", "speedup"]
    for row in rows:
        p = predict("RTX 4090", "fp8", int(row["M"]), 4096, 4096)
        assert float(row["dense_us"]) == pytest.approx(p.dense_us, abs=1e-3)
        assert float(row["sparse24_us"]) == pytest.approx(p.sparse24_us, abs=1e-3)
        assert float(row["speedup"]) == pytest.approx(p.speedup, abs=1e-4)
    # Once more with its own output: the three columns are replaced, not doubled.
    run("predict", "--gpu", "RTX 4090", "--dtype", "bf16", "--shapes", str(out), "--csv", str(out))
    again = list(csv.DictReader(out.open()))
    assert list(again[0]) == list(rows[0]) and again[1]["dense_us"] != rows[1]["dense_us"]
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "shapes.csv"]


def test_tokens_per_second_of_a_whole_model(tmp_path, capsys):
    file = tmp_path / "out.csv"
    words = ("predict", "--gpu", "4090", "--model", "Qwen2.5-7B", "--prompt", "512", "--batch", "1,64")
    assert run(*words, "--csv", str(file)) == 0
    out = capsys.readouterr().out
    assert out.startswith("Predicted tokens per second of Qwen2.5-7B on RTX 4090: prompts of 512 tokens")
    assert "q_proj" not in out and "fp8, 2:4: 6.3 GB of weights fit" in out and "1420 us a block" in out
    assert "Predicted, not measured" in out and "only its host fitted" in out
    rows = {(r["dtype"], r["batch"]): r for r in csv.DictReader(file.open())}
    assert set(rows) == {("bf16", "1"), ("bf16", "64"), ("fp8", "1"), ("fp8", "64")}
    answer = predict_model("RTX 4090", "fp8", "Qwen2.5-7B", prompt=512, batch=64)
    for phase in ("prefill", "decode"):
        for how, found in (("dense", answer.dense), ("sparse24", answer.sparse24)):
            told = float(rows["fp8", "64"][f"{phase}_{how}"])
            assert told == pytest.approx(getattr(found, f"{phase}_tokens_per_s"), abs=1e-3)
    run(*words, "--host-us", "100000")
    assert "host\n" in capsys.readouterr().out


def test_a_model_too_large_for_the_card(capsys):
    assert run("predict", "--gpu", "5080", "--model", "qwen2.5-14b", "--prompt", "512", "--dtype", "fp8") == 0
    out = capsys.readouterr().out
    assert "fp8, dense: 16.3 GB of weights and 1.6 GB to work with do not fit into the 13.7 GB" in out
    assert "dense does not fit" in out


def test_layers_and_the_whole_model_together(tmp_path, capsys):
    run("predict", "--gpu", "4090", "--dtype", "fp8", "--model", "Llama3.2-1B", "--batch", "16")
    out = capsys.readouterr().out
    assert "gate_proj" in out and "Predicted tokens per second of Llama3.2-1B" in out
    sizes = {k: v for k, v in EMBEDDED.items() if k != "vocab_size"}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    run("predict", "--gpu", "4090", "--model", str(tmp_path), "--batch", "16")
    out = capsys.readouterr().out
    assert "gate_proj" in out and "No tokens per second: the configuration of" in out and "vocab_size" in out


def test_one_token_on_a_card_without_fp8_tensor_cores(capsys):
    assert run("predict", "--gpu", "A100", "--dtype", "fp8", "--batch", "1") == 0
    out = capsys.readouterr().out
    assert "a weight-only kernel, for which there is no 2:4" in out and "fp8 weights" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["predict"], "arguments are required: --gpu; see 'prunekit predict --help'"),
        (["predict", "--gpu", "RTX 4091"], "RTX 4090"),
        (["predict", "--gpu", "A100", "--dtype", "fp8"], "bf16 and fp16"),
        (["predict", "--gpu", "4090", "--dtype", "int4"], "invalid choice: 'int4'"),
        (["predict", "--gpu", "4090", "--batch", "1,x"], "'x'"),
        (["predict", "--gpu", "4090", "--batch", "0"], "'0'"),
        (["predict", "--gpu", "4090", "--model", "no/such/folder"], "neither 'embedded' nor a local folder"),
        (["predict", "--gpu", "4090", "--model", "."], "config.json"),
        (["predict", "--gpu", "4090", "--shapes", "missing.csv"], "missing.csv"),
        (["predict", "--gpu", "4090", "--shapes", "missing.csv", "--batch", "1"], "--batch"),
        (["predict", "--gpu", "4090", "--shapes", "missing.csv", "--model", "embedded"], "not allowed with"),
        (["predict", "--gpu", "4090", "--csv", "."], "is a folder"),
        (["predict", "--gpu", "4091", "--prompt", "16"], "RTX 4090"),
        (["predict", "--gpu", "4090", "--prompt", "16", "--model", "Mistral-7B"], "no configuration of 'Mistral-7B'"),
        (["predict", "--gpu", "4090", "--prompt", "16", "--model", "."], "config.json"),
        (["predict", "--gpu", "4090", "--prompt", "32769", "--model", "Qwen2.5-7B"], "longer than the context"),
        (["predict", "--gpu", "4090", "--prompt", "x"], "'x'"),
        (["predict", "--gpu", "4090", "--host-us", "0"], "'0'"),
        (["predict", "--gpu", "4090", "--prompt", "16", "--dtype", "fp8", "--batch", "0"], "'0'"),
        (["predict", "--gpu", "4090", "--shapes", "missing.csv", "--prompt", "16"], "--prompt"),
        (["doctor", "--nosuch"], "unrecognized arguments: --nosuch"),
        (["doctor", "4090"], "unrecognized arguments: 4090"),
    ],
)
def test_bad_input_is_one_clear_sentence(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    out, error = capsys.readouterr()
    assert out == "" and says in error
    assert error.startswith("prunekit: ") and error.endswith("\n") and error.count("\n") == 1, error
    assert "Traceback" not in error
    assert os.listdir(tmp_path) == []


def test_an_empty_batch_means_the_default(capsys):
    shown = []
    for words in (("--batch", ""), ()):
        assert run("predict", "--gpu", "4090", *words) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]


def test_doctor_tells_the_truth(tmp_path):
    assert run("doctor", "--json", tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert (report["gpu"] is not None) == torch.cuda.is_available()
    assert isinstance(report["cpu"]["bandwidth_gbs"], float)
    assert report["cpu"]["threads"] >= 1 and report["cpu"]["vectors"]
    assert report["cpu"]["bf16"]["works"] is True
    assert report["cpu"]["sparse24"]["works"] is False
    if report["gpu"] is None:
        assert "No usable GPU" in report["summary"] and "published" in report["summary"]


def test_doctor_prints_one_line_a_finding(capsys):
    assert run("doctor") == 0
    out = capsys.readouterr().out
    for word in ("torch", "CPU", "memory bandwidth", "bf16", "2:4", "FP8"):
        assert word in out
