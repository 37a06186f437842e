"""Give a quantiser what stands in front of it, so that one neuron does both, or give it to what stands there.

    Relu(x) -> Quantise(low, high)          Quantise(max(low, 0), high)                   Clip(x) likewise
    Add(a, b) -> Quantise                   QuantiseSum2(a, b)
    Sigmoid(x) -> Quantise(scale)           Sigmoid(x), known to lie on the grid of the quantiser
    Quantise -> MaxPool -> Quantise         Quantise -> MaxPool, if the two quantisers are the same

A sum of two tensors is taken into the neuron since each of the two is a whole number of its own steps, and their sum of
none. Any other activation keeps its neuron, which rounds by itself; that it does not cut off where the quantiser does,
which no value should reach, is the only difference. It does not fire where another node or an output reads the tensor
in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.grids import QUANTISERS, grid_of
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import constant, is_output, only_reader, producer, replace_readers, set_inputs
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.base import BasePass
from csscc.passes.canonical.float_quantisers import parameter
from csscc.passes.linear import LINEAR
from csscc.passes.linear.core import core_nodes


@dataclass(frozen=True)
class FuseQuantisers(BasePass):
    """Fuse quantisers and what they read."""

    name: ClassVar[str] = "fuse-quantisers"

    def apply(self, network: Network) -> int:
        """Return the number of nodes that are gone."""
        graph = network.graph
        before = len(graph.nodes)
        core = core_nodes(graph)
        inside = {id(n) for n in core}
        for node in core:
            if node.domain == ACTIVATION_DOMAIN and node.op == "Quantise":
                while _cut(graph, node):
                    pass
                if not (_again(network, node) or _grid(network, node, inside)):
                    _sum(graph, node, inside)
        tidy(graph)
        return before - len(graph.nodes)


def _cut(graph: gs.Graph, node: gs.Node) -> bool:
    """Take a Relu or a Clip in front into the bounds."""
    maker = producer(node.inputs[0])
    if maker is None or maker.domain or maker.op not in ("Relu", "Clip"):
        return False
    if only_reader(graph, node.inputs[0]) is not node:
        return False
    scale, low, high = (constant(node, i) for i in (2, 3, 4))
    assert scale is not None
    assert low is not None
    assert high is not None
    bounds = [np.zeros(()), None] if maker.op == "Relu" else [constant(maker, 1), constant(maker, 2)]
    if any(maker.inputs[i].name and constant(maker, i) is None for i in range(1, len(maker.inputs))):
        return False
    if scale.size > 1 and maker.op == "Clip":
        return False
    one = np.float32(scale.reshape(-1)[0])
    least, most = (None if b is None else float(np.rint(np.float32(b.item()) / one)) for b in bounds)
    low = low if least is None else np.clip(least, low, high)
    high = high if most is None else np.clip(most, low, high)
    for index, value in ((3, low), (4, high)):
        node.inputs[index] = parameter(graph, f"{node.name}_bound", value)
    node.inputs[0] = maker.inputs[0]
    maker.inputs.clear()
    maker.outputs.clear()
    return True


def _again(network: Network, node: gs.Node) -> bool:
    """Drop a quantiser of what lies on its grid already, within its bounds."""
    known, own = grid_of(node.inputs[0], network.grids), grid_of(node.outputs[0])
    if known is None or own is None or not known.same_as(own) or known.low < own.low or known.high > own.high:
        return False
    return _drop(network.graph, node)


def _drop(graph: gs.Graph, node: gs.Node) -> bool:
    if is_output(graph, node.outputs[0]):
        return False
    replace_readers(node.outputs[0], node.inputs[0])
    node.outputs.clear()
    return True


def _grid(network: Network, node: gs.Node, inside: set[int]) -> bool:
    """Where a neuron sends what the quantiser reads, let it send the quantiser's steps."""
    maker, graph = producer(node.inputs[0]), network.graph
    if maker is None or id(maker) not in inside or only_reader(graph, node.inputs[0]) is not node:
        return False
    activation = ACTIVATIONS.get(maker.op)
    computed = sum(constant(maker, i) is None for i in range(len(maker.inputs)))
    if activation is None or maker.op in QUANTISERS or (maker.op in LINEAR and computed < activation.inputs):
        return False
    grid = grid_of(node.outputs[0])
    assert grid is not None
    name = node.inputs[0].name
    if not _drop(graph, node):
        return False
    network.grids[name] = grid
    return True


def _sum(graph: gs.Graph, node: gs.Node, inside: set[int]) -> bool:
    """Take a sum of two core tensors in front into the neuron."""
    maker = producer(node.inputs[0])
    if maker is None or maker.domain or maker.op != "Add" or only_reader(graph, node.inputs[0]) is not node:
        return False
    made_inside = [(m := producer(t)) is not None and id(m) in inside for t in maker.inputs]
    shapes = [t.shape for t in (*maker.inputs, maker.outputs[0])]
    if id(maker) not in inside or not all(made_inside) or any(s is None or s != shapes[0] for s in shapes):
        return False
    one = parameter(graph, f"{node.name}_factor", 1.0)
    node.op = "QuantiseSum2"
    set_inputs(node, [*maker.inputs, one, one, *node.inputs[2:]])
    return True
