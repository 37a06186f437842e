"""Write RotaryEmbedding of the core as the products that it stands for, which older exports have in its place.

    before:  RotaryEmbedding(x [batch, heads, n, d], cos [batch, n, d / 2], sin)
    after:   Concat(Sub(Mul(a, cos), Mul(b, sin)), Add(Mul(a, sin), Mul(b, cos))),    a and b the halves of x

Positions choose the rows of cos and sin first, if they are given. It does not fire where pairs are interleaved, or
where the number of heads or the size of one is not known. (RotaryEmbedding of ONNX 23.)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.adapter import infer_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import attribute, constant_tensor, insert_shaped, set_inputs
from csscc.passes.base import BasePass
from csscc.passes.linear.core import core_nodes


@dataclass(frozen=True)
class RotaryAsProducts(BasePass):
    """Rewrite rotations of the halves of rows."""

    name: ClassVar[str] = "rotary-as-products"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        found = [n for n in core_nodes(graph) if n.op == "RotaryEmbedding" and not n.domain]
        changed = sum(_rewrite(graph, n) for n in found)
        tidy(graph)
        if changed:
            infer_shapes(network)
        return changed


def _rewrite(graph: gs.Graph, node: gs.Node) -> int:
    shape, heads = node.inputs[0].shape, attribute(node, "num_heads", 0)
    if shape is None or not isinstance(shape[-1], int) or attribute(node, "interleaved", 0):
        return 0
    in_rows = len(shape) == 3
    if in_rows and not heads:
        return 0
    size = shape[-1] // heads if in_rows else shape[-1]
    turned = attribute(node, "rotary_embedding_dim", 0) or size

    def numbers(*values: int) -> gs.Constant:
        return constant_tensor(graph, f"{node.name}_numbers", np.array(values, np.int64))

    def make(op: str, *inputs: gs.Tensor, **attributes: object) -> gs.Tensor:
        return insert_shaped(graph, op, f"{node.name}_{op}", list(inputs), None, **attributes)

    x, before_heads = node.inputs[0], 2 if in_rows else 1
    if in_rows:
        x = make("Reshape", x, numbers(0, 0, heads, -1))
    cos, sin = node.inputs[1:3]
    if len(node.inputs) > 3 and node.inputs[3].name:
        cos, sin = (make("Gather", t, node.inputs[3], axis=0) for t in (cos, sin))
    cos, sin = (make("Unsqueeze", t, numbers(before_heads)) for t in (cos, sin))
    edges = [0, turned // 2, turned, size]
    first, second, *rest = (
        make("Slice", x, numbers(start), numbers(end), numbers(3))
        for start, end in pairwise(edges)
        if start < end
    )
    real = make("Sub", make("Mul", first, cos), make("Mul", second, sin))
    imaginary = make("Add", make("Mul", first, sin), make("Mul", second, cos))
    parts = [real, imaginary, *rest]
    if not in_rows:
        node.op, node.attrs = "Concat", {"axis": 3}
        set_inputs(node, parts)
        return 1
    node.op, node.attrs = "Reshape", {}
    set_inputs(node, [make("Concat", *parts, axis=3), numbers(0, 0, -1)])
    return 1
