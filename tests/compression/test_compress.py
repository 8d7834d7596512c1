"""Compressing a whole model: every method, pattern and format, on a tiny LLaMA and a tiny GPT-2."""

import copy
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, cast_parameters
from torch import nn
from torch.nn.utils import prune

import prunekit as pk
from prunekit.calibration.calibrate import calibrate
from prunekit.compression.compress import compress
from prunekit.compression.layer import finish
from prunekit.compression.recipe import Recipe
from prunekit.errors import PrunekitError
from prunekit.method import fp8, one_pass
from prunekit.method.baselines import wanda_mask
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


@each_kind
@pytest.mark.parametrize("cast", [{}, {"fp8": "e4m3"}], ids=str)
def test_what_is_not_compressed_is_shared(tiny_models, ids, kind, cast):
    model = tiny_models[kind]
    result = compress(model, ids, sparsity=0.5, **cast)
    new, touched = result.model, {f"{layer['name']}.weight" for layer in result.layers}
    assert new is not model and type(new) is type(model)
    assert new.get_output_embeddings() is model.get_output_embeddings()
    assert new.get_input_embeddings() is model.get_input_embeddings()
    assert new.get_output_embeddings().weight is new.get_input_embeddings().weight  # still tied
    assert not any("lm_head" in name for name in touched)
    old = dict(model.named_parameters())
    for name, parameter in new.named_parameters():
        if name in touched:
            assert parameter.data_ptr() != old[name].data_ptr()
        else:
            assert parameter.data_ptr() == old[name].data_ptr(), name


def test_an_untied_output_embedding_is_left_alone(make_model, ids):
    model = make_model(tie_word_embeddings=False)
    result = compress(model, ids, sparsity=0.5, fp8="e4m3")
    assert result.model.lm_head is model.lm_head
    assert isinstance(result.model.lm_head, nn.Linear)
    assert not any("lm_head" in layer["name"] for layer in result.layers)


def test_include_and_exclude_choose_layers(llama, ids):
    def names(**choice):
        result = compress(llama, ids, sparsity=0.5, **choice)
        dense, new = weights(llama, linear_layers(llama)), weights(result.model, linear_layers(llama))
        changed = [name for name in dense if not torch.equal(dense[name], new[name])]
        assert changed == [layer["name"] for layer in result.layers]
        return {name.removeprefix("model.layers.") for name in changed}

    assert names(include=["q_proj"]) == {"0.self_attn.q_proj", "1.self_attn.q_proj"}
    assert names(include=["layers.0.*_proj"], exclude=["mlp"]) == {f"0.self_attn.{x}_proj" for x in "qkvo"}
    assert names(include=["up_proj", "0.self_attn.o"]) == {"0.mlp.up_proj", "1.mlp.up_proj", "0.self_attn.o_proj"}
    assert len(names(exclude=["self_attn"])) == 6
    assert len(names(exclude=["lm_head"])) == 14  # which stays out by itself
    assert len(names()) == 14


def test_an_exclude_that_matches_nothing_is_refused(llama):
    with pytest.raises(PrunekitError, match=r"--exclude dwn_proj matches nothing .* such as model.layers.0"):
        compress(llama, sparsity=0.5, method="magnitude", exclude=["self_attn", "dwn_proj"])


@pytest.mark.parametrize("how", ["sparsegpt", "admm"])
def test_a_layer_whose_budget_is_0_stays_as_it_is(llama, ids, how):
    layers = linear_layers(llama)
    budget = {name: 0.0 if "mlp" in name else 0.5 for name in layers}
    result = compress(llama, ids, sparsity=0.3, method=how, budget=budget)
    for name, layer in layers.items():
        same = torch.equal(weight_of(result.model.get_submodule(name)), weight_of(layer))
        assert same == ("mlp" in name)


def test_a_budget_needs_an_average(llama, ids):
    budget = dict.fromkeys(linear_layers(llama), 0.5)
    with pytest.raises(PrunekitError, match="a sparsity of 0 leaves no budget to spread"):
        compress(llama, ids, sparsity=0, budget=budget)


