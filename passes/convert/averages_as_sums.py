"""Write averages as sums where their size is no power of two, so that what neurons receive is exact.

    before:  GlobalAveragePool, or ReduceMean               AveragePool of n elements
    after:   ReduceSum -> Mul(1/n)                          Conv, one channel a group, all weights 1/n

A sum of spikes is a whole number; the n-th part of it is rounded, in one runtime before and in another after other
sums, unless n is a power of two. As a factor, 1/n goes into the weights next to it, which `SnapWeights` rounds so that
all sums are exact.

It does not fire where no neuron receives the average, as in front of the last layer, nor where windows are of different
sizes, at borders whose padding does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import attribute, constant_tensor, insert_node, rank_of, set_inputs, shape_of
from csscc.passes.base import BasePass
from csscc.passes.convert.find_regions import survey
from csscc.passes.convert.spikes_between_layers import in_front_of_neurons
from csscc.passes.linear import LINEAR
from csscc.passes.linear.mixing import Pool, Reduce


@dataclass(frozen=True)
class AveragesAsSums(BasePass):
    """Rewrite averages that float32 rounds."""

    name: ClassVar[str] = "averages-as-sums"

    def apply(self, network: Network) -> int:
        """Return the number of averages rewritten."""
        graph = network.graph
        regions, offenders = survey(graph, network.events)
        received = in_front_of_neurons(graph, regions.roles, exact=False)
        rewritten = 0
        for node in [] if offenders else list(graph.nodes):
            rule = LINEAR.get(node.op)
            if regions.roles[node.name] != "linear" or id(node) not in received or not isinstance(rule, Pool | Reduce):
                continue
            size, known = rule.size(node), isinstance(shape_of(node.inputs[0])[1], int)
            if node.op != "ReduceSum" and known and size is not None and size & (size - 1):
                _rewrite(graph, node, rule, size)
                rewritten += 1
        tidy(graph)
        return rewritten


def _rewrite(graph: gs.Graph, node: gs.Node, rule: Pool | Reduce, size: int) -> None:
    source = node.inputs[0]
    if node.op == "AveragePool":
        channels = shape_of(source)[1]
        assert isinstance(channels, int)
        kernel = attribute(node, "kernel_shape", [1])
        weights = np.full((channels, 1, *kernel), 1 / size, np.float32)
        set_inputs(node, [source, constant_tensor(graph, f"{node.name}_share", weights)])
        node.op = "Conv"
        kept = ("kernel_shape", "pads", "strides", "dilations", "auto_pad")
        node.attrs = {**{k: v for k, v in node.attrs.items() if k in kept}, "group": channels}
        return
    axes = rule.axes(node) if isinstance(rule, Reduce) else list(range(2, rank_of(source)))
    keep = attribute(node, "keepdims", 1)
    over = constant_tensor(graph, f"{node.name}_axes", np.array(axes, np.int64))
    total = insert_node(graph, "ReduceSum", f"{node.name}_sum", [source, over], keepdims=keep)
    total.shape = node.outputs[0].shape
    node.op, node.attrs = "Mul", {}
    set_inputs(node, [total, constant_tensor(graph, f"{node.name}_share", np.float32(1 / size))])
