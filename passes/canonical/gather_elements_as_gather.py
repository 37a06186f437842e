"""Write a GatherElements of the core as a Gather of one axis.

    before:  GatherElements <axis = 2> (x [batch, 12, 32], Expand(indices [1, 12, 12], batch, 12, 12))
    after:   Gather <axis = 1> (Reshape(x) [batch, 12 * 32], 32 * row + indices [12 * 12]), reshaped to [batch, 12, 12]

So attention reads relative positions (DeBERTa). It does not fire where indices are computed or differ between samples,
or where sizes after the batch are free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.adapter import infer_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import (
    attribute,
    constant,
    constant_tensor,
    insert_node,
    producer,
    rank_of,
    set_inputs,
)
from csscc.passes.base import BasePass
from csscc.passes.canonical.sizes import Size, Sizes, is_constant, sizes_of
from csscc.passes.linear.core import core_nodes


@dataclass(frozen=True)
class GatherElementsAsGather(BasePass):
    """Rewrite GatherElements whose indices are constant and the same for all samples."""

    name: ClassVar[str] = "gather-elements-as-gather"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        found = [n for n in core_nodes(graph) if n.op == "GatherElements" and not n.domain]
        sizes = sizes_of(graph) if found else None
        changed = sum(_rewrite(graph, sizes, n) for n in found) if sizes is not None else 0
        tidy(graph)
        if changed:
            infer_shapes(network)
        return changed


def _rewrite(graph: gs.Graph, sizes: Sizes, node: gs.Node) -> int:
    before, after = (_after_first(sizes.shape(t)) for t in (node.inputs[0], node.outputs[0]))
    if not before or not after:
        return 0
    axis, indices = attribute(node, "axis", 0) % (len(before) + 1), _of_a_sample(node, after)
    if axis == 0 or indices is None:
        return 0
    size = before[axis - 1]
    wrapped = np.where(indices < 0, indices + size, indices)
    if ((wrapped < 0) | (wrapped >= size)).any():
        return 0
    at = list(np.indices(after))
    at[axis - 1] = wrapped
    flat = np.ravel_multi_index(at, before).reshape(-1)

    def target(name: str, *after_batch: int) -> gs.Constant:
        return constant_tensor(graph, f"{node.name}_{name}", np.array([0, *after_batch], np.int64))

    merged = [node.inputs[0], target("row_shape", int(np.prod(before)))]
    data = insert_node(graph, "Reshape", f"{node.name}_row", merged)
    chosen = constant_tensor(graph, f"{node.name}_indices", np.asarray(flat, np.int64))
    row = insert_node(graph, "Gather", f"{node.name}_chosen", [data, chosen], axis=1)
    node.op, node.attrs = "Reshape", {}
    set_inputs(node, [row, target("shape", *after)])
    return 1


def _after_first(shape: tuple[Size, ...] | None) -> list[int] | None:
    """The sizes after the first axis, which holds the batch; None where they are not known or free."""
    after = shape[1:] if shape else ()
    return [size[0] for size in after] if after and all(map(is_constant, after)) else None


def _of_a_sample(node: gs.Node, sizes: list[int]) -> NDArray[np.int64] | None:
    """The constant indices of each sample; None where they are computed or not the same."""
    values, maker = constant(node, 1), producer(node.inputs[1])
    if values is None and maker is not None and maker.op == "Expand":
        values = constant(maker, 0)
        if values is not None and values.ndim == rank_of(node.inputs[1]) and len(values) != 1:
            return None
    if values is None or (values.ndim > len(sizes) and (values != values[:1]).any()):
        return None
    return np.broadcast_to(values[0] if values.ndim > len(sizes) else values, sizes)
