"""README and the pages beside it: their code runs, their commands parse, the numbers that they state are the code's."""

import json
import re
import shlex
from importlib import import_module
from inspect import signature
from itertools import product

import pytest
from tiny import ROOT, SENTENCES

import prunekit as pk
from prunekit.bench import neurons as neurons_bench
from prunekit.bench import quality
from prunekit.bench.measured import measured
from prunekit.calibration import windows
from prunekit.cli.compress.forecast import more_memory
from prunekit.cli.parser import COMMANDS, make_parser
from prunekit.compression import neurons
from prunekit.compression.recipe import Recipe
from prunekit.method import admm, compensation, ewma, fp8
from prunekit.recovery.budget import recovery_minutes
from prunekit.storage.load import load

PAGES = [ROOT / "README.md", ROOT / "notebooks" / "RESULTS.md", ROOT / "notebooks" / "CHOICES.md"]
TEXTS = {page.name: page.read_text("utf-8") for page in PAGES}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
FENCES = [fence for text in TEXTS.values() for fence in FENCE.findall(text)]
BLOCKS = [body for language, body in FENCES if language == "python"]
LINES = [line for language, body in FENCES if not language for line in body.splitlines()]
INLINE = [" ".join(span.split()) for text in TEXTS.values() for span in re.findall(r"`([^`]+)`", FENCE.sub("", text))]


# Python


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1])
def test_the_code_runs_as_it_stands(folders, ids, monkeypatch, tmp_path, capsys, block):
    """On another model and text, which are named in its place, and nothing else."""
    module = import_module("prunekit.calibration.corpus")
    monkeypatch.setattr(module, "documents", lambda text, split: [" ".join(SENTENCES)] * 200)
    monkeypatch.chdir(tmp_path)
    assert 'load("embedded")' in block
    names = {}
    exec(block.replace('load("embedded")', f"load({str(folders.llama)!r})"), names)
    printed = capsys.readouterr().out
    assert "perplexity" in printed and "retention" in printed
    (folder,) = (tmp_path / "out").iterdir()
    again = load(str(folder), device="cpu")[0]
    assert (again(ids).logits == names["result"].model(ids).logits).all()


def test_there_is_code_and_what_it_names_exists():
    assert BLOCKS
    named = {name for text in TEXTS.values() for name in re.findall(r"\bpk\.(\w+)", text)}
    assert len(named) > 10 and named <= {*pk.__all__}


def test_the_text_of_the_code_is_what_the_command_takes():
    tokens, context = map(int, re.search(r"tokens=(\d+), context=(\d+)", BLOCKS[0]).groups())
    assert (tokens, context) == windows.DEFAULTS["ewma"]


# Commands


def spelled_out(line):
    """Every command that a line stands for: ``[optional]``, ``(one | other)``, ``one|other`` in a word."""
    group = re.search(r"\[([^][()]*)\]|\(([^][()]*)\)", line)
    if group:
        ways = [*(group[1] or group[2]).split(" | "), *([""] if group[1] else [])]
        return [words for way in ways for words in spelled_out(line[: group.start()] + way + line[group.end() :])]
    words = [word for word in shlex.split(line, comments=True) if word != "..."]
    return [list(choice) for choice in product(*(word.split("|") for word in words))]


SHOWN = sorted({line for line in (*LINES, *INLINE) if re.match(r"prunekit [a-z]", line)})


def test_a_line_is_spelled_out():
    assert spelled_out('a [B] (--c X | --d Y:Z) "e f" ... # g')[:2] == [
        ["a", "B", "--c", "X", "e f"],
        ["a", "B", "--d", "Y:Z", "e f"],
    ]
    assert len(spelled_out("a [B] (--c | --d) [--e f|g]")) == 2 * 2 * 3


def parsed(words):
    return make_parser().parse_args(["1" if word == "N" else word for word in words])


@pytest.mark.parametrize("line", SHOWN)
def test_every_command_that_is_shown_parses(line):
    for _, *words in spelled_out(line):
        if "--help" not in words:
            assert parsed(words).command == words[0]


def test_every_command_is_shown():
    shown = {words[1] for line in LINES if line.startswith("prunekit ") for words in spelled_out(line)}
    assert shown == {*COMMANDS}


