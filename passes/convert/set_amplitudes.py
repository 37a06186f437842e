"""Choose the amplitude theta of every encoder and neuron from the calibration.

``theta = p / sum(q)``: p is the largest value the layer can send (paper, 4.2.2). Five ways to choose p:

    auto         what codes samples held out best, layer by layer, see `csscc.passes.convert.choose_ranges`
    percentile   the 99.99th percentile of the activations that are not zero (the paper's)
    max          the largest activation
    mse          the p that minimises the mean squared error of sending the calibration's activations
    entropy      the p that keeps the distribution after coding closest to the one before (Kullback-Leibler)

The paper takes its percentile as Rueckauer et al. (2017) do, whose implementation leaves out zeros: how often a ReLU is
silent does not show how much it sends when it is not.

What a quantiser made has its scale for theta, whatever calibration finds. An encoder's p is otherwise the largest
input, since nothing corrects what an encoder loses. Where few inputs come near to it, unlike pixels, which have a
largest value, later ones may be larger, and p has the headroom of a neuron's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.network import Network
from csscc.dialect.rewrite import producer, rank_of
from csscc.errors import PassError
from csscc.passes.base import BasePass
from csscc.passes.convert.bounds import bound_of
from csscc.passes.convert.channels import is_features
from csscc.passes.convert.choose_ranges import (
    CANDIDATES,
    LONG_TAIL,
    choose_ranges,
    growth,
    headroom_for,
    mse_ranges,
    reaches_a_bound,
    room_for,
)
from csscc.passes.convert.coding_error import bin_of
from csscc.passes.convert.feature_ranges import SHARES, feature_ranges, gain_of, not_too_small
from csscc.passes.convert.insert_neurons import amplitude_names
from csscc.passes.convert.known_amplitudes import known_grids
from csscc.passes.linear.factors import spread
from csscc.statistics import SMALLEST, Histogram

Method = Literal["auto", "percentile", "max", "mse", "entropy"]


@dataclass(frozen=True)
class SetAmplitudes(BasePass):
    """Amplitudes from the calibration's histograms; with `apart`, without the samples held out, which judge them."""

    name: ClassVar[str] = "set-amplitudes"
    method: Method = "mse"
    percentile: float = 99.99
    apart: bool = False

    def requires(self, network: Network) -> None:
        """A histogram for every spike train."""
        if network.regions is None or network.calibration is None:
            raise PassError("the network is not calibrated")

    def apply(self, network: Network) -> int:
        """Return the number of amplitudes that are new."""
        assert network.regions is not None
        assert network.calibration is not None
        tensors, grids = network.graph.tensors(), known_grids(network)
        changed, long_tail = 0, _inputs_have_a_long_tail(network)
        for name in amplitude_names(network.graph, network.regions):
            exact = network.coding.is_exact(burst=name in network.bursts)
            grid = grids.get(name)
            stated = grid.theta(network.levels(name), exact=exact) if grid else None
            theta = self._theta(network, tensors[name], long_tail) if stated is None else stated
            known = network.amplitudes.get(name)
            changed += known is None or not np.array_equal(theta, known)
            network.amplitudes[name] = theta
        return changed

    def _theta(self, network: Network, tensor: gs.Tensor, long_tail: bool) -> NDArray[np.float64]:
        """The amplitude by statistics."""
        assert network.regions is not None
        assert network.calibration is not None
        calibration, levels, name = network.calibration, network.levels(tensor.name), tensor.name
        fine = network.coding.uniform_levels * (levels / network.coding.levels)
        histogram = calibration.histograms[name] if self.apart else calibration.whole(name)
        headroom = headroom_for(calibration.samples, levels, long_tail=long_tail)
        if name in network.regions.encoded:
            ranges = self._of_encoder(network, tensor, histogram, levels, headroom, long_tail=long_tail)
        elif self.method == "auto" and name in calibration.apart:
            fitted, apart = calibration.histograms[name], calibration.apart[name]
            room = room_for(fitted, apart, levels, headroom)
            ranges = choose_ranges(fitted, apart, histogram, fine, bound_of(producer(tensor)), room)
            ranges = ranges if ranges.max() > SMALLEST else np.ones_like(ranges)
        else:
            method: Method = "mse" if self.method == "auto" else self.method
            room = 1.0 if method == "percentile" else headroom
            ranges = not_too_small(self.ranges(histogram, method, fine), levels, room)
            ranges = np.minimum(ranges, bound_of(producer(tensor))) if self.method == "auto" else ranges
        theta, axis = ranges / levels, calibration.axes[name]
        return theta.reshape(()) if axis is None else spread(theta, rank_of(tensor), axis)

    def _of_encoder(
        self,
        network: Network,
        tensor: gs.Tensor,
        histogram: Histogram,
        levels: float,
        headroom: float,
        *,
        long_tail: bool,
    ) -> NDArray[np.float64]:
        """Largest value to be sent for each row of the histogram of an input."""
        assert network.regions is not None
        assert network.calibration is not None
        calibration, name, core = network.calibration, tensor.name, network.regions.core_inputs
        bounded = self.method == "percentile" or reaches_a_bound(histogram)
        gain = gain_of(reader for reader in tensor.outputs if reader.name in core)
        if not bounded and gain is not None and len(gain) == histogram.channels and name in calibration.apart:
            fitted, apart = calibration.histograms[name], calibration.apart[name]
            shares = SHARES[:1] if long_tail else SHARES
            own = feature_ranges(fitted, apart, histogram, levels, headroom, gain, shares)
            if own is not None:
                return own
        largest = histogram.largest
        alike = np.full_like(largest, largest.max()) if is_features(tensor) else largest
        return not_too_small(alike, levels, 1.0 if bounded else headroom)

    def ranges(self, histogram: Histogram, method: Method, levels: float) -> NDArray[np.float64]:
        """Largest value to be sent for each row of the histogram."""
        if method == "max":
            return histogram.largest.copy()
        if method == "percentile":
            return histogram.percentile(self.percentile, without_zeros=True)
        return mse_ranges(histogram, levels) if method == "mse" else entropy_ranges(histogram, levels)


