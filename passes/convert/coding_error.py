"""What coding costs the values of a histogram: the squared error of a uniform code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from csscc.statistics import Histogram


class CodingError:
    """Squared errors of the values of one histogram, for any clipping ranges.

    Zeros cost nothing, values below half a step become zero, values between cost ``theta**2/12``, values above the
    clipping range are cut off.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        counts, centres = histogram.counts.astype(np.float64), histogram.centres
        counts[:, 0] = np.maximum(counts[:, 0] - histogram.zeros, 0.0)
        self._number, self._first, self._second = (
            np.pad(sums.cumsum(axis=1), ((0, 0), (1, 0))) for sums in (counts, counts * centres, counts * centres**2)
        )

    def of(self, ranges: NDArray[np.float64], levels: float) -> NDArray[np.float64]:
        """Sum over the values of each row, `levels` steps to a clipping range.

        `ranges` and result are ``[channels]``, or ``[candidates, channels]``.
        """
        number, first, second = self._number, self._first, self._second
        rows, theta = np.arange(ranges.shape[-1]), ranges / levels
        cut = bin_of(ranges, self._histogram)
        half = np.minimum(bin_of(theta / 2, self._histogram), cut)
        lost = second[rows, half]
        rounded = (number[rows, cut] - number[rows, half]) * theta**2 / 12
        above = number[:, -1] - number[rows, cut]
        clipped = second[:, -1] - second[rows, cut] - 2 * ranges * (first[:, -1] - first[rows, cut]) + ranges**2 * above
        error: NDArray[np.float64] = lost + rounded + clipped
        return error


def bin_of(values: NDArray[np.float64], histogram: Histogram) -> NDArray[np.int64]:
    """The bin edge of each row that is nearest to its value."""
    scale = np.divide(histogram.bins, histogram.ends, out=np.zeros_like(histogram.ends), where=histogram.ends > 0)
    return np.clip(np.rint(values * scale), 0, histogram.bins).astype(np.int64)
