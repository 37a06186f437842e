"""Give freed memory back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from mmap import PAGESIZE
from pathlib import Path

GROWTH = 32 << 20  # bytes below which it is not done
RESIDENT = Path("/proc/self/statm")

_before = 0


def release() -> None:
    """Collect graphs that nothing refers to and return what is free to the system, if the process has grown.

    Graphs are full of cycles, and glibc keeps what a session and its tensors have freed: without this, each
    conversion and each session of a compilation takes new memory beside that of the one before. Collecting takes time
    in proportion to all that a program holds, so it is done only where memory has grown by `GROWTH` since the last
    time; where that is not known, always.
    """
    global _before
    if 0 < resident() < _before + GROWTH:
        return
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own; other C libraries return memory at once
        if trim is not None:
            trim(0)
    _before = resident()


def resident() -> int:
    """Bytes of this process that are in memory; 0 where the system does not state it."""
    try:
        return int(RESIDENT.read_text().split()[1]) * PAGESIZE
    except (OSError, ValueError, IndexError):
        return 0
