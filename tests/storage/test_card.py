"""The model card: what was done, how to do it again, figures where there are some, and nothing of clock or machine."""

import json
from pathlib import Path

import pytest
from huggingface_hub import metadata_load
from tiny import tiny_llama

from prunekit.compression.compress import compress
from prunekit.compression.recipe import Recipe
from prunekit.errors import PrunekitError
from prunekit.evaluation.evaluate import evaluate
from prunekit.storage.embedded import CACHED
from prunekit.storage.load import load
from prunekit.storage.save import save
from prunekit.storage.shipped.card import NAME, measure
from prunekit.storage.shipped.hashes import NAME as HASHES
from prunekit.storage.shipped.origin import EMBEDDED, origin_of, without_places
from prunekit.storage.streamed.folder import compress_folder
from prunekit.storage.streamed.verify import verify
from prunekit.system.machine import versions


def card(folder):
    return (folder / NAME).read_text("utf-8")


@pytest.fixture(scope="module")
def result(llama, ids):
    return compress(llama, ids, pattern="2:4", fp8="e4m3", compensate=True)


def test_a_card_says_what_was_done(result, tokenizer, tmp_path):
    text = card(save(result, tokenizer, tmp_path / "out"))
    assert "50.00% of the weights of 14 linear layers are zero, at most 2 of every 4 neighbours kept" in text
    assert "FP8 (E4M3), with one scale for each row. Servers leave the layers' inputs in 16 bits (W8A16)." in text
    for line in (
        "| pattern | 2:4 |",
        "| calibration text | given as tokens |",
        f"| calibration tokens | {result.tokens} |",
    ):
        assert line in text
    for name in ("prunekit", "torch", "transformers", "compressed-tensors"):
        assert f"{name} {versions()[name]}" in text
    front = metadata_load(tmp_path / "out" / NAME)
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["prunekit", "pruned", "fp8", "compressed-tensors", "2:4"],
    }


@pytest.mark.parametrize(
    ("options", "activations", "says", "tags"),
    [
        ({"sparsity": 0.5}, "none", "stored as zeros.", ["pruned"]),
        ({"sparsity": 0, "fp8": "e4m3"}, "dynamic", "cast the layers' inputs to FP8", ["fp8", "compressed-tensors"]),
        ({"sparsity": 0, "fp8": "e5m2"}, "none", "No server knows this as FP8", ["fp8"]),
    ],
    ids=["half", "W8A8", "widened"],
)
def test_a_card_says_no_more_than_the_config(llama, ids, tokenizer, tmp_path, options, activations, says, tags):
    folder = save(compress(llama, ids, **options), tokenizer, tmp_path / "out", activations)
    assert says in card(folder) and metadata_load(folder / NAME)["tags"] == ["prunekit", *tags]
    described = "quantization_config" in json.loads((folder / "config.json").read_text("utf-8"))
    assert described == ("compressed-tensors" in tags)


def test_the_call_in_a_card_does_it_again(llama, ids, tokenizer, tmp_path):
    recipe = Recipe(0.4, method="wanda", fp8="e4m3", granularity="tensor")
    text = card(save(compress(llama, ids, recipe), tokenizer, tmp_path / "out"))
    (call,) = (line for line in text.splitlines() if line.startswith("pk.compress"))
    asked = eval(call.replace("pk.compress(model, ids, ", "dict("))
    assert Recipe(**asked) == recipe


def test_figures_stand_in_a_table(result, llama, ids, tokenizer, tmp_path):
    figures = evaluate(result.model, ids, llama)
    one = card(save(result, tokenizer, tmp_path / "one", measurements=figures))
    assert f"| {' | '.join(figures)} |" in one
    assert f"| {' | '.join(f'{value:.4g}' for value in figures.values())} |" in one
    rows = [{"text": "a|b\nc", "perplexity": 1.5}, {"text": "d", "top-1": 7}]
    several = card(save(result, tokenizer, tmp_path / "several", measurements=rows))
    table = "| text | perplexity | top-1 |\n|---|---|---|\n| a\\|b c | 1.5 |  |\n| d |  | 7 |\n"
    assert table in several
    none = card(save(result, tokenizer, tmp_path / "none"))
    assert "None were made" in none and "None were made" not in one + several


def test_figures_that_come_later_take_their_place_and_the_folder_is_in_order(result, tokenizer, tmp_path):
    folder = save(result, tokenizer, tmp_path / "out")
    before = card(folder)
    for value in (1.25, 2.5):
        measure(folder, {"perplexity": value})
        verify(folder)
    assert card(folder) == before.replace("None were made when it was saved.", "| perplexity |\n|---|\n| 2.5 |")
    (folder / NAME).write_text("mine", "utf-8")
    with pytest.raises(PrunekitError, match="no model card with a place for figures"):
        measure(folder, {"perplexity": 1.0})


