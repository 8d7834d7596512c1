"""Opening models: folders, names, and everything that can be wrong with a checkpoint."""

import json
import shutil
import struct
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import VOCABULARY

from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError, out_of_memory
from prunekit.model.modes import in_bfloat16
from prunekit.storage import load as models
from prunekit.storage.load import load, locate
from prunekit.storage.save import save
from prunekit.system import memory


def assert_refused(folder, match):
    with pytest.raises(PrunekitError, match=match) as caught:
        load(str(folder), device="cpu")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("dtype", models.DTYPES)
def test_a_dtype_can_be_asked_for(folders, dtype):
    model, _ = load(str(folders.llama), dtype=dtype, device="cpu")
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}


def test_an_unknown_dtype(folders):
    with pytest.raises(PrunekitError, match="unknown dtype 'int8': expected one of float32"):
        load(str(folders.llama), dtype="int8")


def test_a_weight_split_over_files_is_read(llama, tokenizer, ids, tmp_path):
    llama.save_pretrained(tmp_path, max_shard_size="100KB")
    tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(load(str(tmp_path), device="cpu")[0](ids).logits, llama(ids).logits)


def test_names_and_places(folders, tmp_path, monkeypatch):
    assert locate(str(folders.llama)) == str(folders.llama)
    assert locate("owner/model-1.5_b") == "owner/model-1.5_b" and locate("gpt2") == "gpt2"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    for name, message in [
        ("empty", "holds no config.json"),
        ("file", "is a file"),
        ("no/such/folder", "unknown model 'no/such/folder'"),
        ("/no/such", "unknown model"),
        ("./nosuch", "unknown model"),
        ("a b", "unknown model"),
        ("", "unknown model|config.json"),
        ("../nosuch", "unknown model"),
    ]:
        with pytest.raises(PrunekitError, match=message):
            locate(name)


@pytest.mark.parametrize("keep", [0, 4, 1000, 50_000, -1])
def test_truncated_weights(copy, keep):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(copy, "damaged or incomplete")


def test_weights_whose_header_is_nonsense(copy):
    path = copy / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 2**60) + data[8:])
    assert_refused(copy, "damaged or incomplete")
    path.write_bytes(data[:8] + b"x" + data[9:])
    assert_refused(copy, "damaged or incomplete")


def test_no_weights(copy):
    (copy / "model.safetensors").unlink()
    assert_refused(copy, r"holds no model\.safetensors")


def test_a_weight_is_missing_or_of_another_shape(copy, llama):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    fewer = {key: value for key, value in tensors.items() if key != name}
    save_file(fewer, copy / "model.safetensors", metadata={"format": "pt"})
    assert_refused(copy, f"lacks 1 weights .*{name}|damaged")
    save_file(tensors | {name: torch.zeros(3, 3)}, copy / "model.safetensors", metadata={"format": "pt"})
    assert_refused(copy, f"{name}|damaged")


CUT_SHORT = '{"model_type": "llama", "hid'


@pytest.mark.parametrize("text", ["", "{", CUT_SHORT, "{}", "\x00\x01"])
def test_a_corrupt_config(copy, text):
    (copy / "config.json").write_text(text)
    assert_refused(copy, "damaged or incomplete")


@pytest.mark.parametrize(
    ("kind", "message"),
    [("nosuch", "does not know its kind"), ("t5", "not a causal language model"), ("vit", "not a causal language")],
)
def test_another_kind_of_model_is_not_called_damaged(copy, kind, message):
    (copy / "config.json").write_text(json.dumps({"model_type": kind}))
    assert_refused(copy, message)


def test_a_missing_tokenizer(copy):
    for path in copy.glob("*token*"):
        path.unlink()
    assert_refused(copy, "has a model but no tokenizer: copy its tokenizer files")


@pytest.mark.parametrize("text", ["", "{", "{}"])
def test_a_corrupt_tokenizer(copy, text):
    (copy / "tokenizer.json").write_text(text)
    assert_refused(copy, "cannot read the tokenizer")


