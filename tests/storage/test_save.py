"""A saved model comes back: the same zeros, codes, scales and logits, in prunekit and in transformers."""

import json
import struct
from copy import deepcopy

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import VOCABULARY, cast_parameters, tiny_mixture
from transformers import AutoModelForCausalLM, AutoTokenizer

import prunekit as pk
from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.evaluation.generate import generate
from prunekit.method import fp8
from prunekit.model.fp8_linear import Fp8Linear
from prunekit.model.linear import weight_of
from prunekit.recovery.recover import recover
from prunekit.storage.load import load
from prunekit.storage.reopen import open_compressed
from prunekit.storage.save import save
from prunekit.storage.tensors import stored_bytes

CASTS = [{}] + [{"fp8": f, "granularity": g} for f in ("e4m3", "e5m2") for g in fp8.GRANULARITIES]
PER_TENSOR = {"fp8": "e4m3", "granularity": "tensor"}
five = pytest.mark.skipif(transformers.__version__.startswith("4."), reason="as transformers 5 has it")
each_cast = pytest.mark.parametrize("cast", CASTS, ids=lambda c: "-".join(c.values()) or "uncast")
each_kind = pytest.mark.parametrize("kind", ["llama", "gpt2"])


def stored(folder):
    """All tensors of a checkpoint by name."""
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def data_bytes(path):
    """Bytes of tensors in a safetensors file: all that follow the header."""
    with open(path, "rb") as file:
        return path.stat().st_size - 8 - struct.unpack("<Q", file.read(8))[0]


def assert_same_layers(result, loaded):
    for entry in result.layers:
        old, new = (model.get_submodule(entry["name"]) for model in (result.model, loaded))
        assert type(new) is type(old)
        assert torch.equal(weight_of(old) == 0, weight_of(new) == 0)
        if isinstance(old, Fp8Linear):
            assert new.weight.dtype == old.weight.dtype
            a, b = old.weight.view(torch.uint8), new.weight.view(torch.uint8)
            assert torch.equal(a, b), f"{entry['name']}: {(a != b).sum()} codes differ"
            assert torch.equal(old.weight_scale, new.weight_scale)
        else:
            assert torch.equal(old.weight, new.weight)


def assert_comes_back(result, folder, ids):
    loaded, _ = load(str(folder), device="cpu")
    assert_same_layers(result, loaded)
    assert torch.equal(loaded(ids).logits, result.model(ids).logits)
    return loaded


def assert_plain_opens(result, folder, ids):
    plain, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"]
    torch.testing.assert_close(plain(ids).logits, result.model(ids).logits, rtol=1e-4, atol=1e-4)
    return plain


@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"pattern": "2:4"}, {"sparsity": 0}], ids=["half", "2:4", "all"])
@each_cast
@each_kind
def test_a_saved_model_comes_back(tiny_models, tokenizer, ids, tmp_path, kind, cast, target):
    result = compress(tiny_models[kind], ids, **target, **cast)
    folder = save(result, tokenizer, tmp_path / "out", activations="none")
    assert folder == tmp_path / "out"
    loaded, its_tokenizer = load(str(folder), device="cpu")
    assert type(loaded) is type(result.model) and not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert_same_layers(result, loaded)
    logits = result.model(ids).logits
    assert torch.equal(loaded(ids).logits, logits)
    assert its_tokenizer("Half of it")["input_ids"] == tokenizer("Half of it")["input_ids"]
    assert generate(loaded, its_tokenizer, "The weights", 8) == generate(result.model, tokenizer, "The weights", 8)

    files = list(folder.glob("*.safetensors"))
    assert stored_bytes(result.model) == sum(map(data_bytes, files))
    assert stored_bytes(loaded) == stored_bytes(result.model)
    about = json.loads((folder / "prunekit.json").read_text("utf-8"))
    assert about["sparsity"] == result.sparsity and about["recipe"]["fp8"] == cast.get("fp8")
    assert about["calibration_tokens"] == result.tokens


