"""Bad input of all kinds: exit code 2, one sentence that says what is wrong, nothing printed before, nothing left."""

import json
import shlex
import shutil

import pytest

RECIPE = {"sparsity": 0.5, "compensate": False, "permute": False}
ROW = ("method", "pattern", "seed", "bfloat16", "seconds", "steps", "texts")
LLAMA = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}


def recipe(**changes):
    return {"version": 1, "recipe": RECIPE | changes}


def provenance(**values):
    return recipe() | {"provenance": values}


FILES = {  # text, bytes, or what is written as JSON
    "file": "text",
    "empty.txt": "",
    "zeros.bin": bytes(3000) + b"\xff",
    "half.zip": b"PK\x03\x04\xff\xfe",
    "deep.json": '{"a":' * 100_000,
    "digits.json": "9" * 5000,
    "number.json": 5,
    "big.json": recipe(sparsity=10**400),
    "share.json": recipe(sparsity=[0.5]),
    "digits-pattern.json": recipe(sparsity=None, pattern=f"{'9' * 5000}:4"),
    "format.json": recipe(fp8=["e4m3"]),
    "method.json": recipe(method={}),
    "activations.json": recipe() | {"activations": ["none"]},
    "rest.json": recipe() | {"provenance": None},
    "steps.json": provenance(recovery={"steps": -1}),
    "both.json": provenance(recovery={"steps": 1, "minutes": 1}),
    "for-ever.json": provenance(recovery={"minutes": float("inf")}),
    "rate.json": provenance(recovery={"steps": 1, "rate": None}),
    "batch.json": provenance(recovery={"steps": 1, "batch": 0}),
    "blend.json": provenance(recovery={"steps": 1, "text_share": 5}),
    "lost-text.json": provenance(text=["none.txt"]),
    "table.json": {"protocol": 1, "dense": 1, "rows": [{name: [] for name in ROW}]},
    "deep/config.json": '{"a":' * 100_000,
    "list/config.json": [],
    "heads/config.json": LLAMA | {"num_attention_heads": 128},
    "huge/config.json": LLAMA | {"num_attention_heads": 2, "num_hidden_layers": 10**30},
    "quoted.csv": 'M,N,K\n"1,64,64\n',
    "digits.csv": f"M,N,K\n{'9' * 400},64,64\n",
    "nan.csv": "M,N,K\nnan,64,64\n",
    "field.csv": f"M,N,K,x\n1,64,64,{'y' * 200_000}\n",
    "five.csv": "M,N,K\n64,64,6\n",
    "chat.jsonl": {"messages": [{"role": "user", "content": "Hello."}]},
    "half.jsonl": '{"text": "One."}\n{"text": "Tw',
    "out.recovery": "",
    "cut.recovery": b"\x10\0\0\0\0\0\0\0{}",
    "mine/smollm2-half": "no model",
    "report/report.json/file": "in the way",
}
NO_RECIPES = [
    *("file", "half.zip", "deep.json", "digits.json", "number.json", "big.json", "share.json", "digits-pattern.json"),
    *("format.json", "method.json", "rest.json", "rate.json"),
]
COMPRESS, GPU = "compress M --sparsity 0.5 --calibration-text T", "predict --gpu 4090"
BAD = [
    ("info --json report.json", "unrecognized arguments: --json report.json"),
    ("doctor --json .", ". is a folder"),
    ("doctor --json file/report.json", "cannot create file/report.json"),
    ("demo --out file", "cannot create file/report.json"),
    ("demo --out mine", "mine/smollm2-half is in the way"),
    ("demo --out report", "report/report.json is a folder"),
    ("demo --out ''", "--out is empty"),
    ("bench neurons --share nan --model M", "--share is 'nan'"),
    ("bench neurons --share=-1 --model M", "--share is '-1'"),
    ("bench neurons --share 1e400 --model M", "--share is '1e400'"),
    ("bench neurons --share '' --model M", "--share is empty"),
    ("bench quality --json deep.json", "deep.json is no table of quality"),
    ("bench quality --json table.json", "table.json is no table of quality"),
    ("bench quality --json digits.json", "digits.json is no table of quality"),
    ("bench quality --json new.json --only nosuch", "unknown method or pattern 'nosuch'"),
    ("bench quality --json new.json --seed 1.5", "invalid int value: '1.5'"),
    ("bench pipeline --model ./none", "unknown model './none'"),
    ("bench gpu --share 0.3", "bench gpu has no use for --share"),
    ("predict --gpu ''", "--gpu is empty"),
    ("predict --gpu ' '", "no card ' '"),
    (f"{GPU} --batch 1e400", "not '1e400'"),
    (f"{GPU} --batch=-1", "not '-1'"),
    (f"{GPU} --batch 1,,2", "not ''"),
    (f"{GPU} --model deep", "cannot read the model's configuration 'deep/config.json'"),
    (f"{GPU} --model list", "'list/config.json' is no model configuration"),
    (f"{GPU} --model digits.json", "cannot read the model's configuration 'digits.json'"),
    (f"{GPU} --model heads", "says 0 for head_dim"),
    (f"{GPU} --shapes .", "cannot read the shapes file '.'"),
    (f"{GPU} --shapes zeros.bin", "it is no UTF-8 text"),
    (f"{GPU} --shapes quoted.csv", "cannot read the shapes file 'quoted.csv'"),
    (f"{GPU} --shapes digits.csv", "line 2 of the shapes file 'digits.csv'"),
    (f"{GPU} --shapes nan.csv", "M is 'nan'"),
    (f"{GPU} --shapes field.csv", "cannot read the shapes file 'field.csv'"),
    (f"{GPU} --shapes five.csv", "line 2 of the shapes file 'five.csv'"),
    (f"{GPU} --csv file/x", "cannot create file/x"),
    ("generate M The --tokens 1e3", "invalid int value: '1e3'"),
    (f"generate M The --tokens {'9' * 30}", "but the model takes at most 1024"),
    (f"generate M '{'word ' * 3000}'", "but the model takes at most 1024"),
    ("generate M The --device tpu", "the device 'tpu' cannot be used"),
    ("generate M The --device ''", "--device is empty"),
    ("generate M The --dtype ''", "--dtype is empty"),
    ("generate list The", "list"),
    ("generate huge The", "huge/config.json asks for fewer than 0 or more than 1000 layers"),
    (f"evaluate M --text T --tokens {'9' * 30} --context {'9' * 29}", "fewer than the"),
    ("evaluate M --text zeros.bin", "zeros.bin is not UTF-8 text"),
    ("evaluate M --text /dev/zero", "/dev/zero is no ordinary file"),
    ("evaluate M --text ''", "--text is empty"),
    ("evaluate M --text .", "cannot read the text ."),
    ("evaluate M --text T --split ''", "--split is empty"),
    ("evaluate M --text T --json M/config.json", "would take the place of what is read"),
    ("evaluate M --text T --json T", "would take the place of what is read"),
    ("evaluate M --text T --dense list", "list"),
    (f"{COMPRESS} --minutes nan", "--minutes is nan"),
    (f"{COMPRESS} --minutes 1e400", "--minutes is inf"),
    (f"{COMPRESS} --minutes=-1", "--minutes is -1"),
    (f"{COMPRESS} --steps 1e3", "invalid int value: '1e3'"),
    (f"{COMPRESS} --calibration-tokens nan", "--calibration-tokens is 'nan'"),
    (f"{COMPRESS} --calibration-tokens 2.5", "--calibration-tokens is '2.5'"),
    (f"{COMPRESS} --seed ''", "invalid int value: ''"),
    (f"{COMPRESS} --include ''", "--include is empty"),
    *((f"{COMPRESS} --{name} ''", f"--{name} is empty") for name in ("preset", "method", "metric", "select", "fp8")),
    *((f"{COMPRESS} --{name} ''", f"--{name} is empty") for name in ("granularity", "activations", "calibration-text")),
    (f"{COMPRESS} --calibration-text half.zip", "half.zip is not UTF-8 text"),
    (f"{COMPRESS} --calibration-text half.jsonl --recover", "line 2 of half.jsonl is not valid JSON (Unterminated"),
    ("evaluate M --text half.jsonl", "line 2 of half.jsonl is not valid JSON (Unterminated"),
    ("evaluate M --text chat.jsonl", "line 1 of chat.jsonl holds messages, and the tokenizer of this model has no"),
    (f"{COMPRESS} --out M", "M exists and is not empty"),
    (f"{COMPRESS} --out . ", "exists and is not empty"),
    (f"{COMPRESS} --json M/config.json", "would take the place of what is read"),
    (f"{COMPRESS} --json T", "would take the place of what is read"),
    (f"{COMPRESS} --steps 1 --out out", "cannot go on from out.recovery"),
    (f"{COMPRESS} --steps 1 --out cut", "cannot go on from cut.recovery"),
    ("compress M --sparsity=-inf", "sparsity is '-inf'"),
    ("compress M --sparsity=2:4", "sparsity is '2:4'"),
    (f"compress M --pattern {'9' * 5000}:4", "is not N:M"),
    ("compress M --pattern=2:-4", "pattern '2:-4' is not N:M"),
    *((f"compress M --recipe {name}", f"{name} holds no recipe") for name in NO_RECIPES),
    ("compress M --recipe activations.json", "unknown --activations"),
    ("compress M --recipe steps.json", "steps is -1"),
    ("compress M --recipe both.json", "give either steps or minutes"),
    ("compress M --recipe for-ever.json", "minutes is inf"),
    ("compress M --recipe batch.json", "batch is 0"),
    ("compress M --recipe blend.json", "text_share is 5"),
    ("compress M --recipe lost-text.json", "cannot read the text none.txt"),
    ("compress M --recipe /dev/null", "/dev/null holds no recipe"),
    ("compress M M --sparsity 0.5", "unrecognized arguments: M"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory, folders, text_file):
    """A folder with a model, a text, and all files that are bad."""
    base = tmp_path_factory.mktemp("place")
    shutil.copytree(folders.llama, base / "M")
    shutil.copy(text_file, base / "T")
    for name, content in FILES.items():
        content = content if isinstance(content, (str, bytes)) else json.dumps(content)
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return base


def state(folder):
    """What lies in it, and since when."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.mark.parametrize(("command", "says"), BAD, ids=[command[:60] for command, _ in BAD])
def test_bad_input_is_refused_in_a_sentence_and_leaves_nothing(run, place, monkeypatch, command, says):
    monkeypatch.chdir(place)
    before = state(place)
    code, out, error = run(*shlex.split(command))
    assert code == 2 and out == "", error
    assert error.startswith("prunekit: ") and error.endswith("\n") and error.count("\n") == 1, error
    assert says in error
    assert state(place) == before
