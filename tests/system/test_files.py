"""Nothing half-written: killed at any moment, a save leaves the old state or the new one."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tiny import ROOT

from prunekit.errors import PrunekitError
from prunekit.system import files, locks
from prunekit.system.files import (
    cache_dir,
    check_free,
    check_writable,
    check_writable_file,
    new_folder,
    temporary_file,
    write_json,
)

FILES = 6
WRITER = f"""
import sys, time
from pathlib import Path
from prunekit.system.files import new_folder
base, pause, text = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
with new_folder(base / "model", keep_existing=True) as folder:
    print("begun", flush=True)
    sys.stdin.readline()
    for i in range({FILES}):
        (folder / f"{{i}}.txt").write_text(f"{{text}} {{i}}" * 1000)
        time.sleep(pause)
"""


def start(code, *arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, cwd=ROOT, **pipes | options
    )


def go_on(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def assert_complete(folder):
    assert sorted(path.name for path in folder.iterdir()) == [f"{i}.txt" for i in range(FILES)]
    assert len({(folder / f"{i}.txt").read_text()[:3] for i in range(FILES)}) == 1  # all from one process


# A whole save, killed just before each of its steps that touch the file system in turn.
EVERY_STEP = """
import json, os, signal, sys
from pathlib import Path
import torch
from prunekit.compression.compress import compress
from prunekit.storage.save import save
from prunekit.storage.load import load

source, base = sys.argv[1], Path(sys.argv[2])
model, tokenizer = load(source, device="cpu")
result = compress(model, sparsity=0.5, method="magnitude", fp8="e4m3")
count = None

def watch(event, arguments):
    global count
    if count is not None and any(str(base) in str(a) for a in arguments) and "scandir" not in event:
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
save(result, tokenizer, base / "reference")  # imports what is imported late
step = 0
while True:
    target = base / str(step) / "out"
    target.parent.mkdir(parents=True)
    if step % 2:
        target.mkdir()  # an empty folder is another old state
    child = os.fork()
    if not child:
        count = step
        save(result, tokenizer, target)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    step += 1
print(step)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_every_step_of_a_save_leaves_the_old_state_or_the_new(folders, tmp_path):
    process = start(EVERY_STEP, folders.llama, tmp_path)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    steps = int(out)
    assert steps > 20
    whole = {path.name: path.read_bytes() for path in (tmp_path / "reference").iterdir()}
    states = []
    for step in range(steps):
        base = tmp_path / str(step)
        present = {path.name: path.read_bytes() for path in (base / "out").glob("*")}
        assert present in ({}, whole), f"step {step}: {sorted(present)}"
        assert {path.name for path in base.iterdir()} - set(leftovers(base)) <= {"out"}
        states.append(bool(present))
        with new_folder(base / "next"):
            pass
        assert leftovers(base) == []
    assert states == sorted(states)  # old states first, then, once renamed, the new one
    assert {path.name: path.read_bytes() for path in (tmp_path / str(steps) / "out").iterdir()} == whole


def test_two_processes_that_fill_a_cache_at_once_both_succeed(tmp_path):
    for pauses in ((0.002, 0.002), (0.0, 0.01), (0.01, 0.0)):
        base = tmp_path / str(pauses)
        both = [start(WRITER, base, pause, letter * 3) for pause, letter in zip(pauses, "ab")]
        for process in both:
            assert process.stdout.readline() == "begun\n"
        for process in both:  # both have begun, neither has ended
            go_on(process)
        for process in both:
            assert process.wait(60) == 0, process.stderr.read()
            process.communicate()
        assert [path.name for path in base.iterdir()] == ["model"]
        assert_complete(base / "model")


def test_a_process_that_comes_to_the_cache_a_moment_later_succeeds_too(tmp_path):
    """It has found no cache, and while it imports what it needs to fill it another process has done so."""
    target = tmp_path / "model"
    with new_folder(target, keep_existing=True) as folder:
        (folder / "file").write_text("first")
    with new_folder(target, keep_existing=True) as folder:
        (folder / "file").write_text("second")
    assert (target / "file").read_text() == "first"
    assert leftovers(tmp_path) == []


