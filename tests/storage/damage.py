"""Random damage to the folder of a model: each function changes one thing in it and says which.

What is drawn comes from a `random.Random`, so that a seed repeats it.
"""

import json
import os

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

OUTSIDE = "outside.safetensors"  # beside the folder, a decoy whose tensors must never be seen
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def files(folder, ending=""):
    return sorted(path for path in folder.rglob(f"*{ending}") if path.is_file())


# Bytes


def flipped(folder, rng):
    path = rng.choice(files(folder))
    data = bytearray(path.read_bytes())
    places = [rng.randrange(min(len(data), rng.choice((16, 3000, 10**9)))) for _ in range(rng.choice((1, 1, 2, 8)))]
    for place in places:
        data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return f"{path.name}: bits flipped in bytes {places}"


def cut(folder, rng):
    path = rng.choice(files(folder))
    size = path.stat().st_size
    keep = rng.choice((0, 1, 7, 8, 9, size // 2, size - 1, rng.randrange(size)))
    os.truncate(path, keep)
    return f"{path.name}: cut to {keep} of {size} bytes"


def longer(folder, rng):
    path = rng.choice(files(folder))
    more = rng.choice((b"\0", b" \n", b"}", rng.randbytes(100), path.read_bytes()))
    with path.open("ab") as file:
        file.write(more)
    return f"{path.name}: {len(more)} bytes more, {more[:10]}"


def overwritten(folder, rng):
    path = rng.choice(files(folder))
    data = bytearray(path.read_bytes())
    start, length = rng.randrange(len(data)), rng.choice((1, 8, 64, 4096))
    data[start : start + length] = rng.choice((bytes(length), rng.randbytes(length)))[: len(data) - start]
    path.write_bytes(data)
    return f"{path.name}: {length} bytes overwritten from {start} on"


# Tensors, in files that stay valid


TENSORS = {
    "flattened": lambda t: t.flatten(),
    "transposed": lambda t: t.T if t.ndim == 2 else t[None],
    "a row fewer": lambda t: t[:-1],
    "a column fewer": lambda t: t[..., :-1],
    "a row more": lambda t: torch.cat([t.float(), t[:1].float()]).to(t.dtype),
    "a dimension more": lambda t: t[None],
    "no rows": lambda t: t[:0],
    "a number": lambda t: t.flatten()[0],
    "bytes": lambda t: t.view(torch.uint8),
    "signs turned": lambda t: (-t.float()).to(t.dtype),
    "zeros": lambda t: torch.zeros_like(t),
    "other numbers": lambda t: (t.float() * 1.5).to(t.dtype),
} | {
    str(dtype).removeprefix("torch."): lambda t, dtype=dtype: t.float().to(dtype)
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, *FLOAT8),
        *(torch.int8, torch.int32, torch.int64, torch.bool, torch.complex64),
    )
}
NUMBERS = (float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e30, 1e-40)


PLAIN = {"format": "pt"}


def _rewritten(path, tensors, metadata=PLAIN):
    save_file({name: t.contiguous().clone() for name, t in tensors.items()}, path, metadata)


def _drawn(folder, rng):
    """A file of weights, its tensors, and the name of one: a norm or a scale as often as a weight."""
    path = rng.choice(files(folder, ".safetensors"))
    tensors = load_file(path)
    leaf = rng.choice(sorted({".".join(name.split(".")[-2:]) for name in tensors}))
    return path, tensors, rng.choice([name for name in sorted(tensors) if name.endswith(leaf)])


def tensor_changed(folder, rng):
    path, tensors, name = _drawn(folder, rng)
    kind = rng.choice(sorted(TENSORS))
    tensors[name] = TENSORS[kind](tensors[name])
    _rewritten(path, tensors)
    return f"{path.name}: {name} {kind}"


def number_changed(folder, rng):
    path, tensors, name = _drawn(folder, rng)
    value, tensor = rng.choice(NUMBERS), tensors[name]
    place = rng.randrange(tensor.numel()) if tensor.numel() and rng.random() < 0.8 else slice(None)
    changed = tensor.float().flatten()
    changed[place] = value
    tensors[name] = changed.view(tensor.shape).to(tensor.dtype)
    _rewritten(path, tensors)
    return f"{path.name}: {name}[{place}] is {value}"


