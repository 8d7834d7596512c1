"""Cards and their data-sheet figures, from `devices.csv`: what the latency model knows about a GPU.

Rates are *dense* tensor-core TFLOPS with FP32 accumulation, which is what matrix libraries use for language models.
Data sheets often print twice that (2:4 sparse), and GeForce cards reach only half their FP16-accumulate rate here, in
FP8 as in BF16: the fastest published products are 0.99 (FP8) and 1.02 (BF16) of these rates on the RTX 4090, 1.08 in
both on the RTX 5080, which clocks higher than its data sheet says. Workstation and data-centre cards, the GB10 among
them, are not halved. `burst` is the one figure that no data sheet has: the share of the BF16 rate that a matrix
product really reaches before the card has warmed up, because the power limit holds the clock down. It is taken from
published `torch.matmul` timings where there are some, as `source` says; "burst assumed" in `source` says that there
are none.
"""

from __future__ import annotations

import csv
import difflib
import re
from dataclasses import dataclass
from importlib import resources

from ..errors import PrunekitError

# Tokens up to which a weight-only kernel is taken for granted: the narrow side of a tensor core's instruction. Such
# kernels hold the weight in FP8 and multiply in 16 bits; vLLM has them (Marlin) from compute capability 7.5 on. For
# 2:4 in FP8, or for 2:4 without its tensor cores, none is known.
FEW_TOKENS = 8


@dataclass(frozen=True)
class Gpu:
    """One card.

    Attributes:
        name: as in `GPUS`.
        capability: CUDA compute capability, (major, minor).
        sms: streaming multiprocessors.
        boost_mhz: boost clock, MHz.
        bandwidth_gbs: memory bandwidth, GB/s (10^9 bytes).
        l2_mb: L2 cache, MB.
        bf16: dense tensor-core TFLOPS, FP32 accumulation; None where the card has no such unit.
        fp16: the same in FP16; every card here has it.
        fp8: the same in FP8; None where the card has no such unit.
        source: where the figures are from.
        memory_gb: memory as the card is sold, in GiB (2^30 bytes), of two sizes the smaller; the GB10's is
            shared with its CPU.
        burst: share of `bf16` (or `fp16`) that a short product reaches under the power limit.
        server: a data-centre card (a server host issues kernels faster than a desktop does).
        l2_parts: 2 where the L2 is two halves and shared data is kept in both.
    """

    name: str
    capability: tuple[int, int]
    sms: int
    boost_mhz: float
    bandwidth_gbs: float
    l2_mb: float
    bf16: float | None
    fp16: float
    fp8: float | None
    source: str
    memory_gb: float
    burst: float = 1.0
    server: bool = False
    l2_parts: int = 1

    @property
    def sparse24(self) -> bool:
        """Whether the tensor cores skip the zeros of a 2:4 weight (compute capability 8.0 or newer)."""
        return self.capability >= (8, 0)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The formats that the tensor cores multiply, in the order fp8, bf16, fp16."""
        return tuple(name for name in ("fp8", "bf16", "fp16") if getattr(self, name) is not None)

    @property
    def feed_ratio(self) -> float:
        """16-bit multiply-adds per clock and multiprocessor, over a GeForce's 256: how hungry its cores are."""
        return self.fp16 * 1e6 / (2 * self.sms * self.boost_mhz) / 256


def _cards() -> dict[str, Gpu]:
    """The rows of `devices.csv`, by name; an empty rate means that the card has no such unit."""
    text = resources.files(__package__).joinpath("devices.csv").read_text(encoding="utf-8")
    cards = {}
    for row in csv.DictReader(text.splitlines()):
        major, minor = row["capability"].split(".")
        cards[row["name"]] = Gpu(
            row["name"],
            capability=(int(major), int(minor)),
            sms=int(row["sms"]),
            boost_mhz=float(row["boost_mhz"]),
            bandwidth_gbs=float(row["bandwidth_gbs"]),
            l2_mb=float(row["l2_mb"]),
            bf16=float(row["bf16"]) if row["bf16"] else None,
            fp16=float(row["fp16"]),
            fp8=float(row["fp8"]) if row["fp8"] else None,
            source=row["source"],
            memory_gb=float(row["memory_gb"]),
            burst=float(row["burst"]),
            server=row["server"] == "yes",
            l2_parts=int(row["l2_parts"]),
        )
    return cards


GPUS = _cards()

# What people, drivers and data files call a card when they leave its variant out.
_ALIASES = {
    "A100": "A100 SXM 80GB",
    "A100 SXM": "A100 SXM 80GB",
    "A100 SXM4": "A100 SXM 80GB",
    "A100 80GB": "A100 SXM 80GB",
    "A100 SXM4 80GB": "A100 SXM 80GB",
    "A100 40GB": "A100 SXM 40GB",
    "A100 SXM4 40GB": "A100 SXM 40GB",
    "A100 PCIe": "A100 PCIe 80GB",
    "A100 80GB PCIe": "A100 PCIe 80GB",
    "H100": "H100 PCIe",
    "H100 80GB HBM3": "H100 SXM",
    "H100 SXM5": "H100 SXM",
    "H200 SXM": "H200",
    "B200 SXM": "B200",
    "DGX Spark": "GB10",
}


def _key(name: str) -> str:
    """'NVIDIA GeForce RTX 4090' and 'rtx4090' and '4090' are one card: lower case, no spaces, no brand."""
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"^(nvidia)?(tesla|geforce)?(rtx)?", "", key) or key


_BY_KEY = {_key(name): gpu for name, gpu in GPUS.items()} | {_key(a): GPUS[n] for a, n in _ALIASES.items()}


def find_gpu(name: str | Gpu) -> Gpu:
    """The card called `name`; case, spaces, hyphens and the words NVIDIA, GeForce and RTX do not matter.

    Args:
        name: the card; without its variant, 'H100' is the PCIe card, 'A100' the SXM card with 80 GB. A `Gpu` is what it
            names.

    Raises:
        PrunekitError: no such card; the message names the nearest ones.
    """
    if isinstance(name, Gpu):
        return name
    key = _key(str(name))
    if key in _BY_KEY:
        return _BY_KEY[key]
    near = sorted(GPUS, key=lambda known: -difflib.SequenceMatcher(None, key, _key(known)).ratio())[:3]
    raise PrunekitError(f"there is no card {str(name)!r} in the table; nearest in name: {', '.join(near)}.")


def check_dtype(gpu: Gpu, dtype: str, tokens: int | None = None) -> str:
    """`dtype` in lower case.

    Args:
        gpu: a card of `prunekit.speed.devices`.
        dtype: "fp8", "bf16" or "fp16", in either case.
        tokens: how many meet the weight: few of them meet one in FP8 on any card.

    Raises:
        PrunekitError: the card's tensor cores do not multiply it; the message lists those that they do.
    """
    name = dtype.lower()
    few = name == "fp8" and tokens is not None and tokens <= FEW_TOKENS
    if name not in gpu.dtypes and not few:
        has = " and ".join(gpu.dtypes)
        major, minor = gpu.capability
        less = f", or at most {FEW_TOKENS} tokens, which a weight-only kernel takes" if name == "fp8" else ""
        raise PrunekitError(
            f"{gpu.name} (compute capability {major}.{minor}) has no {dtype} tensor cores; choose {has}{less}."
        )
    return name
