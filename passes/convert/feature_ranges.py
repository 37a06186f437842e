"""Clipping ranges of the features that a network's inputs are, where these differ much in scale.

One range for all features, that of the largest, resolves a feature of small values badly, however much the first layer
makes of it: an area in square feet beside a ratio. What matters is a feature's part in a pre-activation, its value
times the weights that it meets. So a feature may have a range of its own, its largest value, but at least one in which
its part is a share of the largest part of any feature.

Samples held out choose the share, or one range for all: a feature that the others hardly saw may be as large as any.
One range is kept unless ranges of their own are clearly better.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.rewrite import constant
from csscc.passes.convert.channels import weight_axis
from csscc.passes.convert.coding_error import CodingError
from csscc.statistics import SMALLEST, Histogram

Ranges = NDArray[np.float64]
Shares = tuple[float, ...]
SHARES: Shares = (1.0, 1 / 4, 1 / 16, 1 / 64)
BETTER = 4.0  # by how much the squared error must fall where features have ranges of their own


def one_range(whole: Histogram, room: float) -> Ranges:
    """The same range for all features, `room` times the largest value; ``[features]``."""
    largest = float(whole.largest.max())
    return np.full(whole.channels, room * largest if largest > SMALLEST else 1.0)


def feature_ranges(
    fitted: Histogram,
    apart: Histogram,
    whole: Histogram,
    levels: float,
    room: float,
    gain: Ranges,
    shares: Shares = SHARES,
) -> Ranges:
    """The clipping range of each feature, ``[features]``.

    Args:
        fitted: of the samples that set the ranges while they are compared; a row for each feature.
        apart: of the samples that compare them.
        whole: of both.
        levels: steps up to a clipping range.
        room: by which ranges are wider than the largest value seen.
        gain: root of the summed squares of the weights that each feature meets; ``[features]``.
        shares: of the largest part, among which to choose.
    """
    error = CodingError(apart)
    costs = [float((np.square(gain) * error.of(r, levels)).sum()) for r in _by_share(fitted, room, gain, shares)]
    costs[0] /= BETTER
    best = int(np.argmin(costs))
    return next(ranges for number, ranges in enumerate(_by_share(whole, room, gain, shares)) if number == best)


def _by_share(histogram: Histogram, room: float, gain: Ranges, shares: Shares) -> Iterator[Ranges]:
    """One range for all, then ranges of their own for each share."""
    alike = one_range(histogram, room)
    yield alike
    largest = room * histogram.largest
    part = (gain * largest).max()
    for share in shares:
        least = np.divide(share * part, gain, out=alike.copy(), where=gain > 0)
        yield np.where(largest > 0, np.clip(least, largest, alike), alike)


def gain_of(readers: Iterable[gs.Node]) -> Ranges | None:
    """The root of the summed squares of the weights that each feature meets; None unless all readers are dense."""
    squares: Ranges = np.zeros(())
    for reader in readers:
        weights = constant(reader, 1) if reader.op in ("Gemm", "MatMul") else None
        if weights is None or weights.ndim != 2:
            return None
        squares = squares + np.square(weights.astype(np.float64)).sum(axis=1 - weight_axis(reader, 2))
    return np.sqrt(squares) if squares.ndim else None
