"""What travels through the pipeline: the graph, and the facts the passes found out about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.coding.coding import Coding
from csscc.dialect.grids import Grid
from csscc.dialect.regions import Regions
from csscc.statistics import Calibration


@dataclass(frozen=True)
class Event:
    """Something a pass did or declined to do, for the report: which pass, at which node, what and why."""

    source: str
    node: str
    text: str


@dataclass
class Network:
    """A network on its way from ANN to SNN.

    Attributes:
        graph: the current onnx-graphsurgeon graph.
        coding: the spike coding asked for.
        origin: facts of the source file (name, sha256, producer, opset).
        metadata: the source model's own metadata, written back on export.
        node_metadata: metadata of nodes by name, which the graph library does not carry.
        types: of tensors by name, where the graph library or onnx's inference knows none: sequences and maps that go in
            and out, and what operators of other domains make.
        batch: name of the symbolic batch dimension, or None where the batch stays fixed.
        sizes: shapes of the inputs for which neurons and operations are counted, where the network leaves sizes free.
        regions: which nodes become spiking, once found.
        calibration: statistics of the ANN's activations, once collected.
        statistics: mean and deviation per channel that a folded BatchNormalization remembers of its output, by tensor.
        grids: of activations, other than quantisers themselves, that a quantiser rounds, by the name of the tensor.
        amplitudes: theta of each encoder and neuron by the name of the ANN tensor it sends, in the ANN's units.
        raised: by what factor the amplitudes of a layer were raised, by the neurons' node name.
        trains: how many trains side by side send an input, by the name of the tensor that is encoded; else one.
        bursts: names of the ANN tensors that are sent in bursts, see `csscc.coding.coding.Coding.sends_bursts`.
        silent: silent steps of neurons that do not have those of the coding, by node name.
        ann: the canonical ANN graph the spiking one was made from.
        file: the lowered network, once it is.
        events: what the passes report.
    """

    graph: gs.Graph
    coding: Coding = field(default_factory=Coding)
    origin: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    node_metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    types: dict[str, onnx.TypeProto] = field(default_factory=dict)
    batch: str | None = None
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    regions: Regions | None = None
    calibration: Calibration | None = None
    statistics: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    amplitudes: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    raised: dict[str, float] = field(default_factory=dict)
    trains: dict[str, int] = field(default_factory=dict)
    bursts: frozenset[str] = frozenset()
    silent: dict[str, int] = field(default_factory=dict)
    ann: gs.Graph | None = None
    file: onnx.ModelProto | None = None
    events: list[Event] = field(default_factory=list)

    def levels(self, name: str) -> float:
        """Largest value of a spike train in units of its theta, by the name of the ANN tensor that it sends."""
        return self.coding.levels * (2 if name in self.bursts else 1)

    def report(self, source: str, node: str, text: str, *, once: bool = False) -> None:
        """Record an event, unless it is there already; with `once`, in place of what the pass noted of the node."""
        event = Event(source, node, text)
        if once:
            self.events[:] = [e for e in self.events if (e.source, e.node) != (source, node)]
        if event not in self.events:
            self.events.append(event)