def test_every_option_that_is_named_exists():
    (parts,) = (action.choices for action in make_parser()._actions if action.dest == "command")
    known = {option for part in parts.values() for a in part._actions for option in a.option_strings}
    named = {option for text in TEXTS.values() for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)}
    assert len(named) > 10 and named <= known | {"--nproc-per-node"}, "and that one of torchrun"


@pytest.mark.parametrize("span", sorted({span for span in INLINE if span.startswith("--") and " " in span}))
def test_options_that_are_shown_with_a_value_parse(span):
    command = "evaluate" if span.startswith("--tokens") else "compress"
    assert parsed([command, "MODEL", *shlex.split(span)])


# Numbers

WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}


def default(function, name):
    return signature(function).parameters[name].default


def bytes_in_all(dtype_bytes, fp8, recovers=True, copied=False):
    """Bytes for each weight, those of the dense model included, of a model without anything else."""
    recipe = Recipe(sparsity=0.5, fp8="e4m3" if fp8 else None)
    return dtype_bytes + more_memory([(10**9, 1)], dtype_bytes, recipe, recovers, copied) / 10**9


def admm_bytes(rows, columns, fp8="e4m3"):
    taken = [
        more_memory([(rows, columns)], 2, Recipe(sparsity=0.5, fp8=fp8, method=method), recovers=False)
        for method in ("admm", "magnitude")
    ]
    return taken[0] - taken[1]


