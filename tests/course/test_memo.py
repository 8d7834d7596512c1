"""The memo of notebook 06: its rule, its error bars, its page; damage, spared layers, and what is on disk."""

import itertools

import pytest
import torch

import prunekit as pk
from prunekit import PrunekitError
from prunekit.course.lessons import disk, memo, sensitivity
from prunekit.course.lessons.memo import Criterion
from prunekit.evaluation.answers import Answers
from prunekit.evaluation.tasks.run import Done


def criterion(value, margin=0.0, limit=1.0, at_least=True):
    return Criterion("x", "here", value, margin, limit, at_least)


@pytest.mark.parametrize(
    "value, margin, at_least, state",
    [
        (1.5, 0.5, True, "passed"),
        (1.5, 0.52, True, "open"),
        (0.5, 0.5, True, "open"),
        (0.5, 0.48, True, "failed"),
        (0.5, 0.5, False, "passed"),
        (1.5, 0.48, False, "failed"),
        (1.0, 0.0, True, "passed"),
        (1.0, 0.0, False, "passed"),
        (0.999, 0.0, True, "failed"),
        (2.0, float("nan"), True, "open"),
        (float("nan"), float("nan"), False, "open"),
    ],
)
def test_a_number_passes_or_fails_only_with_its_whole_interval(value, margin, at_least, state):
    assert criterion(value, margin, at_least=at_least).state == state


def test_the_decision_is_the_worst_state():
    numbers = {"passed": criterion(2.0), "failed": criterion(0.0), "open": criterion(1.0, 1.0)}
    for names in itertools.product(numbers, repeat=3):
        expected = "no-go" if "failed" in names else "open" if "open" in names else "go"
        assert memo.decide([numbers[name] for name in names]) == expected


def test_the_first_candidate_that_passes_is_recommended():
    good, bad, unsure = [criterion(2.0)], [criterion(0.0)], [criterion(1.0, 1.0)]
    assert memo.recommend({"a": bad, "b": unsure, "c": good, "d": good}) == ("go", "c")
    assert memo.recommend({"a": bad, "b": unsure}) == ("open", "b")
    assert memo.recommend({"a": bad, "b": bad}) == ("no-go", "")


def test_the_memo_holds_what_it_was_given(tmp_path):
    candidates = {"half": [criterion(0.7, 0.02, 0.9)], "fifth": [criterion(0.98, 0.02, 0.9)]}
    text = memo.write_memo(tmp_path / "memo.md", "tiny", candidates, {"Protocol": "none."}, ["speed", "tasks"])
    assert (tmp_path / "memo.md").read_text("utf-8") == text
    assert text.startswith("# Memo: tiny: go, with fifth\n")
    assert "## half: no-go" in text and "## fifth: go" in text
    assert "| x, here | 0.700 ± 0.020 | at least 0.9 | failed |" in text
    assert "**Protocol.** none." in text and "speed; tasks." in text
    assert text.count("\n|---") == 2
    failed = memo.write_memo(tmp_path / "memo.md", "tiny", {"half": candidates["half"]}, {}, ["all"])
    assert failed.startswith("# Memo: tiny: no-go\n")


def test_answers_agree_with_evaluate_whatever_the_batch(llama, ids):
    whole = pk.evaluate(llama, ids)
    for batch in (1, 2, 8):
        found = memo.answers(llama, ids, batch)
        assert found.nll.shape == found.hits.shape == (len(ids), ids.shape[1] - 1)
        assert found.perplexity == pytest.approx(whole["perplexity"], rel=1e-5)
        assert found.hits.double().mean().item() == pytest.approx(whole["top1"], abs=1e-9)
    with pytest.raises(PrunekitError):
        memo.answers(llama, ids[:, :1])


def test_comparing_agrees_with_evaluate_and_sees_no_loss_where_there_is_none(llama, ids):
    pruned = pk.compress(llama, ids, sparsity=0.5, stop=False).model
    dense, other = memo.answers(llama, ids), memo.answers(pruned, ids)
    whole = pk.evaluate_all({"dense": llama, "pruned": pruned}, ids)
    found = memo.compare(other, dense)
    expected = whole["pruned"]["perplexity"] / whole["dense"]["perplexity"]
    assert found["perplexity ratio"][0] == pytest.approx(expected, rel=1e-5) and found["perplexity ratio"][1] > 0
    assert memo.compare(dense, dense)["perplexity ratio"] == pytest.approx((1.0, 0.0))
    assert repr(found) == repr(memo.compare(other, dense))  # nan is not nan
    rng = torch.Generator().manual_seed(1)
    right = Answers(torch.rand(9, 20, generator=rng), torch.rand(9, 20, generator=rng) < 0.7)
    some = Answers(right.nll, right.hits & (torch.rand(9, 20, generator=rng) < 0.8))
    ratio = (some.hits.sum() / right.hits.sum()).item()
    assert memo.compare(some, right)["retention"][0] == pytest.approx(ratio)
    assert memo.compare(right, right)["retention"] == pytest.approx((1.0, 0.0))