@pytest.mark.parametrize("how", ["wanda", "sparsegpt", "admm"])
def test_blockwise_methods_take_a_choice_of_layers_too(llama, ids, how):
    result = compress(llama, ids, sparsity=0.5, method=how, include=["1.mlp", "0.self_attn.q_proj"])
    assert {layer["name"] for layer in result.layers} == {
        "model.layers.0.self_attn.q_proj",
        *(f"model.layers.1.mlp.{x}_proj" for x in ("gate", "up", "down")),
    }
    assert result.model.model.layers[0].mlp is llama.model.layers[0].mlp


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


def test_magnitude_prunes_the_smallest_of_the_layer(llama):
    result = compress(llama, sparsity=0.3, method="magnitude")
    for name, layer in linear_layers(llama).items():
        W, new = weight_of(layer), weight_of(result.model.get_submodule(name))
        assert W[new == 0].abs().max() <= W[new != 0].abs().min()
        assert (new == 0).sum() == int(0.3 * W.numel())


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


def inputs_by_hand(model, names, ids):
    """Inputs ``[tokens, in]`` of layers, from whole runs of the model."""
    seen = {name: [] for name in names}
    hooks = [
        model.get_submodule(n).register_forward_pre_hook(lambda _, args, n=n: seen[n].append(args[0].flatten(0, -2)))
        for n in names
    ]
    for window in ids.split(1):
        model(window)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(x) for name, x in seen.items()}


def set_weight(model, name, W):
    layer = model.get_submodule(name)
    layer.weight = nn.Parameter((W if isinstance(layer, nn.Linear) else W.T).contiguous(), requires_grad=False)


def wanda_by_hand(model, ids, sparsity=None, pattern=None, fmt=None):
    """Wanda in its plainest form: for each block a run of the whole model, whose earlier blocks are pruned."""
    model = copy.deepcopy(model)
    names = list(linear_layers(model))
    for index in ("0", "1"):
        mine = [name for name in names if name.split(".")[2] == index]
        inputs = inputs_by_hand(model, mine, ids)
        for name in mine:
            W = weight_of(model.get_submodule(name)).clone()
            L = W.abs() * inputs[name].norm(dim=0)
            if pattern:
                n, m = map(int, pattern.split(":"))
                groups = L.unflatten(1, (-1, m))
                drop = torch.zeros_like(groups, dtype=torch.bool)
                drop.scatter_(-1, groups.sort(dim=-1).indices[..., : m - n], True)
                drop = drop.flatten(1)
            else:
                drop = torch.zeros_like(W, dtype=torch.bool)
                drop.scatter_(1, L.sort(dim=1).indices[:, : int(sparsity * W.shape[1])], True)
            if fmt:
                scale = W.masked_fill(drop, 0).abs().amax(1, keepdim=True) / fmt.max
                W = (W / scale).to(fmt.dtype).float() * scale
            set_weight(model, name, W.masked_fill(drop, 0))
    return model


@pytest.mark.parametrize("target", [HALF, {"sparsity": 0.7}, PAIRS], ids=str)
@pytest.mark.parametrize("fmt", [None, fp8.E4M3], ids=["uncast", "e4m3"])
@each_kind
def test_wanda_equals_a_plain_reimplementation(tiny_models, ids, kind, fmt, target):
    model = tiny_models[kind]
    expected = wanda_by_hand(model, ids, fmt=fmt, **target)
    result = compress(model, ids, method="wanda", fp8=fmt and fmt.name, **target)
    assert result.tokens == ids.numel()
    for name in linear_layers(model):
        a, b = weight_of(expected.get_submodule(name)), weight_of(result.model.get_submodule(name))
        differ = ((a == 0) != (b == 0)).float().mean()
        assert differ < 1e-3, name  # sums in another order may turn a tie
        both = (a != 0) & (b != 0)
        torch.testing.assert_close(a[both], b[both], rtol=0.13 if fmt else 0, atol=0)
    torch.testing.assert_close(expected(ids).logits, result.model(ids).logits, rtol=0.02, atol=0.02)