# (float32, whether recovery copies the dense model into bfloat16), and bfloat16, which is what it copies into
RECOVERY = [bytes_in_all(b, fp8, True, copied) for b, copied in ((4, False), (4, True), (2, False)) for fp8 in (0, 1)]
SEVEN = [(4096, 11008), (4096, 14336), (3584, 18944)]  # down_proj of Llama 2 7B, Mistral 7B, Qwen2.5 7B
ADMM_GB = [admm_bytes(rows, columns) / 1e9 for rows, columns in SEVEN]
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
LOWEST, BELOW = map(int, re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', PROJECT).groups())
NUMBERS = {
    r"Python 3\.(\d+) to 3\.(\d+)": [LOWEST, BELOW - 1],
    r"for transformers from 4\.(\d+) on": [int(re.search(r'"transformers>=4\.(\d+)"', PROJECT)[1])],
    r"(\w+) scans to settle, one to decide": [ewma.WARMUP_SWEEPS],
    r"row's first (\d+) scores \(if all are zero, the next (\d+)\)": [default(ewma.start_threshold, "block")] * 2,
    r"\| step \| (\S+) at sparsity 0.5, longer at outer quantiles": [ewma.step_size(0.5)],
    r"`q` moves once per (\d+) weights": [default(ewma.quantile_mask, "block")],
    r"fewer than (\d+) % of sampled decisions": [100 * default(pk.calibrate, "tolerance")],
    r"(\d+) imagined tokens of median energy": [default(pk.calibrate, "prior")],
    r"largest survivor of each row over (\d+)": [fp8.E4M3.max],
    r"mask anew in each of (\d+) steps, the penalty rising in (\w+) stages": [
        default(admm.admm, "steps"),
        len(admm.PENALTIES),
    ],
    r"inputs of (\d+) tokens and the energies stand for the Hessian": [compensation.SAMPLES],
    r"next words weigh (\S+) \(`text_share`\)": [default(pk.recover, "text_share")],
    r"as the dense model does; (\d+) minutes, or `--minutes N`": [int(recovery_minutes(0.5, 0))],
    r"recovery takes (\d+) to (\d+) bytes for each weight\. More": [min(RECOVERY), max(RECOVERY)],
    r"recovery takes (\d+) to (\d+) bytes for each weight, and": [min(RECOVERY), max(RECOVERY)],
    r"ADMM adds, in float32, (\w+) times the widest layer's inputs squared and (\w+) times its weights": [
        admm_bytes(0, 1) / 4,
        (admm_bytes(1, 1) - admm_bytes(0, 1)) / 4,
    ],
    r"not run\*: (\d+) GB with FP8 in bfloat16, (\d+) GB in float32": [
        7 * bytes_in_all(b, True, recovers=False) for b in (2, 4)
    ],
    r"for ADMM (\d) to (\d) GB more": [round(min(ADMM_GB)), round(max(ADMM_GB))],
    r"for recovery some (\d+) GB": [round(7 * bytes_in_all(2, True), -1)],
    r"Removing (\d+) % of the MLP neurons \((\d+) %, as what stays is a multiple of (\d+)\)": [
        100 * default(neurons_bench.neurons, "share"),
        round(100 * (1 - neurons.kept_neurons(1536, 0.3) / 1536)),  # the embedded model has 1,536
        default(pk.remove_neurons, "multiple"),
    ],
    r"reading a prompt of (\d+) tokens": [neurons_bench.CONTEXT],
    r"perplexity on (\S+) tokens of Wikipedia articles that calibration never saw, windows of (\d+) \(dense": [
        default(pk.corpus, "tokens"),
        windows.CONTEXT,
    ],
    r"exact selection by sort \([^)]*\) \| (\S+) \|": [windows.DEFAULTS["wanda"][0]],
    r"Wanda, block by block \| (\S+) \|": [windows.DEFAULTS["wanda"][0]],
    r"SparseGPT, block by block \| (\S+) \|": [windows.DEFAULTS["sparsegpt"][0]],
    r"on the same (\d+) windows of (\d+) tokens": [
        windows.DEFAULTS["wanda"][0] / windows.CONTEXT,
        windows.DEFAULTS["wanda"][1],
    ],
    r"retention on (\S+) tokens of Wikipedia articles that no method has seen": [quality.TEXTS["wikipedia"][1]],
    r"then retention on (\S+) tokens of news, another kind of text; windows of (\d+)": [
        quality.TEXTS["news"][1],
        quality.CONTEXT,
    ],
    r"--text news --split train --tokens (\d+)` judges": [quality.TEXTS["news"][1]],
    r"for the Wikipedia column `--tokens (\d+)` alone": [quality.TEXTS["wikipedia"][1]],
    r"`make lab` opens (\w+) notebooks": [len([*(ROOT / "notebooks").glob("0*.ipynb")])],
}


@pytest.mark.parametrize("sentence", NUMBERS)
def test_the_number_is_the_code_s(sentence):
    text = " ".join(" ".join(TEXTS.values()).split())
    found = re.findall(sentence, text)
    assert len(found) == 1, f"found {len(found)} times: a sentence that went or changed takes its line here with it"
    said = found[0] if isinstance(found[0], tuple) else found
    assert [float(WORDS.get(number, number.replace(",", ""))) for number in said] == pytest.approx(NUMBERS[sentence])


DENSE = re.findall(r"^\| (0\d) \| (\w+).*\| ([\d,]+) \| ([\d.]+) \|$", TEXTS["RESULTS.md"], re.M)


@pytest.mark.parametrize("notebook, kind, tokens, perplexity", DENSE)
def test_the_dense_perplexity_is_the_notebook_s(notebook, kind, tokens, perplexity):
    cells = json.loads(next((ROOT / "notebooks").glob(f"{notebook}_*.ipynb")).read_text("utf-8"))["cells"]
    outputs = [o for cell in cells for o in cell.get("outputs", [])]
    texts = ["".join(o.get("text", o.get("data", {}).get("text/plain", []))) for o in outputs]
    lines = [line for text in texts for line in text.splitlines() if re.search(r"\bdense\b", line)]
    numbers = {float(n) for line in lines for n in re.findall(r"(?<![\d.])\d+\.?\d*", line.replace("%", " "))}
    digits = len(perplexity.partition(".")[2])
    assert float(perplexity) in {round(n, digits) for n in numbers}
    code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert re.search(rf"\btokens={tokens.replace(',', '')}\b", code)


def test_the_dense_perplexity_is_the_stored_one():
    said = re.findall(r"what is kept \| (\w+).*\| ([\d.]+) \|$", TEXTS["RESULTS.md"], re.M)
    stored = {text: row["perplexity"] for text, row in measured()["dense"].items()}
    assert {text.lower(): float(p) for text, p in said} == {t: round(p, 2) for t, p in stored.items()}