def tensors_exchanged(folder, rng):
    path, tensors, name = _drawn(folder, rng)
    other = rng.choice(sorted(tensors))
    tensors[name], tensors[other] = tensors[other], tensors[name]
    _rewritten(path, tensors)
    return f"{path.name}: {name} and {other} exchanged"


def tensor_renamed(folder, rng):
    path, tensors, name = _drawn(folder, rng)
    new = rng.choice(
        (f"{name}.x", "x", name.upper(), f"{name}_scale", "lm_head.weight", "", "../x", name[:-1], "é" * 99)
    )
    tensors[new] = tensors[name] if rng.random() < 0.3 else tensors.pop(name)
    _rewritten(path, tensors)
    return f"{path.name}: {name} is {'also ' * (name in tensors)}called {new}"


def tensor_lost(folder, rng):
    path, tensors, name = _drawn(folder, rng)
    del tensors[name]
    _rewritten(path, tensors)
    return f"{path.name}: {name} lost"


def metadata_changed(folder, rng):
    path = rng.choice(files(folder, ".safetensors"))
    metadata = rng.choice((None, {}, {"format": "tf"}, {"format": "nosuch"}, {"a": "b" * 10_000}))
    _rewritten(path, load_file(path), metadata)
    return f"{path.name}: metadata {str(metadata)[:30]}"


# JSON

DEEP = '{"a":' * 3000 + "1" + "}" * 3000
VALUES = [
    *("null", "true", "false", "-1", "0", "1", "3", "1e400", "NaN", "-Infinity", "0.5", "[]", "{}", '""', '"x"'),
    *('"../x"', "1000000000", "9" * 30, "9" * 5000, "[1, 2, 3]", '{"a": {"b": []}}', '[["a"]]', '"/etc/passwd"'),
    *('"\\ud800"', '"\\u0000"', '"float16"', '"float8_e4m3fn"', '"owner/model"', f'"{"x" * 100_000}"', DEEP),
    "[" * 500 + "]" * 500,
]
KEYS = [
    *("transformers_weights", "auto_map", "attn_implementation", "quantization_config", "dtype", "torch_dtype"),
    *("model_type", "architectures", "text_config", "num_hidden_layers", "rope_scaling", "tie_word_embeddings"),
    *("name_or_path", "_name_or_path", "tokenizer_class", "chat_template", "extra_special_tokens", "version"),
    *("added_tokens_decoder", "id2label", "num_labels", "vocab_size", "is_decoder", "custom_generate", "recipe"),
]
MARK = "@here@"


def _parsed(folder, rng):
    """A JSON file and what it holds; the tokenizer's own, of which most is its vocabulary, less often than others."""
    found = [path for path in files(folder, ".json") if path.name != "tokenizer.json" or rng.random() < 0.4]
    path = rng.choice(found)
    return path, json.loads(path.read_text("utf-8"))


def _place(value, rng):
    """A list or dict within a value, and a key of it."""
    if not value:
        return {MARK: None}, MARK
    key = rng.choice(sorted(value)) if isinstance(value, dict) else rng.randrange(len(value))
    if isinstance(value[key], (dict, list)) and value[key] and rng.random() < 0.8:
        return _place(value[key], rng)
    return value, key


def value_replaced(folder, rng):
    path, values = _parsed(folder, rng)
    owner, key = _place(values, rng)
    new = rng.choice(VALUES)
    owner[key] = MARK
    path.write_text(json.dumps(values).replace(json.dumps(MARK), new), "utf-8")
    return f"{path.name}: {key} is {new[:30]}"


def key_dropped(folder, rng):
    path, values = _parsed(folder, rng)
    owner, key = _place(values, rng)
    del owner[key]
    path.write_text(json.dumps(values), "utf-8")
    return f"{path.name}: {key} dropped"


def key_doubled(folder, rng):
    path, values = _parsed(folder, rng)
    key, new = rng.choice([key for key in values if isinstance(key, str)] or ["x"]), rng.choice(VALUES)
    text = json.dumps(values)
    again = f"{json.dumps(key)}: {new}"
    path.write_text(f"{{{again}, {text[1:]}" if rng.random() < 0.5 else f"{text[:-1]}, {again}}}", "utf-8")
    return f"{path.name}: {key} once more, as {new[:30]}"


def key_added(folder, rng):
    path, values = _parsed(folder, rng)
    key, new = rng.choice(KEYS), rng.choice(VALUES)
    path.write_text(json.dumps(values | {key: MARK}).replace(json.dumps(MARK), new), "utf-8")
    return f"{path.name}: {key} added, {new[:30]}"


