"""Pad core tensors with zeros, and add what they are padded with.

    before:  Pad(x, c)              c a constant other than zero
    after:   Add(Pad(x), k)         k is c where x is padded, and 0 elsewhere

Padding with zeros is linear, and what is added becomes part of a bias. Linear attention, for example, pads its values
with ones, to sum up its weights. It does not fire along the batch axis, where sizes after the batch are not known, and
where a Pad cuts off.
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
    replace_readers,
    set_constant,
    shape_of,
    sizes_after_batch,
)
from csscc.passes.base import BasePass
from csscc.passes.linear.core import core_nodes


@dataclass(frozen=True)
class PadWithZeros(BasePass):
    """Rewrite padding with other values."""

    name: ClassVar[str] = "pad-with-zeros"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        changed = sum(_apart(graph, node) for node in core_nodes(graph) if node.op == "Pad")
        tidy(graph)
        return changed


def _apart(graph: gs.Graph, node: gs.Node) -> int:
    pads, value, own = constant(node, 1), constant(node, 2), sizes_after_batch(node.inputs[0].shape)
    if attribute(node, "mode", "constant") != "constant" or pads is None or own is None or value is None:
        return 0
    axes = constant(node, 3) if len(node.inputs) > 3 and node.inputs[3].name else np.arange(len(own) + 1)
    number = float(value.reshape(-1)[0]) if value.size else 0.0
    if axes is None or not np.isfinite(number) or not number or (pads < 0).any():
        return 0
    width = np.zeros((len(own) + 1, 2), np.int64)
    width[axes % len(width)] = pads.reshape(2, -1).T
    if width[0].any():
        return 0
    padded = np.pad(np.zeros((1, *own), np.float32), width, constant_values=number)
    made = node.outputs[0]
    whole = insert_node(graph, "Add", f"{node.name}_values", [made, constant_tensor(graph, f"{node.name}_k", padded)])
    whole.shape = shape_of(made)
    replace_readers(made, whole)
    add = whole.inputs[0]
    add.inputs[0] = made
    set_constant(graph, node, 2, np.zeros_like(value))
    return 1
