"""One network in many settings: compile and evaluate each, and keep what is found.

The paper's experiments (figures 1 and 2, the ablations of silent period, negative spikes and amplitude adjustment) are
grids of settings. Each finished setting is a line of ``settings.jsonl`` in the folder, so a sweep that was stopped goes
on where it was. Every line carries the fingerprint of the model and the data: results of different networks never mix.
Several processes or machines can share the work, see `csscc.search.workers`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from csscc import api
from csscc.dialect.sizes import Shapes
from csscc.errors import CssccError, RefusedError, UsageError
from csscc.io.data import ImageOptions, open_source
from csscc.io.files import may_be_made, writable
from csscc.measure.evaluation import evaluate
from csscc.options import make_options
from csscc.search import Progress
from csscc.search.journal import JOURNAL, WRITTEN, Journal, digest, digest_of_model, runs_code, write_results
from csscc.search.settings import Row, Setting
from csscc.search.workers import Workers, workers
from csscc.tables import Tabular


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

    def begin(self, progress: Progress | None = None) -> api.Calibrated:
        """The part of the work that all settings share; data that no setting could be evaluated on is refused here."""
        ann = api.calibrate(
            self.model,
            self.calibration,
            preset=self.preset,
            images=self.images,
            calibration_samples=self.samples,
            input_shape=self.input_shape,
            progress=progress,
        )
        next(open_source(self.data, ann.source.specs, images=self.images, limit=1).batches(1))
        return ann

    def do(self, ann: api.Calibrated, setting: Setting) -> Row:
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


class Sweep(list[Row], Tabular):
    """The rows of a sweep; in notebooks and for pandas a table, a line a setting."""

    @property
    def headline(self) -> str:
        """How many settings were measured."""
        refused = sum(bool(row.error) for row in self)
        return f"{len(self)} settings" + (f", {refused} of them refused" if refused else "")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the evaluation warns of at the setting that errs least: that is no matter of settings."""
        measured = [row for row in self if row.output_error is not None]
        best = min(measured, key=lambda row: row.output_error or 0.0, default=None)
        return (best.warnings,) if best is not None and best.warnings else ()

    def rows(self) -> list[dict[str, Any]]:
        """A flat row for each setting."""
        return [row.as_dict() for row in self]


def sweep(
    job: Job,
    settings: Sequence[Setting],
    folder: str | Path,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Measure what of `settings` the folder does not hold yet, and write ``results.csv`` and ``results.json``.

    Args:
        job: the network and the data.
        settings: see `grid`.
        folder: made if it does not exist.
        jobs: processes that share the cores; more than there are cores or settings are not started. With more than
            one, `job` must be made of paths or arrays.
        scheduler: address of a Dask scheduler whose workers do the work instead.
        progress: called with a stage, what is newly done in it, and how much there is.

    Returns:
        All rows in the folder, those of earlier sweeps of the same network and data included.

    Raises:
        UsageError: none of the settings can be used.
        RefusedError: the model or the data cannot be used, or the folder holds results of others.
    """
    folder = may_be_made(folder)
    for name in WRITTEN if folder.exists() else ():
        writable(folder / name)
    impossible = [reason for setting in settings if (reason := _impossible(setting, job.preset))]
    if settings and len(impossible) == len(settings):
        raise UsageError(impossible[0])
    shared = jobs > 1 or scheduler is not None
    with workers(job, min(jobs, len(settings)), scheduler) if shared else contextlib.nullcontext() as others:
        journal = Journal(folder / JOURNAL, _fingerprint(job, others), Row.from_dict)
        done = {row.setting: row for row in journal.rows()}
        missing = [s for s in settings if s not in done]
        report = progress or (lambda stage, new, total: None)
        report("settings", len(settings) - len(missing), len(settings))
        found = _one_by_one(job, missing, progress) if others is None else (row for _, row in others.each(missing))
        with contextlib.closing(found):
            for row in found:
                journal.append(row)
                done[row.setting] = row
                report("settings", 1, len(settings))
    rows = Sweep(done[s] for s in sorted(done))
    write_results(rows, folder)
    return rows


def _fingerprint(job: Job, others: Workers | None) -> dict[str, str]:
    """That of the job; with several processes, a user's own code does not run in this one, which it might end.

    Raises:
        RefusedError: workers elsewhere find other files than this process does.
    """
    if others is None:
        return job.fingerprint()
    theirs: dict[str, str] = others.call(job.fingerprint)
    if not (runs_code(job.data) or runs_code(job.calibration)) and theirs != job.fingerprint():
        raise RefusedError("the workers find another model, other data or another version of csscc than this machine")
    return theirs


def _impossible(setting: Setting, preset: str) -> str:
    try:
        make_options(preset, **asdict(setting))
    except UsageError as error:
        return str(error)
    return ""


def _one_by_one(job: Job, settings: Sequence[Setting], progress: Progress | None) -> Generator[Row, None, None]:
    ann = job.begin(progress) if settings else None
    for setting in settings:
        assert ann is not None
        yield job.do(ann, setting)