@pytest.mark.parametrize(
    ("kind", "cast"),
    [(kind, cast) for kind in ("llama", "gpt2") for cast in CASTS],
    ids=str,
)
def test_plain_transformers_opens_it(tiny_models, tokenizer, ids, tmp_path, kind, cast):
    result = compress(tiny_models[kind], ids, sparsity=0.5, **cast)
    save(result, tokenizer, tmp_path, activations="none")
    plain = assert_plain_opens(result, tmp_path, ids)
    for entry in result.layers:
        layer = plain.get_submodule(entry["name"])
        W = layer.weight.T if kind == "gpt2" else layer.weight
        if W.dtype == torch.float32:
            assert torch.equal(W == 0, weight_of(result.model.get_submodule(entry["name"])) == 0)
    assert AutoTokenizer.from_pretrained(tmp_path)("many")["input_ids"] == tokenizer("many")["input_ids"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("cast", [{}, {"fp8": "e4m3"}, {"fp8": "e5m2", "granularity": "block"}], ids=str)
@each_kind
def test_models_of_half_precision_come_back(make_model, tokenizer, ids, tmp_path, kind, cast, dtype):
    result = compress(make_model(kind, dtype=dtype), ids, sparsity=0.5, **cast)
    save(result, tokenizer, tmp_path)
    loaded, _ = load(str(tmp_path), dtype=str(dtype).removeprefix("torch."), device="cpu")
    assert_same_layers(result, loaded)
    assert torch.equal(loaded(ids).logits, result.model(ids).logits)
    assert stored_bytes(result.model) == sum(map(data_bytes, tmp_path.glob("*.safetensors")))
    wide, _ = load(str(tmp_path), device="cpu")  # float32 on a CPU
    assert wide.get_input_embeddings().weight.dtype == torch.float32
    if cast:
        assert_same_layers(result, wide)


@pytest.mark.parametrize("how", ["wanda", "sparsegpt", "magnitude", "admm"])
@pytest.mark.parametrize("cast", [{}, {"fp8": "e4m3"}], ids=str)
def test_the_baselines_come_back(llama, tokenizer, ids, tmp_path, how, cast):
    result = compress(llama, ids, sparsity=0.5, method=how, **cast)
    assert_comes_back(result, save(result, tokenizer, tmp_path), ids)


@pytest.mark.parametrize("cast", [{}, {"fp8": "e4m3"}], ids=str)
@each_kind
def test_what_the_presets_make_comes_back(tiny_models, tokenizer, ids, tmp_path, kind, cast):
    dense = tiny_models[kind]
    fast = compress(dense, ids, sparsity=0.5, compensate=True, **cast)
    balanced = compress(dense, ids, pattern="2:4", method="admm", permute=True, **cast)
    best = recover(balanced, dense, ids, steps=2)
    for name, result in (("fast", fast), ("balanced", balanced), ("best", best)):
        folder = save(result, tokenizer, tmp_path / name)
        assert_comes_back(result, folder, ids)
        assert_plain_opens(result, folder, ids)


def test_a_folder_with_several_files_of_weights_comes_back(llama, tokenizer, ids, tmp_path):
    result = compress(llama, ids, sparsity=0.5, fp8="e4m3")
    folder = save(result, tokenizer, tmp_path / "out")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for part in range(2):
        names = sorted(tensors)[part::2]
        save_file({n: tensors[n] for n in names}, folder / f"model-{part}.safetensors", metadata={"format": "pt"})
    places = {name: f"model-{part}.safetensors" for part in range(2) for name in sorted(tensors)[part::2]}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert_comes_back(result, folder, ids)


def test_some_layers_in_fp8_and_others_not(llama, tokenizer, ids, tmp_path):
    result = compress(llama, ids, sparsity=0.5, fp8="e4m3", include=["mlp"])
    save(result, tokenizer, tmp_path, activations="none")
    assert_comes_back(result, tmp_path, ids)
    assert_plain_opens(result, tmp_path, ids)


def test_an_untied_output_embedding_comes_back(make_model, tokenizer, ids, tmp_path):
    result = compress(make_model(tie_word_embeddings=False), ids, sparsity=0.5, fp8="e4m3")
    save(result, tokenizer, tmp_path, activations="none")
    loaded = assert_comes_back(result, tmp_path, ids)
    assert loaded.lm_head.weight.data_ptr() != loaded.model.embed_tokens.weight.data_ptr()
    assert_plain_opens(result, tmp_path, ids)


@pytest.mark.parametrize("cast", [None, "e4m3"])
def test_tensors_that_the_config_does_not_tie_come_back_though_they_are_shared(
    make_model, tokenizer, ids, tmp_path, cast
):
    model = make_model(tie_word_embeddings=False)
    model.lm_head.weight = model.model.embed_tokens.weight
    model.model.layers[1].input_layernorm.weight = model.model.layers[0].input_layernorm.weight
    result = compress(model, ids, sparsity=0.5, fp8=cast)
    save(result, tokenizer, tmp_path)
    assert_comes_back(result, tmp_path, ids)
    assert_plain_opens(result, tmp_path, ids)


def test_a_head_of_its_own_stays_where_the_config_ties_it(make_model, tokenizer, ids, tmp_path):
    model = make_model(tie_word_embeddings=False)
    model.config.tie_word_embeddings = True
    result = compress(model, ids, sparsity=0.5, fp8="e4m3")
    save(result, tokenizer, tmp_path)
    loaded = assert_comes_back(result, tmp_path, ids)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


def test_a_model_that_came_back_can_be_saved_again(llama, tokenizer, ids, tmp_path):
    first = compress(llama, ids, sparsity=0.5)
    save(first, tokenizer, tmp_path / "one")
    loaded, its_tokenizer = load(str(tmp_path / "one"), device="cpu")
    second = compress(loaded, sparsity=0, fp8="e4m3")  # casts what was pruned before
    assert second.sparsity >= first.sparsity
    save(second, its_tokenizer, tmp_path / "two")
    assert_same_layers(second, load(str(tmp_path / "two"), device="cpu")[0])


def test_codes_take_one_byte_and_values_that_fit_bfloat16_two(make_model, tokenizer, ids, tmp_path):
    model = cast_parameters(make_model(dtype=torch.bfloat16), torch.float32)
    for name, cast, width in (("uncast", {}, 2), ("cast", {"fp8": "e4m3"}, 1)):
        result = compress(model, ids, sparsity=0.5, **cast)
        tensors = stored(save(result, tokenizer, tmp_path / name))
        for entry in result.layers:
            assert tensors[f"{entry['name']}.weight"].element_size() == width
        assert tensors["model.embed_tokens.weight"].dtype == torch.bfloat16
        assert "lm_head.weight" not in tensors  # tied: once
        assert json.loads((tmp_path / name / "config.json").read_text())["dtype"] == "bfloat16"
        assert torch.equal(load(str(tmp_path / name), device="cpu")[0](ids).logits, result.model(ids).logits)


def test_values_that_fit_float16_take_two_bytes(make_model, tokenizer, ids, tmp_path):
    model = cast_parameters(make_model(dtype=torch.float16), torch.float32)
    for method in ("ewma", "admm"):
        result = compress(model, ids, sparsity=0.5, method=method)
        tensors = stored(save(result, tokenizer, tmp_path / method))
        assert {tensor.element_size() for tensor in tensors.values()} == {2}
        assert json.loads((tmp_path / method / "config.json").read_text())["dtype"] == "float16"
        assert torch.equal(load(str(tmp_path / method), device="cpu")[0](ids).logits, result.model(ids).logits)


@five
@pytest.mark.parametrize("cast", [{}, {"fp8": "e4m3"}], ids=str)
def test_buffers_that_no_checkpoint_holds_come_back(make_model, tokenizer, ids, tmp_path, cast):
    model = make_model("gemma2")
    assert any("embed_scale" in name for name, _ in model.named_buffers())
    result = compress(model, ids, sparsity=0.5, **cast)
    save(result, tokenizer, tmp_path / "out")
    assert torch.equal(load(str(tmp_path / "out"), device="cpu")[0](ids).logits, result.model(ids).logits)


@five
@pytest.mark.parametrize("cast", [{}, {"fp8": "e4m3"}], ids=str)
def test_what_transformers_keeps_in_float32_stays_float32(tokenizer, ids, tmp_path, cast):
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    attention = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
    experts = {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "first_k_dense_replace": 1}
    config = DeepseekV3Config(vocab_size=VOCABULARY, **sizes, **heads, **attention, **experts)
    model = cast_parameters(DeepseekV3ForCausalLM(config).eval().requires_grad_(False), torch.bfloat16)
    bias = model.model.layers[1].mlp.gate.e_score_correction_bias
    bias.copy_(7 + torch.rand(8) / 100)  # in bfloat16 these are all the same
    result = compress(model, ids, sparsity=0.5, **cast)
    save(result, tokenizer, tmp_path / "out")
    again = load(str(tmp_path / "out"), dtype="bfloat16", device="cpu")[0]
    assert torch.equal(again.model.layers[1].mlp.gate.e_score_correction_bias, bias)
    assert torch.equal(again(ids).logits, result.model(ids).logits)


def test_weights_are_never_narrowed_at_a_loss(llama, tokenizer, ids, tmp_path):
    result = compress(llama, ids, sparsity=0.5, include=["q_proj"])
    tensors = stored(save(result, tokenizer, tmp_path))
    assert tensors["model.embed_tokens.weight"].dtype == torch.float32
    assert tensors["model.norm.weight"].dtype == torch.bfloat16  # all ones
    assert torch.equal(tensors["model.embed_tokens.weight"], llama.model.embed_tokens.weight)


@each_cast
def test_there_is_no_pickle(llama, tokenizer, ids, tmp_path, cast):
    save(compress(llama, ids, sparsity=0.5, **cast), tokenizer, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".txt", ".md"}
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        assert path.read_bytes()[:2] not in (b"PK", b"\x80\x02", b"\x80\x04")


@pytest.mark.parametrize("granularity", fp8.GRANULARITIES)
@pytest.mark.parametrize("activations", ["none", "dynamic"])
def test_the_config_is_one_of_compressed_tensors(llama, tokenizer, ids, tmp_path, granularity, activations):
    from compressed_tensors.quantization import QuantizationConfig

    result = compress(llama, ids, sparsity=0.5, fp8="e4m3", granularity=granularity, exclude=["o_proj"])
    save(result, tokenizer, tmp_path, activations)
    written = json.loads((tmp_path / "config.json").read_text("utf-8"))["quantization_config"]
    config = QuantizationConfig.model_validate(written)
    assert config.format == "float-quantized"
    (group,) = config.config_groups.values()
    assert (group.weights.num_bits, str(group.weights.type)) == (8, "float")
    assert (group.input_activations is not None) == (activations == "dynamic")
    assert set(config.ignore) == {"lm_head", *(f"model.layers.{i}.self_attn.o_proj" for i in (0, 1))}
    tensors = stored(tmp_path)
    for entry in result.layers:
        assert tensors[f"{entry['name']}.weight"].dtype == torch.float8_e4m3fn
        assert tensors[f"{entry['name']}.weight_scale"].dtype == torch.float32


@pytest.mark.parametrize("cast", [{}, {"fp8": "e5m2"}], ids=str)
def test_what_compressed_tensors_cannot_hold_is_not_said_to_be_so(llama, tokenizer, ids, tmp_path, cast):
    save(compress(llama, ids, sparsity=0.5, **cast), tokenizer, tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text("utf-8"))


def test_saving_changes_neither_the_model_nor_its_config(make_model, tokenizer, ids, tmp_path):
    model = make_model()
    model.generation_config.temperature = 0.7  # which transformers does not save without do_sample
    result = compress(model, ids, sparsity=0.5, fp8="e4m3")
    before, config = result.model(ids).logits, deepcopy(vars(model.config))
    save(result, tokenizer, tmp_path)
    assert torch.equal(result.model(ids).logits, before)
    assert vars(model.config) == config and model.generation_config.temperature == 0.7
    assert json.loads((tmp_path / "generation_config.json").read_text("utf-8"))["temperature"] == 0.7


def test_a_model_that_was_compiled_afterwards_is_saved(llama, tokenizer, ids, tmp_path):
    result = compress(llama, ids, sparsity=0.5)
    result.model.forward = result.model.forward  # as others wrap it
    save(result, tokenizer, tmp_path)
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("kind, cast", [("gpt2", {"fp8": "e4m3"}), ("llama", {})])
def test_activations_are_refused_where_servers_would_not_hear_of_them(make_model, tokenizer, ids, tmp_path, kind, cast):
    result = compress(make_model(kind), ids, sparsity=0.5, **cast)
    with pytest.raises(PrunekitError, match="activations='dynamic'"):
        save(result, tokenizer, tmp_path, activations="dynamic")
    assert not list(tmp_path.iterdir())


# Bad places


@pytest.fixture(scope="module")
def result(llama, ids):
    return compress(llama, ids, sparsity=0.5, fp8="e4m3")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_that_holds_something_is_kept(result, tokenizer, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(PrunekitError, match="out exists and is not empty: choose another"):
        save(result, tokenizer, tmp_path / "out")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["mine.txt"]


def test_a_file_is_kept(result, tokenizer, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(PrunekitError, match="out exists and is not a folder"):
        save(result, tokenizer, tmp_path / "out")
    with pytest.raises(PrunekitError, match=r"cannot write to .*out"):
        save(result, tokenizer, tmp_path / "out" / "below")
    assert names(tmp_path) == ["out"] and (tmp_path / "out").read_text() == "mine"


def test_an_empty_folder_and_a_new_one_below_new_ones_will_do(result, tokenizer, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        save(result, tokenizer, path)
        assert (path / "model.safetensors").is_file()
        assert names(path.parent) == ([path.name] if path.name == "c" else ["empty"])


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), r"cannot write .*: No space left on device; free some space"),
        (Exception("No space left on device (os error 28)"), r"cannot write the tokenizer \(No space.*free some space"),
    ],
    ids=["of Python", "of tokenizers"],
)
def test_a_save_that_fails_leaves_nothing(result, tmp_path, error, sentence):
    class Disk:
        def save_pretrained(self, folder):
            (folder / "tokenizer.json").write_text("{")
            raise error

    with pytest.raises(PrunekitError, match=sentence):
        save(result, Disk(), tmp_path / "out")
    assert names(tmp_path) == []


