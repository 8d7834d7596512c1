"""Starts the worker on a pruned copy of the package, and hands it tasks; a worker that dies is started again."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from ....errors import PrunekitError
from .packing import frames

HERE = Path(__file__).parent
COURSE = HERE.parents[1]
COPIED = (
    "sandbox.py",
    "printing.py",
    "grading/fenced/fence.py",
    "grading/fenced/packing.py",
    "grading/fenced/worker.py",
)
START = "import json, sys; s = json.loads(sys.argv[1]); sys.path += s['path']; from course.grading.fenced import worker"
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
PACKAGES = ("site-packages", "dist-packages")
MOST = 8 << 20  # bytes that an answer may give back
GRACE = 60.0  # seconds in which the worker says something whatever happens


class Runner:
    """A worker and its folders: ``with Runner(...) as runner: runner.run(task, inputs)``.

    Args:
        seconds: of the processor for each task; three times as many pass before one that waits is ended.
        memory: bytes for each task, beyond what Python and torch take.
        modules: what the worker imports beforehand.

    Raises:
        PrunekitError: the system cannot do it, or the worker does not start.
    """

    def __init__(self, seconds: int, memory: int, modules: list[str]) -> None:
        if not hasattr(os, "fork"):
            raise PrunekitError("marks need Linux (or macOS, untested): on Windows use WSL.")
        self.limits = {"seconds": seconds, "memory": memory, "wall": 3.0 * seconds, "most": MOST}
        self.scratch = Path(tempfile.mkdtemp(prefix="marks-"))
        self.folder, self.private = self.scratch / "empty", self.scratch / "private"
        self.settings = self._prepare(modules)
        self._start()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def run(self, task: dict, inputs: bytes) -> tuple[list[dict], str]:
        """What came of a task.

        Args:
            task: as `worker.answers` and `worker.define` take it.
            inputs: a list of arguments, packed.

        Returns:
            What `worker.answers` gives, as far as it came, and why no more came, if so.

        Raises:
            PrunekitError: the worker died and does not start again.
        """
        (self.private / "in").write_bytes(inputs)
        paths = {"inputs": str(self.private / "in"), "result": str(self.private / "out"), "folder": str(self.folder)}
        ended = self._ask(task | paths | self.limits)
        for left in self.folder.iterdir():  # where there is no Landlock
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        try:
            found = frames((self.private / "out").read_bytes())
        except (ValueError, OSError):
            found = []
        if ended == "late":
            return found, f"it did not end within {self.limits['seconds']} seconds"
        return found, "its process ended itself before there was an answer" + f" ({ended})" * (ended != "exit")

    def _ask(self, task: dict) -> str:
        """How the task ended: "exit", "late", "lost" or a signal."""
        (self.private / "out").unlink(missing_ok=True)
        try:
            self.worker.stdin.write(json.dumps(task) + "\n")
            self.worker.stdin.flush()
            return self._hear(task["wall"] + GRACE)["ended"]
        except (OSError, ValueError):
            self._end()
            self._start()
            return "lost"

    def _hear(self, seconds: float) -> dict:
        if not select.select([self.worker.stdout], [], [], seconds)[0]:
            raise ValueError("the worker says nothing")
        return json.loads(self.worker.stdout.readline())

    def _start(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", f"{START}; worker.main(s)", json.dumps(self.settings)]
        quiet = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        env = kept | quiet | {"HOME": str(self.folder), "CUDA_VISIBLE_DEVICES": "", "LANG": "C.UTF-8"}
        with open(self.private / "log", "w") as log:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            self.worker = subprocess.Popen(command, env=env, cwd=self.folder, text=True, **pipes)
        try:
            self.fences = self._hear(GRACE * 5)
        except (OSError, ValueError):
            self._end()
            said = (self.private / "log").read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise PrunekitError(f"the process that runs answers did not start: {''.join(said)}") from None

    def _end(self) -> None:
        self.worker.kill()
        self.worker.wait()
        for pipe in (self.worker.stdin, self.worker.stdout):
            with contextlib.suppress(OSError):  # what was still to be written
                pipe.close()

    def _prepare(self, modules: list[str]) -> dict:
        """Make the folders; returns the worker's settings."""
        code, site = self.scratch / "code", self.scratch / "site"
        for folder, mode in ((self.scratch, 0o755), (self.folder, 0o755), (self.private, 0o700), (site, 0o755)):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
        for name in COPIED:
            target = code / "course" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(COURSE / name, target)
        for entry in installed():
            (site / entry.name).symlink_to(entry)
        standard = Path(sysconfig.get_path("stdlib"))
        own = [path for path in standard.iterdir() if path.name not in PACKAGES]
        shared = [path for path in (Path(sys.base_prefix) / "lib").glob("*.so*") if path.is_file()]
        read = [*(path.resolve() for path in site.iterdir()), *own, *shared, *LIBRARIES, *DEVICES]
        read += [code, site, self.folder, Path(sysconfig.get_path("platstdlib")) / "lib-dynload"]
        return {
            "path": [str(code), str(site)],
            "read": list(map(str, read)),
            "list": sorted({str(standard), *(str(path.resolve().parent) for path in site.iterdir())}),
            "modules": modules,
        }


def installed() -> list[Path]:
    """What is installed beside this Python, without prunekit."""
    found: dict[str, Path] = {}
    for folder in (Path(path) for path in sys.path if Path(path).name in PACKAGES and Path(path).is_dir()):
        for path in folder.iterdir():
            if "prunekit" not in path.name and path.suffix != ".pth" and path.name != "__pycache__":
                found.setdefault(path.name, path.resolve())
    return list(found.values())
