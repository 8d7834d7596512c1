"""The main job from end to end: compress the embedded model in two patterns, judge, save, report."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..calibration.corpus import corpus
from ..calibration.windows import calibration_text
from ..compression.compress import compress
from ..compression.layer import warm_up
from ..compression.recipe import Options, Recipe
from ..errors import PrunekitError
from ..evaluation.evaluate import evaluate_all
from ..evaluation.generate import generate
from ..storage.load import load
from ..storage.save import save
from ..storage.tensors import stored_bytes
from ..system.files import check_writable_file, replacing, temporary_file, write_json
from ..system.machine import machine, versions
from ..system.progress import Stages

TARGETS: dict[str, Options] = {"half": {"sparsity": 0.5}, "2-4": {"pattern": "2:4"}}
LABELS = {"dense": "dense", "half": "50 % + FP8", "2-4": "2:4 + FP8"}
OPTIONS: Options = {"fp8": "e4m3", "compensate": True}
TOKENS = 4096
PROMPT = "The history of the city begins"


def demo(out: Path) -> dict:
    """Run it, print a table, and write ``report.json``, ``figure.png`` and both models into `out`.

    Args:
        out: a folder; models in it that an earlier demo saved are replaced.

    Returns:
        What ``report.json`` holds.

    Raises:
        PrunekitError: the folder cannot be written, or the embedded model is not installed.
    """
    for name in ("report.json", "figure.png"):
        check_writable_file(out / name)
    for name in TARGETS:
        _check_own(out / f"smollm2-{name}")
    stages = Stages()
    print("1/5 load the model and the text")
    with stages("load"):
        model, tokenizer = load("embedded", device="cpu")
        calibration = calibration_text(tokenizer, "ewma", None)
        test = corpus(tokenizer, tokens=TOKENS)
    print("2/5 calibrate, score, select and cast, twice (the first run ever compiles the CPU kernel: half a minute)")
    for target in TARGETS.values():
        warm_up(Recipe(**(OPTIONS | target)))
    results = {name: compress(model, calibration, **(OPTIONS | target)) for name, target in TARGETS.items()}
    models = {"dense": model} | {name: result.model for name, result in results.items()}
    print(f"3/5 evaluate on {TOKENS} tokens of test articles, about a minute")
    with stages("evaluate"):
        quality = evaluate_all(models, test)
    print("4/5 write a sentence with each")
    with stages("generate"):
        sentences = {name: generate(m, tokenizer, PROMPT, 24) for name, m in models.items()}
    print(f"5/5 save to {out}")
    with stages("save"):
        for name, result in results.items():
            with replacing(out / f"smollm2-{name}") as folder:
                save(result, tokenizer, folder)

    rows = {}
    for name, m in models.items():
        made = results.get(name)
        rows[name] = {
            "label": LABELS[name],
            "sparsity": made.sparsity if made else 0.0,
            "bytes": stored_bytes(m),
            **{key: quality[name][key] for key in ("perplexity", "top1")},
            "retention": quality[name].get("retention", 1.0),
            "seconds": made.seconds if made else {},
            "calibration_tokens": made.tokens if made else 0,
            "sentence": " ".join(sentences[name].split()),
        }
    report = {
        "protocol": {"text": "wikipedia", "split": "test", "tokens": TOKENS, "context": test.shape[1]},
        "models": rows,
        "seconds": stages.seconds,
        "machine": machine(),
        "versions": versions(),
    }
    print_table(report)
    draw(report, out / "figure.png")
    write_json(out / "report.json", report)
    print(f"\nwrote {out / 'report.json'}, {out / 'figure.png'} and the models {out}/smollm2-*")
    return report


def print_table(report: dict) -> None:
    """One line for each model, then its sentence."""
    head = ("", "sparsity", "MB on disk", "perplexity", "top-1", "retention", "calibrate", "select + cast")
    print(("\n{:<12}" + "{:>14}" * 7).format(*head))
    for row in report["models"].values():
        seconds = row["seconds"]
        times = [f"{seconds[s]:.2f} s" if s in seconds else "" for s in ("calibrate", "select")]
        cells: tuple[str, ...] = (f"{row['sparsity']:.4f}", f"{row['bytes'] / 1e6:.1f}", f"{row['perplexity']:.2f}")
        cells += (f"{row['top1']:.4f}", f"{row['retention']:.4f}", *times)
        print(("{:<12}" + "{:>14}" * 7).format(row["label"], *cells))
    stages = ", ".join(f"{stage} {value:.1f} s" for stage, value in report["seconds"].items())
    protocol = report["protocol"]
    print(f"\nall figures measured; {protocol['tokens']} tokens of {protocol['text']}, context {protocol['context']}")
    print(f"other stages: {stages}")
    for row in report["models"].values():
        print(f"{row['label']}: {row['sentence']}")


def draw(report: dict, path: Path) -> None:
    """Bars of size, perplexity and retention for each model, with their values."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(report["models"].values())
    figure = Figure(figsize=(9, 3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    kinds = (
        ("weights on disk [MB]", [row["bytes"] / 1e6 for row in rows], "{:.0f}"),
        ("perplexity (lower is better)", [row["perplexity"] for row in rows], "{:.1f}"),
        ("top-1 kept [%]", [100 * row["retention"] for row in rows], "{:.1f}"),
    )
    for axes, (title, values, form) in zip(panels, kinds):
        bars = axes.bar(
            [row["label"] for row in rows], values, color=("#999999", "#0072B2", "#E69F00"), edgecolor="black"
        )
        for bar, hatch in zip(bars, ("", "//", "..")):
            bar.set_hatch(hatch)
        axes.bar_label(bars, [form.format(value) for value in values])
        axes.set_title(title, fontsize=10)
        axes.margins(y=0.15)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    protocol = report["protocol"]
    figure.suptitle(f"SmolLM2-135M, measured on {protocol['tokens']} tokens of unseen Wikipedia articles", fontsize=11)
    with temporary_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def _check_own(folder: Path) -> None:
    """Raise `PrunekitError` where something lies that an earlier demo has not saved."""
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / "prunekit.json").is_file():
        raise PrunekitError(f"{folder} is in the way and is no saved model: move it, or choose another --out.")


def run_demo(a: argparse.Namespace) -> None:
    """`prunekit demo`."""

    demo(Path(a.out))
