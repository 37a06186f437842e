"""A sweep as one call in Python."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx

from csscc.dialect.sizes import Shapes
from csscc.io.data import ImageOptions
from csscc.search import Progress
from csscc.search.settings import grid
from csscc.search.sweep import Job, Sweep
from csscc.search.sweep import sweep as measured


def sweep(
    model: str | Path | onnx.ModelProto,
    data: Any,
    folder: str | Path,
    *,
    calibration: Any = None,
    T: Iterable[int] = (4, 6, 8, 12),  # noqa: N803
    beta: Iterable[float] = (2.0, 3.0),
    silent: Iterable[int | str] = (0, 1, 2, "auto"),
    negative: Iterable[bool] = (True,),
    adjust: Iterable[bool] = (True,),
    preset: str = "default",
    samples: int | None = None,
    limit: int | None = None,
    images: ImageOptions | None = None,
    input_shape: Shapes | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Compile and evaluate a network in every combination of settings, as ``csscc sweep`` does.

    Args:
        model: an ONNX file or model.
        data: samples to evaluate on, with labels under ``y`` if there are any.
        folder: gets ``results.csv`` and ``results.json``; a sweep that was stopped goes on there.
        calibration: samples that set the amplitudes.
        T: coding steps.
        beta: the weight of a spike divided by that of the next one.
        silent: silent steps a layer; ``auto``: as many as each needs.
        negative: with negative spikes, without, or both.
        adjust: with amplitude adjustment, without, or both.
        preset: see `csscc.compile`.
        samples: calibrate with at most so many.
        limit: evaluate at most so many.
        images: how image files become inputs.
        input_shape: see `csscc.compile`.
        jobs: processes that share the cores; with more than one, model and data must be paths or arrays.
        scheduler: address of a Dask scheduler whose workers do the work instead.
        progress: called with a stage, what is newly done in it, and how much there is.

    Returns:
        A list of rows, a table for notebooks and pandas.

    Raises:
        UsageError: none of the settings can be used.
        RefusedError: the model or the data cannot be used, or the folder holds results of others.
    """
    job = Job(model, data, calibration, preset, samples, limit, images, input_shape)
    settings = grid(T, beta, silent, negative, adjust)
    return measured(job, settings, folder, jobs=jobs, scheduler=scheduler, progress=progress)
