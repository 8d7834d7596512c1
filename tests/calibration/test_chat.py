"""Conversations line by line: the windows are what the tokenizer's chat template gives, and a bad line is named."""

import json
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CHAT_TEMPLATE, SENTENCES

import prunekit as pk
from prunekit.calibration import chat
from prunekit.calibration.corpus import check_texts
from prunekit.calibration.windows import recovery_text
from prunekit.errors import PrunekitError

TOOLS = [{"type": "function", "function": {"name": "weigh", "description": "Weighs.", "parameters": {}}}]
CALL = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "weigh", "arguments": {}}}]}
ASKED, SAID = {"role": "user", "content": SENTENCES[0]}, {"role": "assistant", "content": SENTENCES[1]}
SYSTEM = {"role": "system", "content": "Be brief."}
CHATS = [
    {"messages": [SYSTEM, ASKED, SAID]},
    {"messages": [ASKED, CALL, {"role": "tool", "content": "3 g"}, SAID], "tools": TOOLS},
    {"messages": [ASKED, {"role": "assistant", "content": ""}, ASKED, SAID]},
    {"messages": [ASKED, {"role": "assistant", "content": None} | CALL], "tools": None, "text": None},
]


@pytest.fixture(scope="session")
def beginner(speaker):
    """One that begins every text with BOS, as LLaMA's."""
    from tokenizers import processors

    beginner = deepcopy(speaker)
    special = [("<end>", beginner.bos_token_id)]
    beginner.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<end> $A", special_tokens=special)
    return beginner


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return str(path)


