"""The order of a graph's nodes, and which of them it needs.

The graph library's own sort gives the same order. It calls itself once a node, which fails on deep graphs, and a
compilation, which sorts a hundred times, spent a seventh of its time there.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError

import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import subgraphs


def tidy(graph: gs.Graph) -> gs.Graph:
    """Remove nodes that no output needs, and sort the others (in place)."""
    return toposort(graph.cleanup())


def toposort(graph: gs.Graph) -> gs.Graph:
    """Sort the nodes by their level (in place): 0 where a node reads no other, else one above the highest it reads.

    Nodes of one level stay in the order in which they were met: each after those it reads.

    Raises:
        CycleError: nodes read each other in a circle.
    """
    for node in graph.nodes:
        for inner in subgraphs(node):
            _sort(inner)
    return _sort(graph)


def _sort(graph: gs.Graph) -> gs.Graph:
    local = {id(node) for node in graph.nodes}
    levels: dict[int, int] = {}  # of nodes, by their identity
    met: list[gs.Node] = []
    for last in graph.nodes:
        path, on_path = [last], {id(last)}
        while path:
            node = path[-1]
            read = [n for n in _read_by(node) if id(n) in local]
            below = next((n for n in read if id(n) not in levels), None)
            if below is not None:
                if id(below) in on_path:
                    raise CycleError(f"node '{below.name}' reads what is computed from it")
                path.append(below)
                on_path.add(id(below))
                continue
            path.pop()
            if id(node) not in levels:
                levels[id(node)] = 1 + max((levels[id(n)] for n in read), default=-1)
                met.append(node)
    graph.nodes = sorted(met, key=lambda node: levels[id(node)])
    return graph


def _read_by(node: gs.Node) -> Iterator[gs.Node]:
    """The nodes whose outputs a node reads, in its subgraphs as well."""
    for tensor in node.inputs:
        yield from tensor.inputs
    for graph in subgraphs(node):
        for inner in graph.nodes:
            for tensor in inner.inputs:
                yield from tensor.inputs
        for tensor in graph.outputs:
            yield from tensor.inputs
