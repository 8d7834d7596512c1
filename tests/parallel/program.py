"""What two processes find together, and one by itself: run as a program by each of two, and imported by the test."""

import json
import os
import signal
import sys
import traceback
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import torch
from torch.distributed import TCPStore

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import VOCABULARY, tiny_gpt2, tiny_llama

from prunekit.calibration.calibrate import calibrate
from prunekit.calibration.observe import gram
from prunekit.cli.main import main as command_line
from prunekit.compression import blockwise
from prunekit.compression.allocate import sensitivities
from prunekit.compression.blockwise import Step, prune_blocks
from prunekit.compression.compress import compress
from prunekit.errors import PrunekitError
from prunekit.model.linear import linear_layers
from prunekit.recovery.distillation import loss
from prunekit.storage.load import load
from prunekit.system import parallel

compress_module = import_module("prunekit.compression.compress")
recover_module = import_module("prunekit.recovery.recover")
IDS = torch.randint(1, VOCABULARY, (9, 32), generator=torch.Generator().manual_seed(1))  # no multiple of two


def sums(model):
    """Gram matrices, sums of squares, and energies of inputs and gradients, by name."""
    found, layers = {}, linear_layers(model)

    def noting(kind):
        def prune(name, module, statistic):
            found[f"{kind} {name}"] = statistic
            return module

        return prune

    for kind, observe in (("gram", gram), ("square", lambda x: x.square().sum(0))):
        prune_blocks(model, IDS, layers, Step(observe, noting(kind)))
    E, G = sensitivities(model, IDS, layers)
    return found | {f"E {name}": x for name, x in E.items()} | {f"G {name}": x for name, x in G.items()}


def energies(model):
    """What calibration finds: energies, samples, and where it stops."""
    found = calibrate(model, IDS.repeat(4, 1), batch_tokens=64, samples=16, tolerance=0.025)  # at an odd batch
    told = torch.tensor([found.tokens, *found.changes])
    return {"told": told, **found.energy, **{f"rows {name}": x for name, x in found.samples.items()}}


def compressed(model):
    """The tensors of a model that was compressed in several ways."""
    ways = {
        "fast": {"sparsity": 0.5, "compensate": True},
        "cast": {"pattern": "2:4", "fp8": "e4m3"},
        "wanda": {"sparsity": 0.5, "method": "wanda"},
        "admm": {"pattern": "2:4", "method": "admm"},
    }
    results = {way: compress(model, IDS, **options).model.state_dict() for way, options in ways.items()}
    return {f"{way} {name}": tensor for way, state in results.items() for name, tensor in state.items()}


def recovered(folder=None):
    """Recoveries of 20 steps: the weights, and the loss afterwards. With a folder for states some were interrupted."""
    found = {}
    for way, recover in (("parallel", recover_module.recover), ("sharded", recover_module.recover_sharded)):
        for fp8 in (None, "e4m3"):
            dense = tiny_llama()
            result = compress(dense, IDS, sparsity=0.5, fp8=fp8)
            options = {"steps": 20, "watch": IDS[:2], "report": lambda line: None}
            if folder:
                options["state"] = folder / f"{way} {fp8}.state"
                with interrupted(5):
                    recover(result, dense, IDS, **options)
            better = recover(result, dense, IDS, **options)
            about = f"{way} {fp8}"
            found[f"{about} loss"] = loss(better.model, dense, IDS).reshape(1)
            found |= {f"{about} {name}": tensor for name, tensor in better.model.state_dict().items()}
            assert better.sparsity < 0.52 and {p.dtype for p in better.model.parameters()} == {torch.float32}
    return found


@contextmanager
def interrupted(step):
    """Ctrl-C in the second process alone, which stops both after that step."""
    original, calls = recover_module.loss, []

    def counting(*arguments):
        calls.append(1)
        if len(calls) == step and parallel.rank() == 1:
            signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    recover_module.loss = counting
    try:
        yield
    except KeyboardInterrupt:
        assert len(calls) == step
    else:
        raise AssertionError("nothing stopped it")
    finally:
        recover_module.loss = original


def results(folder=None):
    """All of it, a table of tensors for each part."""
    torch.set_num_threads(1)
    with patch.object(blockwise, "BATCH_TOKENS", 64), patch.object(recover_module, "VOCABULARY", 100):
        return _results(folder)


def _results(folder):
    found = {
        "sums": sums(tiny_llama()),
        "energies": energies(tiny_llama()),
        "compressed": compressed(tiny_llama()),
        "transposed": compressed(tiny_gpt2()),
        "recovered": recovered(),
    }
    return found | {"resumed": recovered(folder)} if folder else found


def found(folder, rank):
    """What is found is kept for the test, by either process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.save(results(folder), folder / f"{rank}.pt")


def failing(error):
    """Let the second process end in the middle of compressing: by an error, or by a signal."""

    def compress_layer(*_):
        if error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise error

    compress_module.compress_layer = compress_layer


def commands(source, text):
    """Command lines by name, and what is done to the second process first."""
    options = ("compress", source, "--calibration-text", text, "--calibration-tokens", "2048")
    whole = (*options, "--sparsity", "0.5", "--fp8", "e4m3")
    return {
        "whole": (whole, None),
        "streamed": ((*whole, "--stream"), None),
        "streamed admm": ((*options, "--pattern", "2:4", "--method", "admm", "--stream"), None),
        "recovered": ((*whole, "--steps", "4"), None),
        "sharded": ((*whole, "--steps", "4", "--shard"), None),
        "refused": (("compress", "no/such/model", "--sparsity", "0.5"), None),
        "unknown": (("compress", "--nosuch"), None),
        "another": (("evaluate", source), None),
        "one fails": (whole, lambda: failing(PrunekitError("the layer is broken: mend it."))),
        "one is buggy": (whole, lambda: failing(KeyError("no layer of that name"))),
        "one is killed": (whole, lambda: failing(None)),
    }


def in_two(folder, job, work):
    """Fork two processes, and do some work in both as torchrun would; what they print and their codes go to files."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun keeps it
    children = [os.fork() or child(folder, job, work, rank, str(store.port)) for rank in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    (folder / f"{job}.codes").write_text(json.dumps(codes))


def child(folder, job, work, rank, port):
    """Be one of the two."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{job}.{rank}.{kind}", os.O_CREAT | os.O_WRONLY), number)
    code = 1
    try:
        code = work(rank) or 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def main():
    """Do all jobs in two processes each; what is imported is imported once."""
    folder, source, text = map(Path, sys.argv[1:])
    load(str(source))
    tiny_gpt2()

    def finding(rank):
        with parallel.processes():
            found(folder, rank)

    in_two(folder, "found", finding)
    torch.set_num_threads(1)
    for job, (arguments, disturb) in commands(source, text).items():
        out = ["--out", folder / job] * (arguments[0] == "compress" and arguments[-1] != "--nosuch")

        def command(rank, arguments=arguments, disturb=disturb, out=out):
            if disturb and rank == 1:
                disturb()
            return command_line([str(a) for a in (*arguments, *out)])

        in_two(folder, job, command)


if __name__ == "__main__":
    main()
