"""Give each layer only as many silent steps as it needs.

    before:  TSARelu <silent = 3> in every layer
    after:   TSARelu <silent = 1> where residuals are no larger for it

A silent step lets a neuron hear more before it speaks, and delays all layers behind. A layer that needs none, because
its inputs say early what they mean, sends the same values without. In order, on the spikes of layers already decided,
each layer takes the fewest silent steps, up to those of the coding, with which the root mean square of its residuals u
(in units of theta, Theorem 1) is

    rms(u) <= max(sqrt(1/12), `tolerance` * rms(u with all silent steps))

sqrt(1/12) is what rounding leaves where all is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from csscc.coding.coding import Coding
from csscc.coding.schedule import Schedule
from csscc.dialect.adapter import export_model
from csscc.dialect.network import Network
from csscc.dialect.spiking import neurons, set_schedule
from csscc.io.data import Source
from csscc.passes.base import BasePass
from csscc.passes.convert.samples import layer_batches
from csscc.runtime.segments import LayerRun, LayerRuns

ROUNDING = 12**-0.5


@dataclass(frozen=True)
class TrimSilence(BasePass):
    """Choose the silent steps of each layer.

    Up to `samples` samples are used, fewer where one run would take more than `budget` multiply-accumulates.
    """

    source: Source
    name: ClassVar[str] = "trim-silence"
    tolerance: float = 1.1
    samples: int = 64
    budget: float = 1e11
    progress: Callable[[int], None] | None = field(default=None, compare=False)

    def apply(self, network: Network) -> int:
        """Return the number of layers that lost silent steps."""
        nodes = {view.name: node for node, view in neurons(network.graph)}
        batches = layer_batches(network, self.source, self.samples, self.budget)
        trimmed = 0
        for run in LayerRuns(export_model(network), batches):
            view = run.segment.view
            if view.is_neuron:
                chosen = self._needed(run, network.coding)
                run.follow(chosen)
                set_schedule(nodes[view.name], chosen)
                trimmed += chosen.silent < view.schedule.silent
            if self.progress is not None:
                self.progress(1)
        return trimmed

    def _needed(self, run: LayerRun, coding: Coding) -> Schedule:
        given = run.segment.view.schedule
        bound = max(ROUNDING, self.tolerance * run.residual_rms())
        for silent in range(given.silent):
            fewer = coding.neuron(silent)
            merged = fewer.merged if len(given.merged) > 1 else given.merged  # the weights leave no room for more
            run.follow(replace(fewer, merged=merged))
            if run.residual_rms() <= bound:
                return run.segment.view.schedule
        return given
