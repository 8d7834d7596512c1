"""What recovery lowers: the loss, its gradient, and the part of the vocabulary that it looks at."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import VOCABULARY
from torch.nn.functional import kl_div

from prunekit.compression.compress import compress
from prunekit.recovery.distillation import chances, draw, loss, speaking


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_loss_and_gradient_are_those_of_the_plain_formula(share):
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 50, (3, 19), generator=g)
    outputs = [torch.randn(3, 19, 50, generator=g) * 4 for _ in range(2)]
    teacher, student = outputs[0], outputs[1].requires_grad_()
    models = [lambda *_, x=x, **__: SimpleNamespace(logits=x.clone()) for x in (student, teacher)]
    value = loss(*models, ids, share)
    (gradient,) = torch.autograd.grad(2 * value, student)
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    weight = torch.full((3, 19), float(share))
    weight[:, -1] = 0
    kl = kl_div(q, p, log_target=True, reduction="none").sum(-1)
    ce = -q.gather(-1, ids.roll(-1, 1)[..., None])[..., 0]
    plain = ((1 - weight) * kl + weight * ce).mean()
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(gradient, torch.autograd.grad(2 * plain, student)[0])


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=40), data=st.data())
def test_chances_follow_the_counts_and_add_up(counts, data):
    wanted = data.draw(st.integers(1, len(counts)))
    ids = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    chance = chances(ids, len(counts), wanted)
    assert (chance > 0).all() and (chance <= 1).all()
    assert chance.sum().item() == pytest.approx(wanted, rel=1e-5)
    more = torch.tensor(counts) + 1
    ratio = chance / more
    torch.testing.assert_close(ratio[chance < 1], ratio.max().expand_as(ratio[chance < 1]))  # of those below 1 the same


@given(counts=st.lists(st.integers(0, 50), min_size=8, max_size=40), data=st.data())
def test_as_many_tokens_are_drawn_in_each_step_those_of_its_text_among_them(counts, data):
    wanted = data.draw(st.integers(4, len(counts)))
    text = torch.tensor(data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=wanted // 3)))
    ids = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    chance = chances(ids, len(counts), wanted)
    part, raised = draw(chance, text, data.draw(st.integers(0, 1000)))
    assert torch.equal(part, part.unique())
    assert torch.isin(text, part).all()
    assert (raised[torch.isin(part, text)] == 0).all() and (raised >= 0).all()
    lowered = (-raised).exp() / chance[part]
    others = lowered[~torch.isin(part, text)]
    if len(others):
        assert 0.5 - 1e-6 <= others.min() <= others.max() <= 1 + 1e-6
        torch.testing.assert_close(others, others.mean().expand_as(others))
        if others.min() > 0.5 + 1e-6:
            assert len(part) == wanted


def test_tokens_are_drawn_as_often_as_their_chance_says():
    chance, text = chances(torch.arange(60).repeat_interleave(torch.arange(60)), 60, 20), torch.tensor([3, 50])
    often, expected = torch.zeros(60), torch.zeros(60)
    for seed in range(2000):
        part, raised = draw(chance, text, seed)
        often[part] += 1
        expected[part] = (-raised).exp()
    assert (expected > 0).all()
    torch.testing.assert_close(often / 2000, expected, atol=0.05, rtol=0)  # four and a half standard errors
    assert expected.sum().item() == pytest.approx(20)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_a_part_of_the_vocabulary_has_the_logits_that_it_has_in_the_whole(make_model, ids, kind):
    bends = {"final_logit_softcapping": 0.5, "initializer_range": 0.3}  # logits, after the output embedding
    model = make_model(kind, **(bends if kind == "gemma2" else {}))
    part = torch.tensor([0, 3, 4, 77, 299])
    whole = model(ids).logits
    torch.testing.assert_close(speaking(model, part)(ids).logits, whole[..., part])
    assert torch.equal(model(ids).logits, whole)


def test_a_certain_vocabulary_has_the_loss_of_the_whole_one(llama, ids):
    student = compress(llama, ids, sparsity=0.5).model
    whole = loss(student, llama, ids, 0.3)
    torch.testing.assert_close(loss(student, llama, ids, 0.3, torch.ones(VOCABULARY)), whole)


def test_parts_of_the_vocabulary_have_the_loss_of_the_whole_one_on_average(llama, ids):
    student, chance = compress(llama, ids, pattern="2:4").model, chances(ids, VOCABULARY, 200)
    window = ids[:1, :6]  # few tokens, so that most of the vocabulary hangs on the draw
    for share in (0.0, 1.0):
        drawn = torch.stack([loss(student, llama, window, share, chance, seed) for seed in range(300)])
        whole = loss(student, llama, window, share)
        assert drawn.std() > 0
        assert drawn.mean().item() == pytest.approx(whole.item(), rel=0.02)
