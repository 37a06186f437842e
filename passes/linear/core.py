"""What lies between the first and the last weighted operators of an ANN: the core, which becomes spiking."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_graphsurgeon as gs

from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.order import toposort
from csscc.dialect.rewrite import constant
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.linear import LINEAR, WEIGHTED

NOT_THERE = 1e30  # magnitude of numbers that stand for minus infinity


def core_nodes(graph: gs.Graph) -> list[gs.Node]:
    """The nodes from the first weighted operators to the last, in topological order; the graph is sorted."""
    core = core_of(graph)[2]
    return [n for n in graph.nodes if id(n) in core]


def core_of(graph: gs.Graph) -> tuple[set[int], set[int], set[int]]:
    """Nodes, by id, that are weighted, that have a weighted one before them, and that are core."""
    toposort(graph)
    weighted = {id(n) for n in graph.nodes if is_weighted(n)}
    makers = {id(n): [p for t in read_tensors(n) for p in t.inputs] for n in graph.nodes}
    readers: dict[int, list[gs.Node]] = {}
    for node in graph.nodes:
        for maker in makers[id(node)]:
            readers.setdefault(id(maker), []).append(node)
    before = _reached(graph.nodes, weighted, makers)
    after = _reached(list(reversed(graph.nodes)), weighted, readers)
    return weighted, before, weighted | (before & after)


def is_known(tensor: gs.Tensor, dependent: set[int]) -> bool:
    """Whether a tensor is known before time starts, and should enter neurons as a bias.

    That is any float tensor that is computed, but not by one of the nodes `dependent`, by id, which are weighted or
    depend on such; and a constant that holds numbers so large that they mean "not there".
    """
    if tensor.dtype is not None and np.dtype(tensor.dtype).kind != "f":
        return False
    if isinstance(tensor, gs.Constant):
        return bool((np.abs(tensor.values) > NOT_THERE).any())
    return bool(tensor.name) and not any(id(maker) in dependent for maker in tensor.inputs)


def known_operand(node: gs.Node, dependent: set[int]) -> int | None:
    """Which operand of an Add is known, the other one being as large as the sum after the batch; else None."""
    if node.op != "Add" or id(node) not in dependent:
        return None
    known = [i for i in (0, 1) if is_known(node.inputs[i], dependent)]
    if len(known) != 1 or isinstance(node.inputs[1 - known[0]], gs.Constant):
        return None
    return known[0] if keeps_size(node.inputs[1 - known[0]], node.outputs[0]) else None


def keeps_size(operand: gs.Tensor, result: gs.Tensor) -> bool:
    """Whether an operator repeats its operand along no axis after the batch, as far as sizes are known."""
    before, after = operand.shape, result.shape
    if before is None or after is None or len(before) != len(after):
        return False
    return not any(b == 1 != a for b, a in zip(before[1:], after[1:], strict=True))


def is_neuron(node: gs.Node) -> bool:
    """Whether a core node is an activation, which a neuron sends, and no linear operator on one computed tensor."""
    if (node.domain or "") not in ("", ACTIVATION_DOMAIN) or node.op not in ACTIVATIONS:
        return False
    computed = [t for t in node.inputs if t.name and not isinstance(t, gs.Constant)]
    return node.op not in LINEAR or len(computed) > 1


def is_weighted(node: gs.Node) -> bool:
    """Whether the node applies constant weights to computed data."""
    if node.op not in WEIGHTED or (node.domain or "") != "":
        return False
    constants = [i for i in (0, 1) if constant(node, i) is not None]
    return constants == [1] or (node.op == "MatMul" and constants == [0])


def read_tensors(node: gs.Node) -> list[gs.Tensor]:
    """What the node reads: its inputs, and what its subgraphs take from outside."""
    subgraphs = [v for v in node.attrs.values() if isinstance(v, gs.Graph)]
    return [*node.inputs, *(t for g in subgraphs for t in _taken_from_outside(g))]


def _taken_from_outside(graph: gs.Graph) -> list[gs.Tensor]:
    read = [*graph.outputs, *(t for n in graph.nodes for t in read_tensors(n))]
    own = {id(t) for n in graph.nodes for t in n.outputs} | {id(t) for t in graph.inputs}
    return [t for t in read if id(t) not in own]


def _reached(nodes: Iterable[gs.Node], start: set[int], neighbours: dict[int, list[gs.Node]]) -> set[int]:
    """Nodes with a start node among their (transitive) neighbours; `nodes` come in the order of dependence."""
    found: set[int] = set()
    for node in nodes:
        if any(id(n) in start or id(n) in found for n in neighbours.get(id(node), [])):
            found.add(id(node))
    return found
