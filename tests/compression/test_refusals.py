"""What `compress` refuses, in one sentence and before any work."""

import pytest
import torch
from test_compress import HALF, each_kind
from torch import nn
from torch.nn.utils import prune

import prunekit as pk
from prunekit.calibration.calibrate import calibrate
from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.model.linear import linear_layers, weight_of


def test_text_that_the_model_cannot_read_is_refused(gpt2, ids):
    result, size = compress(gpt2, ids, sparsity=0.5), gpt2.config.vocab_size
    long = ids.flatten()[None].repeat(1, -(-gpt2.config.n_positions // ids.numel()) + 1)
    for text, message in (
        (long, "takes at most"),
        (ids + size, "a model knows"),
        (ids - 100, "a model knows"),
        (ids[0], r"shape \(32,\)"),
    ):
        for method in ("ewma", "wanda"):
            with pytest.raises(PrunekitError, match=message):
                compress(gpt2, text, sparsity=0.5, method=method)
        with pytest.raises(PrunekitError, match=message):
            compress(gpt2, text, pattern="2:4", permute=True)
        with pytest.raises(PrunekitError, match=message):
            pk.allocate(gpt2, text, 0.5)
        with pytest.raises(PrunekitError, match=message):
            pk.recover(result, gpt2, text, steps=1, batch=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@each_kind
def test_a_weight_that_is_not_finite_is_named(make_model, ids, kind, value):
    model = make_model(kind)
    name, layer = list(linear_layers(model).items())[-1]
    layer.weight[3, 5] = value
    methods = [{"method": method} for method in ("ewma", "magnitude", "wanda", "sparsegpt")]
    for options in (*methods, {"sparsity": 0, "fp8": "e4m3"}):
        with pytest.raises(PrunekitError, match=f"{name}.weight holds NaN or infinity: "):
            compress(model, ids, **HALF | options)


def test_layers_that_share_a_weight_are_refused(make_model, ids):
    model = make_model()
    first, second = (layer.mlp.up_proj for layer in model.model.layers)
    second.weight = first.weight
    for options in ({}, {"exclude": ["layers.0.mlp.up_proj"]}, {"include": ["layers.0.mlp.up_proj"]}):
        with pytest.raises(PrunekitError, match=r"layers\.0\.mlp\.up_proj\.weight and .* are one and the same"):
            compress(model, ids, **HALF, **options)
    assert compress(model, ids, **HALF, exclude=["up_proj"]).sparsity == pytest.approx(0.5, abs=0.05)


@each_kind
def test_a_weight_outside_the_layers_that_is_not_finite_is_named(make_model, ids, kind):
    model = make_model(kind)
    name, p = next((n, p) for n, p in model.named_parameters() if "norm" in n or "ln_" in n)
    p[3] = float("nan")
    for options in ({}, {"method": "magnitude"}, {"sparsity": 0, "fp8": "e4m3"}):
        with pytest.raises(PrunekitError, match=f"{name} holds NaN or infinity: "):
            compress(model, ids, **HALF | options)


@pytest.mark.parametrize("how", ["prune", "parametrize"])
def test_weights_that_are_computed_from_others_are_refused(make_model, ids, how):
    model = make_model()
    if how == "prune":
        prune.l1_unstructured(model.model.layers[1].mlp.up_proj, "weight", 0.3)
    else:
        nn.utils.parametrizations.weight_norm(model.model.layers[1].mlp.up_proj)
    with pytest.raises(PrunekitError, match=r"layers\.1\.mlp\.up_proj computes its weight from others"):
        compress(model, ids, sparsity=0.5)


def test_layers_whose_weight_the_model_reads_are_refused_in_fp8():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.read, self.called = nn.Embedding(30, 16), nn.Linear(16, 16), nn.Linear(16, 30)

        def forward(self, ids, use_cache=True):
            return self.called(self.embed(ids) @ self.read.weight.T)

    model = Reader().train()
    with pytest.raises(PrunekitError, match=r"does not run with all these layers in FP8 .*dt_proj"):
        compress(model, sparsity=0, fp8="e4m3")
    result = compress(model, sparsity=0, fp8="e4m3", exclude=["read"])
    assert model.training and result.model(torch.zeros(1, 2, dtype=torch.int64)).shape == (1, 2, 30)


def test_large_weights_whose_sum_overflows_are_not_refused(make_model, ids):
    model = make_model(dtype=torch.float16)
    layer = model.model.layers[0].self_attn.q_proj
    layer.weight[0] = 60_000
    assert compress(model, sparsity=0.5, method="magnitude", include=["0.self_attn.q"]).sparsity == 0.5


def test_a_pattern_that_does_not_fill_a_layer_names_it(llama, ids):
    for method in ("ewma", "wanda", "sparsegpt", "magnitude"):
        with pytest.raises(PrunekitError, match=r"q_proj has 64 input columns, which groups of 5 .*--exclude"):
            compress(llama, ids, pattern="2:5", method=method)
    result = compress(llama, ids, pattern="2:5", include=["down_proj"])  # 160 columns
    for layer in result.layers:
        zero = weight_of(result.model.get_submodule(layer["name"])) == 0
        assert (zero.unflatten(1, (-1, 5)).sum(-1) == 3).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "not both and not neither"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "not both and not neither"),
        ({"sparsity": -0.1}, "sparsity is -0.1: expected"),
        ({"sparsity": 1}, "sparsity is 1: expected"),
        ({"sparsity": 1.5}, "sparsity is 1.5: expected"),
        ({"sparsity": "half"}, "sparsity is 'half': expected"),
        ({"sparsity": float("nan")}, "sparsity is nan: expected"),
        ({"pattern": "4:2"}, "pattern '4:2' is not N:M"),
        ({"pattern": "0:4"}, "pattern '0:4' is not N:M"),
        ({"pattern": "2:0"}, "pattern '2:0' is not N:M"),
        ({"pattern": "two:four"}, "is not N:M"),
        ({"sparsity": 0.5, "fp8": "e3m4"}, "unknown FP8 format 'e3m4': expected one of e4m3"),
        ({"sparsity": 0.5, "granularity": "column"}, "unknown granularity 'column'"),
        ({"sparsity": 0.5, "method": "obs"}, "unknown method 'obs'"),
        ({"sparsity": 0.5, "metric": "taylor"}, "unknown metric 'taylor'"),
        ({"sparsity": 0.5, "select": "sort"}, "unknown select 'sort'"),
        ({"sparsity": 0.5, "method": "wanda", "select": "exact"}, "belong to method ewma"),
        ({"sparsity": 0.5, "method": "magnitude", "metric": "rank-one"}, "belong to method ewma"),
        ({"pattern": "2:4", "select": "ewma-mean"}, "no N:M form"),
    ],
    ids=str,
)
def test_bad_options_are_refused_before_any_work(llama, ids, options, message):
    with pytest.raises(PrunekitError, match=message) as caught:
        compress(llama, ids, **options)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_model_that_is_fp8_already_is_refused(llama, ids):
    once = compress(llama, ids, sparsity=0.5, fp8="e4m3").model
    for options in ({}, {"fp8": "e4m3"}, {"method": "magnitude"}):
        with pytest.raises(PrunekitError, match="is FP8 already: compress the dense model instead"):
            compress(once, ids, sparsity=0.5, **options)
    part = compress(llama, ids, sparsity=0.5, fp8="e4m3", include=["mlp"]).model
    with pytest.raises(PrunekitError, match="is FP8 already: compress the dense model instead"):
        compress(part, ids, sparsity=0.5, include=["self_attn"])