def test_wanda_sees_its_pruned_predecessors(llama, ids):
    """With the dense model's inputs everywhere, the second block would be pruned otherwise."""
    name = "model.layers.1.mlp.down_proj"
    X = inputs_by_hand(llama, [name], ids)[name]
    W = weight_of(llama.get_submodule(name))
    naive = wanda_mask(W, X.square().mean(0), 0.7)
    result = compress(llama, ids, sparsity=0.7, method="wanda")
    assert ((weight_of(result.model.get_submodule(name)) != 0) != naive).float().mean() > 0.01


@pytest.mark.parametrize("target", [HALF, PAIRS], ids=str)
@each_kind
def test_sparsegpt_beats_wanda_and_wanda_beats_magnitude_on_layer_outputs(tiny_models, ids, kind, target):
    model = tiny_models[kind]
    names = [name for name in linear_layers(model) if name.split(".")[2] == "0"]  # its inputs are the dense ones
    inputs = inputs_by_hand(model, names, ids)

    def errors(method):
        new = compress(model, ids, method=method, **target).model
        loss = {}
        for name in names:
            X, W, V = inputs[name], weight_of(model.get_submodule(name)), weight_of(new.get_submodule(name))
            loss[name] = (X @ (W - V).T).square().mean() / (X @ W.T).square().mean()
        return loss

    sparsegpt, wanda, magnitude = errors("sparsegpt"), errors("wanda"), errors("magnitude")
    for name in names:
        assert sparsegpt[name] < 0.9 * wanda[name], name
    assert sum(wanda.values()) < sum(magnitude.values())


def test_models_in_float16_use_all_of_its_digits(make_model, ids):
    model = cast_parameters(make_model(dtype=torch.bfloat16), torch.float16)
    result = compress(model, ids, sparsity=0.5, method="sparsegpt")
    new = torch.cat([weight_of(result.model.get_submodule(name)).flatten() for name in linear_layers(model)])
    assert not torch.equal(new.bfloat16().half(), new)


def test_sparsegpt_does_not_widen_weights_that_fit_bfloat16(make_model, ids):
    model = cast_parameters(make_model(dtype=torch.bfloat16), torch.float32)
    result = compress(model, ids, sparsity=0.5, method="sparsegpt")
    for name, layer in linear_layers(model).items():
        W, V = weight_of(layer), weight_of(result.model.get_submodule(name))
        assert torch.equal(V.bfloat16().float(), V)
        assert not torch.equal(V[V != 0], W[V != 0])  # it does update


def test_ewma_costs_little_against_exact_selection(llama, ids):
    X = inputs_by_hand(llama, linear_layers(llama), ids)
    loss = {}
    for select in ("ewma", "exact"):
        new = compress(llama, ids, sparsity=0.5, select=select, stop=False).model
        loss[select] = sum(
            (X[n] @ (weight_of(m) - weight_of(new.get_submodule(n))).T).square().sum()
            for n, m in linear_layers(llama).items()
        )
    assert loss["ewma"] < 1.15 * loss["exact"]


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


# Bad input


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


def test_a_model_without_a_linear_layer():
    with pytest.raises(PrunekitError, match="no linear layer"):
        compress(nn.Sequential(nn.Embedding(10, 4), nn.LayerNorm(4)), sparsity=0.5, method="magnitude")


def test_an_include_that_matches_nothing_says_what_would(llama):
    with pytest.raises(PrunekitError, match=r"nosuch matches none of the 14 linear layers: .*model\.layers\.0"):
        compress(llama, sparsity=0.5, method="magnitude", include=["nosuch"])
    with pytest.raises(PrunekitError, match="leave no layer"):
        compress(llama, sparsity=0.5, method="magnitude", include=["mlp"], exclude=["mlp"])


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


@pytest.mark.parametrize("options", [{}, {"compensate": True}, {"method": "admm"}], ids=["ewma", "compensated", "admm"])
def test_what_is_compressed_can_be_trained(make_model, ids, options):
    model = compress(make_model(), ids, sparsity=0.5, **options).model.requires_grad_(True)
    model(ids[:1]).logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


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
