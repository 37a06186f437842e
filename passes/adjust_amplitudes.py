"""Enlarge the amplitudes of layers whose residuals are too large (paper, A.3).

The converted network runs on calibration data; where the 99.9th percentile of a layer's final residual |u| exceeds 1,
its theta is multiplied by s of Eq. A18 (with theta = 1), and the ANN is converted again. A bounded number of rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from csscc.calibration import batch_size
from csscc.data import Source
from csscc.passes.base import BasePass, Pass, run_passes
from csscc.passes.network import Network
from csscc.passes.core import neuron_nodes
from csscc.runtime.residuals import residual_histograms

RESIDUAL_PERCENTILE = 99.9


@dataclass(frozen=True)
class AdjustAmplitudes(BasePass):
    """Raise theta where the residuals ask for it; `convert` makes the spiking network again."""

    source: Source
    convert: tuple[Pass, ...]
    name: ClassVar[str] = "adjust-amplitudes"
    rounds: int = 3
    target: float = 1.0
    progress: Callable[[int], None] | None = field(default=None, compare=False)

    def apply(self, network: Network) -> int:
        """Return the number of amplitudes raised, over all rounds."""
        raised = 0
        levels = network.coding.levels
        names = [n.outputs[0].name for n in neuron_nodes(network.graph)]
        size = max(1, batch_size(network, names) // 2)
        for _ in range(self.rounds):
            histograms = residual_histograms(network, self.source.batches(size), progress=self.progress)
            factors = {}
            for node, histogram in histograms.items():
                residual = float(histogram.percentile(RESIDUAL_PERCENTILE)[0])
                if residual > self.target:
                    factors[node] = enlargement(residual / self.target, levels)
            if not factors:
                break
            raised += len(factors)
            sent = {n.name: n.outputs[0].name for n in network.ann.nodes if n.name in factors}
            for node, factor in factors.items():
                network.amplitudes[sent[node]] = network.amplitudes[sent[node]] * factor
                network.report(self.name, node, f"amplitude raised by {factor - 1:.1%}")
            network.graph = network.ann
            run_passes(self.convert, network)
        return raised


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
