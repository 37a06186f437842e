"""Attention as one activation: what scores weigh.

    before:  MatMul(q, k) -> Mul(c) -> Add(m) -> Softmax -> MatMul(., v)
    after:   Attend(Mul(q, c), k, v, m)

One neuron accumulates q, k and v and sends what they come to, where there were three in a row, each with an error and
silent steps of its own; scores and their weights, whose small parts decide much, are no spikes at all. m is a mask, or
any other numbers that are constant or known before time starts; k is transposed already. ``SoftmaxOrZero`` becomes
``AttendOrZero``.

It does not fire where anything else reads the scores or the weights, nor for a Softmax that is not along rows, a factor
that differs within a matrix, or a term that spikes carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import (
    attribute,
    constant,
    constant_tensor,
    insert_node,
    insert_shaped,
    only_reader,
    producer,
    rank_of,
    set_inputs,
)
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.base import BasePass
from csscc.passes.linear.core import core_of, is_known, keeps_size

ATTEND = {"Softmax": "Attend", "SoftmaxOrZero": "AttendOrZero"}
NOTHING = np.zeros((), np.float32)


@dataclass(frozen=True)
class MergeAttention(BasePass):
    """Let one activation stand for scores, their softmax, and what they weigh."""

    name: ClassVar[str] = "merge-attention"

    def apply(self, network: Network) -> int:
        """Return the number of attentions merged."""
        graph = network.graph
        weighted, before, core = core_of(graph)
        rows = [n for n in graph.nodes if id(n) in core and n.op in ATTEND]
        merged = sum(_merge(graph, node, weighted | before) for node in rows)
        tidy(graph)
        return merged


def _merge(graph: gs.Graph, softmax: gs.Node, dependent: set[int]) -> int:
    scores, weights = softmax.inputs[0], softmax.outputs[0]
    if scores.shape is None or attribute(softmax, "axis", -1) % rank_of(scores) != rank_of(scores) - 1:
        return 0
    weighs = only_reader(graph, weights)
    if weighs is None or weighs.op != "MatMul" or weighs.inputs[0] is not weights or constant(weighs, 1) is not None:
        return 0
    mask: gs.Tensor | None = None
    factors: list[gs.Constant] = []
    node = producer(scores)
    while node is not None and only_reader(graph, node.outputs[0]) is not None and node.op in ("Add", "Mul", "Div"):
        term = _term(node, dependent)
        if term is None or (node.op == "Add" and factors):
            return 0
        if node.op == "Add":
            added = node.inputs[term]
            mask = added if mask is None else insert_shaped(graph, "Add", f"{softmax.name}_add", [mask, added], None)
        else:
            factors.append(_factor(graph, node, term))
        node = producer(node.inputs[1 - term])
    if node is None or node.op != "MatMul" or only_reader(graph, node.outputs[0]) is None or id(node) not in dependent:
        return 0
    q, k = node.inputs
    v = weighs.inputs[1]
    if isinstance(q, gs.Constant) or isinstance(k, gs.Constant) or len({rank_of(t) for t in (q, k, v)}) > 1:
        return 0
    for factor in factors:
        q = insert_node(graph, "Mul", f"{node.name}_scaled", [q, factor])
    mask = mask if mask is not None else constant_tensor(graph, f"{softmax.name}_no_mask", NOTHING)
    weighs.op, weighs.domain, weighs.attrs = ATTEND[softmax.op], ACTIVATION_DOMAIN, {}
    set_inputs(weighs, [q, k, v, mask])
    return 1


def _term(node: gs.Node, dependent: set[int]) -> int | None:
    """Which operand of a sum is constant or known, or of a product one number a matrix; None if neither is."""
    for i, tensor in enumerate(node.inputs):
        if not keeps_size(node.inputs[1 - i], node.outputs[0]):
            continue
        if node.op == "Add" and (isinstance(tensor, gs.Constant) or is_known(tensor, dependent)):
            return i
        values = constant(node, i)
        if node.op == "Add" or values is None or (node.op == "Div" and i == 0):
            continue
        if values.size == 1 or values.shape[-2:] == (1, 1):
            return i
    return None


def _factor(graph: gs.Graph, node: gs.Node, index: int) -> gs.Constant:
    values = constant(node, index)
    assert values is not None
    return constant_tensor(graph, f"{node.name}_factor", 1 / values if node.op == "Div" else values)