def _inputs_have_a_long_tail(network: Network) -> bool:
    """Whether the largest values that encoders read differ much between two parts of the samples.

    A sample that lies far out makes the values of all layers large.
    """
    assert network.regions is not None
    assert network.calibration is not None
    first, second = network.calibration.histograms, network.calibration.apart
    for name in network.regions.encoded:
        if name in second:
            bounded = reaches_a_bound(network.calibration.whole(name))
            together = growth(first[name].merged(), second[name].merged())
            if together >= LONG_TAIL or (not bounded and growth(first[name], second[name]) >= LONG_TAIL):
                return True
    return False


def entropy_ranges(histogram: Histogram, levels: float) -> NDArray[np.float64]:
    """Clipping range of each row that minimises the divergence between the distribution and its coded form."""
    ranges = histogram.largest.copy()
    for row in range(histogram.channels):
        counts = histogram.counts[row].astype(np.float64)
        counts[0] = 0
        if not counts.any():
            continue
        best = np.inf
        for share in CANDIDATES[20:]:
            kept = int(bin_of(histogram.largest[row : row + 1] * share, _row(histogram, row))[0])
            if kept < 2:
                continue
            divergence = _divergence(counts, kept, max(1, round(min(levels, kept))))
            if divergence < best:
                best, ranges[row] = divergence, histogram.largest[row] * share
    return ranges


def _row(histogram: Histogram, row: int) -> Histogram:
    single = Histogram(1, histogram.bins)
    single.ends = histogram.ends[row : row + 1]
    return single


def _divergence(counts: NDArray[np.float64], kept: int, levels: int) -> float:
    reference = counts[:kept].copy()
    reference[-1] += counts[kept:].sum()
    groups = np.minimum(np.arange(kept) * levels // kept, levels - 1)
    filled = (counts[:kept] > 0).astype(np.float64)
    total = np.bincount(groups, counts[:kept], levels)
    used = np.bincount(groups, filled, levels)
    coded = np.divide(total, used, out=np.zeros(levels), where=used > 0)[groups] * filled
    p, q = reference / reference.sum(), coded / max(coded.sum(), 1e-12)
    mask = p > 0
    return float((p[mask] * np.log(p[mask] / np.maximum(q[mask], 1e-12))).sum())