def test_a_name_on_the_hub_without_network(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name in ("nobody-at-all/no-such-model", "no-such-model"):
        says = f"'{name}' from the Hugging Face hub .no network.* give 'embedded' or a local folder"
        with pytest.raises(PrunekitError, match=says) as caught:
            load(name, device="cpu")
        assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there(folders):
    for device in ("gpu", "cuda:63"):
        with pytest.raises(PrunekitError, match=f"the device '{device}' cannot be used .+: expected cpu or cuda"):
            load(str(folders.llama), device=device)
    with pytest.raises(PrunekitError, match="the device 'meta' cannot be used: expected cpu or cuda"):
        load(str(folders.llama), device="meta")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
    ],
    ids=repr,
)
def test_too_little_memory_is_not_called_damage(folders, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(type(error)) as caught:
        load(str(folders.llama), device="cpu")
    assert caught.value is error and out_of_memory(error)


@pytest.mark.parametrize("settings", [{"pad_token_id": -1}, {"early_stopping": True}, {"output_attentions": True}])
def test_a_model_with_settings_that_cannot_be_saved_can_be_saved(copy, ids, tmp_path, settings):
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": 7, "temperature": 0.9} | settings))
    model, tokenizer = load(str(copy), device="cpu")
    save(compress(model, ids, sparsity=0.5), tokenizer, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == 7


def test_a_model_with_a_temperature_and_no_sampling_can_be_saved(copy, ids, tmp_path):
    (copy / "generation_config.json").write_text('{"temperature": 0.9, "top_p": 0.6}')
    model, tokenizer = load(str(copy), device="cpu")
    save(compress(model, ids, sparsity=0.5), tokenizer, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["temperature"] == 0.9


def leave(monkeypatch, kilobytes):
    """Pretend that so much memory is free."""
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=1024 * kilobytes))


def test_a_model_that_does_not_fit_is_refused(monkeypatch, folders):
    leave(monkeypatch, 100)
    with pytest.raises(PrunekitError, match=r"needs 0\.0 GB in float32, but 0\.0 GB are free"):
        load(str(folders.llama), device="cpu")


@pytest.mark.parametrize("place", [(), ("text_config",)])
def test_what_widening_takes_is_counted(monkeypatch, tmp_path, place):
    config = {"dtype": "bfloat16"}
    for name in place:
        config = {name: config}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"0" * 100_000)
    leave(monkeypatch, 150)
    models.check_memory(tmp_path, "bfloat16", "cpu")
    with pytest.raises(PrunekitError, match="in float32"):
        models.check_memory(tmp_path, "float32", "cpu")


def test_a_model_that_a_job_may_not_hold_is_refused(monkeypatch, folders):
    monkeypatch.setattr(memory, "memory_limit", lambda: 100_000)
    with pytest.raises(PrunekitError, match=r"in float32, but 0\.0 GB are free"):
        load(str(folders.llama), device="cpu")


