"""Give freed memory back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys


def release() -> None:
    """Collect graphs that nothing refers to and return what is free to the system.

    Graphs are full of cycles, and glibc keeps what a session and its tensors have freed: without this, each
    conversion and each session of a compilation takes new memory beside that of the one before.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own; other C libraries return memory at once
        if trim is not None:
            trim(0)