def test_a_card_is_one_of_the_files_that_are_checked_and_older_folders_have_none(result, tokenizer, tmp_path):
    folder = save(result, tokenizer, tmp_path / "out")
    files = verify(folder).files
    (folder / NAME).write_text(card(folder) + "more", "utf-8")
    with pytest.raises(PrunekitError, match=r"README\.md is not what was written"):
        verify(folder)
    (folder / NAME).unlink()
    hashes = json.loads((folder / HASHES).read_text("utf-8"))
    del hashes["sha256"][NAME]
    (folder / HASHES).write_text(json.dumps(hashes), "utf-8")
    assert verify(folder).files == files - 1


def test_a_card_depends_on_no_place_and_no_clock(tokenizer, ids, tmp_path):
    cards = []
    for place in ("here", "there"):
        source = tmp_path / place / "dense"
        tiny_llama().save_pretrained(source)
        tokenizer.save_pretrained(source)
        (source / NAME).write_text("---\nlicense: mit\n---\n", "utf-8")
        model, its = load(str(source), device="cpu")
        cards.append(card(save(compress(model, ids, sparsity=0.5), its, tmp_path / place / "whole")))
        compress_folder(source, tmp_path / place / "streamed", ids=ids, sparsity=0.5)
        cards.append(card(tmp_path / place / "streamed"))
        verify(tmp_path / place / "streamed")
    assert len(set(cards)) == 1
    assert str(tmp_path) not in cards[0] and "# dense, 50% pruned" in cards[0] and "license: mit" in cards[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\nlicense: apache-2.0\n---\n# A model", "apache-2.0"),
        ("---\nlicense: [a, b]\n---\n", None),
        ("---\nlicense: 'mit\n\nevil: true'\n---\n", None),
        ("---\nlicense: {{{\n---\n", None),
        ("no front matter", None),
    ],
)
def test_a_licence_is_taken_over_where_it_is_plain(tmp_path, text, found):
    (tmp_path / "README.md").write_text(text, "utf-8")
    assert origin_of(str(tmp_path)).license == found


def test_the_origin_of_a_model(tmp_path):
    assert origin_of(str(tmp_path / CACHED)) == EMBEDDED
    assert origin_of("owner/some-model").model == "owner/some-model"
    assert origin_of(str(tmp_path)).model is None and origin_of(str(tmp_path)).name == tmp_path.name
    assert origin_of("").model is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("compress embedded --sparsity 0.5 --out /home/me/out", "compress embedded --sparsity 0.5"),
        ("compress owner/model --out=x --json y.json --fp8 e4m3", "compress owner/model --fp8 e4m3"),
        ("compress /home/me/models/m --pattern 2:4", "compress m --pattern 2:4"),
        ("compress m --calibration-text=/home/me/a b.txt", "compress m '--calibration-text=a b.txt'"),
        ("compress ../m/ --stream", "compress m --stream"),
    ],
)
def test_a_command_names_no_place(given, said):
    words = given.replace("a b.txt", "a\0b.txt").split(" ")
    assert without_places([word.replace("\0", " ") for word in words]) == f"prunekit {said}"


def test_the_command_stands_in_the_card_and_figures_can_be_added(tmp_path, monkeypatch, capsys, folders, text_file):
    from prunekit.cli.main import main

    monkeypatch.chdir(tmp_path)
    asked = ["compress", str(folders.llama), "--sparsity", "0.5", "--calibration-text", str(text_file)]
    for more in ([], ["--stream"]):
        out = Path("streamed" if more else "whole")
        assert main([*asked, *more, "--out", str(out)]) == 0
        text = card(out)
        assert f"\n{' '.join(['prunekit compress llama --sparsity 0.5 --calibration-text text.txt', *more])}\n" in text
        assert "| calibration text | text.txt |" in text and str(folders.llama.parent) not in text
    judged = ["evaluate", "whole", "--dense", str(folders.llama), "--text", str(text_file), "--split", "train"]
    assert main([*judged, "--tokens", "64", "--context", "32", "--card"]) == 0
    assert "| text.txt (train) | 64 | 32 | float32 |" in card(Path("whole"))
    verify("whole")
    capsys.readouterr()
    assert main(["evaluate", str(folders.llama), "--card"]) == 2
    assert "no model card" in capsys.readouterr().err
