"""Statistics of activations: histograms of magnitudes whose memory does not grow with the number of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feeds = Mapping[str, NDArray[Any]]
SMALLEST = 1e-20  # activations below are as good as zero: an amplitude and its inverse must be float32 numbers
CHUNK = 1 << 16


@dataclass
class Histogram:
    """Histogram of magnitudes, one row a channel, whose ranges double as larger values arrive.

    Attributes:
        channels: number of rows; 1 for a whole layer.
        counts: ``[channels, bins]``.
        ends: upper end of each row's range; ``[channels]``.
        sums: signed sum of the values of each row.
        squares: sum of their squares.
        zeros: number of values in each row that are zero.
        seen: number of values in each row.
    """

    channels: int
    bins: int = 1024
    counts: NDArray[np.int64] = field(init=False)
    ends: NDArray[np.float64] = field(init=False)
    sums: NDArray[np.float64] = field(init=False)
    squares: NDArray[np.float64] = field(init=False)
    largest: NDArray[np.float64] = field(init=False)
    zeros: NDArray[np.int64] = field(init=False)
    seen: int = 0

    def __post_init__(self) -> None:
        """Start empty."""
        self.counts = np.zeros((self.channels, self.bins), np.int64)
        self.ends = np.zeros(self.channels)
        self.sums = np.zeros(self.channels)
        self.squares = np.zeros(self.channels)
        self.largest = np.zeros(self.channels)
        self.zeros = np.zeros(self.channels, np.int64)

    def __eq__(self, other: object) -> bool:
        """Whether both have counted the same."""
        return isinstance(other, Histogram) and all(
            np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)
        )

    def add(self, values: NDArray[np.floating]) -> None:
        """Count ``[channels, n]`` values."""
        largest = np.maximum(values.max(axis=1, initial=0.0), -values.min(axis=1, initial=0.0)).astype(np.float64)
        self._make_room(largest)
        scale = np.divide(self.bins, self.ends, out=np.zeros_like(self.ends), where=self.ends > 0)
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
        fresh = (self.ends == 0) & (largest > 0)
        self.ends[fresh] = np.maximum(largest[fresh], SMALLEST)
        while (small := self.ends < largest).any():
            merged = self.counts[small].reshape(-1, self.bins // 2, 2).sum(axis=2)
            self.counts[small, : self.bins // 2] = merged
            self.counts[small, self.bins // 2 :] = 0
            self.ends[small] *= 2

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each bin, ``[channels, bins]``."""
        return (np.arange(self.bins) + 0.5) / self.bins * self.ends[:, None]

    @property
    def rms(self) -> NDArray[np.float64]:
        """Root mean square of each row, ``[channels]``."""
        return np.sqrt(self.squares / max(self.seen, 1))

    def merged(self) -> Histogram:
        """One row for all channels; counts of rows with smaller ranges go to the bins their centres fall into."""
        whole = Histogram(1, self.bins)
        whole.ends, whole.largest = self.ends.max(keepdims=True), self.largest.max(keepdims=True)
        whole.sums, whole.squares = self.sums.sum(keepdims=True), self.squares.sum(keepdims=True)
        whole.zeros, whole.seen = self.zeros.sum(keepdims=True), self.seen * self.channels
        scale = self.bins / max(float(whole.ends[0]), 1e-30)
        index = np.minimum((self.centres * scale).astype(np.int64), self.bins - 1)
        whole.counts = np.bincount(index.ravel(), self.counts.ravel(), self.bins).astype(np.int64)[None]
        return whole

    def plus(self, other: Histogram) -> Histogram:
        """Both together; counts of rows with the smaller range go to the bins their centres fall into."""
        both = Histogram(self.channels, self.bins)
        both.ends = np.maximum(self.ends, other.ends)
        both.largest = np.maximum(self.largest, other.largest)
        for part in (self, other):
            scale = np.divide(self.bins, both.ends, out=np.zeros_like(both.ends), where=both.ends > 0)
            index = np.minimum((part.centres * scale[:, None]).astype(np.intp), self.bins - 1)
            index += (np.arange(self.channels) * self.bins)[:, None]
            both.counts += (
                np.bincount(index.ravel(), part.counts.ravel(), both.counts.size)
                .astype(np.int64)
                .reshape(both.counts.shape)
            )
            both.sums, both.squares = both.sums + part.sums, both.squares + part.squares
            both.zeros, both.seen = both.zeros + part.zeros, both.seen + part.seen
        return both

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
        value: NDArray[np.float64] = np.minimum((index + fraction) / self.bins * self.ends, self.largest)
        return value


@dataclass
class Calibration:
    """Statistics by tensor name, and where they come from.

    Attributes:
        histograms: of the samples that were not held out.
        apart: of those that were; empty if none.
        axes: the channel axis of each tensor, None where one row stands for all channels.
        samples: in both.
        source: what the report calls them.
    """

    histograms: dict[str, Histogram] = field(default_factory=dict)
    axes: dict[str, int | None] = field(default_factory=dict)
    samples: int = 0
    source: str = ""
    apart: dict[str, Histogram] = field(default_factory=dict)

    def whole(self, name: str) -> Histogram:
        """Of all samples."""
        histogram = self.histograms[name]
        return histogram.plus(self.apart[name]) if name in self.apart else histogram


def channel_rows(values: NDArray[Any], axis: int | None) -> NDArray[np.floating]:
    """A batch of activations as ``[channels, n]``; one row where `axis` is None."""
    if axis is None:
        return values.reshape(1, -1)
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
