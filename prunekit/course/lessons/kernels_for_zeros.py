"""Who multiplies weights with zeros as such, and what that gains: rows of others' results, for notebooks 02 and 05.

Nothing here was measured by prunekit. Each source has an entry in ``notebooks/BIBLIOGRAPHY.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..tables import table


@dataclass(frozen=True)
class Entry:
    """One result of others.

    Attributes:
        who: the software or method.
        what: which zeros, and on what they were tried.
        gain: what they gain there; speeds as "N times as fast" as the same product or model without zeros.
        label: "published" for what its makers write, "as reported" for what was said in an issue.
        source: where it stands.
        date: of the source, month and year.
        entry: its heading in the bibliography.
    """

    who: str
    what: str
    gain: str
    label: str
    source: str
    date: str
    entry: str


ENTRIES = (
    Entry(
        "cuSPARSELt",
        "2:4 in FP16, BF16, INT8 and FP8; here layers in FP8 on an RTX 4090",
        "0.54 to 2.11 times as fast, by the product's size",
        "published",
        "library: release notes 0.8; times: arXiv 2603.05232",
        "March 2026",
        "cusparselt",
    ),
    Entry(
        "PyTorch and torchao",
        "2:4, through cuSPARSELt; here the MLPs of a vision model in BF16 on an A100",
        "1.1 times as fast",
        "published",
        "torchao's page on sparsity; maintained, pull request 3711",
        "January 2026",
        "torchao",
    ),
    Entry(
        "ModelOpt",
        "2:4: finds the masks, and trains with them",
        "no speed of its own: another program runs the model",
        "published",
        "documentation",
        "2026",
        "modelopt",
    ),
    Entry(
        "SpenseGPT",
        "2:4 in a part of each weight, the rest dense; FP8, models of 32B and 36B, generating on a B200",
        "up to 1.2 times as fast",
        "published",
        "arXiv 2606.10445",
        "June 2026",
        "spensegpt",
    ),
    Entry(
        "MACKO-SpMV",
        "unstructured, 50 %; FP16, one token at a time, RTX 3090 and 4090",
        "1.2 to 1.5 times as fast, 1.5 times less memory",
        "published",
        "arXiv 2511.13061",
        "November 2025",
        "macko",
    ),
    Entry(
        "TensorRT-LLM",
        "2:4 in BF16 and FP8, a GPT of 843M",
        "at most 1.05 times as fast",
        "as reported",
        "issue 1731",
        "June 2024",
        "tensorrt-llm-sparsity",
    ),
    Entry(
        "TensorRT-LLM",
        "2:4 in FP8, Llama 3 8B on an RTX 4090",
        "none: the dense kernels are faster, and are chosen",
        "as reported",
        "issue 1913",
        "July 2024",
        "tensorrt-llm-sparsity",
    ),
    Entry(
        "vLLM",
        "2:4",
        "dropped: such a model no longer loads",
        "published",
        "pull request 36799",
        "March 2026",
        "vllm-sparse24",
    ),
    Entry(
        "LLM Compressor",
        "2:4",
        "dropped: packed 2:4 files are no longer written",
        "published",
        "pull request 2452",
        "March 2026",
        "llm-compressor",
    ),
)


def show_kernels_for_zeros() -> None:
    """Show all entries as a table, the kernels that gain first."""
    head = ("who", "zeros, and where", "gain", "label", "source", "date")
    rows = [(each.who, each.what, each.gain, each.label, each.source, each.date) for each in ENTRIES]
    table(head, rows, "Where zeros pay, in 2026: published by those who made it, or as reported in an issue.")
