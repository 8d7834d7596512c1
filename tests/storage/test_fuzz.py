"""Saved folders, damaged at random: each opens with the tensors that its files hold, or is refused in one sentence.

A case is known by its number, which is the seed of all that is random in it; `-k '[123]'` repeats one.
"""

import json
import random
import re
import shutil
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from damage import OUTSIDE, damage
from safetensors.torch import load_file, save_file
from tiny import ROOT, tiny_gpt2, tiny_llama

from prunekit.cli.main import main
from prunekit.compression.compress import compress
from prunekit.compression.neurons import remove_neurons
from prunekit.errors import PrunekitError
from prunekit.evaluation.generate import generate
from prunekit.model.fp8_linear import Fp8Linear
from prunekit.model.linear import weight_of
from prunekit.storage.load import load
from prunekit.storage.save import save

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and limits memory as Linux does")
CASES, QUICK = 500, 25
TIED = ("lm_head.weight", "model.embed_tokens.weight", "transformer.wte.weight")
MEMORY = 3 * 2**30  # a case may take so much more, and no more


def shards(folder):
    """The same folder, its weights in three files with an index."""
    tensors = load_file(folder / "model.safetensors")
    names, index = sorted(tensors), {}
    for number in range(3):
        file = f"model-0000{number + 1}-of-00003.safetensors"
        save_file({name: tensors[name] for name in names[number::3]}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(names[number::3], file)
    (folder / "model.safetensors").unlink()
    about = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(about, indent=2))


def older(folder):
    """As a prunekit wrote it that said less."""
    about = json.loads((folder / "prunekit.json").read_text())
    del about["provenance"], about["activations"]
    (folder / "prunekit.json").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tokenizer):
    """Folders of all kinds, none of them damaged."""
    base = tmp_path_factory.mktemp("whole")
    llama, gpt2 = tiny_llama(dtype=torch.bfloat16), tiny_gpt2()
    half = {"sparsity": 0.5, "method": "magnitude"}
    made = {
        "sixteen": compress(llama, **half),
        "row": compress(llama, **half, fp8="e4m3"),
        "block": compress(llama, **half, fp8="e4m3", granularity="block"),
        "pattern": compress(llama, pattern="2:4", method="magnitude", fp8="e4m3", granularity="tensor"),
        "sharded": compress(llama, **half, fp8="e4m3", exclude=["v_proj"]),
        "older": compress(llama, **half, fp8="e4m3"),
        "widened": compress(gpt2, **half, fp8="e5m2"),
    }
    for name, result in made.items():
        save(result, tokenizer, base / name)
    shards(base / "sharded")
    older(base / "older")
    energy = {f"model.layers.{i}.mlp.down_proj": torch.arange(160.0) for i in range(2)}
    plain = {"dense": llama, "split": gpt2, "neurons": remove_neurons(llama, 0.3, energy)}
    for name, model in plain.items():
        model.save_pretrained(base / name)
        tokenizer.save_pretrained(base / name)
    shards(base / "split")
    decoy = {name: torch.full_like(p, 7) for name, p in llama.named_parameters()}
    save_file(decoy, base / OUTSIDE, {"format": "pt"})
    return base


def stored(folder):
    """The tensors of a folder, read by safetensors alone from the files that the folder names."""
    single = folder / "model.safetensors"
    names = {single.name}
    if not single.is_file():
        names = set(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].values())
    tensors = {}
    for name in sorted(names):
        tensors |= load_file(folder / name)
    return tensors


def assert_as_stored(model, folder):
    """All that the model holds is what the files say: codes and scales bit by bit, the rest widened to float32."""
    tensors = stored(folder)
    for name, value in model.state_dict().items():
        if name not in tensors:
            assert name in TIED and model.config.tie_word_embeddings, f"{name} is in no file"
            name = next(other for other in TIED if other in tensors)
        module = model.get_submodule(name.rpartition(".")[0])
        if isinstance(module, Fp8Linear) and name.endswith(".weight") and tensors[name].element_size() > 1:
            value = weight_of(module).T if module.transposed else weight_of(module)
        if value.element_size() == 1:
            assert value.dtype == tensors[name].dtype
            assert torch.equal(value.view(torch.uint8), tensors[name].view(torch.uint8)), f"{name}: other codes"
        else:
            same = torch.allclose(value, tensors[name].to(value.dtype).reshape(value.shape), 0, 0, equal_nan=True)
            assert value.dtype == torch.float32 and same, f"{name} is not what the file says"