def test_the_bootstraps_error_is_that_of_a_mean_over_windows():
    """Of the log of the ratio, for which the usual standard error is known."""
    rng = torch.Generator().manual_seed(0)
    nll, hits = torch.rand(12, 30, generator=rng), torch.ones(12, 30, dtype=torch.bool)
    gaps = 0.01 * torch.randn(12, 1, generator=rng)
    value, error = memo.compare(Answers(nll + gaps, hits), Answers(nll, hits))["perplexity ratio"]
    assert error / value == pytest.approx((gaps.std() / 12**0.5).item(), rel=0.1)


def test_margins_hold_all_at_once():
    """However the numbers depend on each other; and with no more than needed where they are independent."""
    assert memo.width(1) == pytest.approx(1.96, abs=0.001) and memo.width(5) == pytest.approx(2.576, abs=0.001)
    rng = torch.Generator().manual_seed(0)
    own, common = torch.randn(50_000, 5, generator=rng), torch.randn(50_000, 1, generator=rng)
    for share in (0.0, 0.5, 0.9):
        misses = (1 - share**2) ** 0.5 * own + share * common
        hold = (misses.abs() < memo.width(5)).all(1).double().mean().item()
        assert hold > 0.947 and (share or hold < 0.955)
        assert (misses.abs() < memo.width(5, 0.8)).all(1).double().mean().item() > 0.795


def test_each_candidate_gets_its_criteria_with_margins_for_all(llama, ids):
    half = pk.compress(llama, ids, sparsity=0.5, fp8="e4m3").model
    texts = {"one": ids[:3], "other": ids[3:]}
    found = {t: memo.compare(memo.answers(half, text), memo.answers(llama, text)) for t, text in texts.items()}
    rows = memo.criteria(found, 0.6, {"retention": 0.9, "perplexity ratio": 1.2, "bytes": 0.5})
    names = [("retention", "one"), ("retention", "other"), ("perplexity ratio", "one"), ("perplexity ratio", "other")]
    assert [(c.name, c.on) for c in rows] == [*names, ("bytes over dense", "")]
    assert [c.at_least for c in rows] == [True, True, False, False, False]
    assert [c.limit for c in rows] == [0.9, 0.9, 1.2, 1.2, 0.5]
    value, error = found["one"]["perplexity ratio"]
    assert rows[2].value == value and rows[2].margin == pytest.approx(memo.width(5) * error)
    assert rows[4].state == "failed" and rows[4].margin == 0
    lines = memo.rows_of(rows)
    assert len(lines) == 5 and all("±" in line[1] for line in lines[2:4]) and "counted" in lines[4][1]


def test_a_limit_may_name_a_task():
    hits, chance = torch.tensor([1.0, 0, 1, 1] * 50), torch.full((200,), 0.25)
    done = lambda task, metric, hits: Done(task, metric, 0.0, 0.0, 200, 0, None, hits, chance)  # noqa: E731
    dense = [done("arc", metric, torch.ones(200)) for metric in ("acc", "acc_norm")]
    tasks = pk.compare_tasks([done("arc", "acc", hits), done("arc", "acc_norm", torch.zeros(200))], dense)
    found = {"text": {"retention": (0.95, 0.01), "perplexity ratio": (1.1, 0.01)}}
    limits = {"retention": 0.9, "perplexity ratio": 1.2, "arc": 0.8, "bytes": 0.5}
    *texts, task, size = memo.criteria(found, 0.4, limits, tasks)
    assert (task.name, task.on, task.at_least, task.limit) == ("above chance", "arc", True, 0.8)
    value, error = tasks[0].kept
    assert task.value == value == pytest.approx(2 / 3) and task.margin == pytest.approx(memo.width(4) * error)
    assert texts[0].margin == pytest.approx(memo.width(4) * 0.01) and size.name == "bytes over dense"
    assert task.state == "failed" and memo.decide([*texts, task, size]) == "no-go"
    for given in ((), pk.compare_tasks([done("arc", "acc", hits)])):
        with pytest.raises(pk.PrunekitError, match="a limit names the task arc, of which no retention above chance"):
            memo.criteria(found, 0.4, limits, given)


def test_limits_are_drawn_in_each_criterions_own_unit(llama):
    from prunekit.course.figures.own_model import limits

    units = ((0.8, 0.9, True), (120.0, 100.0, False), (0.6, 0.65, False), (float("nan"), 0.9, True), (1.0, 1.0, False))
    half = [Criterion("x", str(i), value, value / 20, limit, up) for i, (value, limit, up) in enumerate(units)]
    figure = limits({"half": half, "again": half})
    for axes, (value, limit, _) in zip(figure.axes, units):
        low, high = axes.get_xlim()
        assert low < limit < high and (value != value or low < value - value / 20 < value + value / 20 < high)
        assert f"{limit:g}" in axes.get_title()
    far, near = (Criterion("x", "", value, 0.1, 1.25, False) for value in (30.0, 1.2))
    axes = limits({"far": [far], "near": [near]}).axes[0]
    assert axes.get_xlim()[1] < 2 and any(text.get_text() == "30.00 ± 0.10 →" for text in axes.texts)


