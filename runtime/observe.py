"""Observe the ANN's activations: the graph gets outputs, and a collector reads them batch by batch into histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc.dialect.model import with_outputs
from csscc.errors import RefusedError
from csscc.runtime.session import Session
from csscc.statistics import Calibration, Feeds, Histogram, channel_rows


def collect(
    model: onnx.ModelProto,
    axes: Mapping[str, int | None],
    batches: Iterable[Feeds],
    *,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Run the ANN over `batches` and gather the histograms of the tensors named by `axes`.

    Args:
        model: the canonical ANN; it gets the tensors as outputs.
        axes: channel axis of each tensor, None for one histogram a layer.
        batches: feeds of the network's inputs.
        threads: onnxruntime threads; 0 leaves the choice to it.
        progress: told the number of samples of each batch done.

    Raises:
        RefusedError: an activation is not finite.
    """
    session = Session(with_outputs(model, axes), threads=threads)
    result = Calibration(axes=dict(axes))
    for feeds in batches:
        outputs = session.run(feeds, list(axes))
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                raise RefusedError(
                    f"tensor '{name}' of the network is NaN or infinite on calibration samples, so it has no "
                    "amplitude; are the samples prepared as for the network?"
                )
            rows = channel_rows(values, axes[name])
            histogram = result.histograms.get(name)
            if histogram is None:
                histogram = Histogram(rows.shape[0], 8192 if axes[name] is None else 1024)
                result.histograms[name] = histogram
            histogram.add(rows)
        size = len(next(iter(feeds.values())))
        result.samples += size
        if progress is not None:
            progress(size)
    return result


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
