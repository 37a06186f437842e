"""Products of a core tensor and one that is known before time starts, as an activation with a computed parameter.

    Mul(x, m)     Times(x, m)
    Div(x, m)     Times(x, Reciprocal(m))

So a neuron multiplies what it has received by the very number, as 0 or 1 for a mask in front of a mean, and m needs no
spikes. It does not fire for constants, which are factors, nor where m repeats x along an axis: the neuron then receives
m as spikes, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import toposort
from csscc.dialect.rewrite import insert_node, set_inputs
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.base import BasePass
from csscc.passes.linear.core import core_of, is_known, keeps_size


@dataclass(frozen=True)
class KnownFactors(BasePass):
    """Rewrite products and quotients with what is known before time starts."""

    name: ClassVar[str] = "known-factors"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        weighted, before, core = core_of(graph)
        nodes = [n for n in graph.nodes if id(n) in core and n.op in ("Mul", "Div") and not n.domain]
        changed = sum(_rewrite(graph, node, weighted | before) for node in nodes)
        toposort(graph)
        return changed


def _rewrite(graph: gs.Graph, node: gs.Node, dependent: set[int]) -> int:
    known = [i for i, t in enumerate(node.inputs) if not isinstance(t, gs.Constant) and is_known(t, dependent)]
    if len(known) != 1 or isinstance(node.inputs[1 - known[0]], gs.Constant) or (node.op == "Div" and known == [0]):
        return 0
    data, factor = node.inputs[1 - known[0]], node.inputs[known[0]]
    if not keeps_size(data, node.outputs[0]):
        return 0
    if node.op == "Div":
        factor = insert_node(graph, "Reciprocal", f"{node.name}_reciprocal", [factor])
    node.op, node.domain = "Times", ACTIVATION_DOMAIN
    set_inputs(node, [data, factor])
    return 1
