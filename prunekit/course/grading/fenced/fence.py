"""What keeps an answer in: no network, no files, no other processes, little memory. Most of it is Linux's.

A process asks for it before it runs what it does not trust, and cannot take it back. Nothing needs a right that an
ordinary user lacks; where a system lacks one of the means the others hold, and `enter` says which do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from pathlib import Path

NOBODY = 65534
NEW_USER, NEW_PIDS, NEW_NETWORK, NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000  # of unshare(2)
CREATE_RULESET, ADD_RULE, RESTRICT = 444, 445, 446  # Landlock's system calls, the same on all machines
DIE_WITH_PARENT, KEEP_RIGHTS, NO_NEW_PRIVILEGES = 1, 8, 38  # of prctl(2)
READ_ALL = 1 << 2  # CAP_DAC_READ_SEARCH of capabilities(7)
RUN, READ, LIST = 1 << 0, 1 << 2, 1 << 3  # Landlock's rights; those that nobody gets are counted in HANDLED
HANDLED = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights each version of Landlock knows


def call(name: str, *arguments: object) -> int:
    """A function of the C library; -1 where it fails or where there is none of that name."""
    try:
        return getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments)
    except AttributeError:
        return -1


def enter() -> dict[str, bool]:
    """Cut this process and its children off from the network, and let them make rooms for processes.

    It comes before anything that starts threads.

    Returns:
        What was achieved: "network", and "processes" that nobody sees from inside.
    """
    user, group = os.getuid(), os.getgid()
    apart = call("unshare", NEW_NETWORK | NEW_IPC) == 0  # as root
    if not apart and call("unshare", NEW_USER | NEW_NETWORK | NEW_IPC) == 0:
        apart = True
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return {"network": apart, "processes": apart}


def rules(files: list[str], folders: list[str]) -> int | None:
    """Landlock's rules: only these may be read or run, and nothing may be written.

    Args:
        files: files, and folders with all that is in them.
        folders: folders that may only be listed.

    Returns:
        A file descriptor for `close_in`, or None where there is no Landlock.
    """
    version = call("syscall", CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return None
    rights = (1 << HANDLED.get(version, 16)) - 1
    # Rights to files; to TCP, since version 4; to signal others and to sockets of other processes, since version 6.
    wanted = struct.pack("QQQ", rights, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = call("syscall", CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), 0)
    if ruleset < 0:
        return None
    os.set_inheritable(ruleset, False)
    for right, paths in ((RUN | READ | LIST, files), (LIST, folders)):
        for path in filter(os.path.exists, paths):
            place = os.open(path, getattr(os, "O_PATH", os.O_RDONLY))
            rule = struct.pack("=Qi", right if os.path.isdir(path) else right & ~LIST, place)
            call("syscall", ADD_RULE, ruleset, 1, rule, 0)
            os.close(place)
    return ruleset


def close_in(ruleset: int | None, user: str) -> None:
    """Become nobody, and keep to the rules from now on.

    Args:
        ruleset: of `rules`.
        user: "nobody" gives the user up, which only root can; "reader" as well, but for the right to read what belongs
            to others, within the rules, since Python itself may lie where nobody may look; "" keeps the user.

    Raises:
        OSError: it failed: nothing may be run.
    """
    if user:
        call("prctl", KEEP_RIGHTS, 1, 0, 0, 0)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        rights = READ_ALL if user == "reader" else 0
        if call("capset", struct.pack("Ii", 0x20080522, 0), struct.pack("6I", rights, rights, 0, 0, 0, 0)) != 0:
            raise OSError("root's rights cannot be given up")
    call("prctl", DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if ruleset is not None:
        call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if call("syscall", RESTRICT, ruleset, 0) != 0:
            raise OSError("Landlock refuses its own rules")


def can_close_in(ruleset: int | None, user: str, folders: list[str]) -> bool:
    """Whether `close_in` works here, and leaves what Python is made of readable; a child tries it."""
    child = os.fork()
    if child == 0:
        try:
            close_in(ruleset, user)
            for folder in folders:
                os.listdir(folder)
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def limit(seconds: int, memory: int, most: int) -> None:
    """Bound time, memory, files and processes.

    Args:
        seconds: of the processor.
        memory: bytes beyond what the process has.
        most: bytes of a file.
    """
    import resource

    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        used = 0
    bounds = {"CORE": 0, "CPU": seconds, "FSIZE": most, "NOFILE": 64, "NPROC": 0}
    for name, bound in bounds.items() if not used else (bounds | {"AS": used + memory}).items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (bound, bound))
