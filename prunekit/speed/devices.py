"""Cards and their data-sheet figures: what the latency model knows about a GPU.

Rates are *dense* tensor-core TFLOPS with FP32 accumulation, which is what matrix libraries use for language
models. Data sheets often print twice that (2:4 sparse), and consumer cards reach only half their
FP16-accumulate rate here. `burst` is the one figure that no data sheet has: the share of the BF16 rate that a
matrix product really reaches before the card has warmed up, because the power limit holds the clock down. It
is taken from published `torch.matmul` timings (TESTS below) where there are some; "burst assumed" in `source`
says that there are none.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from ..errors import PrunekitError


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


TURING = "NVIDIA T4 data sheet and Turing white paper"
A100_WP = "NVIDIA A100 data sheet and A100 white paper"
GA102_WP = "NVIDIA Ampere GA102 white paper"
H100_WP = "NVIDIA H100 data sheet and Hopper white paper"
ADA_WP = "NVIDIA Ada white paper"
ADA_CALC = ADA_WP + " (rate computed from the clock); burst assumed"
B200_DS = "NVIDIA Blackwell (HGX B200) data sheet"
RTX50_WP = "NVIDIA RTX Blackwell white paper"
TESTS = "burst: github.com/zzc0721/torch-performance-test-data"


def _geforce(name, cap, sms, mhz, bandwidth, l2, bf16, source, burst=1.0):
    """A GeForce card: FP16 and BF16 at one rate, FP8 (8.9 and newer) at twice that."""
    fp8 = None if cap < (8, 9) else 2 * bf16
    return Gpu(name, cap, sms, mhz, bandwidth, l2, bf16, bf16, fp8, source, burst)


def _server(name, cap, sms, mhz, bandwidth, l2, bf16, fp8, source, burst, parts=2):
    return Gpu(name, cap, sms, mhz, bandwidth, l2, bf16, bf16, fp8, source, burst, True, parts)


_CARDS = [
    Gpu("T4", (7, 5), 40, 1590, 320, 4, None, 65.0, None, TURING + "; burst assumed", 0.6, True),
    _server("A100 SXM 80GB", (8, 0), 108, 1410, 2039, 40, 312, None, A100_WP + "; burst assumed", 0.87),
    _server("A100 SXM 40GB", (8, 0), 108, 1410, 1555, 40, 312, None, A100_WP + "; burst assumed", 0.87),
    _server("A100 PCIe 80GB", (8, 0), 108, 1410, 1935, 40, 312, None, A100_WP + "; burst assumed", 0.83),
    _server("A100 PCIe 40GB", (8, 0), 108, 1410, 1555, 40, 312, None, f"{A100_WP}; {TESTS} issue 108", 0.81),
    _server("A40", (8, 6), 84, 1740, 696, 6, 149.7, None, f"NVIDIA A40 data sheet; {TESTS} issue 185", 0.82, 1),
    _server(
        "L4",
        (8, 9),
        58,
        2040,
        300,
        48,
        121,
        242.5,
        "NVIDIA L4 data sheet; burst: github.com/NVIDIA/cutlass pull 2739",
        0.55,
        1,
    ),
    _server("L40S", (8, 9), 142, 2520, 864, 96, 362, 733, "NVIDIA L40S data sheet; burst assumed", 0.75, 1),
    _server("H100 PCIe", (9, 0), 114, 1755, 2039, 50, 756, 1513, f"{H100_WP}; {TESTS} issue 95", 0.66),
    _server("H100 SXM", (9, 0), 132, 1980, 3352, 50, 989.4, 1978.9, f"{H100_WP}; {TESTS} issue 79", 0.81),
    _server(
        "H200", (9, 0), 132, 1980, 4800, 50, 989.4, 1978.9, "NVIDIA H200 data sheet; burst assumed as H100 SXM", 0.81
    ),
    _server(
        "B200", (10, 0), 148, 1965, 7700, 126, 2250, 4500, B200_DS + "; burst: github.com/pytorch/ao pull 2427", 0.69
    ),
    Gpu(
        "GB10",
        (12, 1),
        48,
        2418,
        273,
        24,
        118.8,
        118.8,
        237.7,
        "NVIDIA DGX Spark data sheet (1 PFLOPS sparse FP4, so an eighth of it here); burst assumed",
        0.85,
    ),
    _geforce("RTX 3060", (8, 6), 28, 1777, 360, 3, 25.5, f"{GA102_WP}; {TESTS} issue 131", 1.0),
    _geforce("RTX 3060 Ti", (8, 6), 38, 1665, 448, 4, 32.4, f"{GA102_WP}; {TESTS} issues 55, 133", 1.07),
    _geforce("RTX 3070", (8, 6), 46, 1725, 448, 4, 40.6, GA102_WP + "; burst assumed"),
    _geforce("RTX 3070 Ti", (8, 6), 48, 1770, 608, 4, 43.5, f"{GA102_WP}; {TESTS} issue 184", 1.05),
    _geforce("RTX 3080", (8, 6), 68, 1710, 760, 5, 59.5, f"{GA102_WP}; {TESTS} issue 114", 1.08),
    _geforce("RTX 3080 Ti", (8, 6), 80, 1665, 912, 6, 68.2, f"{GA102_WP}; {TESTS} issue 144", 1.08),
    _geforce("RTX 3090", (8, 6), 82, 1695, 936, 6, 71.2, GA102_WP + "; burst assumed"),
    _geforce("RTX 3090 Ti", (8, 6), 84, 1860, 1008, 6, 80.0, GA102_WP + "; burst assumed"),
    _geforce("RTX 4060", (8, 9), 24, 2460, 272, 24, 30.2, f"{ADA_WP}; {TESTS} issue 66", 1.01),
    _geforce("RTX 4060 Ti", (8, 9), 34, 2535, 288, 32, 44.1, f"{ADA_WP}; {TESTS} issues 130, 145", 1.04),
    _geforce("RTX 4070", (8, 9), 46, 2475, 504, 36, 58.3, ADA_WP + "; burst assumed"),
    _geforce("RTX 4070 Super", (8, 9), 56, 2475, 504, 48, 71.0, ADA_CALC),
    _geforce("RTX 4070 Ti", (8, 9), 60, 2610, 504, 48, 80.2, ADA_WP + "; burst assumed"),
    _geforce("RTX 4070 Ti Super", (8, 9), 66, 2610, 672, 48, 88.2, ADA_CALC),
    _geforce("RTX 4080", (8, 9), 76, 2505, 717, 64, 97.5, ADA_WP + "; burst assumed"),
    _geforce("RTX 4080 Super", (8, 9), 80, 2550, 736, 64, 104.4, ADA_CALC),
    _geforce("RTX 4090", (8, 9), 128, 2520, 1008, 72, 165.2, f"{ADA_WP}; {TESTS} issue 78", 0.97),
    _geforce("RTX 5060 Ti", (12, 0), 36, 2572, 448, 32, 47.4, f"{RTX50_WP}; {TESTS} issues 129, 134", 1.0),
    _geforce("RTX 5070", (12, 0), 48, 2512, 672, 48, 61.7, f"{RTX50_WP}; {TESTS} issue 179", 1.0),
    _geforce("RTX 5070 Ti", (12, 0), 70, 2452, 896, 48, 87.9, f"{RTX50_WP}; {TESTS} issue 86", 1.1),
    _geforce("RTX 5080", (12, 0), 84, 2617, 960, 64, 112.6, f"{RTX50_WP}; {TESTS} issue 104", 0.95),
    _geforce("RTX 5090", (12, 0), 170, 2407, 1792, 96, 209.5, f"{RTX50_WP}; {TESTS} issues 96, 124", 1.1),
]

GPUS: dict[str, Gpu] = {gpu.name: gpu for gpu in _CARDS}

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