def whole_json_replaced(folder, rng):
    path, new = rng.choice(files(folder, ".json")), rng.choice(VALUES)
    path.write_text(new, "utf-8")
    return f"{path.name}: {new[:30]} in place of all"


# Files


def index_changed(folder, rng):
    """Names in the index of a folder that has one; where there is none, an index comes beside the weights."""
    path = folder / "model.safetensors.index.json"
    if not path.exists():
        path.write_text(json.dumps({"weight_map": {"a": rng.choice((f"../{OUTSIDE}", "b.safetensors"))}}))
        return "an index beside the weights"
    values = json.loads(path.read_text("utf-8"))
    names = values["weight_map"]
    chosen = rng.sample(sorted(names), rng.choice((1, 3, len(names))))
    new = rng.choice((f"../{OUTSIDE}", "b.safetensors", "config.json", "", ".", "/", *sorted(set(names.values()))))
    new = str(folder.parent / OUTSIDE) if new == "/" else new
    values["weight_map"] |= dict.fromkeys(chosen, new)
    path.write_text(json.dumps(values))
    return f"index: {len(chosen)} of {len(names)} names in {os.path.basename(new) or new!r}"


def files_exchanged(folder, rng):
    kind = rng.choice((".safetensors", ".json", ""))
    one, other = (rng.choice(files(folder, kind)) for _ in range(2))
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)
    return f"{one.name} and {other.name} exchanged"


def _folder(path, _):
    path.unlink()
    path.mkdir()


def _loop(path, _):
    path.unlink()
    path.symlink_to(path.name)


def _dangling(path, _):
    path.unlink()
    path.symlink_to("nosuch")


def _link(path, _):
    moved = path.parent.parent / f"moved-{path.name}"
    path.rename(moved)
    path.symlink_to(moved)


def _pipe(path, _):
    path.unlink()
    os.mkfifo(path)


def _device(path, _):
    path.unlink()
    path.symlink_to("/dev/zero")


def _to_folder(path, _):
    path.unlink()
    path.symlink_to("..")


def _unlinked(path, _):
    path.unlink()


def _renamed(path, rng):
    path.rename(path.with_name(rng.choice((path.name.upper(), f"{path.name}.part", f"a{path.name}"))))


SWAPS = (_folder, _loop, _dangling, _link, _pipe, _device, _to_folder, _unlinked, _renamed)


def file_swapped(folder, rng):
    path, swap = rng.choice(files(folder)), rng.choice(SWAPS)
    swap(path, rng)
    return f"{path.name}: {swap.__name__.strip('_')}"


STRAYS = [
    *("model-00009-of-00009.safetensors", "a.safetensors", "pytorch_model.bin", "model.safetensors.index.json"),
    *("adapter_config.json", "adapter_model.safetensors", "prunekit.json", "tokenizer.model", "vocab.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "generation_config.json", "params.json"),
    *("processor_config.json", "consolidated.safetensors", "custom_generate/generate.py", "spiece.model"),
    *("merges.txt", "tekken.json", "vocab.txt", "tf_model.h5", "additional_chat_templates/a.jinja", "model.gguf"),
]


def stray_file(folder, rng):
    """Beside the weights, something that they do not need."""
    name = rng.choice(STRAYS + 6 * STRAYS[:1])
    weights = rng.choice(files(folder, ".safetensors")).read_bytes()
    content = rng.choice((b"", b"{", b"{}", b"[]", rng.randbytes(200), weights[: rng.randrange(len(weights))]))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return f"{name} with {len(content)} bytes, {content[:10]}"


DAMAGES = (
    *(flipped, cut, longer, overwritten),
    *(tensor_changed, tensor_changed, number_changed, tensors_exchanged, tensor_renamed, tensor_lost, metadata_changed),
    *(value_replaced, value_replaced, value_replaced, key_dropped, key_doubled, key_added, key_added),
    *(whole_json_replaced, index_changed, files_exchanged, file_swapped, file_swapped, stray_file, stray_file),
)


def damage(folder, rng):
    """One to three of them; what they say. What an earlier one has made unreadable is left at that."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            done.append(rng.choice(DAMAGES)(folder, rng))
        except (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError):
            if not done:
                raise
    return "; ".join(done)
