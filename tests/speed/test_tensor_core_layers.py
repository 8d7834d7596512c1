"""Layers for tensor cores: FP8 is computed here as there; the rest falls back and says so."""

import warnings

import pytest
import torch

import prunekit as pk
from prunekit.method import fp8
from prunekit.method.masks import nm_mask
from prunekit.model.fp8_linear import Fp8Linear
from prunekit.speed import accelerate
from prunekit.speed.accelerate import fast_layer, is_24
from prunekit.speed.tensor_core_layers import Fp8Product, Sparse24Fp8Product, fp8_error_bound


def coded(rows=48, columns=64, fmt=fp8.E4M3, granularity="row", seed=0, sparse=False):
    """Codes and scales of a random weight, with rows of different size and a bias."""
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(rows, columns, generator=g) * torch.randn(rows, 1, generator=g).exp()
    keep = nm_mask(W.abs(), 2, 4) if sparse else None
    scale = fp8.scales(W, fmt, granularity, keep)
    return fp8.cast(W, scale, fmt, keep), scale, torch.randn(rows, generator=g)


def inputs(kind, tokens=7, columns=64):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(tokens, columns, generator=g)
    if kind == "outliers":
        x[:, 3] *= 1000
    elif kind == "tiny":
        x *= 1e-20
    elif kind == "zero token":
        x[2] = 0
    elif kind == "long tail":
        x = x.exp().pow(3)
    return x


@pytest.mark.parametrize("kind", ["gaussian", "outliers", "tiny", "zero token", "long tail"])
@pytest.mark.parametrize("granularity", ["row", "tensor"])
@pytest.mark.parametrize("fmt", [fp8.E4M3, fp8.E5M2], ids=lambda f: f.name)
def test_an_fp8_product_lies_within_its_bound(fmt, granularity, kind):
    codes, scale, _ = coded(fmt=fmt, granularity=granularity)
    x, W = inputs(kind), fp8.uncast(codes, scale)
    layer = Fp8Product(codes, scale)
    error = (layer(x) - x @ W.T).abs()
    assert (error <= fp8_error_bound(x, W)).all()
    # In the mean it is far less: casting moves an input by a few percent, and the errors average out.
    assert error.norm() < 0.05 * (x @ W.T).norm()
    assert fmt is fp8.E4M3 or not layer.scales_inside  # and E4M3 where torch can on this CPU


def test_scales_inside_and_after_the_product_agree():
    codes, scale, bias = coded()
    inside, after, x = Fp8Product(codes, scale, bias), Fp8Product(codes, scale, bias), inputs("gaussian")
    after.scales_inside = False
    torch.testing.assert_close(inside(x), after(x), rtol=0.02, atol=0.02)


def test_a_product_that_fails_for_some_tokens_scales_after_it(monkeypatch):
    codes, scale, bias = coded()
    layer, x, calls = Fp8Product(codes, scale, bias), inputs("gaussian"), []

    def scaled(tokens, scale):
        calls.append(len(tokens))
        if len(tokens) == len(x):
            raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")
        return (tokens.float() @ layer.weight.float().T) * scale * layer.weight_scale.T

    monkeypatch.setattr(layer, "_scaled", scaled)
    layer.scales_inside = True
    expected = Fp8Linear(codes, scale, bias)(x)
    for part in (slice(None), slice(None), slice(3)):
        assert (layer(x[part]) - expected[part]).norm() < 0.05 * expected[part].norm()
    assert calls == [len(x), 3]  # it is not asked twice for what it refused, and still for the rest


def test_running_out_of_memory_is_no_missing_kernel(monkeypatch):
    codes, scale, bias = coded()
    layer = Fp8Product(codes, scale, bias)

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(layer, "_scaled", fail)
    layer.scales_inside = True
    with pytest.raises(torch.OutOfMemoryError):
        layer(inputs("gaussian"))
    assert not layer.refused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_shapes_dtypes_and_bias_are_those_of_a_linear_layer(dtype):
    codes, scale, bias = coded()
    layer, plain = Fp8Product(codes, scale, bias), Fp8Linear(codes, scale, bias)
    x = inputs("gaussian", 6).reshape(2, 3, 64).to(dtype)
    y = layer(x)
    assert y.shape == (2, 3, 48) and y.dtype == dtype
    expected = plain(x.float())
    assert (y.float() - expected).norm() < 0.05 * expected.norm()
    assert layer(x[:, :0]).shape == (2, 0, 48)


def test_a_wrong_product_exceeds_the_bound():
    codes, scale, _ = coded()
    x, W = inputs("gaussian"), fp8.uncast(codes, scale)
    layer = Fp8Product(codes, scale)
    for wrong in (layer(x) * 1.5, layer(x.roll(1, 1)), layer(x) * 0, layer(x).roll(1, 0)):
        assert not ((wrong - x @ W.T).abs() <= fp8_error_bound(x, W)).all()