def state(base):
    """What lies in a folder, and below it: kinds, sizes, times."""
    found = {path: path.lstat() for path in [base, *base.rglob("*")]}
    return {path: (s.st_mode, s.st_ino, s.st_size, s.st_mtime_ns) for path, s in found.items()} | {
        "decoy": found[base / OUTSIDE].st_atime_ns  # when it was read last
    }


opened = None  # files that are opened, while somebody wants to know
HOME = (sys.prefix, sys.base_prefix, str(ROOT), "/proc", "/sys")  # of Python's own files, and the machine's


def _note(event, arguments):
    if event == "open" and opened is not None and isinstance(arguments[0], (str, bytes, Path)):
        opened.append(str(arguments[0]))


sys.addaudithook(_note)


@contextmanager
def watched(base):
    """No file of others is opened, nothing in the folder changes, and memory has a limit."""
    global opened
    before, limits = state(base), resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    opened = []
    try:
        yield
    finally:
        files, opened = opened, None
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert [name for name in files if not name.startswith((str(base), *HOME))] == []
    assert state(base) == before


def seeds(cases, quick):
    return [pytest.param(n, marks=() if n < quick else pytest.mark.slow) for n in range(cases)]


def damaged(whole, base, seed):
    """A damaged folder, and the whole one that it was; says what was done to it."""
    rng = random.Random(seed)
    source = whole / rng.choice(sorted(path.name for path in whole.iterdir() if path.is_dir()))
    folder = shutil.copytree(source, base / "model")
    shutil.copy(whole / OUTSIDE, base)
    return folder, source, f"case {seed}: {source.name}; {damage(folder, rng)}"


def unchanged(folder, source, kind):
    """Whether all files of a kind are the same as before."""
    names = {path.name for path in (*source.glob(kind), *folder.glob(kind))}
    read = lambda path: path.read_bytes() if path.is_file() else None  # noqa: E731
    return all(read(folder / name) == read(source / name) for name in names)


@pytest.mark.parametrize("seed", seeds(CASES, QUICK))
def test_a_damaged_folder_opens_as_it_is_or_is_refused_in_a_sentence(whole, tmp_path, ids, seed):
    folder, source, told = damaged(whole, tmp_path, seed)
    print(told, flush=True)
    model = said = None
    with watched(tmp_path):
        try:
            model, tokenizer = load(str(folder), device="cpu")
        except PrunekitError as error:
            said = str(error)
    print(said or "opened")
    if model is None:
        assert "\n" not in said and len(said) < 400 + len(str(folder)) and str(folder) in said
    else:
        assert_as_stored(model, folder)
        if unchanged(folder, source, "config.json"):  # which is believed, and may say what no model can do
            with suppress(PrunekitError):  # NaN
                generate(model, tokenizer, "The weights", 2)
            if unchanged(folder, source, "model*"):
                assert torch.equal(model(ids).logits, load(str(source), device="cpu")[0](ids).logits)
    shutil.rmtree(folder)


@pytest.mark.parametrize("seed", seeds(60, 3))
def test_the_command_line_says_the_same(whole, tmp_path, capsys, seed):
    folder, _, told = damaged(whole, tmp_path, CASES + seed)
    capsys.readouterr()
    code = main(["generate", str(folder), "The weights", "--tokens", "2"])
    out, error = capsys.readouterr()
    refused = code == 2 and out == "" and re.fullmatch(r"prunekit: [^\n]+\n", error)
    assert refused or (code, error) == (0, ""), f"{told}: {code} {error}"
    shutil.rmtree(folder)
