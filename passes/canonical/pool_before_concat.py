"""Pool the parts of a concatenation before they are joined, where that saves a layer of neurons.

    before:  a -> Relu -> Concat -> MaxPool -> y      three layers of neurons: two Relus and the pool
             b -> Relu ----^
    after:   a -> Relu -> MaxPool -> Concat -> y      two: each Relu becomes one with its pool (FuseReluMaxPool)
             b -> Relu -> MaxPool ----^

A pool works on each channel alone, so it commutes with a concatenation of channels. It does not fire where anything
else reads one of the tensors in between, where the pool's indices are read, or where a part is not made by a Relu.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import attribute, only_reader, producer, unique_name
from csscc.passes.base import BasePass


@dataclass(frozen=True)
class PoolBeforeConcat(BasePass):
    """Move MaxPool in front of Concat."""

    name: ClassVar[str] = "pool-before-concat"

    def apply(self, network: Network) -> int:
        """Return the number of pools moved."""
        graph = network.graph
        moved = 0
        for concat in [n for n in graph.nodes if n.op == "Concat" and attribute(n, "axis", 0) == 1]:
            pool = only_reader(graph, concat.outputs[0])
            if pool is None or pool.op != "MaxPool" or any(t.outputs for t in list(pool.outputs)[1:]):
                continue
            if all(_is_lone_relu(graph, t, concat) for t in concat.inputs):
                _move(graph, concat, pool)
                moved += 1
        tidy(graph)
        return moved


def _is_lone_relu(graph: gs.Graph, tensor: gs.Tensor, concat: gs.Node) -> bool:
    maker = producer(tensor)
    return maker is not None and maker.op == "Relu" and only_reader(graph, tensor) is concat


def _move(graph: gs.Graph, concat: gs.Node, pool: gs.Node) -> None:
    output = pool.outputs[0]
    for index, part in enumerate(list(concat.inputs)):
        shape = None if output.shape is None or part.shape is None else [*part.shape[:2], *output.shape[2:]]
        pooled = gs.Variable(unique_name(graph, f"{part.name}_pooled"), dtype=np.float32, shape=shape)
        name = unique_name(graph, f"{pool.name}_{index}")
        graph.nodes.append(gs.Node("MaxPool", name, dict(pool.attrs), [part], [pooled]))
        concat.inputs[index] = pooled
    pool.outputs.clear()
    concat.outputs[0] = output