def test_a_model_that_another_tool_has_quantized_is_refused(make_model, ids):
    model = make_model()
    layer = model.model.layers[0].mlp.up_proj
    layer.weight = nn.Parameter(layer.weight.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(PrunekitError, match=r"up_proj\.weight is FP8 already"):
        compress(model, ids, sparsity=0.5)
    layer.weight = nn.Parameter(torch.ones(layer.weight.shape, dtype=torch.int8), requires_grad=False)
    with pytest.raises(PrunekitError, match="up_proj has no floating-point weight"):
        compress(model, ids, sparsity=0.5)
    del layer.weight
    layer.register_buffer("weight_packed", torch.zeros(1, dtype=torch.int32))
    with pytest.raises(PrunekitError, match="up_proj has no floating-point weight"):
        compress(model, ids, sparsity=0.5)


def test_a_calibration_must_fit_what_is_compressed(llama, ids):
    part = calibrate(llama, ids, linear_layers(llama, ["mlp"]))
    with pytest.raises(PrunekitError, match=r"holds nothing of .*self_attn"):
        compress(llama, calibration=part, sparsity=0.5)
    assert compress(llama, calibration=part, sparsity=0.5, include=["mlp"]).sparsity == pytest.approx(0.5, abs=0.05)
    with pytest.raises(PrunekitError, match="does not know the new order"):
        compress(llama, ids, calibration=calibrate(llama, ids), pattern="2:4", permute=True)


def test_blockwise_methods_refuse_a_calibration_alone_and_layers_outside_the_blocks(llama, ids):
    with pytest.raises(PrunekitError, match="pass ids, not a calibration"):
        compress(llama, calibration=calibrate(llama, ids), sparsity=0.5, method="wanda")

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    for method in ("wanda", "sparsegpt", "admm"):
        with pytest.raises(PrunekitError, match=r"not in one list of blocks.*--method ewma"):
            compress(Flat(), ids, sparsity=0.5, method=method)


@pytest.mark.parametrize("method", ["ewma", "admm", "wanda", "sparsegpt"])
def test_inputs_that_are_not_finite_are_named(make_model, ids, method):
    model = make_model()
    model.model.layers[1].input_layernorm.weight.fill_(3e38)  # finite itself
    with pytest.raises(PrunekitError, match=r"layers\.1\.self_attn\.q_proj"):
        compress(model, ids, sparsity=0.5, method=method)
