"""Which nodes of an ANN become spiking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import onnx_graphsurgeon as gs

from csscc.coding.activations import ACTIVATIONS

Role = Literal["weighted", "linear", "neuron", "analog", "prologue", "epilogue"]


@dataclass
class Regions:
    """The role of every node, and the tensors at the borders of the core.

    Attributes:
        roles: role of each node, by name, in topological order.
        encoded: analog tensors that the core reads, by name.
        decoded: core tensors that the epilogue or the outputs read, by name.
        core_inputs: for each core node, which of its inputs carry spikes.
        known: sums of a core tensor and one that is known before time starts, each with the index of the latter; all
            their readers are neurons and readouts, which take it as a bias.
        analog: those of `encoded` that activations left analog make; they are sent as a constant current, unrounded.
    """

    roles: dict[str, Role] = field(default_factory=dict)
    encoded: list[str] = field(default_factory=list)
    decoded: list[str] = field(default_factory=list)
    core_inputs: dict[str, list[int]] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    analog: set[str] = field(default_factory=set)

    def nodes(self, graph: gs.Graph, *roles: Role) -> list[gs.Node]:
        """The graph's nodes of these roles, in order."""
        return [n for n in graph.nodes if self.roles[n.name] in roles]

    def received_names(self, graph: gs.Graph) -> dict[str, list[str]]:
        """Names of what neurons, by node name, and readouts, by the name of what they decode, receive as spikes."""
        neurons = {n.name: list(n.inputs)[: ACTIVATIONS[n.op].inputs] for n in self.nodes(graph, "neuron")}
        tensors = graph.tensors()
        readouts = {name: [tensors[name]] for name in self.decoded}
        return {name: [self.received(t)[0].name for t in read] for name, read in (neurons | readouts).items()}

    def received(self, tensor: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor | None]:
        """What of the input of a neuron or readout comes as spikes, and what of it is known before time starts."""
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None or node.name not in self.known:
            return tensor, None
        index = self.known[node.name]
        return node.inputs[1 - index], node.inputs[index]
