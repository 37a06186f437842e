"""Choose how the largest value that each channel of a layer can send is found, on samples held out.

One rule does not fit all layers. A channel that is often seen may have a clipping range of its own; one that answers
to few images has not been seen at its largest, and what is cut off there costs more than a coarser theta. So each rule
sets clipping ranges from most of the calibration samples, and the one wins whose code has the least squared error on
the others; it then sets the clipping ranges from all of them.

A rule is: the channel's largest value, or the clipping range of least error on its own samples, but at least a share
of the layer's largest value; the clipping range of least error for all channels together; or the layer's largest value
and some headroom. Where the activation is bounded, and its bound is not far above the largest value seen, the bound
takes the place of the layer's largest value; no clipping range is beyond it. A channel with few values that are not
zero is not trusted with a clipping range of its own. Where levels are ample, rules are of largest values and headroom.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from csscc.coding.coding import AMPLE
from csscc.passes.convert.coding_error import CodingError, bin_of
from csscc.statistics import SMALLEST, Histogram

Ranges = NDArray[np.float64]
CANDIDATES = np.geomspace(0.02, 1.0, 80)
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
HEADROOM, MOST_HEADROOM = 1.25, 2.0
ENOUGH = 256
TIMES = 12  # how much further than halves of the samples differ later values may go
LONG_TAIL = 50.0  # growth of inputs of which a few are far larger than most: rare features in units of their deviation
FEW = 64
NEAR, SEVERAL, ALIKE = 0.99, 4, 0.9


def headroom_for(samples: int, levels: float, *, long_tail: bool = False) -> float:
    """By how much clipping ranges exceed the largest value of so many samples, where levels are ample.

    The fewer samples, the further later values go beyond them, and what is cut off is lost at any T; where inputs have
    a long tail, many samples do not help. It costs resolution, so it grows only as far as there are levels beyond those
    that are ample.
    """
    wanted = MOST_HEADROOM if long_tail else HEADROOM * (ENOUGH / max(samples, 1)) ** (1 / 3)
    affordable = HEADROOM * levels / AMPLE
    return float(max(HEADROOM, min(wanted, affordable, MOST_HEADROOM)))


def growth(first: Histogram, second: Histogram) -> float:
    """By how much later values may exceed the largest of two sets of samples, from how far the sets themselves differ.

    Looked at are the rows that decide the range of a layer, those whose largest value is half of the layer's or more.
    Where these differ little, as after a LayerNormalization with one large channel, later ones will, too.
    """
    pair = np.stack([first.largest, second.largest])
    decide = pair.max(axis=0) >= pair.max() / 2
    if pair.max() <= 0 or (pair[:, decide] <= 0).any():
        return math.inf
    apart = np.diff(np.log(pair[:, decide]), axis=0)
    return float(np.exp(TIMES * np.sqrt(np.mean(apart**2))))


def room_for(first: Histogram, second: Histogram, levels: float, headroom: float) -> float:
    """The `headroom`, as far as two parts of the samples let expect larger values; none where levels are not ample."""
    if levels < AMPLE:
        return 1.0
    return max(HEADROOM, min(growth(first, second), headroom))


def reaches_a_bound(histogram: Histogram) -> bool:
    """Whether several values are as large as the largest, as those of pixels are: larger ones are not expected.

    A scaler brings the largest value of every feature to 1, of which later samples know nothing. So where nearly all
    rows come near the largest, each must do so several times; where others do not, as pixels at the border of an image,
    most of those that do. Rows of few values count together.
    """
    histogram = histogram if histogram.seen >= FEW else histogram.merged()
    first = bin_of(np.full(histogram.channels, NEAR * histogram.largest.max()), histogram)
    rows = np.flatnonzero(histogram.largest > SMALLEST)
    near = np.array([histogram.counts[row, first[row] :].sum() for row in rows])
    often = near[near > 0] >= SEVERAL
    return bool(often.mean() > 1 / 2 if np.mean(near > 0) < ALIKE else often.all()) if rows.size else True


def choose_ranges(
    fitted: Histogram, apart: Histogram, whole: Histogram, levels: float, bound: float, headroom: float = 1.0
) -> Ranges:
    """Clipping ranges of the rows of a layer, ``[channels]``.

    Args:
        fitted: of the samples that set the clipping ranges while rules are compared.
        apart: of the samples that compare them.
        whole: of both.
        levels: steps up to a clipping range.
        bound: of the activation's magnitude; infinite if there is none.
        headroom: by which clipping ranges are wider than the largest value seen, where levels are ample.
    """
    error = CodingError(apart)
    costs = [float(error.of(ranges, levels).sum()) for ranges in _by_rule(fitted, levels, bound, headroom)]
    best = int(np.argmin(costs))
    return next(ranges for rule, ranges in enumerate(_by_rule(whole, levels, bound, headroom)) if rule == best)


def _by_rule(histogram: Histogram, levels: float, bound: float, headroom: float) -> Iterator[Ranges]:
    """The clipping ranges that each rule sets, always in the same order."""
    layer = float(histogram.largest.max())
    layer = bound if bound <= HEADROOM * layer else layer
    hardly_seen = histogram.seen - histogram.zeros < FEW

    def bounded(ranges: Ranges | float) -> Ranges:
        return np.minimum(np.where(hardly_seen, np.maximum(ranges, layer), ranges), bound)

    own = [histogram.largest]
    if headroom == 1:
        own.append(mse_ranges(histogram, levels))
        yield bounded(float(mse_ranges(histogram.merged(), levels)[0]))
    yield from (bounded(headroom * np.maximum(ranges, share * layer)) for share in SHARES for ranges in own)
    yield bounded(max(HEADROOM, headroom) * layer)


def mse_ranges(histogram: Histogram, levels: float) -> Ranges:
    """Clipping range of each row that minimises the mean squared error of a uniform code of `levels` steps."""
    narrower = CANDIDATES[:, np.newaxis] * histogram.largest
    best = CodingError(histogram).of(narrower, levels).argmin(axis=0)
    ranges: Ranges = narrower[best, np.arange(histogram.channels)]
    return ranges
