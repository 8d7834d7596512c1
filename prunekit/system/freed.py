"""What becomes of memory that has been freed. Nothing heavy is imported here."""

from __future__ import annotations

import ctypes
import sys


def keep_freed_memory() -> None:
    """Let glibc use freed memory again rather than get it anew, zeroed page by page: a tenth of a training step.

    Elsewhere than on glibc nothing happens.
    """
    _set(most_maps=0, trim=2**31 - 1)


def give_back_freed_memory() -> None:
    """Let glibc give what is freed back to the system at once, where little memory matters more than time."""
    _set(most_maps=65536, trim=1 << 20)


def _set(most_maps: int, trim: int) -> None:
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # as malloc.h numbers them
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        set_option(M_MMAP_MAX, most_maps)
        set_option(M_TRIM_THRESHOLD, trim)
        if most_maps:
            set_option(M_MMAP_THRESHOLD, 1 << 20)
