"""ADMM: the constraint holds, the objective falls, arguments stay, and small cases come near the best there is."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.errors import PrunekitError
from prunekit.method.admm import admm
from prunekit.method.baselines import sparsegpt, wanda_mask
from prunekit.method.masks import sparsity_of


def problem(rows=16, columns=64, tokens=512, seed=0):
    """A weight and the Gram matrix of correlated inputs."""
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=g) / columns**0.5 + 0.5 * torch.eye(columns)
    X = torch.randn(tokens, columns, generator=g) @ mixing * torch.rand(columns, generator=g).add(0.2)
    return torch.randn(rows, columns, generator=g), X.T @ X


def loss(V, W, H):
    D = (V - W).double()
    return ((D @ H.double()) * D).sum().item()


@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"sparsity": 0.7}, {"pattern": "2:4"}, {"pattern": "1:4"}])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_outputs_are_nearer_than_those_of_sparsegpt_and_wanda(target, bfloat16):
    W, H = problem()
    new, keep = admm(W, H, **target, bfloat16=bfloat16)
    assert (new[~keep] == 0).all()
    assert loss(new, W, H) < 0.95 * loss(sparsegpt(W, H, **target)[0], W, H)
    assert loss(new, W, H) < 0.7 * loss(W * wanda_mask(W, H.diagonal(), **target), W, H)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.sampled_from([4, 12, 64, 100]), st.integers(0, 99), st.sampled_from(["2:4", "1:4", "3:4"]))
def test_every_group_keeps_n_of_m(rows, columns, seed, pattern):
    W, H = problem(rows, columns, 300, seed)
    _, keep = admm(W, H, pattern=pattern)
    assert (keep.reshape(rows, -1, 4).sum(-1) == int(pattern[0])).all()


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.7])
def test_the_share_is_met(sparsity):
    W, H = problem(64, 576, 2000)
    new, keep = admm(W, H, sparsity=sparsity)
    assert sparsity_of(keep) == pytest.approx(sparsity, abs=0.005)
    assert (new != 0).equal(keep)


def test_nothing_pruned_is_nothing_changed():
    W, H = problem()
    new, keep = admm(W, H, sparsity=0.0)
    assert keep.all()
    assert torch.allclose(new, W, atol=1e-4)


def test_independent_inputs_come_near_the_best_mask_there_is():
    W, _ = problem()
    H = torch.diag(torch.rand(64, generator=torch.Generator().manual_seed(1)) + 0.1)
    best = loss(W * wanda_mask(W, H.diagonal(), pattern="2:4"), W, H)  # nothing can make up for a weight
    assert best <= loss(admm(W, H, pattern="2:4")[0], W, H) < 1.15 * best


def test_small_rows_come_near_the_best_of_all_masks():
    W, H = problem(12, 8, 200, seed=3)
    new, _ = admm(W, H, pattern="4:8", steps=60)
    best = 0.0
    for row in W.double():
        candidates = []
        for kept in combinations(range(8), 4):
            k = list(kept)
            v = torch.zeros(8, dtype=torch.float64)
            v[k] = torch.linalg.solve(H.double()[k][:, k], H.double()[k] @ row)
            candidates.append(loss(v[None], row[None], H))
        best += min(candidates)
    assert best <= loss(new, W, H) < 1.3 * best


def test_dead_inputs_lose_their_weights():
    W, H = problem()
    H[5], H[:, 5] = 0, 0
    new, _ = admm(W, H, sparsity=0.5)
    assert torch.isfinite(new).all()
    assert (new[:, 5] == 0).all()


def test_the_scale_of_the_hessian_does_not_matter():
    W, H = problem()
    a, b = admm(W, H, pattern="2:4")[0], admm(W, H * 1024, pattern="2:4")[0]
    assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_arguments_stay_and_the_dtype_is_kept(dtype):
    W, H = problem()
    W = W.to(dtype)
    before = W.clone(), H.clone()
    new, keep = admm(W, H, sparsity=0.5)
    assert torch.equal(W, before[0]) and torch.equal(H, before[1])
    assert new.dtype == dtype and keep.dtype == torch.bool


def test_bad_arguments_get_one_sentence():
    W, H = problem()
    for options, message in [
        ({"sparsity": 1.0}, "sparsity is 1.0"),
        ({}, "not neither"),
        ({"pattern": "2:5"}, "groups of 5"),
        ({"sparsity": 0.5, "steps": 2}, "steps is 2"),
        ({"sparsity": 0.5, "steps": 16.5}, "steps is 16.5"),
    ]:
        with pytest.raises(PrunekitError, match=message):
            admm(W, H, **options)
    for bad in (H * float("nan"), -H.abs()):
        with pytest.raises(PrunekitError, match="not positive definite"):
            admm(W, bad, sparsity=0.5)


def test_one_step_for_each_penalty_will_do():
    W, H = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), torch.eye(8)
    assert (admm(W, H, pattern="2:4", steps=4)[1].sum(1) == 4).all()


def test_damping_counts():
    g = torch.Generator().manual_seed(0)
    X, W = torch.randn(64, 16, generator=g), torch.randn(4, 16, generator=g)
    a, b = (admm(W, X.T @ X, pattern="2:4", damping=damping)[0] for damping in (0.01, 10.0))
    assert not torch.allclose(a, b)


def test_large_weights_of_dead_inputs_go_first():
    g = torch.Generator().manual_seed(0)
    X, W = torch.randn(256, 64, generator=g), torch.randn(16, 64, generator=g)
    X[:, 5], W[:, 5] = 0, 1e4
    assert (admm(W, X.T @ X, sparsity=0.1)[0][:, 5] == 0).all()
