"""Through lm-eval itself, without a network: what it says of a folder of ours is what we say of the model."""

import json

import pytest
import torch

import prunekit as pk
from prunekit.evaluation.tasks.continuation import write_task
from prunekit.evaluation.tasks.find import find_tasks

lm_eval = pytest.importorskip("lm_eval")
from lm_eval.tasks import TaskManager  # noqa: E402

WORDS = ("the", "weights", "of", "a", "model", "are", "many", "and", "most", "hardly", "matter", "to", "what", "it")
ACC = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")]


def write(folder, name, docs, **config):
    """A task file beside its data; JSON is YAML, too."""
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    kwargs = {"data_files": {"test": str(folder / f"{name}.jsonl")}, "cache_dir": str(folder / "datasets")}
    usual = {"task": name, "dataset_path": "json", "test_split": "test", "dataset_kwargs": kwargs, "num_fewshot": 0}
    usual |= {"doc_to_text": "{{q}}", "doc_to_choice": "a", "doc_to_target": "label", "output_type": "multiple_choice"}
    (folder / f"{name}.yaml").write_text(json.dumps(usual | {"metric_list": ACC} | config))
    return str(folder / f"{name}.yaml")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Files of four tasks and of a group."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [(f"{i}: {' '.join(WORDS[: 2 + i % 7])}", WORDS[i % 5 : i % 5 + 2 + i % 4], i % 2) for i in range(24)]
    docs = [{"q": q, "a": a, "label": label} for q, a, label in rows]
    rolling = [{"metric": "word_perplexity"}]
    twice = [{"metric": "acc"}, {"metric": "acc_mutual_info"}]
    group = {"group": "both", "task": ["two_to_five", "more"], "metadata": {"version": 3}}
    group |= {"aggregate_metric_list": [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}]}
    (folder / "both.yaml").write_text(json.dumps(group))
    spoken = {"output_type": "generate_until", "doc_to_target": "right", "doc_to_choice": None}
    spoken |= {"generation_kwargs": {"until": ["."], "max_gen_toks": 3}, "metric_list": [{"metric": "exact_match"}]}
    return {
        "choices": write(folder, "two_to_five", docs),
        "more": write(folder, "more", docs[5:11]),
        "twice": write(folder, "twice", docs[:6], metric_list=twice),
        "text": write(
            folder,
            "running",
            docs[:3],
            output_type="loglikelihood_rolling",
            metric_list=rolling,
            doc_to_choice=None,
            doc_to_text="",
            doc_to_target="{{q}}",
        ),
        "spoken": write(folder, "spoken", [{"q": "the weights", "right": "are many"}], **spoken),
        "group": str(folder / "both.yaml"),
    }


@pytest.fixture(scope="module")
def compressed(tmp_path_factory, llama, ids, tokenizer):
    """A folder of ours, in FP8."""
    folder = tmp_path_factory.mktemp("small") / "small"
    pk.save(pk.compress(llama, ids, sparsity=0.5, fp8="e4m3"), tokenizer, folder)
    return folder


@pytest.mark.parametrize("kind", ["dense", "compressed"])
def test_it_is_what_lm_eval_says_of_the_folder(folders, compressed, tasks, tmp_path, kind):
    folder = folders.llama if kind == "dense" else compressed
    wanted = [str(write_task(tmp_path)), tasks["choices"]]
    manager = TaskManager(include_defaults=False)
    options = {"batch_size": 4, "device": "cpu", "limit": 20, "task_manager": manager}
    theirs = lm_eval.simple_evaluate("hf", {"pretrained": str(folder), "dtype": "float32"}, tasks=wanted, **options)
    ours = {(d.task, d.metric): d for d in pk.run_tasks(*pk.load(str(folder)), wanted, limit=20, batch=4)}
    assert {task for task, _ in ours} == {"continuation", "two_to_five"}
    for (task, metric), done in ours.items():
        assert done.value == theirs["results"][task][f"{metric},none"] and done.items == 20 and done.shots == 0
        assert done.error == pytest.approx(theirs["results"][task][f"{metric}_stderr,none"])
        assert done.hits.tolist() == [sample[metric] for sample in theirs["samples"][task]]
        if metric == "acc":
            for mine, sample in zip(done.loglikelihoods, theirs["samples"][task], strict=True):
                assert mine == pytest.approx([likelihood for likelihood, _ in sample["filtered_resps"]], abs=1e-3)


