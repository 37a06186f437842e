"""Which tensors of a spiking graph carry time in their batch axis."""

from __future__ import annotations

from typing import Any

from csscc.runtime.functions import DOMAIN


def core_tensors(graph: Any) -> list[Any]:
    """Tensors between encoders and decoders, in topological order; the graph is sorted."""
    graph.toposort()
    core: dict[int, Any] = {}
    for node in graph.nodes:
        spiking = node.domain == DOMAIN and node.op != "Decode"
        if spiking or (node.domain != DOMAIN and any(id(t) in core for t in node.inputs)):
            core.update((id(t), t) for t in node.outputs)
    return list(core.values())


def neuron_nodes(graph: Any) -> list[Any]:
    """The TSA nodes of a spiking graph, in order."""
    return [n for n in graph.nodes if n.domain == DOMAIN and n.op.startswith("TSA")]
