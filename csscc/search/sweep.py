"""One network in many settings: compile and evaluate each, and keep what is found.

The paper's experiments (figures 1 and 2, the ablations of silent period, negative spikes and amplitude adjustment) are
grids of settings. Each finished setting is a line of ``settings.jsonl`` in the folder, so a sweep that was stopped goes
on where it was, and lines of several folders, concatenated, are one sweep. Every line carries the fingerprint of the
model and the data: results of different networks never mix.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import itertools
import json
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from csscc import api
from csscc.errors import CssccError, RefusedError, UsageError
from csscc.io.data import ImageOptions, open_source
from csscc.io.files import replacing
from csscc.io.weights import pieces
from csscc.measure.evaluation import Evaluation, evaluate
from csscc.options import make_options
from csscc.runtime.session import set_threads

JOURNAL = "settings.jsonl"
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Setting:
    """One point of the grid."""

    T: int = 12
    beta: float = 1.5
    silent: int = 1
    negative: bool = True
    adjust: bool = True

    def __lt__(self, other: Setting) -> bool:
        """The order of tables and of lines in a plot: by T within a line, ablations behind the full method."""
        return self._place < other._place

    @property
    def _place(self) -> tuple[float, ...]:
        return (self.beta, self.silent, not self.negative, not self.adjust, self.T)

    def __str__(self) -> str:
        """As a person would say it."""
        return f"T={self.T}, {self.line}"

    @property
    def line(self) -> str:
        """The setting without T: what is one line in a plot."""
        ablations = ("" if self.negative else ", no negative spikes") + ("" if self.adjust else ", not adjusted")
        return f"β={self.beta:g}, L={self.silent}{ablations}"


@dataclass(frozen=True)
class Row:
    """What was measured at one setting, or why nothing was.

    Attributes:
        setting: where.
        latency: time steps from the first input spike to the answer.
        samples: samples evaluated.
        ann_accuracy, snn_accuracy, agreement: percent; None without labels, or without classes.
        loss: percentage points of accuracy.
        output_error: RMS of SNN minus ANN relative to the ANN's, of the output where it is largest; percent.
        spikes_per_neuron: for one inference, encoders included, both signs.
        synaptic_operations, ann_operations: additions caused by spikes, multiply-accumulates of the ANN; a sample.
        encoded: share of residuals with |u| <= 1 in the worst layer; percent.
        seconds: to compile and evaluate; the calibration that all settings share is not in it.
        error: why the setting was refused; empty if it was not.
    """

    setting: Setting
    latency: int | None = None
    samples: int | None = None
    ann_accuracy: float | None = None
    snn_accuracy: float | None = None
    loss: float | None = None
    agreement: float | None = None
    output_error: float | None = None
    spikes_per_neuron: float | None = None
    synaptic_operations: float | None = None
    ann_operations: float | None = None
    encoded: float | None = None
    seconds: float | None = None
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """One flat dictionary of plain values."""
        flat = asdict(self.setting) | asdict(self)
        del flat["setting"]
        return flat

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Row:
        """The row that `as_dict` made."""
        names = [f.name for f in fields(Setting)]
        return Row(Setting(**{n: values[n] for n in names}), **{n: v for n, v in values.items() if n not in names})


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

    def fingerprint(self) -> dict[str, str]:
        """What results depend on besides the setting: digests of contents, so that a copied file is the same file."""
        return {
            "csscc": version("csscc"),
            "model": _digest(self.model),
            "data": _digest(self.data),
            "calibration": _digest(self.calibration),
            "options": f"preset={self.preset} samples={self.samples} limit={self.limit} images={self.images}",
        }

    def calibrate(self, progress: Progress | None = None) -> api.Calibrated:
        """The part of the work that all settings share; data that no setting could be evaluated on is refused here."""
        ann = api.calibrate(
            self.model,
            self.calibration,
            preset=self.preset,
            images=self.images,
            calibration_samples=self.samples,
            progress=None if progress is None else lambda stage, done: progress(stage, done, None),
        )
        next(open_source(self.data, ann.source.specs, images=self.images, limit=1).batches(1))
        return ann

    def measure(self, ann: api.Calibrated, setting: Setting) -> Row:
        """Compile and evaluate at one setting; a refusal becomes a row with the reason."""
        started = time.perf_counter()
        try:
            snn = api.compile(ann, preset=self.preset, calibration_samples=self.samples, **asdict(setting))
            result = evaluate(self.model, snn.emitted(), self.data, images=self.images, limit=self.limit)
        except CssccError as error:
            return Row(setting, error=" ".join(str(error).split()))
        return _row(setting, result, time.perf_counter() - started)


def _row(setting: Setting, result: Evaluation, seconds: float) -> Row:
    return Row(
        setting,
        latency=result.latency,
        samples=result.samples,
        ann_accuracy=result.ann_accuracy,
        snn_accuracy=result.snn_accuracy,
        loss=result.loss,
        agreement=result.agreement,
        output_error=100 * max(result.output_error.values(), default=0.0),
        spikes_per_neuron=result.spikes_per_neuron,
        synaptic_operations=result.synaptic_operations,
        ann_operations=result.ann_operations,
        encoded=100 * result.encoded,
        seconds=round(seconds, 3),
    )


def grid(
    T: Iterable[int] = (12,),  # noqa: N803
    beta: Iterable[float] = (1.5,),
    silent: Iterable[int] = (1,),
    negative: Iterable[bool] = (True,),
    adjust: Iterable[bool] = (True,),
) -> list[Setting]:
    """Every combination, once, sorted."""
    return sorted({Setting(*values) for values in itertools.product(T, beta, silent, negative, adjust)})


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
    journal = Journal(folder / JOURNAL, job.fingerprint())
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
    try:
        pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(f"several jobs need a model and data that are paths or arrays ({error})") from error
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = min(jobs, cores, len(settings))
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(jobs, context, initializer=_start_worker, initargs=(job, cores // jobs)) as pool:
        futures = [pool.submit(_measure_in_worker, s) for s in settings]
        try:
            for future in as_completed(futures):
                yield future.result()
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


def _start_worker(job: Job, threads: int) -> None:
    """What a worker keeps between settings; an interruption ends it without a word, the parent says what is to say."""
    global _job
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    set_threads(threads)
    _job = job


@cache
def _calibrated_in_worker() -> api.Calibrated:
    return _job.calibrate()


def _measure_in_worker(setting: Setting) -> Row:
    return _job.measure(_calibrated_in_worker(), setting)


class Journal:
    """``settings.jsonl``: one line for each finished setting, appended as soon as it is known."""

    def __init__(self, path: Path, fingerprint: Mapping[str, str]) -> None:
        self.path, self.fingerprint = path, dict(fingerprint)

    def rows(self) -> list[Row]:
        """What is there; a line that was torn when its writer was stopped is not.

        Raises:
            RefusedError: the results are those of another model, data or preset.
        """
        rows = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else ():
            try:
                entry = json.loads(line)
                row, fingerprint = Row.from_dict(entry["row"]), entry["fingerprint"]
            except (ValueError, KeyError, TypeError):
                continue
            if fingerprint != self.fingerprint:
                other = [k for k, v in self.fingerprint.items() if fingerprint.get(k) != v]
                raise RefusedError(
                    f"{self.path}: holds results of another sweep, with other {', '.join(other)}; give another folder"
                )
            rows.append(row)
        return rows

    def append(self, row: Row) -> None:
        """Write one line, in one write, behind whatever is there.

        Raises:
            RefusedError: the file cannot be written.
        """
        line = json.dumps({"fingerprint": self.fingerprint, "row": row.as_dict()}).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            there = self.path.read_bytes() if self.path.exists() else b""
            torn = not there.endswith(b"\n") and bool(there)
            with self.path.open("ab") as file:
                file.write(b"\n" * torn + line)
        except OSError as error:
            raise RefusedError(f"{self.path}: cannot be written ({error.strerror}); give another folder") from error


def write_results(rows: Sequence[Row], folder: Path) -> None:
    """Write ``results.csv`` and ``results.json``, one row a setting."""
    flat = [row.as_dict() for row in rows]
    with replacing(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(flat, indent=2) + "\n")
    with replacing(folder / "results.csv") as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(flat[0]) if flat else [])
        writer.writeheader()
        writer.writerows(flat)


def _digest(data: Any) -> str:
    """Short SHA-256 of what a model, a path to data, or arrays hold."""
    digest = hashlib.sha256()
    for part in _contents(data):
        digest.update(part)
    return digest.hexdigest()[:16]


def _contents(data: Any) -> Iterator[bytes]:
    if isinstance(data, str | Path):
        path, _, function = str(data).rpartition(":")
        file = Path(path) if path.endswith(".py") else Path(data)
        if file.is_dir():
            for inner in sorted(p for p in file.rglob("*") if p.is_file()):
                yield f"{inner.relative_to(file)} {inner.stat().st_size}".encode()
        elif file.is_file():
            yield function.encode() if file.suffix == ".py" else b""
            with file.open("rb") as opened:
                yield hashlib.file_digest(opened, "sha256").digest()
        else:
            yield str(data).encode()
    elif isinstance(data, onnx.ModelProto):
        yield from pieces(data)
    elif isinstance(data, np.ndarray):
        yield f"{data.dtype} {data.shape}".encode()
        yield np.ascontiguousarray(data).tobytes()
    elif isinstance(data, Mapping):
        for name in sorted(data):
            yield name.encode()
            yield from _contents(np.asarray(data[name]))
    else:
        yield getattr(data, "__qualname__", type(data).__name__).encode()
