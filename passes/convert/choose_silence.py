"""Give each layer as many silent steps as it needs, from none to T.

    before:  TSAClip <silent = 1> in every layer
    after:   TSAClip <silent = 3> where inputs arrive late, TSARelu <silent = 1>, TSASigmoid <silent = 0>

A silent step lets a neuron receive more before it fires, and delays all layers after. What spikes fail to send because
they had to be decided too early is the layer's timing error. In order, on the spikes of layers already decided, a layer
takes the fewest steps, at least those of the coding, with which the root mean square of its residuals u (in units of
theta, Theorem 1) is

    rms(u) <= max(1/2, 5/4 * rms(u with T silent steps))

that is, with which timing costs less than rounding, which is all that is left where a neuron receives everything before
it fires; and up to one half `AdjustAmplitudes` cures it without latency. (Up to 1 where bursts halve theta: as much.)
It takes fewer than those of the coding where the residuals do not grow at all: inputs that are known early, or change
little. After it the network is converted again, since merged silent steps take their part of the weights' grid.

What sends the whole numbers of a quantised network, and waits until it knows them, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from csscc.coding.coding import Coding
from csscc.coding.schedule import Schedule
from csscc.dialect.adapter import export_model
from csscc.dialect.network import Network
from csscc.dialect.spiking import neurons
from csscc.io.data import Source
from csscc.memory import release
from csscc.passes.base import BasePass
from csscc.passes.convert.known_amplitudes import sent_as_integers
from csscc.passes.convert.samples import layer_batches
from csscc.runtime.segments import LayerRun, LayerRuns

ENOUGH = 0.5
TIMING = 1.25


@dataclass(frozen=True)
class ChooseSilence(BasePass):
    """Choose the silent steps of each layer.

    Up to `samples` samples are used, fewer where one run would take more than `budget` multiply-accumulates or decide
    more than `spikes` spikes, each of which is decided once for every number of steps that is tried.
    """

    source: Source
    name: ClassVar[str] = "choose-silence"
    samples: int = 16
    budget: float = 4e10
    spikes: float = 3e8
    progress: Callable[[int, int | None], None] | None = field(default=None, compare=False)

    def apply(self, network: Network) -> int:
        """Return the number of layers whose silent steps are not those they had."""
        assert network.ann is not None
        integers = sent_as_integers(network)
        settled = {n.name for n in network.ann.nodes if n.outputs and n.outputs[0].name in integers}
        known = {view.name: view.schedule.silent for _, view in neurons(network.graph) if view.name not in settled}
        if not known:
            return 0
        batches = layer_batches(network, self.source, self.samples, self.budget, self.spikes)
        runs = LayerRuns(export_model(network), batches)
        for run in runs:
            view = run.segment.view
            if view.name in known:
                run.schedule = needed(run, network.coding)
                network.silent[view.name] = run.schedule.silent
            if self.progress is not None:
                self.progress(1, len(runs))
        release()
        return sum(network.silent[name] != silent for name, silent in known.items())


def needed(run: LayerRun, coding: Coding) -> Schedule:
    """The schedule with the fewest silent steps that suffice."""
    schedule = run.segment.view.schedule
    neuron = partial(coding.neuron, burst=schedule.burst)
    usual, last = min(coding.silent, coding.T), coding.T
    found, bound = run.residual_rms(neuron(usual)), ENOUGH * schedule.counts[1]
    if found > bound:
        bound = max(bound, TIMING * run.residual_rms(neuron(last)))
    if found <= bound:
        fewer = (s for s in range(usual) if run.residual_rms(neuron(s), found) <= found)
        return neuron(next(fewer, usual))
    more = (s for s in range(usual + 1, last) if run.residual_rms(neuron(s), bound) <= bound)
    return neuron(next(more, last))
