"""Enlarge the amplitudes of layers whose residuals are too large (paper, A.3).

The converted network runs on calibration data; where a percentile of a layer's final residual |u| exceeds 1 (the
99.9th in the paper), its theta is multiplied by s of Eq. A18 (with theta = 1), and the ANN is converted again. A
bounded number of rounds.
Where amplitudes are per channel, so is the adjustment: one channel that is hard to send does not coarsen the others.
Amplitudes that a quantiser sets stay.

A percentile is blind to the few neurons after it, whose inputs turn so late that they cannot catch up: their residuals
are of the order of the layer's largest value whatever T is, so that their error, unlike that of all others, does not
fall as T grows. With `rms`, theta is also multiplied by sqrt(RMS(u) / rms), by 1.5 at most, where the root mean square
of a channel's residuals exceeds `rms`. If all is sent it is sqrt(1/12) = 0.29; at 0.5 the error of the few is about
that of all the others. A larger theta lets a neuron catch up sooner, and costs resolution in the same measure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from csscc.dialect.adapter import export_model, sized_shapes
from csscc.dialect.macs import affordable_samples
from csscc.dialect.network import Network
from csscc.dialect.spiking import neurons
from csscc.io.batches import limited
from csscc.io.data import Source
from csscc.memory import release
from csscc.passes.base import BasePass
from csscc.passes.convert.known_amplitudes import known_grids
from csscc.passes.convert.samples import batch_size, counting, in_whole_batches
from csscc.runtime.residuals import residual_histograms
from csscc.statistics import Histogram

MAX_FACTOR = 1.5


@dataclass(frozen=True)
class AdjustAmplitudes(BasePass):
    """Raise theta where the residuals ask for it; after it the spiking network is made again.

    With `rms` of None only the `percentile` asks. Up to `samples` samples are used, fewer where they would take more
    than `budget` multiply-accumulates.
    """

    source: Source
    name: ClassVar[str] = "adjust-amplitudes"
    percentile: float = 99.9
    rms: float | None = None
    samples: int = 64
    budget: float = 4e10
    progress: Callable[[int, int | None], None] | None = field(default=None, compare=False)

    def apply(self, network: Network) -> int:
        """Return the number of amplitudes raised."""
        assert network.calibration is not None
        assert network.ann is not None
        sent = {n.name: n.outputs[0].name for n in network.ann.nodes if n.outputs}
        known = known_grids(network)
        sending = [n.outputs[0].name for n, _ in neurons(network.graph) if sent[n.name] not in known]
        if not sending:
            return 0
        levels, size = network.coding.levels, batch_size(network, sending, share=4)
        shapes = sized_shapes(replace(network, graph=network.ann))
        samples = affordable_samples(network.ann, network.coding.T, self.samples, self.budget, shapes=shapes)
        axes = {node: network.calibration.axes.get(tensor) for node, tensor in sent.items()}
        number = in_whole_batches(network, samples, size)
        batches = limited(self.source.batches(size), number)
        advance = counting(self.progress, None if self.source.size is None else min(number, self.source.size))
        histograms = residual_histograms(export_model(network), batches, axes, progress=advance)
        release()
        raised = 0
        for node, histogram in histograms.items():
            factor = self._factors(histogram, levels)
            if sent[node] not in known and (factor > 1).any():
                theta = network.amplitudes[sent[node]]
                network.amplitudes[sent[node]] = theta * (factor.reshape(theta.shape) if theta.ndim else factor[0])
                network.raised[node] = network.raised.get(node, 1.0) * float(factor.mean())
                text = f"amplitude raised by {network.raised[node] - 1:.1%}: its residuals were too large"
                network.report(self.name, node, text, once=True)
                raised += 1
        return raised

    def _factors(self, histogram: Histogram, levels: float) -> NDArray[np.float64]:
        """What to multiply the amplitude of each channel by."""
        factors = np.ones(histogram.channels)
        if histogram.merged().percentile(self.percentile)[0] > 1:
            factors = np.array([enlargement(float(u), levels) for u in histogram.percentile(self.percentile)])
        if self.rms is not None:
            factors = np.maximum(factors, np.clip(np.sqrt(histogram.rms / self.rms), 1.0, MAX_FACTOR))
        return factors


def enlargement(residual: float, levels: float) -> float:
    """Factor s of Eq. A18 for a residual u in units of theta; `levels` is ``sum(q)``."""
    excess = residual - 1
    if excess <= 0:
        return 1.0
    if excess > 0.05 * levels:
        return 1 + excess / levels
    if excess > 0.01 * levels:
        return 1 + (excess - 0.01 * levels) / levels + 0.04
    return 1 + 4 * excess / levels
