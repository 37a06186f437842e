"""Give a quantiser the weights that are no whole numbers in two parts, so that rounding them changes nothing.

    before:  spikes -> Conv(w) -> TSAQuantise
    after:   spikes -> Conv(high) , spikes -> Conv(w - high) -> TSAQuantiseSum2

`SnapWeights` rounds weights to what leaves sums of spikes exact: to 20 bits or fewer, of the largest sum there can be.
Anywhere else that is far below a spike's own resolution. A quantiser turns what lies near an edge into a whole step,
and the steps of one layer move those of the next: a network of 4-bit activations comes out as another one. High parts
lie on the grid already, low parts have a grid of their own, and the neuron adds up two exact sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.grids import QUANTISERS
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import constant, only_reader, producer, rank_of, set_constant, unique_name, values_of
from csscc.dialect.spiking import Spiking, neuron_inputs, neurons, tsa_op
from csscc.passes.base import BasePass
from csscc.passes.canonical.float_quantisers import parameter
from csscc.passes.convert.snap_weights import Term, spike_parts, step_for
from csscc.passes.linear import LINEAR
from csscc.passes.linear.factors import along
from csscc.passes.linear.weighted import WeightedOp

SUMS = {number: op for op, number in QUANTISERS.items()}


@dataclass(frozen=True)
class FineWeights(BasePass):
    """Split weights in front of quantisers into high and low parts."""

    name: ClassVar[str] = "fine-weights"

    def apply(self, network: Network) -> int:
        """Return the number of weighted operators that became two."""
        graph = network.graph
        found, first = 0, ""
        for node, view in neurons(graph):
            if view.kind in QUANTISERS:
                fine = [k for k, tensor in enumerate(view.current) if _is_fine(graph, tensor)]
                if fine and QUANTISERS[view.kind] + len(fine) in SUMS:
                    _split(graph, node, view, fine)
                    found += len(fine)
                    first = first or node.name
        if found:
            text = f"{found} layer(s) have weights that are no whole numbers: in two parts, each of which costs a pass"
            network.report(self.name, first, text, once=True)
        tidy(graph)
        return found


def _is_fine(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Whether a weighted operator makes the tensor of spikes, with weights that are no whole numbers."""
    node = producer(tensor)
    rule = None if node is None else LINEAR.get(node.op)
    if node is None or not isinstance(rule, WeightedOp) or only_reader(graph, tensor) is None or rule.additive(node):
        return False
    index = rule.data_index(node)
    if spike_parts(node.inputs[index]) is None:
        return False
    weights = np.asarray(constant(node, 1 - index), np.float64)
    return not np.array_equal(weights, np.rint(weights))


def _split(graph: gs.Graph, node: gs.Node, view: Spiking[gs.Tensor], fine: list[int]) -> None:
    theta, parameters = view.theta, view.parameters
    number = QUANTISERS[view.kind]
    factors, rest = parameters[:number], parameters[number:]
    if number == 1:  # what it multiplies to steps becomes what it adds up, which is divided by the scale
        scale = values_of(rest[0]).astype(np.float64)
        factors = [parameter(graph, f"{node.name}_factor", values_of(factors[0]).astype(np.float64) * scale)]
    currents, biases, products = list[gs.Tensor](), list[gs.Tensor](), list[gs.Tensor]()
    for k, (current, bias, factor) in enumerate(zip(view.current, view.biases, factors, strict=True)):
        currents.append(current)
        biases.append(bias)
        products.append(factor)
        if k in fine:
            currents.append(_low(graph, current, view))
            biases.append(parameter(graph, f"{node.name}_bias", 0.0))
            products.append(factor)
    node.op = tsa_op(SUMS[len(currents)])
    inputs = neuron_inputs([[c] for c in currents], biases, theta, [*products, *rest])
    node.inputs.clear()
    node.inputs.extend(inputs)


def _low(graph: gs.Graph, current: gs.Tensor, view: Spiking[gs.Tensor]) -> gs.Tensor:
    """Leave the high part to what makes a current, and return what the low part makes of the same spikes."""
    node = producer(current)
    assert node is not None
    rule = LINEAR[node.op]
    assert isinstance(rule, WeightedOp)
    data, rank = rule.data_index(node), rank_of(current)
    result = gs.Variable(unique_name(graph, f"{current.name}_low"), dtype=np.float32, shape=current.shape)
    inputs, name = list(node.inputs), unique_name(graph, f"{node.name}_low")
    low = gs.Node(node.op, name, dict(node.attrs), inputs=inputs, outputs=[result])
    graph.nodes.append(low)
    weights, parts = np.asarray(constant(node, 1 - data), np.float64), spike_parts(node.inputs[data])
    assert parts is not None
    step = along(step_for([Term(node, parts)], view.schedule.head()), rank, rule.output_axis(node))
    assert step is not None
    rule.snap(graph, node, 2 * step)  # sums of rounded weights may be larger, and their grid coarser
    set_constant(graph, low, 1 - data, weights - np.asarray(constant(node, 1 - data), np.float64))
    return result