def test_the_slower_of_two_keeps_what_the_faster_has_made(tmp_path):
    with new_folder(tmp_path / "model", keep_existing=True) as slow:
        (slow / "file").write_text("slow")
        with new_folder(tmp_path / "model", keep_existing=True) as fast:
            (fast / "file").write_text("fast")
    assert (tmp_path / "model" / "file").read_text() == "fast"
    with (
        pytest.raises(PrunekitError, match=r"cannot create .*; choose another"),
        new_folder(tmp_path / "a") as a,
    ):
        (a / "file").write_text("slow")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "mine").write_text("mine")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]
    assert leftovers(tmp_path) == []


def test_work_of_processes_that_live_is_not_swept(tmp_path):
    process = start(WRITER, tmp_path, 0, "abc")
    try:
        assert process.stdout.readline() == "begun\n"
        theirs = leftovers(tmp_path)
        with new_folder(tmp_path / "mine") as folder:
            (folder / "file").write_text("text")
        assert leftovers(tmp_path) == theirs
        go_on(process)
        assert process.wait(60) == 0
        assert_complete(tmp_path / "model")
    finally:
        process.kill()
        process.communicate()


DEAD, ALIVE = f"{locks.MARK}{'0' * 16}", f"{locks.MARK}{'1' * 16}"


def test_what_a_killed_process_had_moved_away_comes_back(tmp_path):
    (tmp_path / f"{DEAD}.lock").write_text("")
    for name in (DEAD, f"{DEAD}-old-gone", f"{DEAD}-old-there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text("old")
    (tmp_path / "there").mkdir()
    write_json(tmp_path / "report.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "report.json", "there"]
    assert (tmp_path / "gone" / "text").read_text() == "old" and not any((tmp_path / "there").iterdir())


def test_an_error_that_is_no_matter_of_files_is_not_called_one(tmp_path):
    with pytest.raises(OSError, match=r"^no such tokenizer$"), new_folder(tmp_path / "model"):
        raise OSError("no such tokenizer")
    assert list(tmp_path.iterdir()) == []


def test_sweeping_touches_nothing_of_others(tmp_path):
    kept = [locks.MARK, f"{locks.MARK}x-1", f"{locks.MARK}x.lock", f"{ALIVE}-abc", ".hidden", "file"]
    for name in kept:  # no lock tells of an owner, or it is no name of ours
        (tmp_path / name).write_text("mine")
    (tmp_path / f"{ALIVE}.lock").symlink_to(tmp_path / "file")
    (tmp_path / f"{DEAD}.lock").write_text("")
    (tmp_path / DEAD).mkdir()
    (tmp_path / DEAD / "half").write_text("half")
    (tmp_path / f"{DEAD}-report.json").write_text("half")
    with new_folder(tmp_path / "new"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, f"{ALIVE}.lock", "new"])
    assert all((tmp_path / name).read_text() == "mine" for name in kept)


HOLDER = """
import sys
from pathlib import Path
from prunekit.system.locks import own_name
with own_name(Path(sys.argv[1])) as name:
    name.mkdir()
    print(name.name, flush=True)
    sys.stdin.readline()
"""


def test_a_lock_tells_who_lives_where_process_numbers_do_not(tmp_path, monkeypatch):
    """As in two containers with one folder: neither sees the other's processes, and both bear the same name."""
    import psutil

    monkeypatch.setattr(psutil, "pid_exists", lambda _: False)
    process = start(HOLDER, tmp_path)
    try:
        theirs = process.stdout.readline().strip()
        for _ in range(2):
            write_json(tmp_path / "report.json", {})
            assert (tmp_path / theirs).is_dir()
        process.kill()
        process.wait()
        write_json(tmp_path / "report.json", {})
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    finally:
        process.kill()
        process.communicate()


def test_without_locks_nothing_is_taken_from_anybody(tmp_path, monkeypatch):
    """On a file system that has none, or where the lock's file is somebody else's."""
    import filelock

    def acquire(self, *_, **__):
        raise OSError(38, "Function not implemented")

    (tmp_path / f"{ALIVE}.lock").write_text("")
    (tmp_path / ALIVE).mkdir()
    with monkeypatch.context() as m:
        m.setattr(filelock.FileLock, "acquire", acquire)
        write_json(tmp_path / "report.json", [1])
        with new_folder(tmp_path / "new"), locks.locked(tmp_path / "lock") as held:
            assert held is False
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([ALIVE, f"{ALIVE}.lock", "new", "report.json"])


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_error_while_the_folder_is_filled_leaves_nothing(tmp_path, error):
    expected = PrunekitError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), new_folder(tmp_path / "out") as folder:
        (folder / "half").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_new_folders_are_readable_by_others_like_any_folder(tmp_path):
    with new_folder(tmp_path / "a" / "b") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("text")
        assert folder.parent == tmp_path / "a" and not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "b" / "sub" / "file").read_text() == "text"