def test_zeros_are_counted_in_codes_and_in_floats(llama, ids):
    for fp8 in ("e4m3", None):
        result = pk.compress(llama, ids, sparsity=0.5, fp8=fp8)
        total = sum(layer.weight.numel() for layer in pk.linear_layers(llama).values())
        assert disk.zeros(result.model) == round(result.sparsity * total)


def test_comparing_needs_windows_of_one_text(llama, ids):
    found = memo.answers(llama, ids)
    for other in (Answers(found.nll[:1], found.hits[:1]), Answers(found.nll[:-1], found.hits[:-1])):
        with pytest.raises(PrunekitError, match="same windows"):
            memo.compare(found, other)


def test_the_error_of_a_ratio_is_that_of_many_repetitions():
    torch.manual_seed(0)
    n, repetitions = 400, 3000
    dense = torch.rand(repetitions, n) < 0.4
    hits = torch.where(torch.rand(repetitions, n) < 0.8, dense, torch.rand(repetitions, n) < 0.3)
    spread = (hits.sum(1) / dense.sum(1)).std().item()
    errors = [memo.retention_error(d, h)[1] for d, h in zip(dense[:100], hits[:100])]
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.1)
    assert memo.retention_error(dense[0], dense[0]) == (1.0, 0.0)


def test_bytes_of_weights_are_those_that_are_stored(llama, ids):
    layers = pk.linear_layers(llama)
    shapes = [tuple(layer.weight.shape) for layer in layers.values()]
    cast = pk.compress(llama, ids, sparsity=0.5, fp8="e4m3").model
    parts = disk.parts_of_model(cast)
    assert parts["FP8 codes"] + parts["FP8 scales"] == memo.weight_bytes(shapes, "float8_e4m3fn")
    assert memo.weight_bytes([(3, 5)], "bfloat16") == 30
    with pytest.raises(pk.PrunekitError, match="int4"):
        memo.weight_bytes(shapes, "int4")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_is_on_disk_is_what_was_announced(kind, tiny_models, tokenizer, ids, tmp_path):
    result = pk.compress(tiny_models[kind], ids, sparsity=0.5, fp8="e4m3")
    pk.save(result, tokenizer, tmp_path / "model")
    with pytest.raises(PrunekitError, match=r"holds no model\.safetensors"):
        disk.parts_of_folder(tmp_path)
    weights = tmp_path / "model" / "model.safetensors"
    stray = tmp_path / "model" / "model-00002-of-00002.safetensors"
    stray.write_bytes(weights.read_bytes()[:1000])  # of a download that broke off
    parts = disk.parts_of_folder(tmp_path / "model")
    assert parts == disk.parts_of_model(result.model)
    assert sum(parts.values()) == pk.stored_bytes(result.model)
    assert parts["embedding"] > 0 and (parts["FP8 codes"] > 0) == (kind == "llama")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PrunekitError, match=r"cannot read .*model\.safetensors"):
        disk.parts_of_folder(tmp_path / "model")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_damage_is_nothing_for_the_dense_model_and_grows_with_sparsity(kind, tiny_models, ids):
    model = tiny_models[kind]
    calibration = pk.calibrate(model, ids, pk.linear_layers(model))
    assert set(sensitivity.damage(model, model, calibration).values()) == {0.0}
    before = None
    for sparsity in (0.2, 0.5, 0.8):
        lost = sensitivity.damage(model, pk.compress(model, ids, sparsity=sparsity).model, calibration)
        assert set(lost) == set(pk.linear_layers(model))
        assert all(0 < value < 1 for value in lost.values())
        assert before is None or all(lost[name] > before[name] for name in lost)
        before = lost


def test_layers_of_a_block_that_end_alike_have_a_row_each(gpt2, llama):
    from prunekit.course.figures.own_model import layer_table

    for model, expected in ((gpt2, {"c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"}), (llama, None)):
        values = {name: float(i) for i, name in enumerate(pk.linear_layers(model))}
        kinds, table = layer_table(values)
        assert sorted(v for row in table for v in row) == sorted(values.values())
        assert set(kinds) == (expected or {name.rpartition(".")[2] for name in values})


def test_the_most_damaged_layers_that_fit_are_spared():
    lost = {"a": 0.1, "b": 0.4, "c": 0.3, "d": 0.2}
    size = {"a": 10, "b": 50, "c": 60, "d": 20}
    assert sensitivity.spare(lost, size, 80) == ["b", "d", "a"]
    assert sensitivity.spare(lost, size, 49) == ["d", "a"]
    assert sensitivity.spare(lost, size, 9) == []
