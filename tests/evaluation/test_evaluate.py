"""Perplexity, top-1, retention and KL against the plainest computation."""

from math import isnan
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.evaluation.evaluate import evaluate, evaluate_all
from prunekit.evaluation.generate import generate
from prunekit.model.checks import check_context

each_kind = pytest.mark.parametrize("kind", ["llama", "gpt2"])


def plain(model, ids):
    """Logits and targets of every predicted token, one window at a time."""
    logits = torch.cat([model(window[None]).logits[0, :-1] for window in ids])
    return logits.double(), ids[:, 1:].flatten()


@pytest.fixture(scope="module")
def pruned(tiny_models, ids):
    return {kind: compress(model, ids, sparsity=0.5, fp8="e4m3").model for kind, model in tiny_models.items()}


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
@each_kind
def test_against_a_naive_computation(tiny_models, pruned, ids, kind, batch):
    dense, model = tiny_models[kind], pruned[kind]
    got = evaluate(model, ids, dense, batch=batch)
    logits, target = plain(model, ids)
    reference, _ = plain(dense, ids)
    hits, dense_hits = (x.argmax(-1) == target for x in (logits, reference))
    kl = kl_div(log_softmax(logits, -1), log_softmax(reference, -1), log_target=True, reduction="batchmean")
    assert list(got) == ["perplexity", "top1", "tokens", "context", "retention", "kl"]
    assert got["tokens"] == 8 * 31 and got["context"] == 32
    assert got["perplexity"] == pytest.approx(cross_entropy(logits, target).exp().item(), rel=1e-4)
    assert got["top1"] == hits.sum().item() / target.numel()
    expected = hits.sum().item() / dense_hits.sum().item() if dense_hits.any() else float("nan")
    assert got["retention"] == pytest.approx(expected, nan_ok=True)
    assert got["kl"] == pytest.approx(kl.item(), rel=1e-3) and got["kl"] > 0.01
    alone = evaluate(model, ids, batch=batch)
    assert alone == {key: got[key] for key in ("perplexity", "top1", "tokens", "context")}


def predicted_by(model, ids):
    """Windows that the model itself has continued: its top-1 is high on them."""
    window = ids[:, :4]
    for _ in range(12):
        window = torch.cat([window, model(window).logits[:, -1:].argmax(-1)], 1)
    return window


@each_kind
def test_a_model_retains_all_of_itself(tiny_models, ids, kind):
    model = tiny_models[kind]
    text = predicted_by(model, ids)
    got = evaluate(model, text, model)
    assert got["top1"] >= 12 / 15
    assert got["retention"] == 1 and got["kl"] == 0


def test_retention_is_a_ratio_of_hits(tiny_models, pruned, ids):
    dense, model = tiny_models["llama"], pruned["llama"]
    text = predicted_by(dense, ids)
    got, alone = evaluate(model, text, dense), evaluate(dense, text)
    assert 0 < got["retention"] < 1
    assert got["retention"] == pytest.approx(got["top1"] / alone["top1"])


def test_retention_of_a_dense_model_that_is_never_right_is_not_a_number(llama, ids):
    never = ids[:1, :8].clone()
    for i in range(1, 8):
        never[0, i] = llama(never[:, :i]).logits[0, -1].argmin()
    assert isnan(evaluate(llama, never, llama)["retention"])


def test_several_models_at_once_are_judged_as_alone(llama, pruned, ids):
    other = compress(llama, ids, sparsity=0.7).model
    both = evaluate_all({"a": pruned["llama"], "dense": llama, "b": other}, ids)
    assert set(both) == {"dense", "a", "b"} and set(both["dense"]) == {"perplexity", "top1", "tokens", "context"}
    assert both["a"] == evaluate(pruned["llama"], ids, llama)
    assert both["b"] == evaluate(other, ids, llama)
    assert both["b"]["kl"] > both["a"]["kl"]


def test_a_hopeless_model_has_a_finite_perplexity(make_model, ids):
    model = make_model()
    model.model.norm.weight *= 1e5
    assert evaluate(model, ids)["perplexity"] == pytest.approx(torch.tensor(700.0).double().exp().item())


def test_logits_that_are_no_numbers_are_refused(make_model, ids):
    model = make_model()
    model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(PrunekitError, match="model: the logits hold NaN or infinity; load it in float32"):
        evaluate(model, ids)


@pytest.mark.parametrize("shape", [(32,), (0, 32), (8, 1), (8, 0), (2, 4, 8)])
def test_windows_of_a_wrong_shape(llama, shape):
    for dense in (None, llama):
        with pytest.raises(PrunekitError, match=r"expected \[windows, context >= 2\]"):
            evaluate(llama, torch.zeros(shape, dtype=torch.long), dense)


