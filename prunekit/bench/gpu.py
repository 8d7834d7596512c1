"""`prunekit bench gpu`: the fused pass against copying, and each kind of layer against dense, measured on a GPU.

The same functions run on a CPU, which is how they are tested; untested on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunekitError, first_line
from ..kernels.arguments import results
from ..kernels.dispatch import fastest
from ..method import fp8, one_pass
from ..method.masks import nm_mask
from ..speed.tensor_core_layers import Fp8Product, Sparse24Fp8Product, Sparse24Product, fp8_error_bound
from ..system.machine import machine, versions
from .timing import clock_note, rotating, speedup, time_in_turn

SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008))  # [out, in]: the linear layers of a 7B LLaMA
BATCHES = (1, 16, 64, 256, 1024, 4096)
COPY_BYTES = 1 << 30
TARGETS: dict[str, dict[str, Any]] = {"share 0.5": {"sparsity": 0.5}, "2:4": {"pattern": "2:4"}}
CHECKED_ROWS = 32


def bench_gpu() -> dict:
    """Measure pass and layers on the current GPU and print what comes out.

    Returns:
        ``copy_gbs``; ``passes``, the list of `measure_pass`; ``layers``, that of `measure_layers`; ``machine``,
        ``versions``, ``clock``.

    Raises:
        PrunekitError: torch can use no CUDA GPU.
    """
    if not torch.cuda.is_available():
        raise PrunekitError(
            "bench gpu needs an NVIDIA GPU that this torch can use, of compute capability 8.0 for 2:4 and 8.9 for "
            "FP8, and there is none; 'prunekit predict --gpu NAME' predicts latencies without one."
        )
    device = f"cuda:{torch.cuda.current_device()}"
    copy_gbs = measure_copy(device)
    about, note = machine(), clock_note(device)
    print(f"measured on {about['gpu']}, {note}; " + ", ".join(f"{k} {v}" for k, v in versions().items()))
    print(f"copy bandwidth {copy_gbs:.0f} GB/s, bytes read plus bytes written")
    passes = [row for shape in SHAPES for row in measure_pass(shape, device, copy_gbs)]
    print("\n".join(describe_passes(passes)))
    layers = [row for shape in SHAPES for row in measure_layers(shape, BATCHES, device)]
    print("\n".join(describe_layers(layers)))
    result = {"copy_gbs": copy_gbs, "passes": passes, "layers": layers}
    return result | {"machine": about, "versions": versions(), "clock": note}


def measure_copy(device: str, nbytes: int = COPY_BYTES) -> float:
    """Copy bandwidth in GB/s: bytes read plus bytes written over the median time.

    Args:
        device: "cpu", or "cuda" (with an index if wanted).
        nbytes: bytes of what is copied.
    """
    source = torch.ones(nbytes // 2, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    timing = time_in_turn({"copy": lambda: target.copy_(source)}, device)["copy"]
    return 2 * nbytes / timing.median / 1e9


@torch.inference_mode()
def measure_pass(shape: tuple[int, int], device: str, copy_gbs: float, rounds: int = 15) -> list[dict]:
    """Time the fused pass on a random bfloat16 weight, and compare its first rows with the CPU's.

    Args:
        shape: of the weight, (out, in).
        device: "cpu", or "cuda" (with an index if wanted).
        copy_gbs: copy bandwidth in GB/s, as `measure_copy` gives it.
        rounds: samples of each.

    Returns:
        For selection alone and with the cast, for each of `TARGETS`: ``name, shape, us, quartiles_us, gbs``
        (weights read, mask and codes written), ``copy_share`` and ``equal``, whether the CPU agrees. Empty
        where the pass does not run, which a warning has said.
    """
    fused, cpu = fastest(torch.device(device)), fastest(torch.device("cpu"))
    if fused is one_pass:
        return []
    g = torch.Generator().manual_seed(0)
    W = torch.randn(shape, generator=g).bfloat16()
    f = torch.rand(shape[1], generator=g)
    weights = rotating(lambda: W.to(device, copy=True), 2 * W.numel(), device)
    factors, few = f.to(device), W[:CHECKED_ROWS]
    # Results rotate like the weights, so that what is written goes to memory, too.
    out = rotating(lambda: results(weights(), fp8.E4M3, None), 2 * W.numel(), device)

    def select(target: dict[str, Any]) -> object:
        return fused.select(weights(), factors, **target, out=out()[0])

    def select_cast(target: dict[str, Any]) -> object:
        return fused.select_cast(weights(), factors, **target, out=out())

    calls: dict[str, Callable[[], object]] = {}
    equal = {}
    for name, target in TARGETS.items():
        calls[f"select {name}"] = partial(select, target)
        calls[f"select and cast {name}"] = partial(select_cast, target)
        equal[f"select {name}"] = torch.equal(
            fused.select(few.to(device), factors, **target).cpu(), cpu.select(few, f, **target)
        )
        ours, theirs = fused.select_cast(few.to(device), factors, **target), cpu.select_cast(few, f, **target)
        equal[f"select and cast {name}"] = all(
            torch.equal(a.cpu().view(torch.uint8), b.view(torch.uint8)) for a, b in zip(ours, theirs)
        )
    rows = []
    for name, timing in time_in_turn(calls, device, rounds).items():
        gbs = W.numel() * (4 if "cast" in name else 3) / timing.median / 1e9
        rows.append(
            {
                "name": name,
                "shape": list(shape),
                "us": timing.median * 1e6,
                "quartiles_us": [q * 1e6 for q in timing.quartiles],
                "gbs": gbs,
                "copy_share": gbs / copy_gbs,
                "equal": equal[name],
            }
        )
    return rows


@torch.inference_mode()
def measure_layers(
    shape: tuple[int, int], batches: Sequence[int], device: str, dtype: torch.dtype | None = None, rounds: int = 15
) -> list[dict]:
    """Time dense, FP8, 2:4 and FP8 2:4 layers on the same random 2:4 weight, in turn, with weights from memory.

    Args:
        shape: of the weight, (out, in).
        batches: tokens at once.
        device: "cpu", or "cuda" (with an index if wanted).
        dtype: of inputs, dense and 2:4 weights; default bfloat16, or float16 below compute capability 8.0.
        rounds: samples of each.

    Returns:
        For each batch size and kind ``kind, shape, M, dtype`` and either ``us, quartiles_us, speedup,
        speedup_quartiles`` over dense and ``within_bound``, or ``missing``, the reason why it does not run.
    """
    if dtype is None:
        old = device.startswith("cuda") and torch.cuda.get_device_capability(device) < (8, 0)
        dtype = torch.float16 if old else torch.bfloat16
    g = torch.Generator().manual_seed(0)
    W = torch.randn(shape, generator=g).to(device) / shape[1] ** 0.5
    W = torch.where(nm_mask(W.abs(), 2, 4), W, 0)
    scale = fp8.scales(W)
    codes = fp8.cast(W, scale)
    W = fp8.uncast(codes, scale).to(dtype)
    makers = {
        "dense": (lambda: _dense(W), 2),
        "fp8": (lambda: Fp8Product(codes.clone(), scale), 1),
        "2:4": (lambda: Sparse24Product(W), 9 / 8),
        "fp8 2:4": (lambda: Sparse24Fp8Product(codes, scale), 5 / 8),
    }
    layers, missing = {}, {}
    for kind, (make, size) in makers.items():
        try:
            make()(torch.ones(2, shape[1], dtype=dtype, device=device))
            layers[kind] = rotating(make, int(size * W.numel()), device)
        except Exception as problem:  # what the card, the driver or torch lacks
            missing[kind] = first_line(problem)
    rows = []
    for M in batches:
        x = torch.randn(M, shape[1], generator=g).to(device, dtype)
        bound, expected = fp8_error_bound(x, W), x.float() @ W.float().T
        about = {"shape": list(shape), "M": M, "dtype": str(dtype).removeprefix("torch.")}
        timings = time_in_turn({kind: partial(_product, take, x) for kind, take in layers.items()}, device, rounds)
        for kind, timing in timings.items():
            faster, low, high = speedup(timings["dense"], timing)
            row = {"us": timing.median * 1e6, "quartiles_us": [q * 1e6 for q in timing.quartiles]}
            row |= {"speedup": faster, "speedup_quartiles": [low, high]}
            row["within_bound"] = bool(((layers[kind]()(x).float() - expected).abs() <= bound).all())
            rows.append({"kind": kind, **about, **row})
        rows += [{"kind": kind, **about, "missing": why} for kind, why in missing.items()]
    return rows


def _product(take: Callable[[], nn.Module], x: Tensor) -> Tensor:
    """What the next copy of a layer gives."""
    return take()(x)


def _dense(W: Tensor) -> nn.Module:
    layer = nn.Linear(W.shape[1], W.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(W.clone(), requires_grad=False)
    return layer


def describe_passes(rows: list[dict]) -> list[str]:
    """A line for each row of `measure_pass`."""
    lines = ["fused pass on bfloat16 weights, measured, median (quartiles)"]
    for r in rows:
        low, high = r["quartiles_us"]
        agrees = "equals" if r["equal"] else "DIFFERS FROM"
        lines.append(
            f"  {'x'.join(map(str, r['shape'])):<12} {r['name']:<26} {r['us']:9.1f} us ({low:.1f} to {high:.1f})  "
            f"{r['gbs']:7.1f} GB/s  {r['copy_share']:5.0%} of copying  {agrees} the CPU"
        )
    return lines if rows else ["the fused pass does not run here: see the warning above"]


def describe_layers(rows: list[dict]) -> list[str]:
    """A line for each row of `measure_layers`, then where something is slower than dense or does not run."""
    lines = [
        "layers, weights from memory, measured, median; speed-up over dense (quartiles)",
        "  (with the launches of their kernels, which are most of it where tokens are few)",
    ]
    for r in rows:
        if "us" in r:
            low, high = r["speedup_quartiles"]
            lines.append(
                f"  {'x'.join(map(str, r['shape'])):<12} M {r['M']:<5} {r['kind']:<8} {r['us']:9.1f} us  "
                f"{r['speedup']:5.2f}x ({low:.2f} to {high:.2f})" + ("" if r["within_bound"] else "  OUTSIDE ITS BOUND")
            )
    slow = [f"{r['kind']} at {'x'.join(map(str, r['shape']))}, M {r['M']}" for r in rows if r.get("speedup", 1) < 1]
    lines.append("slower than dense: " + ("; ".join(slow) if slow else "nothing"))
    reasons = dict.fromkeys((r["kind"], r["missing"]) for r in rows if "missing" in r)
    return lines + [f"{kind} does not run here: {why}" for kind, why in reasons]
