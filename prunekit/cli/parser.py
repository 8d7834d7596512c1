"""Every option of every command. Nothing heavy is imported here, so that `--help` comes at once."""

from __future__ import annotations

import argparse
from typing import NoReturn

from ..bench.measured import measured_rows

MODEL = "embedded (default), a local folder, or a Hugging Face name"
TEXT = (
    "wikipedia (default), news, press, speeches, wikitext (WikiText-2, needs a network), a UTF-8 file, or a .jsonl "
    "file of messages or text"
)
BATCH = "1,16,256,4096"


class Parser(argparse.ArgumentParser):
    """Errors in the house style: one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"prunekit: {message}; see '{self.prog} --help'.\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; what it gives has the command's name as `command`."""
    parser = Parser(prog="prunekit", description="Prune and quantize language models in one pass, without sorting.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, (about, add_options) in COMMANDS.items():
        add_options(commands.add_parser(name, help=about, description=about))
    return parser


def _compress(c: argparse.ArgumentParser) -> None:
    c.add_argument("model", nargs="?", default="embedded", metavar="MODEL", help=MODEL)
    c.add_argument("--recipe", metavar="FILE", help="a prunekit.json, or its folder: do all that it says once more")
    _what_to_prune(c)
    _which_text(c)
    _how_to_recover(c)
    _which_layers(c)
    c.add_argument("--out", metavar="DIR", help="save the compressed model there")
    c.add_argument("--activations", help="FP8 inputs in servers: none (default) or dynamic")
    about = "read, compress and write one block after another, as where the model does not fit in memory; goes on"
    c.add_argument("--stream", action="store_true", help=f"{about} where it was interrupted")
    about = "train each block by itself for so many steps to give what the dense one gives; streamed; see blockwise"
    c.add_argument("--block-steps", type=int, metavar="N", help=about)
    _json(c)
    _where_it_runs(c)


def _what_to_prune(c: argparse.ArgumentParser) -> None:
    c.add_argument("--sparsity", metavar="S", help="share to prune, 0 to below 1; 0 only casts")
    c.add_argument("--pattern", metavar="N:M", help="keep N weights of every M, for example 2:4")
    c.add_argument("--metric", help="contribution (default), magnitude or rank-one")
    c.add_argument("--select", help="ewma (default), ewma-mean or exact")
    c.add_argument("--preset", help=describe_presets())
    c.add_argument("--method", help="ewma, admm, wanda, sparsegpt or magnitude; default: what the preset says")
    c.add_argument("--no-compensate", action="store_true", help="leave the weights that stay as they are (ewma)")
    c.add_argument("--no-permute", action="store_true", help="N:M: leave the channels in their order")
    c.add_argument("--fp8", help="e4m3, e5m2 or none (default)")
    c.add_argument("--granularity", help="one FP8 scale for each tensor, row (default) or block")


def _which_text(c: argparse.ArgumentParser) -> None:
    c.add_argument(
        "--calibration-tokens",
        metavar="N",
        help="default auto: ewma until masks hold still, at most 2048; admm 32768, wanda and sparsegpt 8192",
    )
    c.add_argument(
        "--calibration-text",
        action="append",
        metavar="TEXT",
        help=f"{TEXT}; give it again to mix in another; default with recovery: wikipedia and press",
    )
    c.add_argument("--seed", type=int, help="which calibration text, and its order; default 0")


def _how_to_recover(c: argparse.ArgumentParser) -> None:
    c.add_argument("--recover", action="store_true", help="train what is left to speak as the dense model does")
    c.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="recover for so long; default: until minute 19, at least 5; less where less than half is pruned",
    )
    c.add_argument("--steps", type=int, metavar="N", help="recover for so many steps: repeatable on one CPU")
    c.add_argument(
        "--shard", action="store_true", help="recover with the model spread over torchrun's processes (FSDP2)"
    )


def _which_layers(c: argparse.ArgumentParser) -> None:
    c.add_argument("--allocate", action="store_true", help="prune more in layers that the loss feels less; says why")
    c.add_argument(
        "--include", action="append", default=[], metavar="PATTERN", help="only layers with this in the name"
    )
    c.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="no layers with this in the name")


def _evaluate(c: argparse.ArgumentParser) -> None:
    c.add_argument("model", nargs="?", default="embedded", metavar="MODEL", help=MODEL)
    c.add_argument("--dense", metavar="MODEL", help="the model before compression: adds retention and KL")
    c.add_argument("--text", default="wikipedia", help=TEXT)
    c.add_argument("--split", default="test", help="of the text: test (default), validation or train")
    c.add_argument("--tokens", type=int, default=8192, help="default 8192")
    c.add_argument("--context", type=int, default=512, help="tokens in a window; default 512")
    c.add_argument("--stream", action="store_true", help="have one block of one model in memory at a time")
    casts = "inputs of FP8 layers: none (default) leaves them; dynamic casts each token's to FP8, as servers may (W8A8)"
    c.add_argument("--activations", choices=("none", "dynamic"), default="none", help=casts)
    c.add_argument("--card", action="store_true", help="write the figures into the model card of MODEL, a saved folder")
    about = "instead: accuracies on lm-eval's tasks by name, on task files, or on continuation, which needs no network"
    c.add_argument("--tasks", metavar="NAME,...", help=about)
    c.add_argument("--limit", type=int, metavar="N", help="tasks: only the first N items of each")
    c.add_argument("--shots", type=int, metavar="N", help="tasks: examples in the prompt; default: what the task says")
    c.add_argument("--batch", type=int, metavar="N", help="tasks: requests at once; default 8")
    _json(c)
    _where_it_runs(c)


def _generate(c: argparse.ArgumentParser) -> None:
    c.add_argument("model", metavar="MODEL", help="embedded, a local folder, or a Hugging Face name")
    c.add_argument("prompt", metavar="PROMPT")
    c.add_argument("--tokens", type=int, default=40, help="how many to add; default 40")
    _where_it_runs(c)


def _bench(c: argparse.ArgumentParser) -> None:
    about = (
        "selection alone, calibration to cast, what each method keeps of the model, what removing neurons gains on "
        "this CPU, or a GPU's pass and layers"
    )
    c.add_argument("what", choices=("select", "pipeline", "quality", "neurons", "gpu"), help=about)
    c.add_argument("--only", action="append", default=[], metavar="NAME", help="quality: a method or a pattern")
    c.add_argument("--seed", action="append", type=int, default=[], help="quality: default 0; repeat it for more")
    c.add_argument("--share", metavar="S", help="neurons: share of them to remove; default 0.3")
    c.add_argument("--model", metavar="MODEL", help=f"{MODEL}; gpu takes none")
    _json(c)


def _demo(c: argparse.ArgumentParser) -> None:
    c.add_argument("--out", default="out", metavar="DIR", help="default out")


def _predict(c: argparse.ArgumentParser) -> None:
    c.add_argument("--gpu", required=True, metavar="NAME", help="card, for example 'RTX 4090' or H100")
    c.add_argument("--dtype", choices=("fp8", "bf16", "fp16"), help="default: the narrowest that the card has")
    what = c.add_mutually_exclusive_group()
    what.add_argument("--model", help=f"{MODEL}; Qwen2.5-7B and other published ones are built in")
    what.add_argument("--shapes", metavar="FILE.csv", help="a file with columns M,N,K instead of a model")
    c.add_argument("--batch", metavar="M,M,...", help=f"tokens, or with --prompt prompts, at once; default {BATCH}")
    c.add_argument("--prompt", metavar="N", help="only tokens per second of the whole model, for prompts of N tokens")
    c.add_argument(
        "--host-us", metavar="US", help="what the server's host takes for a block, microseconds; default as published"
    )
    c.add_argument("--csv", metavar="FILE", help="also write the predictions to this file")


def _fit(c: argparse.ArgumentParser) -> None:
    c.add_argument("model", nargs="?", default="embedded", metavar="MODEL", help="embedded (default) or a local folder")
    c.add_argument("--gpu", metavar="NAME", help="a card to say the same of, for example 'RTX 4090'")
    c.add_argument("--sparsity", metavar="S", help="share to prune; default 0.5")
    c.add_argument("--pattern", metavar="N:M", help="keep N weights of every M, for example 2:4")
    c.add_argument("--fp8", help="e4m3, e5m2 or none (default)")
    c.add_argument("--dtype", help="float32 (default), bfloat16 or float16")


def _verify(c: argparse.ArgumentParser) -> None:
    c.add_argument("folder", metavar="DIR", help="a folder that compress wrote")


def _info(c: argparse.ArgumentParser) -> None:
    pass


def _json(c: argparse.ArgumentParser) -> None:
    c.add_argument("--json", metavar="FILE", help="write the figures there")


def _where_it_runs(c: argparse.ArgumentParser) -> None:
    c.add_argument("--dtype", help="float32, bfloat16 or float16; default float32 on a CPU, else as stored")
    c.add_argument("--device", help="cpu or cuda; default cuda where there is one")


COMMANDS = {  # what each command does, and what adds its options
    "compress": ("Prune a model and cast it to FP8.", _compress),
    "evaluate": ("Perplexity and top-1 accuracy of a model.", _evaluate),
    "generate": ("Continue a prompt, greedily.", _generate),
    "verify": ("Check every file, group, code and scale of a folder that compress wrote.", _verify),
    "fit": ("Memory, disk and time that compressing a model would take here, for each preset.", _fit),
    "bench": ("Time the method against its rivals.", _bench),
    "demo": ("Compress the embedded model twice, judge it, write report.json and a figure.", _demo),
    "info": ("Versions, threads, model and cache.", _info),
    "predict": ("Predicted latency of a model's layers, and its tokens per second, on a GPU, dense and 2:4.", _predict),
    "doctor": ("What this machine can run, checked by running it.", _json),
}


def describe_presets() -> str:
    """What each preset buys, in a sentence with the figures of `measured`."""
    tables = [measured_rows(pattern) for pattern in ("20 %", "50 %", "2:4 + FP8")]

    def figures(name: str) -> str:
        return ", ".join(f"{100 * rows[name]['texts']['wikipedia']['retention']:.1f}" for rows in tables)

    return (
        "fast (default): the EWMA pass with compensation, seconds; balanced: ADMM, no training, a minute or two; "
        "blockwise: ADMM, then each block trained for 64 steps, streamed, some minutes; "
        "best: ADMM and recovery, within 20 minutes. "
        "Percent of the embedded model's top-1 kept at 20 %%, 50 %% and 2:4 with FP8, measured: "
        f"fast {figures('fast')}; balanced {figures('balanced')}; best {figures('best')}"
    )
