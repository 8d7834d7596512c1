"""Timing that can be trusted, with one interface for CPU and GPU.

Warm up first; time several candidates *in turn*, so that heat and clocks hit them alike; synchronise (CUDA
events on a GPU); repeat until a sample is long against the clock's step; give the median with its spread. And
do not read the same buffer over and over unless the model does: `rotating` hands out copies that together
exceed the cache.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles
from typing import TypeVar

from ..errors import PrunekitError
from ..system.progress import progress

T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """Seconds a call, one sample for each round; label it "measured" wherever it is shown."""

    samples: tuple[float, ...]
    calls_per_sample: int
    device: str

    @property
    def median(self) -> float:
        """The middle sample, in seconds."""
        return median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the samples lie below the first, a quarter above the second, in seconds."""
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        low, _, high = quantiles(self.samples, n=4, method="inclusive")
        return low, high

    def __str__(self) -> str:
        low, high = self.quartiles
        return f"{self.median * 1e6:.1f} us ({low * 1e6:.1f} to {high * 1e6:.1f}, {len(self.samples)} rounds)"


def time_in_turn(
    calls: Mapping[str, Callable[[], object]],
    device: str = "cpu",
    rounds: int | Mapping[str, int] = 15,
    warmup: int | Mapping[str, int] = 3,
    sample_s: float = 2e-3,
) -> dict[str, Timing]:
    """Time several calls round-robin: first a, b, c once each, then a, b, c again, `rounds` times.

    Args:
        calls: what to time, by name.
        device: "cpu", or "cuda" (with an index if wanted) for CUDA events and synchronisation.
        rounds: samples of each call; by name where slow calls shall have fewer than the others.
        warmup: how often each is called beforehand, also by name; the fastest says how often a sample repeats it.
            After none a sample is one call.
        sample_s: a sample repeats its call until it lasts about this many seconds, 10,000 times at most.

    Returns:
        The timings, in seconds a call, by name.

    Raises:
        PrunekitError: nothing to time, or fewer than one round.
    """
    rounds, warmup = (n if isinstance(n, Mapping) else dict.fromkeys(calls, n) for n in (rounds, warmup))
    if not calls or min(rounds[name] for name in calls) < 1:
        raise PrunekitError("time_in_turn needs at least one call and one round.")
    clock = _cuda_seconds if str(device).startswith("cuda") else _cpu_seconds
    repeats = {}
    for name, call in calls.items():
        once = min((clock(call, 1, device) for _ in range(warmup[name])), default=sample_s)
        repeats[name] = max(1, min(10_000, round(sample_s / max(once, 1e-9))))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for number in progress(range(max(rounds.values())), "rounds"):
        for name, call in calls.items():
            if number < rounds[name]:
                samples[name].append(clock(call, repeats[name], device))
    return {name: Timing(tuple(s), repeats[name], str(device)) for name, s in samples.items()}


def speedup(base: Timing, other: Timing) -> tuple[float, float, float]:
    """How many times faster `other` is, round by round (needs timings taken in turn).

    Args:
        base: the yardstick.
        other: what is held against it.

    Returns:
        Median, lower and upper quartile of the rounds' ratios.

    Raises:
        PrunekitError: the two have not as many rounds each.
    """
    if len(base.samples) != len(other.samples):
        raise PrunekitError("a speed-up compares two timings of one time_in_turn call, with as many rounds each.")
    ratios = Timing(tuple(b / o for b, o in zip(base.samples, other.samples)), 1, base.device)
    return ratios.median, *ratios.quartiles


def fastest(base: Timing, other: Timing, parts: int = 9) -> tuple[float, float, float]:
    """How many times faster `other` is by the fastest rounds: for short calls on a machine that others use, too.

    Args:
        base: the yardstick.
        other: what is held against it.
        parts: the rounds are cut into so many parts, and the fastest of each part are compared.

    Returns:
        Median, lower and upper quartile of the parts' ratios.

    Raises:
        PrunekitError: the two have not as many rounds each, or fewer rounds than parts.
    """
    count = len(base.samples)
    if len(other.samples) != count or count < parts:
        raise PrunekitError(f"fastest compares two timings of one time_in_turn call, {parts} rounds or more each.")
    cuts = [slice(count * i // parts, count * (i + 1) // parts) for i in range(parts)]
    ratios = Timing(tuple(min(base.samples[cut]) / min(other.samples[cut]) for cut in cuts), 1, base.device)
    return ratios.median, *ratios.quartiles


def rotating(make: Callable[[], T], nbytes: int, device: str = "cpu", max_bytes: int = 1 << 30) -> Callable[[], T]:
    """A function that hands out copies from `make` in turn, enough of them to exceed the cache twice over.

    Args:
        make: makes one copy.
        nbytes: bytes of one copy.
        device: whose cache, "cpu" or "cuda" (with an index if wanted).
        max_bytes: the copies together take no more than this (but there are at least two), and there are no more than
            4096, even where they then fit the cache.
    """
    count = 2 * cache_bytes(device) // max(nbytes, 1) + 2
    count = max(2, min(count, max_bytes // max(nbytes, 1), 4096))
    buffers = cycle([make() for _ in range(count)])
    return lambda: next(buffers)


def cache_bytes(device: str = "cpu") -> int:
    """Bytes of the last-level cache of a GPU or of this CPU (32 MiB where the system does not say)."""
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.get_device_properties(device).L2_cache_size
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    found = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = file.read_text().strip()
            found.append(int(text[:-1]) * units[text[-1]])
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return max(found, default=32 << 20)


def clock_note(device: str = "cpu") -> str:
    """The clock just now, to be printed beside a timing: "1980 MHz", or "clock unknown"."""
    if str(device).startswith("cuda"):
        import torch

        command = ["nvidia-smi", "--query-gpu=clocks.sm", "--format=csv,noheader"]
        uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
        command += [f"--id=GPU-{uuid}"] if uuid else []
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.split("\n")[0]
        except (OSError, subprocess.SubprocessError):
            return "clock unknown"
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
        mhz = [float(line.split(":")[1]) for line in text.splitlines() if line.startswith("cpu MHz")]
    except (OSError, ValueError):
        mhz = []
    return f"{median(mhz):.0f} MHz" if mhz else "clock unknown"


def _cpu_seconds(call: Callable[[], object], repeats: int, device: str) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _cuda_seconds(call: Callable[[], object], repeats: int, device: str) -> float:
    import torch

    with torch.cuda.device(device):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats
