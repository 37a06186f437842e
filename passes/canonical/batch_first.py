"""Bring the batch to the front of every core tensor, unfolded, by equivalent operators.

    before:  x -> Reshape [batch, n, 3, h, d] -> Transpose [3, batch, h, n, d] -> Split -> Squeeze -> q, k, v
    after:   x -> Reshape [batch, n, 3, h, d] -> Transpose [batch, 3, h, n, d] -> Split -> Squeeze -> q, k, v

    before:  x [batch, h, n, d] -> Reshape [batch*h, n, d] -> MatMul, Softmax, ... -> Reshape [batch, h, n, d]
    after:   x [batch, h, n, d] -> MatMul, Softmax, ...

Time is folded into the first axis of a core tensor, so the batch must be there, whole and alone. Exporters move it
(attention that stacks queries, keys and values in front of it) and fold other axes into it (heads, windows, patches).
A core tensor X has its batch somewhere in one axis, ``outer * batch * inner`` long (`Place`), and a counterpart X'
``[batch, axes before, outer, inner, axes after]`` (`front_shape`), where outer and inner are left out if they are 1.
Any Reshape of X is one of X' too, since the order of the elements of a sample is the same; what other operators become
is found by `csscc.passes.canonical.batch_rules`. Where an operator mixes the batch, or nothing is known of its sizes,
it reads X as before, made of X'. Nodes after the core stay as they are; those before it may have to make X'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from csscc.dialect.adapter import infer_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.passes.base import BasePass
from csscc.passes.canonical.batch_place import Fronts, UnfitError
from csscc.passes.canonical.batch_rules import RULES
from csscc.passes.canonical.sizes import sizes_of
from csscc.passes.linear.core import core_of


@dataclass(frozen=True)
class BatchFirst(BasePass):
    """Rewrite what has the batch elsewhere than in front."""

    name: ClassVar[str] = "batch-first"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        _, after, core = core_of(graph)
        sizes = sizes_of(graph)
        if sizes.batch is None:
            return 0
        nodes = list(graph.nodes)
        fronts = Fronts(graph, sizes, sizes.batch)
        for node in nodes:
            if id(node) in core or id(node) not in after:
                _rewrite(fronts, node)
        rewritten = fronts.keep(core)
        if rewritten:
            try:
                fronts.hand_back()
            except UnfitError:
                network.report(self.name, "batch", "not brought to the front: a shape after the core cannot be stated")
                graph.nodes, rewritten = nodes, 0
        tidy(graph)
        if rewritten:
            _give_names_back(graph, {n.name for n in nodes})
            infer_shapes(network)
        return rewritten


def _give_names_back(graph: gs.Graph, before: set[str]) -> None:
    """A node in place of one that is gone takes its name, which reports and refusals name."""
    taken = {n.name for n in graph.nodes}
    for node in graph.nodes:
        name, _, number = node.name.rpartition(".")
        if number.isdigit() and name in before - taken:
            node.name = name
            taken.add(name)


def _rewrite(fronts: Fronts, node: gs.Node) -> None:
    """Make the counterpart of a node, if it reads or makes a tensor that has the batch elsewhere."""
    start = len(fronts.graph.nodes)
    rule = None if node.domain else RULES.get(node.op)
    try:
        if rule is not None and not fronts.comes_to_front(node):
            fronts.take(node, rule(fronts, node), start)
            return
    except UnfitError:
        pass  # what the rule made so far, nobody reads
    for tensor in node.outputs:
        fronts.assume(tensor, batched=fronts.reads_batch(node))
