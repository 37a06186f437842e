"""What a spiking network costs on any machine: passes through the weights, steps between two inputs, latency.

    passes   = sum over weighted nodes of slabs * MACs / sum of the ANN's MACs
    interval = T + L
    latency  = T + silent steps on the longest path

A train of T steps comes in at most T slabs: steps at which its readers only receive are one, see
`csscc.passes.lower.merge_silence`. So where L silent steps are merged, weights that lead to a neuron are used T-L times
for one input, and those that only a readout receives once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.dialect.macs import weighted_nodes
from csscc.dialect.metadata import layers_of
from csscc.dialect.metadata import read as read_facts
from csscc.dialect.model import in_stream, slabs_of
from csscc.dialect.network import Network
from csscc.dialect.regions import Regions
from csscc.dialect.spiking import neurons
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.insert_neurons import InsertNeurons, amplitude_names
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.split_inputs import SplitInputs
from csscc.passes.lower.merge_silence import MergeSilence
from csscc.passes.lower.targets import merged_by_layer
from csscc.pipeline import run_pipeline

PROBE = Coding(T=3, beta=2, silent=1)  # with 3, 2 or 1 slabs, a train states how its readers merge


@dataclass(frozen=True)
class Costs:
    """What one input takes.

    Attributes:
        steps: coding steps T.
        passes: convolution passes: how often the weighted operators run, on average over multiply-accumulates; the ANN
            makes one. In a stream all run at each time step, from the first to the answer.
        interval: time steps between two inputs: a neuron has sent its last spike, and may begin anew.
        latency: time steps from the first input spike to the answer.
    """

    steps: int
    passes: float
    interval: int
    latency: int


def costs_of(file: onnx.ModelProto) -> Costs:
    """What the spiking network `file`, lowered to any target, costs as it is.

    Raises:
        RefusedError: it is no spiking network of this version of csscc.
    """
    facts = read_facts({p.key: p.value for p in file.metadata_props}, "the model")
    T, model = facts.coding.T, merged_by_layer(file)
    silent = max((view.schedule.silent for _, view in neurons(model.graph)), default=0)
    passes = float(facts.latency) if in_stream(file) else sum(slabs * share for slabs, share in _shares(model).items())
    return Costs(T, round(passes, 9), T + silent, facts.latency)


@dataclass(frozen=True)
class Shares:
    """Multiply-accumulates, by when they run, as shares of the ANN's.

    Attributes:
        spread: of nodes that run at every step: a constant that arrives in parts is added there.
        merged: of those that lead to neurons which receive their silent steps as one.
        once: of those that only readouts receive.
    """

    spread: float
    merged: float
    once: float


@dataclass(frozen=True)
class Outline:
    """What costs depend on besides the coding.

    Attributes:
        depth: layers on the longest path, the readout being one.
        one: multiply-accumulates where each input is one train.
        split: where inputs are sent as two trains.
    """

    depth: int
    one: Shares
    split: Shares

    def costs(self, coding: Coding) -> Costs:
        """What the network costs at `coding`, with the same silent steps in every layer."""
        T, silent = coding.T, coding.silent
        shares = self.split if coding.splits_inputs else self.one
        passes = shares.spread * T + shares.merged * (T - len(coding.neuron().merged) + 1) + shares.once
        before_next = silent if shares.spread + shares.merged else 0  # a network of one layer has no neurons
        return Costs(T, round(passes, 9), T + before_next, T + silent * self.depth)


def outline_of(ann: Network, regions: Regions) -> Outline:
    """Outline of a canonical ANN in which nothing is refused; it stays as it is.

    It is made spiking with all amplitudes 1: which constants can move to the neurons, only the passes know.
    """
    def probe(graph: gs.Graph) -> Network:
        amplitudes = dict.fromkeys(amplitude_names(graph, regions), np.ones(()))
        fresh: dict[str, Any] = {"amplitudes": amplitudes, "trains": {}, "events": []}
        return replace(ann, graph=graph, coding=PROBE, regions=regions, **fresh)

    def shares(network: Network) -> Shares:
        run_pipeline(network, (InsertNeurons(), Rescale(), BiasOnFirstStep(), MergeSilence()))
        found = _shares(export_model(network))
        return Shares(*(found.get(slabs, 0.0) for slabs in (3, 2, 1)))

    plain, split = probe(ann.graph), probe(ann.graph.copy())
    several = run_pipeline(split, (SplitInputs(),)).trains
    one = shares(plain)
    return Outline(layers_of(plain)[1] - PROBE.T, one, shares(split) if several else one)


def _shares(model: onnx.ModelProto) -> dict[int, float]:
    """Multiply-accumulates of one pass as shares of the ANN's, by how many slabs nodes read; analog values are one."""
    slabs, shares, nodes = slabs_of(model.graph), dict[int, float](), weighted_nodes(model)
    total = max(sum(weighted.macs // weighted.trains for weighted in nodes), 1)
    for weighted in nodes:
        number = slabs.get(weighted.data, 1)
        shares[number] = shares.get(number, 0.0) + weighted.macs / total
    return shares