@five
@pytest.mark.parametrize("scaling", [None, {"rope_type": "linear", "factor": 2.0}], ids=["plain", "scaled"])
def test_transformers_4_finds_what_it_looks_for(make_model, tokenizer, ids, tmp_path, scaling):
    rope = {"rope_theta": 5000.0, **(scaling or {"rope_type": "default"})}
    model = make_model("llama", rope_parameters=rope)
    folder = save(compress(model, ids, sparsity=0.5), tokenizer, tmp_path / "out")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["rope_theta"] == 5000.0 and config["rope_scaling"] == scaling
    assert config["torch_dtype"] == config["dtype"]
    classes = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    assert classes["tokenizer_class"] == "PreTrainedTokenizerFast"
    loaded, _ = load(str(folder), device="cpu")
    assert torch.equal(loaded.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


def test_unknown_activations(result, tokenizer, tmp_path):
    with pytest.raises(PrunekitError, match="unknown activations 'static': expected dynamic or none"):
        save(result, tokenizer, tmp_path / "out", activations="static")
    assert names(tmp_path) == []


@pytest.mark.parametrize("cast", [{}, {"fp8": "e4m3"}], ids=["uncast", "e4m3"])
def test_a_mixture_of_experts_comes_back(tokenizer, ids, tmp_path, cast):
    result = compress(tiny_mixture(), ids, sparsity=0.5, **cast)
    folder = save(result, tokenizer, tmp_path / "out")
    assert_comes_back(result, folder, ids)
    if not cast:
        assert_plain_opens(result, folder, ids)


def test_as_stored_is_what_is_not_fp8_nor_a_scale(llama, tokenizer, ids, tmp_path):
    result = compress(deepcopy(llama).bfloat16(), ids, sparsity=0.5, fp8="e4m3")
    folder = save(result, tokenizer, tmp_path / "out")
    assert open_compressed(folder, "auto").get_input_embeddings().weight.dtype == torch.bfloat16


def test_how_to_generate_comes_back(make_model, tokenizer, ids, tmp_path):
    model = make_model()
    model.generation_config.eos_token_id = [0, 7]  # which the model's config does not know
    model.generation_config.max_length = 99
    loaded, _ = load(str(save(compress(model, ids, sparsity=0.5), tokenizer, tmp_path / "once")), device="cpu")
    assert loaded.generation_config.eos_token_id == [0, 7]
    again, _ = load(str(save(compress(loaded, ids, sparsity=0.5), tokenizer, tmp_path / "twice")), device="cpu")
    assert loaded.generation_config.max_length == again.generation_config.max_length == 99


def test_files_beside_the_model_are_not_taken_for_its_weights(llama, tokenizer, ids, tmp_path):
    result = compress(llama, ids, sparsity=0.5, fp8="e4m3")
    folder = save(result, tokenizer, tmp_path / "out")
    save_file({name: tensor.clone() for name, tensor in llama.state_dict().items()}, folder / "z.safetensors")
    assert torch.equal(load(str(folder), device="cpu")[0](ids).logits, result.model(ids).logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"version": 2}, "by a later prunekit"), ({"recipe": {"fp8": "e5m2"}}, r"float8_e4m3fn where prunekit.json says")],
    ids=["version", "format"],
)
def test_a_prunekit_json_that_does_not_fit_is_refused(llama, tokenizer, ids, tmp_path, changes, message):
    folder = save(compress(llama, ids, sparsity=0.5, fp8="e4m3"), tokenizer, tmp_path / "out")
    about = json.loads((folder / "prunekit.json").read_text("utf-8"))
    (folder / "prunekit.json").write_text(json.dumps(about | changes), "utf-8")
    with pytest.raises(PrunekitError, match=message):
        load(str(folder), device="cpu")