def by_hand(tokenizer, lines):
    """All lines as tokens, each asked for by itself."""
    ids = []
    for line in lines:
        if "messages" in line:
            said = tokenizer.apply_chat_template(line["messages"], tools=line.get("tools"), return_dict=False)
            ids += said
        else:
            ids += tokenizer(line["text"], add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("lines", [*([line] for line in CHATS), CHATS, [*CHATS, {"text": SENTENCES[2]}, *CHATS]])
def test_all_of_it_is_what_the_template_gives(speaker, tmp_path, lines):
    whole = by_hand(speaker, lines)
    ids = pk.corpus(speaker, write(tmp_path / "chat.jsonl", lines), tokens=None, context=len(whole))
    assert ids.tolist() == [whole]


words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
message = st.builds(lambda role, content: {"role": role, "content": content}, st.sampled_from(["user", "tool"]), words)
line = st.one_of(
    st.builds(
        lambda m, tools: {"messages": m, "tools": tools}, st.lists(message, min_size=1), st.sampled_from([TOOLS, None])
    ),
    st.builds(lambda text: {"text": text}, words),
)


@settings(max_examples=25)
@given(lines=st.lists(line, min_size=1, max_size=6), context=st.integers(2, 20), seed=st.integers(0, 9))
def test_windows_are_slices_of_what_the_template_gives(speaker, tmp_path_factory, lines, context, seed):
    whole = by_hand(speaker, lines)
    path = write(tmp_path_factory.mktemp("chat") / "chat.JSONL", lines)
    if len(whole) < context:
        with pytest.raises(PrunekitError, match=f"has {len(whole)} tokens"):
            pk.corpus(speaker, path, tokens=None, context=context, seed=seed)
        return
    windows = pk.corpus(speaker, path, tokens=None, context=context, seed=seed).tolist()
    assert len(windows) == len(whole) // context
    place = 0
    for window in windows:  # in order, without overlap
        place = next(i for i in range(place, len(whole)) if whole[i : i + context] == window) + context


def test_no_window_begins_with_two_of_what_begins_a_text(beginner, tmp_path):
    """Each begins with BOS: its own where a conversation begins there, else one more."""
    bos, lines = beginner.bos_token_id, [*CHATS, {"text": SENTENCES[2]}] * 3
    whole, path = by_hand(beginner, lines), write(tmp_path / "chat.jsonl", lines)
    assert whole.count(bos) == 12 and whole[0] == bos
    begun = 0
    for context in (5, 16, 17, 23):
        for seed in range(4):
            windows = pk.corpus(beginner, path, tokens=None, context=context, seed=seed)
            assert windows.shape == ((len(whole) - 1) // (context - 1), context)
            pieces = {tuple(whole[i : i + context - 1]): i for i in range(len(whole) - context + 2)}
            for first, second, *rest in windows.tolist():
                assert first == bos != second and (second, *rest) in pieces
            begun += sum(tuple(whole[i : i + context]) in set(map(tuple, windows.tolist())) for i in (0,))
    assert begun  # some did begin where a conversation does
    text = write(tmp_path / "text.jsonl", [{"text": sentence} for sentence in SENTENCES])
    plain = by_hand(beginner, [{"text": sentence} for sentence in SENTENCES])
    windows = pk.corpus(beginner, text, tokens=None, context=9)
    assert len(windows) == len(plain) // 8 and (windows[:, 0] == bos).all()


def test_parts_of_text_are_one_text(speaker, tmp_path):
    parts = [{"type": "text", "text": half} for half in ("Half of the weights ", "can go.")]
    chats = [[{"role": "user", "content": content}] for content in (parts, "Half of the weights can go.", [])]
    path, other, empty = (write(tmp_path / f"{i}.jsonl", [{"messages": chat}] * 9) for i, chat in enumerate(chats))
    assert torch.equal(pk.corpus(speaker, path, tokens=32, context=8), pk.corpus(speaker, other, tokens=32, context=8))
    said = speaker.apply_chat_template([{"role": "user", "content": ""}], tokenize=False)
    assert pk.documents(empty, tokenizer=speaker) == [said] * 9


def test_documents(speaker, tmp_path):
    path = write(tmp_path / "chat.jsonl", [CHATS[0], {"text": "One."}, {"text": ""}, CHATS[1]])
    said = [speaker.apply_chat_template(c["messages"], tools=c.get("tools"), tokenize=False) for c in CHATS[:2]]
    assert pk.documents(path, "train", speaker) == [said[0], "One.", "", said[1]]
    with pytest.raises(PrunekitError, match=f"line 1 of {path} holds messages, and no tokenizer was given"):
        pk.documents(path)
    assert pk.documents(write(tmp_path / "text.jsonl", [{"text": "One."}, {"text": "Two."}])) == ["One.", "Two."]


def test_blank_lines_and_how_a_system_ends_lines_change_nothing(speaker, tmp_path):
    plain = tmp_path / "plain.jsonl"
    write(plain, CHATS)
    other = tmp_path / "other.jsonl"
    blank = plain.read_text("utf-8").replace("\n", "\n\n  \n").replace("\n", "\r\n").rstrip()
    other.write_bytes(blank.encode("utf-8-sig"))
    assert torch.equal(*(pk.corpus(speaker, str(p), tokens=64, context=8) for p in (plain, other)))


def test_lines_may_hold_any_character(speaker, tmp_path):
    """Python splits strings at these, files do not."""
    (tmp_path / "text.jsonl").write_text('{"text": "a\u2028b\u0085c\\u0000d"}\n', "utf-8")
    assert pk.documents(str(tmp_path / "text.jsonl")) == ["a\u2028b\u0085c\0d"]


def test_a_mixture_with_other_texts(speaker, text_file, tmp_path):
    path = write(tmp_path / "chat.jsonl", CHATS)
    whole = by_hand(speaker, CHATS) + speaker(text_file.read_text("utf-8"), add_special_tokens=False)["input_ids"]
    windows = pk.corpus(speaker, [path, str(text_file)], tokens=None, context=16)
    assert len(windows) == len(whole) // 16
    assert windows[0].tolist() == whole[:16]


@pytest.fixture
def numbered(speaker, tmp_path, monkeypatch):
    """A file that is larger than what is read whole: line i says i, 300 bytes each."""
    monkeypatch.setattr(chat, "WHOLE", 6000)
    return write(tmp_path / "large.jsonl", [{"text": f"{i:04d} " * 57} for i in range(200)])


def test_of_a_large_file_some_lines_are_read_spread_evenly(speaker, numbered, monkeypatch):
    read = []
    spoken = chat._spoken
    monkeypatch.setattr(chat, "_spoken", lambda p, t, lines, **o: read.extend(lines) or spoken(p, t, lines, **o))
    few = pk.corpus(speaker, numbered, "train", 64, 16)
    lines = [int(line.said[:4]) for line in read]
    assert len(lines) == 20 and lines == [5 + 10 * i for i in range(20)]
    assert torch.equal(few, pk.corpus(speaker, numbered, "train", 64, 16))
    read.clear()
    pk.corpus(speaker, numbered, "train", 64, 16, seed=1)
    other = [int(line.said[:4]) for line in read]
    assert other != lines and other == [other[0] + 10 * i for i in range(20)]


def test_of_a_large_file_more_lines_are_read_until_it_is_enough(speaker, tmp_path, monkeypatch):
    """Where lines hold much that is no text, the first guess is too few."""
    monkeypatch.setattr(chat, "WHOLE", 6000)
    lines = [{"text": f"{i:03d}", "note": "x" * 300} for i in range(500)]
    whole, path = by_hand(speaker, lines), write(tmp_path / "large.jsonl", lines)
    assert len(pk.corpus(speaker, path, tokens=None, context=16)) == len(whole) // 16
    assert pk.corpus(speaker, path, tokens=len(whole) // 32 * 16, context=16).shape == (len(whole) // 32, 16)
    with pytest.raises(PrunekitError, match=f"has {len(whole)} tokens, fewer than"):
        pk.corpus(speaker, path, tokens=len(whole) + 16, context=16)


def test_memory_holds_a_piece_of_a_large_file_as_python_objects(speaker, numbered, monkeypatch):
    monkeypatch.setattr(chat, "_BATCH", 1000)
    pieces = list(chat.jsonl_ids(numbered, speaker, None))
    assert len(pieces) == 51  # of 4 lines each, and an empty one
    assert torch.equal(torch.cat(pieces), pk.corpus(speaker, numbered, tokens=None, context=sum(map(len, pieces)))[0])


def test_recovery_trains_on_all_but_what_it_watches(speaker, llama, tmp_path):
    lines = [{"messages": [{"role": "user", "content": f"{i} {SENTENCES[i % 5]}"}]} for i in range(400)]
    whole, path = by_hand(speaker, lines), write(tmp_path / "chat.jsonl", lines)
    train, watch = recovery_text(llama, speaker, path)
    assert watch.shape == (8, 256) and len(train) + 8 == len(whole) // 256
    assert torch.equal(torch.cat([watch, train]), pk.corpus(speaker, path, tokens=None, context=256))


GOOD = b'{"text": "good"}\n'
BAD = [
    (b'{"text": "half', "is not valid JSON (Unterminated string"),
    (b"text", "is not valid JSON (Expecting value, character 1)"),
    (b"[" * 100_000, "is not valid JSON"),
    (b'{"text": ' + b"9" * 5000 + b"}", "is not valid JSON"),
    (b"\0\0\0", "is not valid JSON"),
    (b'{"text": "a\0b"}', "is not valid JSON (Invalid control character"),
    (b'{"text": "caf\xe9"}', "is not UTF-8 (byte 14 cannot be decoded)"),
    (b'["a", "b"]', "holds no JSON object"),
    (b"null", "holds no JSON object"),
    (b"{}", 'has neither "messages" nor "text"'),
    (b'{"prompt": "a", "completion": "b"}', 'has neither "messages" nor "text"'),
    (b'{"text": null}', 'has neither "messages" nor "text"'),
    (b'{"text": 5}', 'has a "text" that is no string'),
    (b'{"messages": []}', 'has "messages" that are no list of objects, one or more'),
    (b'{"messages": "hello"}', 'has "messages" that are no list of objects'),
    (b'{"messages": ["hello"]}', 'has "messages" that are no list of objects'),
    (b'{"messages": [{"content": "a"}]}', 'has a message 1 whose "role" is no string'),
    (b'{"messages": [{"role": 1, "content": "a"}]}', 'has a message 1 whose "role" is no string'),
    (b'{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": 5}]}', "has a message 2 whose"),
    (b'{"messages": [{"role": "user", "content": ["a"]}]}', 'has a message 1 whose "content" is neither a'),
    (
        b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}',
        "has a message 1 with a part of type 'image_url', and only text can be read",
    ),
    (b'{"messages": [{"role": "user", "content": "a"}], "tools": "weigh"}', 'has "tools" that are no list of'),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=lambda value: repr(value)[:40])
def test_a_bad_line_is_named(speaker, tmp_path, bad, message):
    path = tmp_path / "chat.jsonl"
    path.write_bytes(GOOD * 3 + b"\n" + bad + b"\n" + GOOD)
    for read in (lambda: check_texts(str(path)), lambda: pk.corpus(speaker, str(path)), lambda: pk.documents(path)):
        with pytest.raises(PrunekitError) as error:
            read()
        assert str(error.value).startswith(f"line 5 of {path} {message}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"messages": [{"role": "critic", "content": "No."}]}, "chat template takes (There is no critic here)"),
        ({"text": "half a pair \ud800"}, "tokenizer takes ("),
        ({"messages": [{"role": "user", "content": "half a pair \ud800"}]}, "chat template takes ("),
    ],
)
def test_a_line_that_the_tokenizer_refuses_is_named(speaker, tmp_path, bad, message):
    path = write(tmp_path / "chat.jsonl", [*CHATS, *CHATS, bad, *CHATS])
    with pytest.raises(PrunekitError) as error:
        pk.corpus(speaker, path, tokens=None, context=8)
    assert str(error.value).startswith(f"line 9 of {path} is not what the model's {message}")


def test_a_tokenizer_without_a_template(tokenizer, speaker, tmp_path):
    path = write(tmp_path / "chat.jsonl", [{"text": "One."}, CHATS[0]])
    with pytest.raises(PrunekitError, match=f"line 2 of {path} holds messages, and the tokenizer of this model has no"):
        pk.corpus(tokenizer, path, tokens=8, context=8)
    several = deepcopy(speaker)
    several.chat_template = {"tool_use": CHAT_TEMPLATE}  # and none for everyday use
    with pytest.raises(PrunekitError, match=f"line 2 of {path} is not what the model's chat template takes"):
        pk.corpus(several, path, tokens=8, context=8)


@pytest.mark.parametrize("content", [b"", b"\n \r\n\n", b"\xef\xbb\xbf\n"])
def test_a_file_of_nothing(speaker, tmp_path, content):
    path = tmp_path / "chat.jsonl"
    path.write_bytes(content)
    for read in (lambda: check_texts(str(path)), lambda: pk.corpus(speaker, str(path))):
        with pytest.raises(PrunekitError, match="is empty: give lines of JSON with messages or text"):
            read()
    path.write_text('{"text": ""}\n')
    with pytest.raises(PrunekitError, match="has 0 tokens, fewer than the 8192 asked for"):
        pk.corpus(speaker, str(path))
    with pytest.raises(PrunekitError, match="cannot read the text"):
        check_texts(str(tmp_path / "none.jsonl"))