@pytest.mark.parametrize("prompt", ["", " ", "\n\t"])
def test_an_empty_prompt(llama, tokenizer, prompt):
    with pytest.raises(PrunekitError, match="the prompt is empty"):
        generate(llama, tokenizer, prompt)


@each_kind
def test_generate_continues_greedily(tiny_models, tokenizer, kind):
    model, prompt = tiny_models[kind], "The weights of a model"
    text = generate(model, tokenizer, prompt, tokens=6)
    assert text.startswith(prompt) and len(text) > len(prompt)
    assert text == generate(model, tokenizer, prompt, tokens=6)
    window = tokenizer(prompt, return_tensors="pt")["input_ids"]
    for _ in range(6):
        window = torch.cat([window, model(window).logits[:, -1:].argmax(-1)], 1)
        if window[0, -1] == tokenizer.eos_token_id:
            break
    assert text == tokenizer.decode(window[0], skip_special_tokens=True)


def test_it_is_greedy_whatever_the_model_asks_for(make_model, tokenizer):
    model = make_model()
    plain = generate(model, tokenizer, "the cat", 12)
    model.generation_config.num_beams, model.generation_config.penalty_alpha = 4, 0.6
    model.generation_config.top_k = 4
    model.generation_config.repetition_penalty, model.generation_config.no_repeat_ngram_size = 5.0, 1
    assert generate(model, tokenizer, "the cat", 12) == plain
    assert model.generation_config.num_beams == 4


def test_tokens_that_the_model_does_not_know_are_refused(make_model, tokenizer):
    model = make_model()
    model.resize_token_embeddings(20)
    with pytest.raises(PrunekitError, match="but a model knows 20"):
        generate(model, tokenizer, "the cat", 2)


@pytest.mark.parametrize("name", ["max_position_embeddings", "max_seq_len", "max_target_positions"])
def test_the_longest_input_has_several_names(name):
    model = torch.nn.Linear(1, 1)
    model.config = SimpleNamespace(**{name: 7})
    check_context(model, 7)
    with pytest.raises(PrunekitError, match="at most 7"):
        check_context(model, 8)


def test_windows_longer_than_a_chunk(llama):
    ids = torch.randint(1, 300, (2, 150), generator=torch.Generator().manual_seed(2))
    dense, model = llama, compress(llama, sparsity=0.5, method="magnitude").model
    got = evaluate(model, ids, dense)
    logits = torch.cat([model(w[None]).logits[0, :-1] for w in ids]).double()
    reference = torch.cat([dense(w[None]).logits[0, :-1] for w in ids]).double()
    target = ids[:, 1:].flatten()
    assert got["perplexity"] == pytest.approx(cross_entropy(logits, target).exp().item(), rel=1e-4)
    p, q = reference.log_softmax(-1), logits.log_softmax(-1)
    assert got["kl"] == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-3)


def test_a_model_may_be_filled_to_its_last_position(make_model, tokenizer):
    model = make_model("gpt2")  # of 128 positions
    model.generation_config.eos_token_id = None
    prompt = "the cat"
    size = len(tokenizer(prompt)["input_ids"])
    assert generate(model, tokenizer, prompt, 129 - size).startswith(prompt)
    with pytest.raises(PrunekitError, match="at most 128"):
        generate(model, tokenizer, prompt, 130 - size)


def test_a_model_in_training_continues_as_one_that_is_not(make_model, tokenizer):
    model, calm = make_model("gpt2").train(), make_model("gpt2").eval()
    assert generate(model, tokenizer, "the cat", 12) == generate(calm, tokenizer, "the cat", 12)
    assert all(module.training for module in model.modules())


def test_logits_in_half_precision_are_judged_in_float32(make_model, ids):
    model = make_model(dtype=torch.bfloat16)
    logits = torch.cat([model(w[None]).logits[0, :-1] for w in ids]).double()
    wanted = cross_entropy(logits, ids[:, 1:].flatten()).exp().item()
    assert evaluate(model, ids, batch=1)["perplexity"] == pytest.approx(wanted, rel=1e-4)


def test_generation_ends_where_the_model_ends_a_text(make_model, tokenizer):
    model = make_model()
    long = generate(model, tokenizer, "the cat", 12)
    window = tokenizer("the cat", return_tensors="pt")["input_ids"]
    first = model(window).logits[0, -1].argmax().item()
    model.generation_config.eos_token_id = first
    assert len(generate(model, tokenizer, "the cat", 12)) < len(long)


def test_a_model_whose_logits_are_no_numbers_does_not_speak(make_model, tokenizer):
    model = make_model()
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(PrunekitError, match="hold NaN"):
        generate(model, tokenizer, "The weights")
