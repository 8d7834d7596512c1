"""ADMM: the constraint holds, the objective falls, arguments stay, and small cases come near the best there is."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.errors import PrunekitError
from prunekit.method import one_pass
from prunekit.method.admm import admm
from prunekit.method.baselines import sparsegpt, wanda_mask
from prunekit.method.masks import nm_mask, sparsity_of


def problem(rows=16, columns=64, tokens=512, seed=0):
    """A weight and the Gram matrix of correlated inputs."""
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=g) / columns**0.5 + 0.5 * torch.eye(columns)
    X = torch.randn(tokens, columns, generator=g) @ mixing * torch.rand(columns, generator=g).add(0.2)
    return torch.randn(rows, columns, generator=g), X.T @ X


def loss(V, W, H):
    D = (V - W).double()
    return ((D @ H.double()) * D).sum().item()


def augmented_lagrangian(W, H, n, m, stages, damping=0.01):
    """ADMM with Lagrange's own dual, which no penalty scales, in float64: the last sparse weight and its mask.

    `stages` says how many steps each penalty has.
    """
    W, H = W.double(), H.double()
    norm = H.diagonal().sqrt()
    W, norm = torch.where(norm == 0, 0, W), torch.where(norm == 0, 1, norm)
    T, H = W * norm, H / norm / norm[:, None] + damping * torch.eye(len(H))
    V, Y = T, torch.zeros_like(T)
    for penalty, steps in stages:
        for _ in range(steps):
            keep = nm_mask((V + Y / penalty) ** 2, n, m)
            Z = torch.where(keep, V + Y / penalty, 0.0)  # the nearest weight that has the pattern
            Y = Y + penalty * (V - Z)
            # The gradient in V is (V - T) H + Y + penalty (V - Z).
            V = torch.linalg.solve(H + penalty * torch.eye(len(H)), T @ H + penalty * Z - Y, left=False)
    return Z / norm, keep


@pytest.mark.parametrize("seed", [9, 35, 39])  # no two weights are so alike that rounding decides
@pytest.mark.parametrize(
    "options, each",
    [({}, (4, 4, 4, 4)), ({"steps": 4}, (1, 1, 1, 1)), ({"steps": 9}, (3, 2, 2, 2)), ({"damping": 0.3}, (4, 4, 4, 4))],
    ids=str,
)
@pytest.mark.parametrize("n, m", [(2, 4), (1, 3)])
def test_each_step_is_that_of_the_augmented_lagrangian(seed, options, each, n, m):
    """So the scaled dual shrinks as the penalty rises: Lagrange's stays as it is."""
    W, H = problem(8, 24, 100, seed)
    H[5], H[:, 5] = 0, 0
    stages = [*zip((0.2, 0.6, 2.0, 6.0), each)]
    expected, mask = augmented_lagrangian(W, H, n, m, stages, damping=options.get("damping", 0.01))
    new, keep = admm(W, H, pattern=f"{n}:{m}", **options)
    assert torch.equal(keep, mask)
    torch.testing.assert_close(new.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_mask_is_chosen_anew_in_every_step_by_magnitude():
    W, H = problem()
    seen = []

    def select(drawn, alike, **target):
        assert target == {"sparsity": 0.5, "pattern": None} and drawn.dtype == torch.float32
        assert torch.equal(alike, torch.ones(64))
        seen.append(drawn.clone())
        return one_pass.select(drawn, alike, **target)

    new, keep = admm(W, H, sparsity=0.5, steps=6, select=select)
    assert len(seen) == 6 and torch.equal(seen[0], W * H.diagonal().sqrt())
    assert torch.equal(keep, one_pass.select(seen[-1], torch.ones(64), sparsity=0.5))
    torch.testing.assert_close(new, seen[-1] * keep / H.diagonal().sqrt())


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_arguments_stay_and_the_dtype_is_kept(dtype):
    W, H = problem()
    W, H = W.to(dtype).requires_grad_(), H.to(torch.bfloat16 if dtype == torch.float16 else dtype)
    before = W.clone(), H.clone()
    new, keep = admm(W, H, sparsity=0.5)
    assert torch.equal(W, before[0]) and torch.equal(H, before[1])
    assert new.dtype == dtype and keep.dtype == torch.bool and not new.requires_grad
    plain, mask = admm(W.float(), H.float(), sparsity=0.5)  # both are taken as float32
    assert torch.equal(new, plain.to(dtype)) and torch.equal(keep, mask)


def test_products_in_bfloat16_come_near_those_in_float32():
    W, H = problem()
    keep = wanda_mask(W, H.diagonal(), pattern="2:4")
    a, b = (admm(W, H, pattern="2:4", bfloat16=narrow, select=lambda *_, **__: keep)[0] for narrow in (False, True))
    assert not torch.equal(a, b) and b.dtype == torch.float32
    assert (a - b).norm() < 0.02 * a.norm()


def test_bad_arguments_get_one_sentence():
    W, H = problem()
    for options, message in [
        ({"sparsity": 1.0}, "sparsity is 1.0"),
        ({}, "not neither"),
        ({"pattern": "2:5"}, "groups of 5"),
        ({"sparsity": 0.5, "steps": 3}, "steps is 3"),
        ({"sparsity": 0.5, "steps": 16.5}, "steps is 16.5"),
    ]:
        with pytest.raises(PrunekitError, match=message):
            admm(W, H, **options)
    for shape in ((63, 64), (64, 63), (1, 1)):
        with pytest.raises(PrunekitError, match=r"H has the shape .* expected \[64, 64\]"):
            admm(W, torch.ones(shape), sparsity=0.5)
    with pytest.raises(PrunekitError, match=r"sparsity is 1\.0"):  # whatever chooses
        admm(W, H, sparsity=1.0, select=lambda drawn, _, **target: drawn > 0)
    no_gram_matrix = torch.eye(64)
    no_gram_matrix[0, 1] = no_gram_matrix[1, 0] = 9.0
    for bad in (H * float("nan"), -H.abs(), no_gram_matrix):
        with pytest.raises(PrunekitError, match="not positive definite"):
            admm(W, bad, sparsity=0.5)


def test_one_step_for_each_penalty_will_do():
    W, H = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), torch.eye(8)
    assert (admm(W, H, pattern="2:4", steps=4)[1].sum(1) == 4).all()


def test_large_weights_of_dead_inputs_go_first():
    g = torch.Generator().manual_seed(0)
    X, W = torch.randn(256, 64, generator=g), torch.randn(16, 64, generator=g)
    X[:, 5], W[:, 5] = 0, 1e4
    for scale in (1, 1e-6):  # of inputs, beside which nothing made up may count
        assert not admm(W, X.T @ X * scale**2, sparsity=0.1)[1][:, 5].any()
