"""Write a GatherND of the core as a Gather of one axis.

    before:  GatherND(x [7, 7, batch], indices [21, 2])
    after:   Gather <axis = 0> (Reshape(x) [49, batch], 7 * first + second [21])

PyTorch's dynamo exporter writes ``x[:, i, j]`` so, between two Transposes that bring the batch to the end and back. It
does not fire where indices are computed or differ between samples, where the axes that they select from have sizes that
are free, or where more than one of the others has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.adapter import infer_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import attribute, constant, constant_tensor, insert_node, set_inputs
from csscc.passes.base import BasePass
from csscc.passes.linear.core import core_nodes


@dataclass(frozen=True)
class GatherNDAsGather(BasePass):
    """Rewrite GatherNDs whose indices are constant."""

    name: ClassVar[str] = "gather-nd-as-gather"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        changed = sum(_rewrite(graph, n) for n in core_nodes(graph) if n.op == "GatherND" and not n.domain)
        tidy(graph)
        if changed:
            infer_shapes(network)
        return changed


def _rewrite(graph: gs.Graph, node: gs.Node) -> int:
    indices, shape = constant(node, 1), node.inputs[0].shape
    if indices is None or shape is None or attribute(node, "batch_dims", 0):
        return 0
    number = indices.shape[-1]
    selected, rest = [d for d in shape[:number] if isinstance(d, int)], shape[number:]
    free = [d for d in rest if not isinstance(d, int)]
    if len(selected) != number or len(free) > 1:
        return 0
    wrapped = np.where(indices < 0, indices + selected, indices)
    if ((wrapped < 0) | (wrapped >= selected)).any():
        return 0
    merged = [int(np.prod(selected)), *(d if isinstance(d, int) else -1 for d in rest)]
    target = constant_tensor(graph, f"{node.name}_shape", np.array(merged, np.int64))
    data = insert_node(graph, "Reshape", f"{node.name}_merged", [node.inputs[0], target])
    flat = np.ravel_multi_index(tuple(np.moveaxis(wrapped, -1, 0)), tuple(selected))
    node.op, node.attrs = "Gather", {"axis": 0}
    set_inputs(node, [data, constant_tensor(graph, f"{node.name}_indices", np.asarray(flat, np.int64))])
    return 1
