"""Compressing a whole model: every method, pattern and format, on a tiny LLaMA and a tiny GPT-2."""

import subprocess
import sys

import pytest
import torch
from tiny import ROOT, cast_parameters

import prunekit as pk
from prunekit.calibration.calibrate import calibrate
from prunekit.compression.compress import compress
from prunekit.compression.layer import finish
from prunekit.compression.recipe import Recipe
from prunekit.errors import PrunekitError
from prunekit.method import fp8, one_pass
from prunekit.method.ewma import mean_mask
from prunekit.method.scores import column_factors
from prunekit.model.fp8_linear import Fp8Linear
from prunekit.model.linear import linear_layers, weight_of

RECIPES = {
    "ewma": {},
    "exact": {"select": "exact"},
    "ewma-mean": {"select": "ewma-mean"},
    "rank-one": {"metric": "rank-one"},
    "by-size": {"metric": "magnitude"},
    "wanda": {"method": "wanda"},
    "sparsegpt": {"method": "sparsegpt"},
    "admm": {"method": "admm"},
    "magnitude": {"method": "magnitude"},
}
HALF, PAIRS = {"sparsity": 0.5}, {"pattern": "2:4"}
CASTS = [{}] + [{"fp8": f, "granularity": g} for f in ("e4m3", "e5m2") for g in fp8.GRANULARITIES]
each_kind = pytest.mark.parametrize("kind", ["llama", "gpt2"])
ROW, BLOCK = {"fp8": "e4m3", "granularity": "row"}, {"fp8": "e5m2", "granularity": "block"}


def cast_name(cast):
    return "-".join(cast.values()) or "uncast"


each_cast = pytest.mark.parametrize("cast", CASTS, ids=cast_name)


def weights(model, names):
    """Weights ``[out, in]`` of layers by name, widened."""
    modules = dict(model.named_modules())
    return {name: weight_of(modules[name]) for name in names}


def assert_same_state(model, before):
    now = model.state_dict()
    assert list(now) == list(before)
    for name, tensor in now.items():
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name]), name


