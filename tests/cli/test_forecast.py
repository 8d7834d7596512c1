"""The memory that `compress` predicts is what its tensors take at their peak, all counted."""

import weakref
from importlib import import_module

import pytest
import torch
from tiny import tiny_llama
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prunekit.cli.compress import forecast
from prunekit.compression.compress import compress
from prunekit.compression.fit import memory
from prunekit.compression.recipe import Recipe
from prunekit.kernels.dispatch import fastest
from prunekit.method.admm import admm
from prunekit.model.linear import linear_layers
from prunekit.recovery.recover import recover

# Beside what is predicted: embeddings and norms, activations of few tokens, one layer's tensors in passing.
ROOM = 0.75  # bytes for each weight


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that operations give out, as long as they live."""

    def __init__(self, *models):
        super().__init__()
        self.sizes, self.now, self.peak = {}, 0, 0
        self.count([t for model in models for t in (*model.parameters(), *model.buffers())])

    def count(self, tensors):
        for storage in (t.untyped_storage() for t in tensors):
            if storage._cdata not in self.sizes:
                self.sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self.forget, storage._cdata)
        self.peak = max(self.peak, self.now)

    def forget(self, address):
        self.now -= self.sizes.pop(address)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        self.count([t for t in tree_leaves(output) if isinstance(t, torch.Tensor)])
        return output


def test_live_tensors_are_counted_once_and_until_they_go():
    with Live() as live:
        a = torch.zeros(1000)
        b = a.view(10, 100).T
        assert live.peak == live.now == 4000
        c = b.contiguous()
        assert live.now == 8000
        del a, b
        assert live.now == 4000
        d = c + c
        assert live.peak == live.now == 8000 and len(d) == 100


def predicted_beside(layers, recipe, monkeypatch):
    """What recovery is said to take beside the dense model, in bytes."""
    said, original = [], forecast.more_memory
    monkeypatch.setattr(forecast, "more_memory", lambda *given: said.append(original(*given)) or said[0])
    forecast.cautions(layers, recipe, recovers=True)
    return said[0]


def model_of(dtype):
    """A model of eight blocks, so that a layer is little of the whole; shapes of its layers, and their weights."""
    model = tiny_llama(dtype=dtype, num_hidden_layers=8)
    shapes = [layer.weight.shape for layer in linear_layers(model).values()]
    return model, shapes, sum(rows * columns for rows, columns in shapes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fp8", [None, "e4m3"])
@pytest.mark.parametrize("permute", [False, True])
def test_compressing_takes_what_is_predicted(ids, monkeypatch, dtype, fp8, permute):
    module = import_module("prunekit.compression.permute")
    monkeypatch.setattr(module, "channel_order", lambda L, n, m: torch.arange(L.shape[1]))  # quick, and orders weigh
    monkeypatch.setattr(module, "ROWS", 64)  # little in a larger model
    model, shapes, weights = model_of(dtype)
    with Live(model) as live:
        dense = live.peak
        result = compress(model, ids[:, :8], pattern="2:4", method="magnitude", fp8=fp8, permute=permute)
    predicted = forecast.more_memory(shapes, dtype.itemsize, result.recipe, recovers=False)
    assert 0 <= (live.peak - dense - predicted) / weights < ROOM


def test_admm_takes_what_is_predicted():
    W, X = torch.randn(128, 320), torch.randn(400, 320)  # of a layer that is wider than it is high, as the widest are
    H = X.T @ X
    with Live() as live:
        live.count([H])
        admm(W, H, 0.5, select=fastest(W.device).select)
    beside = forecast.more_memory([W.shape], 4, Recipe(sparsity=0.5, method="admm"), recovers=False) - 4 * W.numel()
    assert 0.9 < live.peak / beside <= 1


RECOVERED = [
    (torch.float32, None, False),
    (torch.float32, None, True),
    (torch.float32, "e4m3", True),
    (torch.bfloat16, "e4m3", True),
    (torch.float16, "e4m3", False),
]


@pytest.mark.parametrize(("dtype", "fp8", "fast"), RECOVERED, ids=str)
def test_recovering_takes_what_is_predicted(ids, monkeypatch, dtype, fp8, fast):
    module = import_module("prunekit.recovery.recover")
    monkeypatch.setattr(module, "fast_bfloat16", lambda: fast)
    monkeypatch.setattr(memory, "UNUSED", 0)  # which no tensor takes
    model, _, weights = model_of(dtype)
    result = compress(model, sparsity=0.5, method="magnitude", fp8=fp8)
    with Live(model, result.model) as live:
        recover(result, model, ids[:, :8], steps=2)
    beside = predicted_beside(linear_layers(model), result.recipe, monkeypatch)
    assert 0 <= (live.peak - beside) / weights - dtype.itemsize < ROOM
