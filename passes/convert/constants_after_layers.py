"""Move a constant that is added to spikes after the layer that reads the sum.

    before:  neuron -> Mul(a) -> Add(c) -> Conv(w, b)
    after:   neuron -> Mul(a) -> Conv(w, b) -> Add(w * c)

So it stands where `FuseBatchNorm` found a BatchNormalization between an activation and a padded convolution: at the
borders, where zeros stand in for neighbours, its shift counts for less, so no bias per channel can replace it. After
the layer it is a constant of its neurons, one for each, and the layer reads spikes.

It does not fire where something else than layers with weights reads the sum, where the sum is of currents, or where the
size of the image is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from onnx.reference import ReferenceEvaluator

from csscc.dialect.adapter import single_node_model
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.regions import Regions
from csscc.dialect.rewrite import (
    constant,
    constant_tensor,
    insert_node,
    is_output,
    producer,
    replace_input,
    sizes_after_batch,
    unique_name,
)
from csscc.passes.base import BasePass
from csscc.passes.convert.find_regions import survey
from csscc.passes.linear import LINEAR
from csscc.passes.linear.arithmetic import Scale, operand_factor
from csscc.passes.linear.factors import Factor


@dataclass(frozen=True)
class ConstantsAfterLayers(BasePass):
    """Let layers read spikes where they read spikes and a constant."""

    name: ClassVar[str] = "constants-after-layers"

    def apply(self, network: Network) -> int:
        """Return the number of constants moved."""
        graph = network.graph
        regions, offenders = survey(graph, network.events)
        moved = 0 if offenders else sum(_move(graph, node, regions) for node in list(graph.nodes))
        tidy(graph)
        return moved


def _move(graph: gs.Graph, node: gs.Node, regions: Regions) -> bool:
    """Move the constant that `node` adds after all its readers."""
    if node.op not in ("Add", "Sub") or regions.roles.get(node.name) != "linear":
        return False
    index = next((i for i in (0, 1) if constant(node, i) is not None), None)
    total = node.outputs[0]
    sizes = sizes_after_batch(total.shape)
    if index != 1 or sizes is None or is_output(graph, total) or not _of_neurons(node.inputs[0], regions):
        return False
    readers = list({id(r): r for r in total.outputs}.values())
    if not all(_multiplies_by_constant(reader, regions) for reader in readers):
        return False
    added = operand_factor(node, index) * (-1 if node.op == "Sub" else 1)
    for reader in readers:
        _after(graph, reader, np.broadcast_to(added, sizes))
    for reader in readers:
        replace_input(reader, total, node.inputs[0])
    return True


def _multiplies_by_constant(reader: gs.Node, regions: Regions) -> bool:
    """Whether constant weights multiply the first input: not where both operands of a MatMul are computed."""
    return regions.roles.get(reader.name) == "weighted" and regions.core_inputs[reader.name] == [0]


def _of_neurons(tensor: gs.Tensor, regions: Regions) -> bool:
    """Whether neurons send the tensor, or what a factor multiplies to it."""
    node = producer(tensor)
    while node is not None and isinstance(LINEAR.get(node.op), Scale) and regions.roles[node.name] == "linear":
        node = producer(next(t for t in node.inputs if not isinstance(t, gs.Constant)))
    return node is not None and regions.roles[node.name] == "neuron"


def _after(graph: gs.Graph, reader: gs.Node, added: Factor) -> None:
    """Add what the weights of `reader` make of a constant to what it makes."""
    weights = gs.Node(reader.op, reader.name, dict(reader.attrs), list(reader.inputs[:2]), [gs.Variable("made")])
    model = single_node_model(weights, np.dtype(np.float32))
    (made,) = ReferenceEvaluator(model).run(None, {"data": added[None].astype(np.float32)})
    result = reader.outputs[0]
    current = gs.Variable(unique_name(graph, f"{result.name}_without_constant"), np.float32, result.shape)
    reader.outputs[0] = current
    total = insert_node(graph, "Add", f"{reader.name}_constant", [current, constant_tensor(graph, reader.name, made)])
    adder = producer(total)
    assert adder is not None
    adder.outputs[0] = result
