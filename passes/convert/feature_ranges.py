"""Clipping ranges of the features or channels that a network's inputs have, where these differ much in scale.

One range for all, that of the largest, resolves a feature of small values badly, however much the first layer makes of
it: an area in square feet beside a ratio. What matters is a feature's part in a pre-activation, its value times the
weights that it meets. So a feature may have a range of its own, its largest value, but at least one in which its part
is a share of the largest part of any feature.

Samples held out choose the share, or one range for all: a feature that the others hardly saw may be as large as any.
One range is kept unless ranges of their own are clearly better.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.coding.coding import AMPLE
from csscc.dialect.rewrite import attribute, constant
from csscc.passes.convert.channels import weight_axis
from csscc.passes.convert.coding_error import CodingError
from csscc.statistics import SMALLEST, Histogram

Ranges = NDArray[np.float64]
Shares = tuple[float, ...]
SHARES: Shares = (1.0, 1 / 4, 1 / 16, 1 / 64)
BETTER = 4.0  # by how much the squared error must fall where features have ranges of their own
SHARE_OF_LAYER = 0.5


def not_too_small(ranges: Ranges, levels: float, headroom: float) -> Ranges:
    """Clipping ranges of at least a share of the layer's largest.

    A channel that calibration saw little of may be larger on other inputs, and what is cut off costs more than a
    somewhat coarser theta: the layer's error is that of its largest channels. The share is one half, and grows to
    all of it and some `headroom` where there are so many levels that resolution is no concern: what is cut off is
    lost at any T, while resolution comes back with half a step more.
    """
    largest = ranges.max(initial=0.0)
    share = min(headroom, max(SHARE_OF_LAYER, levels / AMPLE))
    return np.maximum(ranges, largest * share) if largest > SMALLEST else np.ones_like(ranges)


def feature_ranges(
    fitted: Histogram,
    apart: Histogram,
    whole: Histogram,
    levels: float,
    headroom: float,
    gain: Ranges,
    shares: Shares = SHARES,
) -> Ranges | None:
    """The clipping range of each feature, ``[features]``; None where one for all does about as well.

    Args:
        fitted: of the samples that set the ranges while they are compared; a row for each feature.
        apart: of the samples that compare them.
        whole: of both.
        levels: steps up to a clipping range.
        headroom: by which ranges are wider than the largest value seen, where levels are ample.
        gain: root of the summed squares of the weights that each feature meets; ``[features]``.
        shares: of the largest part, among which to choose.
    """
    error, room = CodingError(apart), max(1.0, min(headroom, levels / AMPLE))
    rules = list(_by_share(fitted, room, gain, shares))
    costs = [float((np.square(gain) * error.of(ranges, levels)).sum()) for ranges in rules]
    best = int(np.argmin([costs[0] / BETTER, *costs[1:]]))
    return list(_by_share(whole, room, gain, shares))[best] if best else None


def _by_share(histogram: Histogram, room: float, gain: Ranges, shares: Shares) -> Iterator[Ranges]:
    """One range for all, then ranges of their own for each share."""
    largest = room * histogram.largest
    alike = np.full_like(largest, largest.max())
    yield alike
    part = (gain * largest).max()
    for share in shares:
        least = np.divide(share * part, gain, out=alike.copy(), where=gain > 0)
        yield np.where(largest > 0, np.clip(least, largest, alike), alike)


def gain_of(readers: Iterable[gs.Node]) -> Ranges | None:
    """The root of the summed squares of the weights that each feature or channel meets.

    None unless all readers are dense layers or convolutions.
    """
    squares: Ranges = np.zeros(())
    for reader in readers:
        weights = constant(reader, 1) if reader.op in ("Gemm", "MatMul", "Conv") else None
        if weights is None or (weights.ndim != 2 and reader.op != "Conv"):
            return None
        groups = attribute(reader, "group", 1)
        parts = np.square(weights.astype(np.float64)).reshape(groups, -1, *weights.shape[1:])
        axis = 1 + weight_axis(reader, weights.ndim)
        summed = parts.sum(axis=tuple(a for a in range(1, parts.ndim) if a != axis)).reshape(-1)
        if squares.ndim and squares.shape != summed.shape:
            return None
        squares = squares + summed
    return np.sqrt(squares) if squares.ndim else None
