"""Observe the ANN's activations: the graph gets outputs, and a collector reads them batch by batch into histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc.dialect.model import with_outputs
from csscc.errors import RefusedError
from csscc.io.finite import not_finite
from csscc.runtime.session import Session
from csscc.statistics import Calibration, Feeds, Histogram, channel_rows


def collect(
    model: onnx.ModelProto,
    axes: Mapping[str, int | None],
    batches: Iterable[Feeds],
    *,
    hold_out: int = 0,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Run the ANN over `batches` and gather the histograms of the tensors named by `axes`.

    Args:
        model: the canonical ANN; it gets the tensors as outputs.
        axes: channel axis of each tensor, None for one histogram a layer.
        batches: feeds of the network's inputs.
        hold_out: every so many-th sample is counted in `Calibration.apart`; 0 for none.
        threads: onnxruntime threads; 0 leaves the choice to it.
        progress: called with the number of samples of each batch done.

    Raises:
        RefusedError: an activation is not finite.
    """
    session = Session(with_outputs(model, axes), threads=threads)
    result = Calibration(axes=dict(axes))
    for feeds in batches:
        outputs = session.run(feeds, list(axes))
        size = len(next(iter(feeds.values())))
        which = held_out(size, result.samples, hold_out)
        for name, values in outputs.items():
            if not_finite(values):
                raise RefusedError(
                    f"tensor '{name}' of the network is NaN or infinite on calibration samples, so it has no "
                    "amplitude; are the samples prepared as for the network?"
                )
            times, rest = divmod(len(values), size)  # attention may have folded its windows into the batch
            rows = np.repeat(which & (rest == 0), times)
            if rows.any():
                _count(result.apart, name, values[rows], axes[name])
            if not rows.all() or not rows.size:  # or there are fewer rows than samples, each of several of them
                _count(result.histograms, name, values[~rows] if rows.any() else values, axes[name])
        result.samples += size
        if progress is not None:
            progress(size)
    return result


def held_out(size: int, before: int, every: int) -> NDArray[np.bool_]:
    """Which of `size` samples are held out, with `before` samples before them: every so many-th; 0 for none."""
    numbers = np.arange(before, before + size)
    return numbers % every == every - 1 if every else np.zeros(size, bool)


def _count(histograms: dict[str, Histogram], name: str, values: NDArray[Any], axis: int | None) -> None:
    rows = channel_rows(values, axis)
    if name not in histograms:
        histograms[name] = Histogram(rows.shape[0], 8192 if axis is None else 1024)
    histograms[name].add(rows)


def means(model: onnx.ModelProto, names: Iterable[str], batches: Iterable[Feeds]) -> dict[str, NDArray[np.float64]]:
    """Mean over all samples of the named tensors, each ``[...]`` without the batch axis; `model` is changed."""
    wanted = list(names)
    session = Session(with_outputs(model, wanted))
    totals: dict[str, Any] = dict.fromkeys(wanted, 0.0)
    samples = 0
    for feeds in batches:
        for name, values in session.run(feeds, wanted).items():
            totals[name] = totals[name] + values.sum(axis=0, dtype=np.float64)
        samples += len(next(iter(feeds.values())))
    return {name: np.asarray(total / samples) for name, total in totals.items()}
