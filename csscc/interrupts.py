"""Ctrl-C and SIGTERM end a command at any moment: in imports, in a run of onnxruntime, without a traceback.

Python hands a signal to the main thread between two of its instructions, as an exception. That waits as long as a call
of a library does, and may strike where nobody expects it, or where it is lost: in an import, in a finaliser, in what
runs at a fork. So a thread waits for them, which ends the process itself: files appear complete or not at all, so
nothing is lost. What is left to do at the end, such as to end other processes, is given to `before_end`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

TIDYING = 5.0  # seconds that may be spent on what is to be done before the end
INTERRUPTED = 128 + signal.SIGINT

_before_end: list[Callable[[], None]] = []
_messages: list[Callable[[], str]] = [lambda: "interrupted; no file is half-written"]
_ending = threading.RLock()  # held for good by what ends the process


def listen() -> None:
    """Let SIGINT and SIGTERM end the process from now on; to be called once, by the main thread, at its begin."""
    if sys.platform == "win32":  # which has no pipe that wakes a thread up: Python's own way has to do
        return
    reading, wake = os.pipe()
    os.set_blocking(wake, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, _leave_to_thread)
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
def unless_ending() -> Iterator[None]:
    """Where the end has begun, the block does not return: what it then gives or raises comes of what was ended."""
    try:
        yield
    finally:
        with _ending:
            pass


@contextlib.contextmanager
def message_at_end(message: Callable[[], str]) -> Iterator[None]:
    """While the block runs, what is printed when a signal ends the process: a line."""
    _messages.append(message)
    try:
        yield
    finally:
        _messages.remove(message)


def _leave_to_thread(number: int, frame: FrameType | None) -> None:
    """A signal that Python handles wakes the thread that waits for it."""


def _wait(reading: int) -> None:
    number = os.read(reading, 1)[0]
    tidying = threading.Thread(target=_tidy, daemon=True)
    tidying.start()
    tidying.join(TIDYING)
    with contextlib.suppress(OSError):
        os.write(2, f"{_messages[-1]()}\n".encode())
    os._exit(128 + number)


def _tidy() -> None:
    _ending.acquire()
    for action in reversed(list(_before_end)):
        with contextlib.suppress(Exception):
            action()
