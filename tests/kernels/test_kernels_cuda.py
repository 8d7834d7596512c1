"""The fused GPU pass as far as it goes without a GPU: interpreted, compiled, and done without."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import ROOT

from prunekit.kernels import cpu, dispatch
from prunekit.method import one_pass

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@needs_triton
def test_the_interpreted_kernel_is_the_plain_pass():
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(HERE / "interpreted" / "kernels_cuda.py")]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


COMPILE = """
import sys
from prunekit.kernels.triton_kernel import fused_pass
try:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
except ImportError:
    sys.exit(print("other triton"))

for capability, dtype, n, m, joint in [(80, "bf16", 0, 64, 1), (90, "fp32", 0, 64, 0), (120, "fp16", 2, 4, 1)]:
    tile = 64 if n == 0 else 256
    constants = dict(N=n, M=m, MP=m, TILE=tile, ROWS=1024 // tile, JOINT=bool(joint), CAST=bool(joint), FMA=True,
                     MAX=448.0, MANTISSA=3, LOWEST=-6)
    signature = dict(W="*" + dtype, f="*fp32", given="*fp32", keep="*u8", codes="*u8", scale="*fp32", warmup="*fp32",
                     decision="*fp32", rows="i32", columns="i32", sweeps="i32", share="fp32", height="i32", width="i32",
                     given_columns="i32") | {name: "constexpr" for name in constants}
    names = fused_pass.arg_names
    values = {(names.index(name),): value for name, value in constants.items()}
    whole = {(names.index(name),): [["tt.divisibility", 16]] for name in ("W", "f", "keep", "codes", "columns")}
    try:
        source = ASTSource(fn=fused_pass, signature=signature, constexprs=values, attrs=whole)
    except TypeError:
        sys.exit(print("other triton"))
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32),
                           options={"num_warps": 4, "enable_fp_fusion": False})
    ptx = built.asm["ptx"]
    assert ".ftz" not in ptx and "e4m3" not in ptx, "the kernel must keep subnormals and need no FP8 hardware"
    assert built.metadata.shared <= 1024, "a conversion of layouts has come back into the loops"
print("compiled")
"""


@needs_triton
def test_it_compiles_for_gpus_old_and_new(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.stdout.strip() == "other triton":  # how to compile without a GPU is not promised
        pytest.skip("this triton compiles in another way")
    assert done.stdout.strip() == "compiled", done.stderr[-3000:]


def test_division_by_a_reciprocal_and_one_correction_is_exact():
    # Products of two float32 are exact in float64, which makes a fused multiply-add of it.
    g = np.random.default_rng(0)
    x = np.abs(g.standard_normal(1_000_000)).astype(np.float32)
    s = np.abs(g.standard_normal(1_000_000)).astype(np.float32) / np.float32(448)
    r = np.float32(1) / s
    quotient = x * r
    rest = (x.astype(np.float64) - quotient.astype(np.float64) * s).astype(np.float32)
    quotient = (quotient.astype(np.float64) + rest.astype(np.float64) * r).astype(np.float32)
    assert (quotient == x / s).all()


def test_the_module_for_a_device():
    assert dispatch.fastest(torch.device("cpu")) is cpu
    assert dispatch.fastest(torch.device("meta")) is one_pass


@pytest.mark.parametrize("capability", [(7, 5), (8, 9)])
def test_without_triton_or_on_an_old_card_a_warning_names_the_reason(capability, monkeypatch):
    dispatch._on_gpu.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "prunekit.kernels.cuda", raising=False)
    with pytest.warns(UserWarning, match=r"7\.5" if capability == (7, 5) else "triton"):
        assert dispatch.fastest(torch.device("cuda")) is one_pass
    with warnings.catch_warnings():  # once is enough
        warnings.simplefilter("error")
        assert dispatch.fastest(torch.device("cuda")) is one_pass
    dispatch._on_gpu.cache_clear()
