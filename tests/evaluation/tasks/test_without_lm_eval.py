"""Where lm-eval is not installed, that is a sentence; where it is not in the tests' environment, it gets one."""

import importlib.util
import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
from tiny import ROOT

import prunekit as pk


def test_lm_eval_is_not_installed(monkeypatch, llama, tokenizer):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(pk.PrunekitError, match=r"lm-eval, which is not installed: pip install 'prunekit\[eval\]'"):
        pk.run_tasks(llama, tokenizer)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="lm-eval is installed and tested here")
def test_tasks_in_an_environment_of_their_own(tmp_path):
    """lm-eval brings forty packages of half a gigabyte, so that the tests' environment does without."""
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path)}))
    packages.joinpath("usual.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    install = [python, "-m", "pip", "install", "--quiet", "lm-eval[hf]>=0.4.12"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip("lm-eval cannot be installed here")
    tests = [ROOT / "tests" / name for name in ("evaluation/tasks/test_lm_eval.py", "cli/test_run_tasks.py")]
    run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout[-3000:]