def test_the_loglikelihoods_are_the_models(llama, tokenizer, tasks):
    """Against the plainest computation, and the right answer is the likeliest where the item is a hit."""
    done, _ = pk.run_tasks(llama, tokenizer, [tasks["choices"]], batch=5)
    docs = [json.loads(line) for line in open(tasks["choices"].replace(".yaml", ".jsonl"))]  # noqa: SIM115
    for doc, found, hit, chance in zip(docs, done.loglikelihoods, done.hits, done.chance, strict=True):
        start = len(tokenizer(doc["q"])["input_ids"])
        for choice, likelihood in zip(doc["a"], found, strict=True):
            ids = torch.tensor([tokenizer(f"{doc['q']} {choice}")["input_ids"]])
            said = llama(ids).logits.log_softmax(-1)[0, start - 1 : -1].gather(1, ids[0, start:, None]).sum().item()
            assert said == pytest.approx(likelihood, abs=1e-3)
        assert hit == (max(range(len(found)), key=found.__getitem__) == doc["label"])
        assert chance == pytest.approx(1 / len(doc["a"]))


def test_other_kinds_of_tasks_have_no_chance(llama, tokenizer, tasks):
    names = ("twice", "text", "spoken")
    rows = {d.metric: d for d in pk.run_tasks(llama, tokenizer, [tasks[name] for name in names], batch=2)}
    assert rows["acc"].chance.tolist() == rows["acc_mutual_info"].chance.tolist()
    assert rows["acc"].chance.tolist() == pytest.approx([1 / (2 + i % 4) for i in range(6)])
    for metric in ("word_perplexity", "exact_match"):
        assert rows[metric].hits is None and rows[metric].value >= 0


def test_a_group_is_its_tasks_together(llama, tokenizer, tasks):
    rows = {(d.task, d.metric): d for d in pk.run_tasks(llama, tokenizer, [tasks["group"]])}
    both, parts = rows["both", "acc"], [rows[task, "acc"] for task in ("two_to_five", "more")]
    assert both.items == sum(part.items for part in parts) == 30
    assert torch.equal(both.hits, torch.cat([part.hits for part in parts]))
    assert both.value == pytest.approx(both.hits.mean().item())
    assert torch.equal(both.chance, torch.cat([part.chance for part in parts]))


def test_models_do_the_same_items_and_draw_nothing_of_ours(llama, make_model, tokenizer, tasks):
    found, state = find_tasks([tasks["choices"]]), torch.get_rng_state()
    first = pk.run_tasks(llama, tokenizer, found)
    other = pk.run_tasks(make_model(seed=1), tokenizer, found)
    torch.set_rng_state(state)  # which making a model has changed
    again = pk.run_tasks(llama, tokenizer, found)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b, c in zip(first, other, again, strict=True):
        assert a.loglikelihoods == c.loglikelihoods and (a.hits == c.hits).all() and a.items == b.items == 24
    assert first[0].loglikelihoods != other[0].loglikelihoods


def test_examples_in_the_prompt(llama, tokenizer, tasks):
    """More than the task's own count is asked for where it has none of its own."""
    plain, some = (pk.run_tasks(llama, tokenizer, [tasks["choices"]], limit=4, shots=shots)[0] for shots in (None, 2))
    assert plain.shots == some.shots == 0  # a task that says 0 keeps it
    with pytest.raises(pk.PrunekitError, match="-1 examples in a prompt"):
        pk.run_tasks(llama, tokenizer, [tasks["choices"]], shots=-1)


@pytest.mark.parametrize("bad", [{"limit": 0}, {"limit": 1.5}, {"batch": 0}, {"batch": "many"}])
def test_bad_numbers(llama, tokenizer, tasks, bad):
    with pytest.raises(pk.PrunekitError, match=f"{next(iter(bad))} is .*: expected a whole number"):
        pk.run_tasks(llama, tokenizer, [tasks["choices"]], **bad)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dataset_kwargs": {"data_files": {"test": "/no/such.jsonl"}}}, "cannot open the task"),
        ({"dataset_path": "no/such_data", "dataset_kwargs": {}}, "cannot open the task"),
        ({"output_type": "nonsense"}, "cannot open the task"),
        ({"doc_to_text": "{{q | nonsense}}"}, "cannot open the task"),
    ],
)
def test_a_bad_task_file_is_a_sentence(llama, tokenizer, tmp_path, config, message):
    path = write(tmp_path, "bad", [{"q": "a", "a": ["b", "c"], "label": 0}], **config)
    with pytest.raises(pk.PrunekitError, match=message) as error:
        pk.run_tasks(llama, tokenizer, [path])
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_task(llama, tokenizer, tmp_path):
    for content in ("", "just words", "[1, 2]", "a: [", "a: 1"):
        (tmp_path / "bad.yaml").write_text(content)
        with pytest.raises(pk.PrunekitError, match="cannot open the task"):
            find_tasks([str(tmp_path / "bad.yaml")])
    with pytest.raises(pk.PrunekitError, match="there is no task file"):
        find_tasks([str(tmp_path / "none.yaml")])