def test_a_relative_name_is_as_good(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_folder(Path("out")) as folder:
        (folder / "file").write_text("text")
    write_json(Path("report.json"), [1])
    check_writable(Path("other"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "report.json"]


def test_places_that_are_taken_or_cannot_be(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nosuch"):
        check_free(path)
        check_writable(path)
    for name, message in [("file", "exists and is not a folder"), ("full", "exists and is not empty")]:
        with pytest.raises(PrunekitError, match=message):
            check_free(tmp_path / name)
    check_writable(tmp_path / "a" / "b" / "c")
    with pytest.raises(PrunekitError, match="file is not a folder you may write to; choose another"):
        check_writable(tmp_path / "file" / "below" / "it")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]


def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda *_: False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    for place in ("out", "out/below", "empty"):
        with pytest.raises(PrunekitError, match="not a folder you may write to"):
            check_writable(tmp_path / place)
    for place in ("report.json", "file"):
        with pytest.raises(PrunekitError, match="not a folder you may write to"):
            check_writable_file(tmp_path / place)
    with pytest.raises(PrunekitError, match="you may not look into it"):
        check_free(tmp_path / "empty")
    monkeypatch.setattr(files.os, "access", lambda path, _: Path(path) != tmp_path / "file")
    with pytest.raises(PrunekitError, match=r"cannot write .*file: you may not write to it"):
        check_writable_file(tmp_path / "file")


def test_nothing_takes_the_place_of_a_link_a_mount_point_or_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    for target in (tmp_path / "link", tmp_path / "empty", Path(".")):
        with pytest.raises(PrunekitError, match="a mount point, a link or the current folder: give a new name"):
            check_writable(target)
    monkeypatch.setattr(files.os.path, "ismount", lambda _: True)
    with pytest.raises(PrunekitError, match="a mount point"):
        check_writable(tmp_path / "out")


def test_a_folder_is_replaced_by_a_whole_one_or_stays(tmp_path):
    for text in ("first", "second"):
        with files.replacing(tmp_path / "out") as folder:
            folder.mkdir()
            (folder / "file").write_text(text)
            assert text == "first" or (tmp_path / "out" / "file").read_text() == "first"
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "out") as folder:
        folder.mkdir()
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "out"):
        pass  # nothing was made, which shows only when it is to be renamed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "second"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_forbids_writing(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PrunekitError, match="cannot write to"), new_folder(tmp_path / "out"):
            pass
        with pytest.raises(PrunekitError, match="cannot write"):
            write_json(tmp_path / "report.json", {})
    finally:
        tmp_path.chmod(0o755)


