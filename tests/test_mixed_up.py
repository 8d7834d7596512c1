"""What is easily mixed up is told apart: models and results, bytes and FP8, statistics of one layer and another's."""

import pytest
import torch

import prunekit as pk
from prunekit.errors import PrunekitError, check_count

W, E = torch.randn(16, 64), torch.rand(64)


@pytest.mark.parametrize(
    "use",
    [
        lambda result, ids: pk.evaluate(result, ids),
        lambda result, ids: pk.calibrate(result, ids),
        lambda result, ids: pk.compress(result, ids, sparsity=0.5),
        lambda result, ids: pk.accelerate(result),
        lambda result, ids: pk.stored_bytes(result),
        lambda result, ids: pk.linear_layers(result),
        lambda result, ids: pk.remove_neurons(result, 0.5, {}),
    ],
)
def test_a_result_is_no_model(llama, ids, use):
    with pytest.raises(PrunekitError, match=r"expected a model, got a Compressed: .* pass the \.model"):
        use(pk.compress(llama, sparsity=0.5, method="magnitude"), ids)


def test_a_model_is_no_result(llama, ids, tokenizer, tmp_path):
    with pytest.raises(PrunekitError, match="expected what compress gives, got a LlamaForCausalLM"):
        pk.save(llama, tokenizer, tmp_path / "new")
    with pytest.raises(PrunekitError, match="expected what compress gives, got a LlamaForCausalLM"):
        pk.recover(llama, llama, ids, steps=1)
    assert list(tmp_path.iterdir()) == []


def test_a_budget_may_be_what_allocate_gives(llama, ids):
    allocation = pk.allocate(llama, ids, 0.5)
    one, other = (pk.compress(llama, ids, sparsity=0.5, budget=b) for b in (allocation, allocation.sparsity))
    assert one.layers == other.layers


def test_bytes_are_not_fp8():
    scale = pk.scales(W)
    with pytest.raises(PrunekitError, match="expected bytes, as encode gives them"):
        pk.decode(pk.cast(W, scale))
    for use in (pk.uncast, pk.Fp8Linear):
        with pytest.raises(PrunekitError, match="expected FP8, as cast gives them"):
            use(pk.encode(W / scale), scale)
    codes = pk.cast(W, scale)
    assert torch.equal(pk.decode(codes.view(torch.uint8)) * scale, pk.uncast(codes, scale))


@pytest.mark.parametrize("shape", [(16,), (3, 1), (64, 1), (2, 1), (1, 64)])
def test_scales_of_another_weight(shape):
    for use in (lambda s: pk.cast(W, s), lambda s: pk.uncast(pk.cast(W, pk.scales(W)), s)):
        with pytest.raises(PrunekitError, match=r"the scale has the shape .*: expected \[1, 1\], \[16, 1\]"):
            use(torch.ones(shape))


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("E", lambda: pk.contribution(W, E[:10])),
        ("E", lambda: pk.contribution(W, E[:1])),  # which would broadcast
        ("E", lambda: pk.rank_one(W, E[:10])),
        ("E", lambda: pk.keep_score(W, W, E[:10])),
        ("E", lambda: pk.response(torch.ones(8, 64), E[:10], 0.5)),
        ("H", lambda: pk.admm(W, torch.eye(10), 0.5)),
        ("H", lambda: pk.sparsegpt(W, torch.eye(10), 0.5)),
    ],
)
def test_statistics_of_another_layer(name, use):
    with pytest.raises(PrunekitError, match=rf"^{name} has the shape .* of the inputs of this very layer"):
        use()


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_response_to_no_share(share):
    with pytest.raises(PrunekitError, match="pruned is"):
        pk.response(torch.ones(8, 64), E, share)


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (2, 5)])
def test_groups_that_do_not_fit_the_channels(n, m):
    with pytest.raises(PrunekitError):
        pk.channel_order(torch.rand(4, 64), n, m)


def test_an_order_of_scores_in_half_precision():
    L = torch.rand(4, 64).half()
    assert torch.equal(pk.channel_order(L, 2, 4), pk.channel_order(L.float(), 2, 4))


@pytest.mark.parametrize("count", [0, -3, 2.5, "two", "0", None, float("inf")])
def test_what_is_no_count(count):
    with pytest.raises(PrunekitError, match=r"batch is .*: expected a whole number of 1 or more"):
        check_count(count, "batch")


def test_counts_are_checked(llama, tokenizer, ids):
    assert check_count("3", "batch") == check_count(3, "batch") == check_count(3.0, "batch") == 3
    for name, use in (
        ("tokens", lambda: pk.generate(llama, tokenizer, "the", 0)),
        ("batch", lambda: pk.evaluate(llama, ids, batch=0)),
        ("block", lambda: pk.quantile_mask(W.abs(), 0.5, block=0)),
        ("block", lambda: pk.sparsegpt(W, torch.eye(64), 0.5, block=0)),
        ("steps", lambda: pk.recover(pk.compress(llama, sparsity=0.5, method="magnitude"), llama, ids, steps=2.5)),
    ):
        with pytest.raises(PrunekitError, match=f"^{name} is "):
            use()


def test_counts_may_be_given_as_text_or_as_whole_floats(llama, tokenizer, ids):
    L, H = W.abs(), torch.eye(64)
    pruned = pk.compress(llama, sparsity=0.5, method="magnitude")
    for use, count in (
        (lambda n: torch.tensor(list(pk.evaluate(llama, ids, batch=n).values())), 2),
        (lambda n: torch.tensor(list(pk.generate(llama, tokenizer, "the", n).encode())), 3),
        (lambda n: pk.quantile_mask(L, 0.5, block=n), 32),
        (lambda n: pk.sparsegpt(W, H, 0.5, block=n)[0], 16),
        (lambda n: pk.admm(W, H, 0.5, steps=n)[0], 5),
        (lambda n: pk.recover(pruned, llama, ids, steps=1, batch=n).model.model.layers[0].mlp.up_proj.weight, 2),
    ):
        right = use(count)
        assert torch.equal(use(str(count)), right) and torch.equal(use(float(count)), right)


@pytest.mark.parametrize("text", [[[1, 2]], torch.rand(2, 8)])
def test_text_that_is_no_tensor_of_tokens(llama, text):
    with pytest.raises(PrunekitError, match="no tensor of token numbers"):
        pk.evaluate(llama, text)


def test_an_empty_mask_prunes_everything_there_is():
    assert pk.sparsity_of(torch.ones(0, 4, dtype=torch.bool)) == 1