def cloned(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def scale_shape(shape, granularity):
    rows, columns = shape
    if granularity == "block":
        return -(-rows // fp8.BLOCK), -(-columns // fp8.BLOCK)
    return (rows, 1) if granularity == "row" else (1, 1)


def block_share(rows, columns):
    """What SparseGPT prunes of a layer at a share of a half: in blocks of 128 columns."""
    return sum(rows * min(128, columns - start) // 2 for start in range(0, columns, 128))


def check_zeros(recipe, W, zeros, cast):
    """The zeros of one layer are as many, and where, the recipe wants them. Casting may add a few."""
    rows, columns = W.shape
    most = 0.01 * W.numel() if cast else 0
    if recipe.get("pattern"):
        per_group = zeros.unflatten(1, (-1, 4)).sum(-1)
        assert (per_group >= 2).all()
        assert (per_group - 2).sum() <= most
    elif recipe.get("select") == "exact" or recipe.get("method") == "wanda":
        assert (zeros.sum(1) >= columns // 2).all()
        assert zeros.sum() - rows * (columns // 2) <= most
    elif recipe.get("method") == "magnitude":
        assert 0 <= zeros.sum() - W.numel() // 2 <= most
    elif recipe.get("method") == "sparsegpt":
        assert 0 <= zeros.sum() - block_share(rows, columns) <= most
    else:
        assert abs(zeros.float().mean() - 0.5) < 0.04
        assert zeros.float().mean(1).std() < 0.15


def check_codes(layer, cast):
    fmt = fp8.format_named(cast["fp8"])
    assert isinstance(layer, Fp8Linear) and layer.weight.dtype == fmt.dtype
    values = fp8.decode(layer.weight.view(torch.uint8), fmt)
    assert values.isfinite().all()
    assert layer.weight_scale.dtype == torch.float32
    assert tuple(layer.weight_scale.shape) == scale_shape(layer.weight.shape, cast["granularity"])
    assert layer.weight_scale.isfinite().all() and (layer.weight_scale > 0).all()
    # A scale comes from the survivors: the largest of those that share it has the largest code.
    if cast["granularity"] == "tensor":
        assert values.abs().max() == fmt.max
    elif cast["granularity"] == "row":
        largest = values.abs().amax(1)
        assert ((largest == fmt.max) | (largest == 0)).all()


@pytest.mark.parametrize(
    ("kind", "cast"),
    [("llama", cast) for cast in CASTS] + [("gpt2", cast) for cast in ({}, ROW, BLOCK)],
    ids=lambda value: value if isinstance(value, str) else cast_name(value),
)
@pytest.mark.parametrize("target", [HALF, PAIRS], ids=["half", "2:4"])
@pytest.mark.parametrize("how", RECIPES)
def test_zeros_and_codes_are_as_wanted(tiny_models, ids, kind, how, target, cast):
    if how == "ewma-mean" and target is PAIRS:
        with pytest.raises(PrunekitError, match="no N:M form"):
            Recipe(**RECIPES[how], **target)
        return
    model = tiny_models[kind]
    before = cloned(model)
    recipe = RECIPES[how] | target
    result = compress(model, ids, **recipe, **cast)
    assert_same_state(model, before)

    layers = linear_layers(model)
    assert [layer["name"] for layer in result.layers] == list(layers)
    dense, new = weights(model, layers), dict(result.model.named_modules())
    zeros, total = 0, 0
    for entry in result.layers:
        name = entry["name"]
        W, layer = dense[name], new[name]
        assert entry["shape"] == list(W.shape)
        if cast:
            check_codes(layer, cast)
        else:
            assert type(layer) is type(layers[name])
        zero = weight_of(layer) == 0
        check_zeros(recipe, W, zero, cast)
        assert entry["sparsity"] == pytest.approx(zero.float().mean().item())
        zeros, total = zeros + zero.sum().item(), total + W.numel()
        if how not in ("sparsegpt", "admm"):  # the others leave what they keep, or cast it
            kept = weight_of(layer)[~zero]
            if cast:
                relative = 0.5**4 if cast["fp8"] == "e4m3" else 0.5**3
                assert ((kept - W[~zero]).abs() <= W[~zero].abs() * relative + layer.weight_scale.max() / 2**9).all()
            else:
                assert torch.equal(kept, W[~zero])
    assert result.sparsity == pytest.approx(zeros / total)
    assert result.model(ids).logits.isfinite().all()


@pytest.fixture(scope="module")
def calibrations(tiny_models, ids):
    return {kind: calibrate(model, ids, stop=False) for kind, model in tiny_models.items()}


def check_against_plain(model, calibration, cast, target, metric="contribution"):
    result = compress(model, calibration=calibration, metric=metric, **target, **cast)
    new = dict(result.model.named_modules())
    for name, layer in linear_layers(model, exclude=[".1."]).items():  # one block will do
        W = weight_of(layer)
        fmt, f = result.recipe.format, column_factors(calibration.energy[name], metric)
        joint = fmt and (fmt, fp8.scales(W, fmt, result.recipe.granularity))
        keep = one_pass.select(W, f, **target, joint=joint)
        expected = finish(layer, W, keep, result.recipe)
        assert torch.equal(weight_of(new[name]), weight_of(expected)), name
        if cast:
            assert torch.equal(new[name].weight.view(torch.uint8), expected.weight.view(torch.uint8))
            assert torch.equal(new[name].weight_scale, expected.weight_scale)


@each_cast
@pytest.mark.parametrize("target", [HALF, PAIRS], ids=["half", "2:4"])
@each_kind
def test_the_fused_pass_equals_the_plain_page_and_finish(tiny_models, calibrations, kind, target, cast):
    check_against_plain(tiny_models[kind], calibrations[kind], cast, target)


@each_cast
@pytest.mark.parametrize("target", [HALF, PAIRS], ids=["half", "2:4"])
def test_a_scale_comes_from_the_survivors(make_model, ids, target, cast):
    """The largest weights sit on silent inputs here: they go, and must not make the cast of all others coarse."""
    model = make_model()
    calibration = calibrate(model, ids, stop=False)
    for name, layer in linear_layers(model).items():
        layer.weight[:, 3] = 40.0
        calibration.energy[name] = calibration.energy[name].clone()
        calibration.energy[name][3] = 1e-12
    check_against_plain(model, calibration, cast, target)
    new = compress(model, calibration=calibration, **target, **cast).model
    for name in linear_layers(model):
        layer = new.get_submodule(name)
        assert (weight_of(layer)[:, 3] == 0).all()
        assert not cast or layer.weight_scale.max() * fp8.format_named(cast["fp8"]).max < 2


@pytest.mark.parametrize("cast", [{}, ROW], ids=cast_name)
@pytest.mark.parametrize("metric", ["rank-one", "magnitude"])
@pytest.mark.parametrize("target", [{"sparsity": 0.7}, {"pattern": "1:8"}], ids=["0.7", "1:8"])
def test_the_fused_pass_under_other_metrics_and_targets(llama, calibrations, target, metric, cast):
    check_against_plain(llama, calibrations["llama"], cast, target, metric)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("cast", [{}, ROW], ids=cast_name)
@pytest.mark.parametrize("how", ["ewma", "wanda", "sparsegpt", "admm"])
@each_kind
def test_models_of_every_dtype(make_model, ids, kind, how, cast, dtype):
    model = make_model(kind, dtype=dtype)
    before = cloned(model)
    result = compress(model, ids, sparsity=0.5, **RECIPES[how], **cast)
    assert_same_state(model, before)
    assert 0.46 < result.sparsity < 0.54
    for name in linear_layers(model):
        layer = result.model.get_submodule(name)
        if not cast:
            assert layer.weight.dtype == dtype
        assert layer.bias is None or layer.bias.dtype == dtype
    logits = result.model(ids[:1]).logits
    assert logits.dtype == dtype and logits.isfinite().all()


@pytest.mark.parametrize("how", RECIPES)
@each_kind
def test_sparsity_0_only_casts(tiny_models, kind, how):
    model = tiny_models[kind]
    for granularity in fp8.GRANULARITIES:
        result = compress(model, sparsity=0, fp8="e4m3", granularity=granularity, **RECIPES[how])  # needs no text
        assert result.tokens == 0 and result.sparsity < 0.01
        for name, layer in linear_layers(model).items():
            W, new = weight_of(layer), result.model.get_submodule(name)
            scale = fp8.scales(W, fp8.E4M3, granularity)
            assert torch.equal(new.weight_scale, scale)
            assert torch.equal(new.weight.float(), fp8.cast(W, scale, fp8.E4M3).float())


def test_sparsity_0_without_a_format_changes_nothing(llama, ids):
    result = compress(llama, sparsity=0)
    assert result.sparsity == 0
    assert torch.equal(result.model(ids).logits, llama(ids).logits)


def test_methods_that_do_not_look_at_inputs_need_no_ids(llama, ids):
    for options in ({"method": "magnitude"}, {"metric": "magnitude"}):
        bare, given = compress(llama, sparsity=0.5, **options), compress(llama, ids, sparsity=0.5, **options)
        assert bare.tokens == given.tokens == 0 and "calibrate" not in given.seconds
        for name in linear_layers(llama):
            assert torch.equal(weight_of(bare.model.get_submodule(name)), weight_of(given.model.get_submodule(name)))
    for options in ({}, {"metric": "rank-one"}, {"method": "wanda"}, {"method": "sparsegpt"}):
        with pytest.raises(PrunekitError, match="calibration tokens"):
            compress(llama, sparsity=0.5, **options)


def test_a_calibration_done_before_serves_as_well_as_ids(llama, ids):
    calibration = calibrate(llama, ids, stop=False, sparsity=0.5)
    one = compress(llama, calibration=calibration, sparsity=0.5)
    other = compress(llama, ids, sparsity=0.5, stop=False)
    assert one.tokens == other.tokens == ids.numel()
    assert set(one.seconds) == {"calibrate", "select"}
    for name in linear_layers(llama):
        assert torch.equal(weight_of(one.model.get_submodule(name)), weight_of(other.model.get_submodule(name)))


def test_the_same_call_twice_gives_the_same_model(llama, ids):
    for how in ("ewma", "wanda", "sparsegpt", "admm"):
        one, two = (compress(llama, ids, sparsity=0.5, fp8="e4m3", **RECIPES[how]).model for _ in range(2))
        for name in linear_layers(llama):
            assert torch.equal(weight_of(one.get_submodule(name)), weight_of(two.get_submodule(name)))


def test_a_gradient_or_training_mode_of_the_given_model_is_kept(make_model, ids):
    model = make_model().requires_grad_(True).train()
    compress(model, ids, sparsity=0.5)
    assert model.training and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("method", ["ewma", "wanda", "admm"])
def test_dropout_of_a_model_in_training_does_nothing(make_model, ids, method):
    model, calm = make_model("gpt2").train(), make_model("gpt2").eval()
    assert not torch.equal(model(ids).logits, calm(ids).logits)
    assert pk.evaluate(model, ids) == pk.evaluate(calm, ids)
    assert pk.allocate(model, ids, 0.5) == pk.allocate(calm, ids, 0.5)
    results = [compress(m, ids, sparsity=0.5, method=method) for m in (model, calm)]
    results += [pk.recover(result, m, ids, steps=2) for result, m in zip(results, (model, calm))]
    for one, other in zip(results[::2], results[1::2]):
        for name, layer in linear_layers(one.model).items():
            assert torch.equal(layer.weight, other.model.get_submodule(name).weight)
    assert all(module.training for module in model.modules()) and not any(m.training for m in calm.modules())


# Bad input


@pytest.mark.parametrize("options", [{}, {"compensate": True}, {"method": "admm"}], ids=["ewma", "compensated", "admm"])
def test_what_is_compressed_can_be_trained(make_model, ids, options):
    model = compress(make_model(), ids, sparsity=0.5, **options).model.requires_grad_(True)
    model(ids[:1]).logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_name_that_the_package_does_not_have():
    with pytest.raises(AttributeError, match="nosuch"):
        _ = pk.nosuch


@pytest.mark.parametrize("first", ["compress", "save", "evaluate"])
def test_functions_stay_functions_whatever_is_used_before(first):
    """In a new process: modules that are imported on the way bear the names of functions."""
    code = f"import prunekit as pk; pk.{first}; assert all(callable(getattr(pk, n)) for n in ('calibrate', 'compress'))"
    code += "; import prunekit.evaluation.evaluate, prunekit.calibration.corpus"
    code += "; assert callable(pk.evaluate) and callable(pk.corpus)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT).returncode == 0


def test_compensated_weights_that_fit_bfloat16_still_do(make_model, ids):
    model = cast_parameters(make_model(dtype=torch.bfloat16), torch.float32)
    result = compress(model, ids, sparsity=0.5, compensate=True)
    for name, layer in linear_layers(model).items():
        V = weight_of(result.model.get_submodule(name))
        assert torch.equal(V.bfloat16().float(), V)
        assert not torch.equal(V[V != 0], weight_of(layer)[V != 0])


def test_the_rule_of_the_mean_is_what_ewma_mean_uses(llama, ids):
    calibration = calibrate(llama, ids, stop=False)
    result = compress(llama, calibration=calibration, sparsity=0.5, select="ewma-mean")
    for name, layer in linear_layers(llama).items():
        keep = mean_mask(pk.contribution(layer.weight, calibration.energy[name]), 0.5)
        assert torch.equal(result.model.get_submodule(name).weight != 0, keep)


def test_all_of_the_text_is_used_if_wanted(llama, ids):
    long = ids.repeat(8, 1)
    assert compress(llama, long, sparsity=0.5, stop=False).tokens == long.numel()
    assert compress(llama, long, sparsity=0.5).tokens < long.numel()