def test_what_a_product_cannot_take_is_refused():
    codes, _, _ = coded(24, 64)
    with pytest.raises(pk.PrunekitError, match="multiples of 16"):
        Fp8Product(codes, torch.ones(24, 1))
    codes, scale, _ = coded(256, 256, granularity="block")
    with pytest.raises(pk.PrunekitError, match="per block"):
        Fp8Product(codes, scale)
    with pytest.raises(pk.PrunekitError, match="multiples of 32"):
        Sparse24Fp8Product(*coded(48, 64))


def test_2_4_is_recognised():
    W = torch.tensor([[1.0, 0, 0, 2, 0, 0, 0, 3]])
    assert is_24(W) and is_24(W.to(torch.float8_e4m3fn)) and is_24((-W).to(torch.float8_e5m2))
    W[0, 1] = 1
    assert not is_24(W) and not is_24(W.to(torch.float8_e4m3fn)) and not is_24(torch.zeros(4, 6))
    assert is_24(torch.tensor([[-0.0, -0.0, 1, 1]]).to(torch.float8_e4m3fn))


def test_on_a_cpu_layers_stay_and_say_why():
    dense = torch.nn.Linear(32, 16)
    assert fast_layer(dense).path == "dense" and not hasattr(dense, "path")
    codes, scale, bias = coded(sparse=True)
    layer = fast_layer(Fp8Linear(codes, scale, bias))
    assert layer.path == "plain: fp8 2:4 does not run: the model is on the CPU, and this takes a CUDA GPU"
    half = torch.nn.Linear(64, 48).bfloat16().requires_grad_(False)
    half.weight.copy_(torch.where(nm_mask(half.weight.abs(), 2, 4), half.weight, 0))
    assert fast_layer(half).path.startswith("plain: 2:4 does not run")
    assert "load the model in bfloat16" in fast_layer(half.float()).path


@pytest.mark.parametrize(
    ("capability", "says"),
    [((7, 5), "capability is 7.5, and it takes 8.9"), ((8, 6), "capability is 8.6, and it takes 8.9"), ((9, 0), "")],
)
def test_on_cards_that_lack_something_layers_stay_and_say_what(capability, says, monkeypatch):
    # A card is pretended: what it has not (here: any 2:4 product) fails, as it would fail there.
    monkeypatch.setattr(accelerate, "_require", _pretend(capability))
    layer = fast_layer(Fp8Linear(*coded(sparse=True)))
    assert layer.path == "fp8" if capability == (9, 0) else says in layer.path
    x = inputs("gaussian")
    assert (layer(x) - Fp8Linear(*coded(sparse=True))(x)).norm() < 0.05 * layer(x).norm()


def _pretend(capability):
    real = accelerate._require

    def require(device, path, needs):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
            real(torch.device("cuda"), path, needs)

    return require


def test_a_layer_that_computes_wrongly_is_not_taken(monkeypatch):
    monkeypatch.setattr(accelerate, "_require", lambda *_: None)
    monkeypatch.setattr(Fp8Product, "forward", lambda self, x: torch.zeros(len(x), self.out_features))
    assert "computes wrongly" in fast_layer(Fp8Linear(*coded())).path


def test_accelerate_warns_once_and_changes_nothing_on_a_cpu(make_model):
    model = make_model()
    result = pk.compress(model, pattern="2:4", metric="magnitude", fp8="e4m3")
    before = list(result.model.modules())
    with pytest.warns(UserWarning, match="14 of 14 layers run as before") as caught:
        fast = pk.accelerate(result.model)
    assert len(caught) == 1
    assert all(a is b for a, b in zip(before, result.model.modules()))
    ids = torch.arange(1, 9)[None]
    calls = []
    fast.model.layers[0].mlp.up_proj.register_forward_hook(lambda *_: calls.append("fast"))
    assert torch.equal(fast(ids).logits, result.model(ids).logits) and calls == ["fast"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pk.accelerate(model)  # a dense model has nothing to fall back from


def test_accelerate_swaps_layers_where_they_run(make_model, monkeypatch):
    monkeypatch.setattr(accelerate, "_require", lambda *_: None)
    result = pk.compress(make_model(), sparsity=0.5, metric="magnitude", fp8="e4m3")
    fast = pk.accelerate(result.model)
    assert sum(isinstance(m, Fp8Product) for m in fast.modules()) == 14
    ids = torch.arange(1, 33)[None]
    expected = result.model(ids).logits
    assert (fast(ids).logits - expected).norm() < 0.2 * expected.norm()