@pytest.mark.parametrize(("granularity", "strategy"), [("tensor", "token"), ("row", "token"), ("block", "group")])
def test_how_activations_are_cast(llama, tokenizer, ids, tmp_path, granularity, strategy):
    save(compress(llama, ids, sparsity=0.5, fp8="e4m3", granularity=granularity), tokenizer, tmp_path, "dynamic")
    config = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    inputs = config["config_groups"]["group_0"]["input_activations"]
    assert inputs["strategy"] == strategy and inputs.get("group_size") == (128 if strategy == "group" else None)


def test_biases_of_fp8_layers_are_as_narrow_as_is_exact(make_model, tokenizer, ids, tmp_path):
    from safetensors.torch import load_file

    model = cast_parameters(make_model("gpt2", dtype=torch.bfloat16), torch.float32)
    save(compress(model, ids, sparsity=0.5, fp8="e4m3"), tokenizer, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert all(t.element_size() == 2 for name, t in tensors.items() if name.endswith("bias"))


def test_a_model_that_came_back_does_not_call_itself_quantized(llama, tokenizer, ids, tmp_path):
    folder = save(compress(llama, ids, sparsity=0.5, fp8="e4m3"), tokenizer, tmp_path)
    assert not hasattr(pk.load(str(folder), device="cpu")[0].config, "quantization_config")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_an_fp8_model_of_half_precision_runs_in_float32(make_model, tokenizer, ids, tmp_path, kind):
    save(compress(make_model(kind, dtype=torch.bfloat16), ids, sparsity=0.5, fp8="e4m3"), tokenizer, tmp_path)
    wide, _ = pk.load(str(tmp_path), device="cpu")
    assert wide(ids).logits.dtype == torch.float32
