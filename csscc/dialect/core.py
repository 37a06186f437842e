"""Which tensors of a spiking graph carry time in their batch axis."""

from __future__ import annotations

from typing import Any

from csscc.dialect.order import toposort
from csscc.dialect.spiking import DECODE, DOMAIN, ENCODE


def core_tensors(graph: Any) -> list[Any]:
    """Tensors between encoders and decoders; the graph is sorted."""
    return [tensor for part in core_parts(graph) for tensor in part]


def core_parts(graph: Any) -> list[list[Any]]:
    """The core's tensors in parts that no node connects: each has the batch of an encoder of its own."""
    toposort(graph)
    parts: dict[int, list[Any]] = {}  # of each tensor
    for node in graph.nodes:
        read = list({id(parts[id(t)]): parts[id(t)] for t in node.inputs if id(t) in parts}.values())
        spiking = node.domain == DOMAIN and node.op != DECODE
        if spiking and (node.op == ENCODE or not read):
            read = [[]]
        if read and (spiking or node.domain != DOMAIN):
            part = read[0]
            for other in read[1:]:
                part += other
                parts |= {id(t): part for t in other}
            part += node.outputs
            parts |= {id(t): part for t in node.outputs}
    return list({id(part): part for part in parts.values()}.values())
