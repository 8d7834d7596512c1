"""What two processes find together, and one by itself: run as a program by each of two, and imported by the test."""

import os
import socket
import sys
import traceback
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import VOCABULARY, tiny_gpt2, tiny_llama

from prunekit.calibration.calibrate import calibrate
from prunekit.calibration.observe import gram
from prunekit.compression import blockwise
from prunekit.compression.allocate import sensitivities
from prunekit.compression.blockwise import Step, prune_blocks
from prunekit.compression.compress import compress
from prunekit.model.linear import linear_layers
from prunekit.system import parallel

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
    found = calibrate(model, IDS.repeat(4, 1), batch_tokens=64, samples=16, tolerance=0.05)
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


def results():
    """All of it, a table of tensors for each part."""
    torch.set_num_threads(1)
    blockwise.BATCH_TOKENS = 64
    return {
        "sums": sums(tiny_llama()),
        "energies": energies(tiny_llama()),
        "compressed": compressed(tiny_llama()),
        "transposed": compressed(tiny_gpt2()),
    }


def start(rank, port):
    """Fork one of two processes, as torchrun starts them; gives its number."""
    if child := os.fork():
        return child
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
    code = 1
    try:
        with parallel.processes():
            torch.save(results(), f"{sys.argv[1]}/{rank}.pt")
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


if __name__ == "__main__":  # what is imported is imported once
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = [start(rank, port) for rank in range(2)]
    sys.exit(max(os.waitpid(child, 0)[1] for child in children) and 1)
