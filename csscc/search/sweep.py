"""One network in many settings: compile and evaluate each, and keep what is found.

The paper's experiments (figures 1 and 2, the ablations of silent period, negative spikes and amplitude adjustment) are
grids of settings. Each finished setting is a line of ``settings.jsonl`` in the folder, so a sweep that was stopped goes
on where it was, and lines of several folders, concatenated, are one sweep. Every line carries the fingerprint of the
model and the data: results of different networks never mix.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from csscc import api
from csscc.dialect.sizes import Shapes
from csscc.errors import CssccError, RefusedError, UsageError
from csscc.interrupts import end_with_parent
from csscc.io.data import ImageOptions, open_source
from csscc.io.files import writable
from csscc.measure.evaluation import evaluate
from csscc.options import make_options
from csscc.runtime.session import set_threads
from csscc.search import Progress
from csscc.search.journal import JOURNAL, WRITTEN, Journal, digest, digest_of_model, runs_code, write_results
from csscc.search.settings import Row, Setting


@dataclass(frozen=True)
class Job:
    """What all settings of a sweep share."""

    model: str | Path | onnx.ModelProto
    data: Any
    calibration: Any = None
    preset: str = "default"
    samples: int | None = None
    limit: int | None = None
    images: ImageOptions | None = None
    input_shape: Shapes | None = None

    def fingerprint(self) -> dict[str, str]:
        """What results depend on besides the setting: digests of contents, so that a copied file is the same file."""
        return {
            "csscc": version("csscc"),
            "model": digest_of_model(self.model),
            "data": digest(self.data, self.limit),
            "calibration": digest(self.calibration, self.samples or make_options().calibration_samples),
            "options": f"preset={self.preset} samples={self.samples} limit={self.limit} images={self.images}"
            + (f" input_shape={dict(self.input_shape)}" if self.input_shape else ""),
        }

    def calibrate(self, progress: Progress | None = None) -> api.Calibrated:
        """The part of the work that all settings share; data that no setting could be evaluated on is refused here."""
        ann = api.calibrate(
            self.model,
            self.calibration,
            preset=self.preset,
            images=self.images,
            calibration_samples=self.samples,
            input_shape=self.input_shape,
            progress=None if progress is None else lambda stage, done: progress(stage, done, None),
        )
        next(open_source(self.data, ann.source.specs, images=self.images, limit=1).batches(1))
        return ann

    def measure(self, ann: api.Calibrated, setting: Setting) -> Row:
        """Compile and evaluate at one setting; a refusal becomes a row with the reason."""
        started = time.perf_counter()
        try:
            snn = api.compile(ann, preset=self.preset, calibration_samples=self.samples, **asdict(setting))
            result = evaluate(self.model, snn.file, self.data, images=self.images, limit=self.limit)
        except CssccError as error:
            return Row(setting, error=" ".join(str(error).split()))
        if result.faults:
            return Row(setting, error="; ".join(result.faults))
        return Row.of(setting, result, time.perf_counter() - started)


def sweep(
    job: Job,
    settings: Sequence[Setting],
    folder: str | Path,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Row]:
    """Measure what of `settings` the folder does not hold yet, and write ``results.csv`` and ``results.json``.

    Args:
        job: the network and the data.
        settings: see `grid`.
        folder: made if it does not exist.
        jobs: processes that share the cores; more than there are cores or settings are not started. With more than
            one, `job` must be made of paths or arrays.
        progress: told a stage, what is newly done in it, and how much there is.

    Returns:
        All rows in the folder, those of earlier sweeps of the same network and data included.

    Raises:
        UsageError: none of the settings can be used.
        RefusedError: the model or the data cannot be used, or the folder holds results of others.
    """
    folder = Path(folder)
    _refuse_unwritable(folder)
    journal = Journal(folder / JOURNAL, _fingerprint(job, jobs))
    done = {row.setting: row for row in journal.rows()}
    impossible = [reason for setting in settings if (reason := _impossible(setting, job.preset))]
    if settings and len(impossible) == len(settings):
        raise UsageError(impossible[0])
    missing = [s for s in settings if s not in done]
    report = progress or (lambda stage, new, total: None)
    report("settings", len(settings) - len(missing), len(settings))
    with contextlib.closing(_shared(job, missing, jobs) if jobs > 1 else _one_by_one(job, missing, progress)) as found:
        for row in found:
            journal.append(row)
            done[row.setting] = row
            report("settings", 1, len(settings))
    rows = [done[s] for s in sorted(done)]
    write_results(rows, folder)
    return rows


def _refuse_unwritable(folder: Path) -> None:
    """Find out before the work starts that the results could not be written."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        reason = "is not a folder" if not there.is_dir() else "may not be written"
        raise RefusedError(f"{folder}: cannot hold the results, {there} {reason}; give another folder")
    for name in WRITTEN if there == folder else ():
        writable(folder / name)


def _fingerprint(job: Job, jobs: int) -> dict[str, str]:
    """That of the job; with several processes, a user's own code does not run in this one, which it might end."""
    if jobs == 1 or not (runs_code(job.data) or runs_code(job.calibration)):
        return job.fingerprint()
    with _workers(job, 1, 1) as pool:
        with _deaf_to_interrupts():
            future = pool.submit(job.fingerprint)
        return future.result()


def _impossible(setting: Setting, preset: str) -> str:
    try:
        make_options(preset, **asdict(setting))
    except UsageError as error:
        return str(error)
    return ""


def _one_by_one(job: Job, settings: Sequence[Setting], progress: Progress | None) -> Generator[Row, None, None]:
    ann = job.calibrate(progress) if settings else None
    for setting in settings:
        assert ann is not None
        yield job.measure(ann, setting)


def _shared(job: Job, settings: Sequence[Setting], jobs: int) -> Generator[Row, None, None]:
    """The settings over processes, each with its share of the cores; rows come as they are finished."""
    if not settings:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = min(jobs, cores, len(settings))
    with _workers(job, jobs, cores // jobs) as pool:
        with _deaf_to_interrupts():
            futures = [pool.submit(_measure_in_worker, s) for s in settings]
        for future in as_completed(futures):
            yield future.result()


@contextlib.contextmanager
def _workers(job: Job, number: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that know the job, each with so many threads.

    Raises:
        UsageError: the job cannot be sent to them.
        RefusedError: one was ended from outside.
    """
    try:
        pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(f"several jobs need a model and data that are paths or arrays ({error})") from error
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    with ProcessPoolExecutor(number, context, initializer=_start_worker, initargs=(job, threads)) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise RefusedError(
                "a process of the sweep was ended from outside, perhaps for lack of memory; finished settings are "
                "kept: run the same command again, with fewer jobs"
            ) from error
        except BaseException:  # an interruption: what the workers are at is lost, and nobody waits for it
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


_job: Job


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile hear no Ctrl-C, not even while they import: it is for the parent to hear."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(job: Job, threads: int) -> None:
    """What a worker keeps between settings; it ends with its parent, however that ends."""
    global _job
    end_with_parent()
    set_threads(threads)
    _job = job


@cache
def _calibrated_in_worker() -> api.Calibrated:
    return _job.calibrate()


def _measure_in_worker(setting: Setting) -> Row:
    return _job.measure(_calibrated_in_worker(), setting)
