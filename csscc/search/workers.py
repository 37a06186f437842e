"""Work that several processes or machines share: a Dask scheduler hands tasks out, and again where a worker dies.

`--jobs` starts a scheduler and worker processes on this machine, `--scheduler` uses one that runs already, whose
workers have csscc installed and find the same files at the same paths.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import signal
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any, Protocol, TypeVar

from csscc.errors import RefusedError, UsageError
from csscc.interrupts import before_end
from csscc.io.files import temporary_folder
from csscc.runtime.session import set_threads

ADDRESS = r"(\w+://)?[^\s/]{1,255}:\d{1,5}"
PAGE = "127.0.0.1:0"  # of the scheduler's pages, which it has in any case: any free port, for this machine only
CONNECTS = 10  # seconds
QUIET = 10  # looks in a row that find no worker process
FAILURES = 1  # worker processes of this machine that a task may cost before it is given up
FILTERS = "PYTHONWARNINGS"  # the variable that holds the filters of warnings of processes that are started
State = TypeVar("State")
Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Work(Protocol[State, Task, Result]):
    """What is done with every task; pickled once for each worker.

    `begin` makes what all tasks share, once in each worker.
    """

    def begin(self) -> State:
        """What tasks share."""

    def do(self, state: State, task: Task) -> Result:
        """One task."""


class Workers:
    """Processes that do the tasks of one work.

    Args:
        client: of the scheduler.
        work: what they do.
        threads: of onnxruntime in each process; None for as many as Dask gives it.
    """

    def __init__(self, client: Any, work: Work[Any, Any, Any], threads: int | None) -> None:
        self._client, self._threads, self._name = client, threads, uuid.uuid4().hex
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large task: it holds the samples, so that none is lost with a worker
            self._work = client.submit(_itself, work, key=f"csscc-{self._name}")

    def each(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """The place of each task and its result, as they are finished.

        Raises:
            RefusedError: a task ended several processes, or all workers are gone.
            Exception: what a task raised.
        """
        from distributed import as_completed

        futures = {
            self._client.submit(_do, self._work, self._name, self._threads, task, key=f"csscc-{uuid.uuid4().hex}"): i
            for i, task in enumerate(tasks)
        }
        try:
            for future in as_completed(futures):
                yield futures[future], _result(future)
        finally:
            self._client.cancel(list(futures))

    def all(self, tasks: Sequence[Any]) -> list[Any]:
        """The results of all tasks, in order."""
        return [result for _, result in sorted(self.each(tasks), key=lambda found: found[0])]

    def call(self, function: Callable[[], Any]) -> Any:
        """What a function gives in one of the processes."""
        return _result(self._client.submit(_called, function, pure=False))


@contextlib.contextmanager
def workers(work: Work[Any, Any, Any], jobs: int, scheduler: str | None) -> Iterator[Workers]:
    """So many processes on this machine, which share its cores, or those of a scheduler; they know the work.

    Raises:
        UsageError: distributed is not installed, the work cannot be sent, or the address is none.
        RefusedError: nobody answers at the address.
    """
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(f"several jobs need a model and data that are paths or arrays ({error})") from error
    try:
        import distributed
    except ImportError as error:
        raise UsageError("several jobs need Dask: pip install 'csscc[distributed]'") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters comes as an exception
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            client, threads = stack.enter_context(_local(distributed, jobs))
        else:
            client, threads = stack.enter_context(_remote(distributed, scheduler)), None
        yield Workers(client, work, threads)


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _local(distributed: Any, jobs: int) -> Iterator[tuple[Any, int]]:
    """A scheduler in this process, and worker processes, on the loopback interface."""
    import dask

    jobs, before = max(1, min(jobs, cores())), set(_started_by_this_process())
    settings = {"distributed.scheduler.allowed-failures": FAILURES, "distributed.admin.low-level-log-length": 0}
    _track_resources()
    with temporary_folder() as folder, dask.config.set(settings):
        with _deaf_to_interrupts():
            cluster = distributed.LocalCluster(
                n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0,
                silence_logs=logging.CRITICAL, local_directory=str(folder),
                scheduler_kwargs={"dashboard_address": PAGE},
            )  # fmt: skip

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                cluster.loop.add_callback(threading.Event().wait)  # or it would start others in place of those that end
            _end(before)

        try:
            with before_end(end), distributed.Client(cluster) as client:
                cluster.scale(jobs)
                yield client, max(1, cores() // jobs)
        finally:
            cluster.close()


def _track_resources() -> None:
    """Start the process that frees what processes share; it frees without a warning what an interrupt leaves to it.

    Started later, by the thread that starts the workers, it would let Ctrl-C reach that thread again.
    """
    if sys.platform == "win32":  # which frees them itself
        return
    before = os.environ.get(FILTERS)
    os.environ[FILTERS] = "ignore"
    try:
        resource_tracker.ensure_running()
    finally:
        os.environ.pop(FILTERS)
        if before is not None:
            os.environ[FILTERS] = before


def _started_by_this_process() -> list[Any]:
    """Processes, also those that are just being started, but for the one in which Python notes their resources."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if not any("resource_tracker" in word for word in process.cmdline()):
                found.append(process)
    return found


def _end(before: set[Any]) -> None:
    """End what was started since, at once: a worker that loses its parent as it begins would print a traceback."""
    import psutil

    quiet = 0
    while quiet < QUIET:  # another one may be about to start
        running = set(_started_by_this_process()) - before
        for process in running:
            with contextlib.suppress(psutil.Error):
                process.kill()
        quiet = 0 if running else quiet + 1
        time.sleep(0.02)


@contextlib.contextmanager
def _remote(distributed: Any, address: str) -> Iterator[Any]:
    if not re.fullmatch(ADDRESS, address):
        raise UsageError(f"'{address}' is no address of a scheduler such as tcp://host:8786")
    try:
        client = distributed.Client(address, timeout=CONNECTS)
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"{address}: no scheduler answers; start one with: dask scheduler, and workers with: dask worker {address}"
        ) from error
    with client:
        yield client


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Threads and processes that are started meanwhile get no Ctrl-C: it is for the main thread."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_begun: tuple[str, Any] = "", None
_busy = threading.Lock()


def _result(future: Any) -> Any:
    """What a future holds.

    Raises:
        RefusedError: several processes ended over it, or all of them are gone.
        Exception: what its task raised.
    """
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        return future.result()
    except (KilledWorker, FutureCancelledError) as error:
        raise RefusedError(
            "several processes were ended from outside, perhaps for lack of memory; finished settings of a sweep are "
            "kept: run the same command again, with fewer jobs"
        ) from error


def _itself(work: Any) -> Any:
    return work


def _called(function: Callable[[], Any]) -> Any:
    return function()


def _do(work: Any, name: str, threads: int | None, task: Any) -> Any:
    """One task at a time, in a process that has begun the work."""
    global _begun
    with _busy:
        set_threads(_threads_of_worker() if threads is None else threads)
        if _begun[0] != name:
            _begun = "", None  # what another work began may be large
            _begun = name, work.begin()
        return work.do(_begun[1], task)


def _threads_of_worker() -> int:
    from distributed import get_worker

    return int(get_worker().state.nthreads)
