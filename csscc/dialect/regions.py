"""Which nodes of an ANN become spiking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import onnx_graphsurgeon as gs

Role = Literal["weighted", "linear", "neuron", "prologue", "epilogue"]


@dataclass
class Regions:
    """The role of every node, and the tensors at the borders of the core.

    Attributes:
        roles: role of each node, by name, in topological order.
        encoded: analog tensors that the core reads, by name.
        decoded: core tensors that the epilogue or the outputs read, by name.
        core_inputs: for each core node, which of its inputs carry spikes.
    """

    roles: dict[str, Role] = field(default_factory=dict)
    encoded: list[str] = field(default_factory=list)
    decoded: list[str] = field(default_factory=list)
    core_inputs: dict[str, list[int]] = field(default_factory=dict)

    def nodes(self, graph: gs.Graph, *roles: Role) -> list[gs.Node]:
        """The graph's nodes of these roles, in order."""
        return [n for n in graph.nodes if self.roles[n.name] in roles]