def test_only_what_is_read_needs_memory(monkeypatch, copy, tmp_path):
    size = (copy / "model.safetensors").stat().st_size  # in float32
    leave(monkeypatch, size // 1024 + 1)
    shutil.copy(copy / "model.safetensors", copy / "consolidated.safetensors")  # in another tool's names
    load(str(copy), device="cpu")
    leave(monkeypatch, size // 2048 + 1)
    load(str(copy), dtype="bfloat16", device="cpu")
    assert_refused(copy, "GB in float32, but .* free: use --dtype bfloat16")


def test_a_pruned_model_without_fp8_is_widened_as_any_other(monkeypatch, make_model, ids, tokenizer, tmp_path):
    result = compress(make_model(dtype=torch.bfloat16), ids, sparsity=0.5)
    folder = save(result, tokenizer, tmp_path / "pruned")
    leave(monkeypatch, (folder / "model.safetensors").stat().st_size // 1024 + 1)
    load(str(folder), dtype="bfloat16", device="cpu")
    assert_refused(folder, "GB in float32, but")


def test_code_that_comes_with_a_model_is_not_run(copy, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # nobody is asked
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    (copy / "code.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "nobody", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (copy / "config.json").write_text(json.dumps(config))
    assert_refused(copy, "code of its own, which is never run")
    assert not (copy / "ran").exists()


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


@pytest.mark.parametrize("layers", [0, 1])
def test_layers_that_the_config_forgets_are_not_left_out_silently(copy, layers):
    change(copy / "config.json", num_hidden_layers=layers)
    assert_refused(copy, rf"holds model\.layers\.{layers}\.\S+, a layer that its config does not ask for")


def test_more_memory_than_the_weights_need_is_not_taken(copy, monkeypatch):
    change(copy / "config.json", intermediate_size=10**9)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    assert_refused(copy, r"damaged or incomplete \(config\.json asks for \d+ weights, and the files hold \d+\)")


def test_other_shapes_than_the_config_says(copy):
    change(copy / "config.json", intermediate_size=100)
    assert_refused(copy, "its weights have other shapes than its config says")


@pytest.mark.parametrize("value", ["x", 10**30, True, 0.5, {"a": 1}, [3, "x"]], ids=str)
@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_the_end_of_a_text_is_a_token(copy, file, value):
    change(copy / file, eos_token_id=value)
    assert_refused(copy, "damaged or incomplete")


def test_settings_of_a_tokenizer_that_show_only_when_it_is_used(copy):
    change(copy / "tokenizer_config.json", model_max_length="many")
    assert_refused(copy, "cannot read the tokenizer")


def test_a_panic_of_the_tokenizer_is_said_in_a_sentence(copy):
    tokenizer = json.loads((copy / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["continuing_subword_prefix"] = "longer than any token"
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    assert_refused(copy, "cannot read the tokenizer")


# Folders that prunekit wrote.


@pytest.mark.parametrize("text", ["[]", '"text"', "null"])
def test_a_config_that_is_no_object(copy, text):
    (copy / "config.json").write_text(text)
    assert_refused(copy, "damaged or incomplete")


def test_a_copy_in_bfloat16_keeps_its_frequencies(llama):
    copy = in_bfloat16(llama)
    assert {p.dtype for p in copy.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in llama.parameters()} == {torch.float32}
    buffers = dict(copy.named_buffers())
    assert buffers and all(torch.equal(buffers[name], value) for name, value in llama.named_buffers())
    assert copy.lm_head.weight is copy.model.embed_tokens.weight


@pytest.mark.parametrize("saved_by_prunekit", [False, True])
def test_code_of_a_checkpoint_is_neither_run_nor_asked_about(copy, monkeypatch, saved_by_prunekit):
    config = {"model_type": "distilbert", "auto_map": {"AutoModelForCausalLM": "evil.M"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text("raise SystemExit('ran')")
    if saved_by_prunekit:
        (copy / "prunekit.json").write_text('{"version": 1, "fp8_layers": []}')
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    with pytest.raises(PrunekitError, match=r"code of its own, which is never run|not a causal language model"):
        load(str(copy), device="cpu")


def test_pickled_weights_are_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(PrunekitError, match="as pickle"):
        load(str(copy), device="cpu")


def test_an_adapter_is_not_left_out_silently(copy):
    (copy / "adapter_config.json").write_text("{}")
    with pytest.raises(PrunekitError, match="merge it into its model"):
        load(str(copy), device="cpu")
    (copy / "config.json").unlink()  # as adapters mostly come
    with pytest.raises(PrunekitError, match="merge it into its model"):
        load(str(copy), device="cpu")


def test_scales_of_a_quantization_that_nobody_reads_are_noticed(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight_scale_inv"] = torch.ones(1, 1)
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrunekitError, match=r"weight_scale_inv, which belongs to a kind of quantization"):
        load(str(copy), device="cpu")


def test_a_model_that_reads_both_ways_is_refused(tokenizer, tmp_path):
    from transformers import BertConfig, BertLMHeadModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    for decodes in (True, False):
        folder = tmp_path / str(decodes)
        BertLMHeadModel(BertConfig(vocab_size=VOCABULARY, is_decoder=decodes, **sizes)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    load(str(tmp_path / "True"), device="cpu")
    with pytest.raises(PrunekitError, match="in both directions"):
        load(str(tmp_path / "False"), device="cpu")


@pytest.mark.parametrize(
    ("config", "ours", "dtype", "needed"),
    [
        ({"torch_dtype": "bfloat16"}, False, "float32", 200),
        ({}, False, "float32", 100),
        ({"dtype": "float32"}, False, "bfloat16", 50),
        ({"dtype": "bfloat16", "quantization_config": {}}, False, "bfloat16", 200),
        ({"dtype": "bfloat16", "quantization_config": {}}, True, "float32", 100),
        ({"dtype": "bfloat16"}, True, "float32", 200),
        ({"dtype": "bfloat16"}, False, "auto", 100),
    ],
    ids=str,
)
def test_what_a_checkpoint_needs(monkeypatch, tmp_path, config, ours, dtype, needed):

    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"0" * 100_000)
    if ours:
        (tmp_path / "prunekit.json").write_text("{}")
    monkeypatch.setattr(models, "memory_free", lambda _: 1000 * needed)
    models.check_memory(tmp_path, dtype, "cpu")
    monkeypatch.setattr(models, "memory_free", lambda _: 1000 * needed - 1)
    models.check_memory(tmp_path, dtype, "cuda")  # a GPU's memory is another
    with pytest.raises(PrunekitError, match="GB are free"):
        models.check_memory(tmp_path, dtype, "cpu")


def test_a_config_nested_too_deeply_is_left_to_others(tmp_path):

    (tmp_path / "config.json").write_text('{"a":' * 100_000)
    (tmp_path / "model.safetensors").write_bytes(b"0")
    models.check_memory(tmp_path, "float32", "cpu")
