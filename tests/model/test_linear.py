"""Finding, reading and replacing linear layers."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import prunekit as pk
from prunekit.calibration.calibrate import calibrate
from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.method import fp8
from prunekit.model.copies import replace_layers, with_weight
from prunekit.model.fp8_linear import Fp8Linear
from prunekit.model.linear import is_conv1d, linear_layers, weight_of, zeros_in


def test_all_layers_but_the_output_embedding_are_found(llama, gpt2):
    names = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    assert list(linear_layers(llama)) == [f"model.layers.{i}.{name}" for i in (0, 1) for name in names]
    names = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert list(linear_layers(gpt2)) == [f"transformer.h.{i}.{name}" for i in (0, 1) for name in names]
    assert all(map(is_conv1d, linear_layers(gpt2).values()))
    assert not any(map(is_conv1d, linear_layers(llama).values()))


def test_any_module_will_do():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert list(linear_layers(model)) == ["0", "2"]
    assert list(linear_layers(model, exclude=["0"])) == ["2"]
    for empty in (nn.ReLU(), nn.Sequential(nn.Conv2d(1, 1, 1))):
        with pytest.raises(PrunekitError, match="no linear layer"):
            linear_layers(empty)


def test_a_subclass_that_computes_something_else_is_no_layer():
    class Router(nn.Linear):
        def forward(self, x):
            return super().forward(x).topk(1)

    class Named(nn.Linear):
        pass

    class FalconLinear(nn.Linear):
        def forward(self, x):
            return x @ self.weight.T

    quantized = Router(4, 4)
    quantized.weight = nn.Parameter(torch.zeros(4, 2, dtype=torch.uint8), requires_grad=False)
    model = nn.Sequential(Named(4, 4), Router(4, 4), FalconLinear(4, 4), quantized)
    assert list(linear_layers(model)) == ["0", "2", "3"]
    with pytest.raises(PrunekitError, match="3 has no floating-point weight"):
        compress(model, sparsity=0.5, method="magnitude")


def test_patterns_are_parts_of_names_with_wildcards(llama):
    assert len(linear_layers(llama, ["?_proj"])) == 14  # "?" stands for one character, anywhere before _proj
    assert len(linear_layers(llama, ["attn.[qk]_proj"])) == 4
    assert len(linear_layers(llama, ["layers.0"], ["gate", "up"])) == 5
    assert linear_layers(llama, "q_proj", "layers.1") == linear_layers(llama, ["q_proj"], ["layers.1"])
    with pytest.raises(PrunekitError, match="Q_PROJ matches none"):  # case counts
        linear_layers(llama, ["Q_PROJ"])
    with pytest.raises(PrunekitError, match="nosuch matches none"):  # also if another matches
        linear_layers(llama, ["q_proj", "nosuch"])
    with pytest.raises(PrunekitError, match="leave no layer"):
        linear_layers(llama, exclude=["*"])


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_weights_are_read_and_replaced_as_out_in(kind):
    layer = nn.Linear(4, 3) if kind == "linear" else Conv1D(3, 4)
    W, x = weight_of(layer), torch.randn(5, 4)
    assert W.shape == (3, 4) and not W.requires_grad
    torch.testing.assert_close(x @ W.T + layer.bias, layer(x))
    before = layer.weight.clone()
    new = with_weight(layer, 2 * W)
    assert type(new) is type(layer) and new.bias is layer.bias
    torch.testing.assert_close(x @ (2 * W).T + layer.bias, new(x))
    assert torch.equal(layer.weight, before) and new.weight.shape == layer.weight.shape
    assert not new.weight.requires_grad and new.weight.is_contiguous()
    assert with_weight(layer.to(torch.bfloat16), W.float()).weight.dtype == torch.bfloat16


@pytest.mark.parametrize("fmt", fp8.FORMATS.values(), ids=fp8.FORMATS)
@pytest.mark.parametrize("granularity", fp8.GRANULARITIES)
@pytest.mark.parametrize("bias", [False, True])
def test_an_fp8_layer_computes_with_what_its_codes_stand_for(fmt, granularity, bias):
    W, b, x = torch.randn(130, 200), torch.randn(130) if bias else None, torch.randn(2, 3, 200)
    scale = fp8.scales(W, fmt, granularity)
    codes = fp8.cast(W, scale, fmt)
    layer = Fp8Linear(codes, scale, b)
    assert (layer.in_features, layer.out_features) == (200, 130)
    wide = fp8.uncast(codes, scale)
    assert torch.equal(layer.dense_weight(), wide) and torch.equal(weight_of(layer), wide)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, wide, b))
    assert set(layer.state_dict()) == {"weight", "weight_scale"} | ({"bias"} if bias else set())
    assert layer.state_dict()["weight"].dtype == fmt.dtype
    half = Fp8Linear(codes, scale, b if b is None else b.bfloat16())
    assert half(x.bfloat16()).dtype == torch.bfloat16
    assert "in_features=200, out_features=130" in repr(layer)
    assert list(linear_layers(nn.Sequential(layer))) == ["0"]


@pytest.mark.parametrize("to", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_casting_a_model_leaves_its_codes_alone(to):
    W = torch.randn(8, 16)
    scale = fp8.scales(W, fp8.E4M3)
    layer = Fp8Linear(fp8.cast(W, scale), scale, torch.randn(8))
    before = layer.dense_weight()
    nn.Sequential(layer).to(to)
    assert layer.weight.dtype == torch.float8_e4m3fn and layer.weight_scale.dtype == torch.float32
    assert torch.equal(layer.dense_weight(), before) and layer.bias.dtype == to


def test_replacing_layers_copies_no_more_than_the_way_to_them():
    inner = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model = nn.ModuleDict({"a": inner, "b": nn.Linear(4, 4), "ab": nn.Sequential(nn.Linear(4, 4))})
    new_layer = nn.Linear(4, 4)
    new = replace_layers(model, {"a.1": new_layer})
    assert new is not model and new["a"] is not inner
    assert new["a"][1] is new_layer and new["a"][0] is inner[0]
    assert new["b"] is model["b"] and new["ab"] is model["ab"]
    assert model["a"] is inner and inner[1] is not new_layer
    assert replace_layers(model, {}) is model


def test_what_is_registered_on_the_copy_is_its_own():
    calls = []
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model.register_forward_hook(lambda *_: calls.append("model"))
    new = replace_layers(model, {"1": with_weight(model[1], torch.zeros(4, 4))})
    new.register_forward_hook(lambda *_: calls.append("new"))
    new[1].register_forward_hook(lambda *_: calls.append("layer"))
    new.register_buffer("scale", torch.ones(1))
    assert not torch.equal(model(torch.ones(4)), torch.zeros(4)) and calls == ["model"]
    assert "scale" not in model.state_dict()
    new(torch.ones(4))
    assert calls == ["model", "layer", "model", "new"]


@pytest.mark.parametrize("attribute", ["forward", "_hf_hook", "_compiled_call_impl"])
def test_a_model_that_calls_code_bound_to_it_is_refused(attribute):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    object.__setattr__(model, attribute, model[0].forward)
    with pytest.raises(PrunekitError, match=r"a Sequential of the model was compiled \(torch.compile\) or spread"):
        replace_layers(model, {"1": nn.Linear(4, 4)})


def test_a_forward_that_is_the_class_s_own_is_no_obstacle():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model.forward = model.forward  # as wrappers leave it that put back what they found
    new = replace_layers(model, {"1": with_weight(model[1], torch.zeros(4, 4))})
    assert torch.equal(new(torch.ones(4)), model[1].bias) and not torch.equal(model(torch.ones(4)), model[1].bias)


def test_names_of_which_one_begins_another():
    blocks = nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(2, 2) for _ in range(12))})
    new_layer = nn.Linear(2, 2)
    new = replace_layers(blocks, {"blocks.1": new_layer})
    assert new["blocks"][1] is new_layer
    assert all(new["blocks"][i] is blocks["blocks"][i] for i in range(12) if i != 1)


def test_both_zeros_of_fp8_count():
    assert zeros_in(torch.tensor([0, 0x80, 1], dtype=torch.uint8).view(torch.float8_e4m3fn)) == 2


def test_a_smaller_conv1d_knows_its_size(gpt2, ids):
    smaller = pk.remove_neurons(gpt2, 0.3, calibrate(gpt2, ids))
    assert (smaller.transformer.h[0].mlp.c_fc.nf, smaller.transformer.h[0].mlp.c_proj.nx) == (96, 96)
