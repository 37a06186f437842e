"""Ctrl-C and SIGTERM end a command at any moment: in imports, in a run of onnxruntime, without a traceback.

Python hands a signal to the main thread between two of its instructions, as an exception. That waits as long as a call
of a library does, and may strike where nobody expects it: in an import, in a finaliser. So a thread waits for them,
which ends the process itself: files appear complete or not at all, so nothing is lost. Only what runs `gracefully` gets
the exception, and some seconds to finish.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SECONDS = 5.0  # what runs gracefully may take to finish
TIDYING = 2.0  # what is to be done before the end may take so long
INTERRUPTED = 128 + signal.SIGINT

_before_end: list[Callable[[], None]] = []
_ending = threading.RLock()  # held for good by what ends the process
_graceful, _raised = threading.Event(), threading.Event()


def listen() -> None:
    """Let SIGINT and SIGTERM end the process from now on; to be called once, by the main thread, at its begin."""
    if sys.platform == "win32":  # which has no pipe that wakes a thread up: Python's own way has to do
        return
    reading, wake = os.pipe()
    os.set_blocking(wake, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, _in_main_thread)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reading,), daemon=True).start()


@contextlib.contextmanager
def before_end(action: Callable[[], None]) -> Iterator[None]:
    """While the block runs, `action` is what is left to do when a signal ends the process, such as to remove a file."""
    with _ending:
        _before_end.append(action)
    try:
        yield
    finally:
        _before_end.remove(action)


@contextlib.contextmanager
def not_ending() -> Iterator[None]:
    """While the block runs, a signal waits with the end; where the end has begun, the block does not begin any more."""
    with _ending:
        yield


@contextlib.contextmanager
def gracefully() -> Iterator[None]:
    """While the block runs, a signal is a KeyboardInterrupt in the main thread, as it is without `listen`."""
    _graceful.set()
    try:
        yield
    finally:
        _graceful.clear()


def _in_main_thread(number: int, frame: FrameType | None) -> None:
    if _graceful.is_set():
        _raised.set()
        raise KeyboardInterrupt


def _wait(reading: int) -> None:
    number = os.read(reading, 1)[0]
    if _graceful.is_set() or _raised.is_set():
        threading.Event().wait(SECONDS)
    tidying = threading.Thread(target=_tidy, daemon=True)
    tidying.start()
    tidying.join(TIDYING)
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted; no file is half-written\n")
    os._exit(128 + number)


def _tidy() -> None:
    _ending.acquire()
    for action in reversed(list(_before_end)):
        with contextlib.suppress(Exception):
            action()
