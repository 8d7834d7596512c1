"""SIGKILL at random moments of a save, of filling the cache and of a recovery: nothing half-written bears its final
name, and the same once more ends as if nothing had happened."""

import json
import os
import subprocess
import sys

import pytest
from tiny import ROOT

from prunekit.system import locks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# A process that has imported everything forks one that works, kills it, and forks another that works undisturbed, many
# times for each of its jobs. What lies there after each is printed, as digests by name.
KILLS = """
import hashlib, json, os, random, shutil, signal, sys, time
from pathlib import Path

import torch
from transformers import AutoTokenizer, modeling_gguf_pytorch_utils as gguf

from prunekit.cli.main import main
from prunekit.compression.compress import compress
from prunekit.recovery import run
from prunekit.storage import embedded
from prunekit.storage.load import load
from prunekit.storage.pretrained import open_model
from prunekit.storage.save import save

count, source, text, base = int(sys.argv[1]), *sys.argv[2:4], Path(sys.argv[4])
run.SAVE_EVERY = run.SAVE_REST = 0.0  # after each step
model, tokenizer = load(source, device="cpu")
result = compress(model, sparsity=0.5, method="magnitude", fp8="e4m3")
first_tokenizer, first_gguf, known = AutoTokenizer.from_pretrained, gguf.load_gguf_checkpoint, {}


def read_once(path, return_tensors=False, **options):
    key = str(path), return_tensors
    if key not in known:
        known[key] = first_gguf(path, return_tensors=return_tensors, **options)
    return known[key]


def saving(place):
    save(result, tokenizer, place / "out")


def caching(place):
    os.environ["PRUNEKIT_CACHE"] = str(place)
    embedded.embedded_folder()


def caching_tiny(place):
    embedded._PACKAGE, embedded._GGUF = "prunekit", "__init__.py"
    embedded.open_model = lambda *_, **__: open_model(source)
    AutoTokenizer.from_pretrained = lambda *_, **__: first_tokenizer(source)
    caching(place)


def recovering(place):
    os.chdir(place)
    command = ["--sparsity", "0.5", "--fp8", "e4m3", "--calibration-text", text, "--steps", "8", "--out", "out"]
    assert main(["compress", source, *command]) == 0


def fork(job, place):
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        job(place)
        code = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        os._exit(code)


def found(place):
    paths = sorted(path for path in place.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def finish(job, place):
    return os.waitpid(fork(job, place), 0)[1]


def new(name):
    (base / name).mkdir()
    return base / name


def kill(job):
    assert finish(job, new(f"{job.__name__} reference")) == 0
    begin = time.monotonic()
    assert finish(job, new(f"{job.__name__} measured")) == 0
    duration = time.monotonic() - begin
    cases, g = [], random.Random(count)
    for number in range(count):
        place = new(f"{job.__name__} {number}")
        child = fork(job, place)
        time.sleep((number + g.random()) / count * duration)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed = found(place)
        code = finish(job, place) if "caching" in job.__name__ or not (place / "out").exists() else 0
        cases.append((killed, code, found(place)))
        shutil.rmtree(place)
    print(json.dumps([job.__name__, found(base / f"{job.__name__} reference"), cases]))


gguf.load_gguf_checkpoint = read_once
jobs = [globals()[name] for name in sys.argv[5:]]
if caching in jobs:
    caching(new("first"))  # what has been read is known to all forks
for job in jobs:
    kill(job)
"""


def killed(jobs, count, folders, text_file, base):
    """Of each job: what lay there without a kill; and for each kill what it left, how the next run ended, and what lay
    there then."""
    options = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-c", KILLS, str(count), str(folders.llama), str(text_file), str(base), *jobs]
    done = subprocess.run(command, env=os.environ | options, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = {job: (reference, cases) for job, reference, cases in map(json.loads, done.stdout.splitlines())}
    for job, (reference, cases) in results.items():
        assert len(cases) == count and reference
        states = [sorted({name.partition("/")[0].partition("~")[0] for name in left}) for left, _, _ in cases]
        print(job, {str(each): states.count(each) for each in states})
        assert [code for _, code, _ in cases] == [0] * count, done.stderr
    return results


def whole_or_nothing(found, reference):
    """Whether all that lies there under a final name is whole; what has a temporary name does not count."""
    final = {name: digest for name, digest in found.items() if not name.startswith(locks.MARK)}
    return final in ({}, reference)


def assert_saved(reference, cases):
    for left, _, then in cases:
        assert whole_or_nothing(left, reference), sorted(left)
        assert then == reference or (then == left and reference.items() <= then.items())  # what was whole is left alone


def assert_recovered(reference, cases):
    for left, _, then in cases:
        left.pop("out.recovery", None)  # whole, or the next run would not go on from it
        assert whole_or_nothing(left, reference), sorted(left)
        if "out/prunekit.json" in left:  # killed after the model was saved
            then.pop("out.recovery", None)
        assert then == reference


@pytest.mark.parametrize("count", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_what_is_killed_leaves_nothing_or_all_and_can_be_done_again(folders, text_file, tmp_path, count):
    results = killed(["saving", "caching_tiny", "recovering"], count, folders, text_file, tmp_path)
    assert_saved(*results["saving"])
    assert_saved(*results["caching_tiny"])
    assert_recovered(*results["recovering"])


@pytest.mark.slow
@pytest.mark.embedded
def test_the_conversion_of_the_embedded_model_is_killed(folders, text_file, tmp_path):
    assert_saved(*killed(["caching"], 100, folders, text_file, tmp_path)["caching"])
