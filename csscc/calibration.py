"""Calibration: statistics of the ANN's activations on sample inputs.

Three parts, as in onnxruntime's quantiser: the graph is augmented with outputs, a collector reads them batch by batch
into histograms, and the result is a typed value. Memory does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc.data import Source, limited
from csscc.errors import RefusedError
from csscc.macs import affordable_samples
from csscc.passes.network import Network
from csscc.runtime.model import with_outputs
from csscc.runtime.session import Session

Feeds = Mapping[str, NDArray[Any]]
SMALLEST = 1e-20  # activations below are as good as zero: an amplitude and its inverse must be float32 numbers
BATCH_BYTES = 192 << 20
CHUNK = 1 << 16


@dataclass
class Histogram:
    """Histogram of magnitudes, one row a channel, whose ranges double as larger values arrive.

    Attributes:
        channels: number of rows; 1 for a whole layer.
        counts: ``[channels, bins]``.
        tops: upper end of each row's range; ``[channels]``.
        sums: signed sum of the values of each row.
        squares: sum of their squares.
        zeros: number of values in each row that are zero.
        seen: number of values in each row.
    """

    channels: int
    bins: int = 1024
    counts: NDArray[np.int64] = field(init=False)
    tops: NDArray[np.float64] = field(init=False)
    sums: NDArray[np.float64] = field(init=False)
    squares: NDArray[np.float64] = field(init=False)
    largest: NDArray[np.float64] = field(init=False)
    zeros: NDArray[np.int64] = field(init=False)
    seen: int = 0

    def __post_init__(self) -> None:
        """Start empty."""
        self.counts = np.zeros((self.channels, self.bins), np.int64)
        self.tops = np.zeros(self.channels)
        self.sums = np.zeros(self.channels)
        self.squares = np.zeros(self.channels)
        self.largest = np.zeros(self.channels)
        self.zeros = np.zeros(self.channels, np.int64)

    def add(self, values: NDArray[np.floating]) -> None:
        """Count ``[channels, n]`` values."""
        largest = np.maximum(values.max(axis=1, initial=0.0), -values.min(axis=1, initial=0.0)).astype(np.float64)
        self._make_room(largest)
        scale = np.divide(self.bins, self.tops, out=np.zeros_like(self.tops), where=self.tops > 0)
        factors = scale.astype(values.dtype)[:, None]
        rows = max(1, CHUNK // max(1, values.shape[1]))  # so many at a time that their indices stay in the cache
        for start in range(0, self.channels, rows):
            part = slice(start, start + rows)
            index = (np.abs(values[part]) * factors[part]).astype(np.intp)
            np.minimum(index, self.bins - 1, out=index)
            index += (np.arange(len(index)) * self.bins)[:, None]
            counts = np.bincount(index.reshape(-1), minlength=len(index) * self.bins)
            self.counts[part] += counts.reshape(len(index), self.bins)
        self.sums += values.sum(axis=1, dtype=np.float64)
        self.squares += np.square(values, dtype=np.float64).sum(axis=1)
        self.largest = np.maximum(self.largest, largest)
        self.zeros += values.shape[1] - np.count_nonzero(values, axis=1)
        self.seen += values.shape[1]

    def _make_room(self, largest: NDArray[np.float64]) -> None:
        """Double the range of rows that `largest` exceeds, merging their bins in pairs."""
        fresh = (self.tops == 0) & (largest > 0)
        self.tops[fresh] = np.maximum(largest[fresh], SMALLEST)
        while (small := self.tops < largest).any():
            merged = self.counts[small].reshape(-1, self.bins // 2, 2).sum(axis=2)
            self.counts[small, : self.bins // 2] = merged
            self.counts[small, self.bins // 2 :] = 0
            self.tops[small] *= 2

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each bin, ``[channels, bins]``."""
        return (np.arange(self.bins) + 0.5) / self.bins * self.tops[:, None]

    @property
    def rms(self) -> NDArray[np.float64]:
        """Root mean square of each row, ``[channels]``."""
        return np.sqrt(self.squares / max(self.seen, 1))

    def merged(self) -> Histogram:
        """One row for all channels; counts of rows with smaller ranges go to the bins their centres fall into."""
        whole = Histogram(1, self.bins)
        whole.tops, whole.largest = self.tops.max(keepdims=True), self.largest.max(keepdims=True)
        whole.sums, whole.squares = self.sums.sum(keepdims=True), self.squares.sum(keepdims=True)
        whole.zeros, whole.seen = self.zeros.sum(keepdims=True), self.seen * self.channels
        scale = self.bins / max(float(whole.tops[0]), 1e-30)
        index = np.minimum((self.centres * scale).astype(np.int64), self.bins - 1)
        whole.counts = np.bincount(index.ravel(), self.counts.ravel(), self.bins).astype(np.int64)[None]
        return whole

    def percentile(self, percent: float, *, without_zeros: bool = False) -> NDArray[np.float64]:
        """Magnitude below which `percent` of a row's values lie, ``[channels]``, interpolated within its bin.

        `without_zeros` asks for that of the values that are not zero.
        """
        zeros = self.zeros if without_zeros else np.zeros_like(self.zeros)
        wanted = zeros + percent / 100 * (self.seen - zeros)
        cumulative = self.counts.cumsum(axis=1)
        index = np.minimum((cumulative < wanted[:, None]).sum(axis=1), self.bins - 1)
        rows = np.arange(self.channels)
        inside = self.counts[rows, index]
        missing = wanted - (cumulative[rows, index] - inside)
        fraction = np.divide(missing, inside, out=np.ones(self.channels), where=inside > 0)
        value: NDArray[np.float64] = np.minimum((index + fraction) / self.bins * self.tops, self.largest)
        return value


@dataclass
class Calibration:
    """Statistics by tensor name, and where they come from."""

    histograms: dict[str, Histogram] = field(default_factory=dict)
    axes: dict[str, int | None] = field(default_factory=dict)
    samples: int = 0
    source: str = ""


def channel_rows(values: NDArray[Any], axis: int | None) -> NDArray[np.floating]:
    """A batch of activations as ``[channels, n]``; one row where `axis` is None."""
    if axis is None:
        return values.reshape(1, -1)
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


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


def batch_size(network: Network, names: Iterable[str], share: int = 1, limit: int = 32) -> int:
    """Samples a batch may hold so that the named tensors fit in `BATCH_BYTES`; the exported size if it is fixed.

    With `share`, they get only so large a part of it, and of `limit`: half for 2, a quarter for 4.
    """
    if network.batch is None:
        shapes = [t.shape for t in network.graph.inputs if t.shape]
        return int(shapes[0][0]) if shapes and isinstance(shapes[0][0], int) else 1
    tensors = network.graph.tensors()
    per_sample = 4 * sum(_size(tensors[name].shape) for name in names)
    return max(1, min(limit, BATCH_BYTES // max(per_sample, 1)) // share)


def layer_batches(network: Network, source: Source, samples: int, budget: float) -> list[Feeds]:
    """Up to `samples` samples for a run of the spiking network layer by layer.

    Fewer where one run would take more than `budget` multiply-accumulates, in batches of which a layer's tensors fit in
    memory T times.
    """
    ann = replace(network, graph=network.ann)
    affordable = affordable_samples(network.ann, network.coding.T, samples, budget)
    return list(limited(source.batches(batch_size(ann, network.amplitudes, share=4)), affordable))


def _size(shape: Any) -> int:
    return int(np.prod([d if isinstance(d, int) else 1 for d in (shape or [])[1:]], dtype=np.int64))