def test_json_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "a" / "report.json"
    write_json(path, {"words": "é" * 100_000, "number": -1})
    assert json.loads(path.read_text("utf-8")) == {"words": "é" * 100_000, "number": -1}
    stop, seen = threading.Event(), []

    def read():
        while not stop.is_set():
            seen.append(json.loads(path.read_text("utf-8"))["number"])

    reader = threading.Thread(target=read)
    reader.start()
    number = 0
    while reader.is_alive() and (number < 30 or len(seen) < 10):
        write_json(path, {"number": number, "words": "x" * 100_000})
        number += 1
    stop.set()
    reader.join()
    assert len(seen) >= 10 and seen == sorted(seen)  # each read found a whole file, none older than the one before
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]


def test_json_that_cannot_be_made_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1} and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(PrunekitError, match="cannot write"):
        write_json(path / "below", {})
    assert json.loads(path.read_text()) == {"old": 1} and len(list(tmp_path.iterdir())) == 1


def test_json_in_the_place_of_a_folder_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(PrunekitError, match=r"cannot write .*folder"):
        write_json(tmp_path / "folder", {})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("PRUNEKIT_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("PRUNEKIT_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "prunekit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "prunekit"
    monkeypatch.setenv("PRUNEKIT_CACHE", "~/elsewhere")
    assert cache_dir() == Path.home() / "elsewhere"


def test_what_is_renamed_is_on_the_disk_before(tmp_path, monkeypatch):
    from prunekit.system import files

    def is_there(name):
        return (tmp_path / ("out" if name == "file" else name)).exists()

    synced, original = [], files._sync
    monkeypatch.setattr(
        files, "_sync", lambda path, *a: synced.append((path.name, is_there(path.name))) or original(path, *a)
    )
    with files.new_folder(tmp_path / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("text")
    assert ("file", False) in synced
    files.write_json(tmp_path / "report.json", {})
    assert synced[-1] == ("report.json", False)


def test_a_full_disk_under_safetensors_is_a_sentence(tmp_path):
    from prunekit.system import files

    for manager in (files.new_folder, files.temporary_file):
        with (
            pytest.raises(PrunekitError, match=r"cannot write .*No space left.*free some space"),
            manager(tmp_path / "out"),
        ):
            raise SafetensorError("No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_two_that_write_a_file_do_so_under_two_names(tmp_path):
    from prunekit.system import files

    with files.temporary_file(tmp_path / "a") as mine:
        mine.write_text("mine")
        with files.temporary_file(tmp_path / "a") as other:
            assert other != mine
            other.write_text("other")
    assert (tmp_path / "a").read_text() == "mine"


def test_what_json_cannot_say_is_null(tmp_path):
    values = {"a": float("nan"), "b": [1.5, float("inf"), (-float("inf"), 2)], "c": {"d": float("nan")}, "e": True}
    write_json(tmp_path / "file.json", values)
    text = (tmp_path / "file.json").read_text("utf-8")
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read == {"a": None, "b": [1.5, None, [None, 2]], "c": {"d": None}, "e": True}


def test_threads_may_write_the_same_file(tmp_path):
    values = [{"n": n, "x": "y" * 9999} for n in range(8)]
    threads = [threading.Thread(target=write_json, args=(tmp_path / "a", value)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads((tmp_path / "a").read_text("utf-8"))["n"] in range(8)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "token_hex", lambda _: "foreseen")
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / f"{locks.MARK}foreseen").symlink_to(victim)
    with pytest.raises(PrunekitError, match="cannot write"):
        write_json(tmp_path / "report.json", {})
    assert victim.read_text() == "theirs" and not (tmp_path / "report.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002], ids=oct)
def test_the_umask_holds_for_folders_and_files(tmp_path, mask):
    before = os.umask(mask)
    try:
        with new_folder(tmp_path / "out") as folder:
            save_file({"zeros": torch.zeros(3)}, folder / "file")
        with temporary_file(tmp_path / "state") as temporary:
            save_file({"zeros": torch.zeros(3)}, temporary)
        write_json(tmp_path / "report.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~mask
    for file in (tmp_path / "out" / "file", tmp_path / "state", tmp_path / "report.json"):
        assert file.stat().st_mode & 0o777 == 0o666 & ~mask
