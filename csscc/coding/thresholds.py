"""The potentials above which spikes are sent, so that a train leaves as small a residual as it can.

The paper fires above half of the weight of a spike (Theorem 2), which leaves up to half a unit of theta. Where spikes
overlap, ``beta < 2``, a value has many trains, and firing so greedily takes one of the worst: what is left lies near
plus or minus one half, ``rms(u) = 0.39`` at beta = 1.5, where a uniform quantiser leaves ``sqrt(1/12) = 0.29``. Spikes
of 1.5 and 1 and 2.25 send 0, 0.25, 0.5, 1, 1.25, 1.5, ...; a neuron that spares the second last spike up to 5/6 of its
weight, and the third last up to 3/4, finds nearer ones: ``rms(u) = 0.14``, with a quarter fewer spikes.

From beta = 2 on, trains send integers or less, and half is best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HALF = 0.5
SEARCHED = 4  # last spikes whose thresholds are not half; that of the last one always is
CANDIDATES = tuple(i / 40 for i in range(20, 41))  # shares of the weight of a spike
SWEEPS = 2
CLEARLY = 0.95  # what another threshold must leave of the mean squared residual
VALUES = 4093  # a prime, so that few are whole numbers of units of theta
UNIFORM = math.sqrt(1 / 12)


def halves(weights: Sequence[float]) -> tuple[float, ...]:
    """Half of the weight of each spike."""
    return tuple(w * HALF for w in weights)


def reciprocals(thresholds: Sequence[float]) -> tuple[float, ...]:
    """The reciprocal of twice each threshold, all of them float32 numbers."""
    import numpy as np

    return tuple(float(r) for r in np.float32(1) / (2 * np.asarray(thresholds, np.float32)))


def just_below(weight: float) -> float:
    """The threshold of a spike that is sent where all of its weight is there: the float32 below it."""
    import numpy as np

    return float(np.nextafter(np.float32(weight), np.float32(0)))


def at_nearest(weights: Sequence[float], *, at_once: bool) -> tuple[float, ...]:
    """Thresholds of a spike whose time is the value, rounded: one is sent of what is nearest, and leaves half at most.

    With `at_once`, the first spike of any value that is not nothing is sent at the first step; the second, of the other
    sign, takes back what that sent too much.
    """
    nearest = tuple(w - HALF for w in weights)
    return (HALF, *nearest[1:]) if at_once else nearest


@cache
def least_residual(weights: tuple[float, ...]) -> tuple[float, ...]:
    """Thresholds of the spikes of a ternary train, in the unit of `weights`, for the least mean squared residual.

    The last few are found by coordinate descent, for values spread evenly over what those spikes are left with.
    """
    tail = weights[-SEARCHED:]
    values, shares = _values(tail), [HALF] * len(tail)
    left = _mean_square(values, tail, shares)
    for _ in range(SWEEPS):
        for k in range(len(tail) - 2, -1, -1):
            for share in CANDIDATES:
                tried = [*shares[:k], share, *shares[k + 1 :]]
                found = _mean_square(values, tail, tried)
                if found < (CLEARLY if shares[k] == HALF else 1.0) * left:
                    shares, left = tried, found
    return (*halves(weights[: -len(tail)]), *(w * share for w, share in zip(tail, shares, strict=True)))


@cache
def residual_rms(weights: tuple[float, ...], thresholds: tuple[float, ...], most: float = 1.0) -> float:
    """Root mean square of what a train leaves of a value that it can send, in units of theta; `most` spikes a step."""
    tail = weights[-2 * SEARCHED :]
    shares = [t / w for t, w in zip(thresholds[-2 * SEARCHED :], tail, strict=True)]
    return math.sqrt(_mean_square(_values(tail, most), tail, shares, most))


def _values(tail: Sequence[float], most: float = 1.0) -> NDArray[np.float64]:
    """What may be left for these spikes, as those before them fire above half."""
    import numpy as np

    ratio = tail[0] / tail[1] if len(tail) > 1 else 1.0
    return (np.arange(VALUES) + 0.5) / VALUES * tail[0] * min(ratio * HALF, most)


def _mean_square(
    values: NDArray[np.float64], weights: Sequence[float], shares: Sequence[float], most: float = 1.0
) -> float:
    import numpy as np

    rest = values
    for w, share in zip(weights, shares, strict=True):
        spikes = np.minimum(np.rint(np.abs(rest) / (2 * share * w)), most)  # none up to the threshold
        rest = rest - w * np.sign(rest) * spikes
    return float(np.square(rest).mean())
