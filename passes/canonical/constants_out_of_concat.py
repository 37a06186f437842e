"""Take constants that a Concat puts beside a core tensor apart from it: padding by zeros, and a sum.

    before:  Concat(x, k)           k a constant, or one that an Expand repeats for every sample
    after:   Add(Pad(x), [0, k])

This is how a class token stands in front of the patches of a vision transformer. What is added becomes part of a
bias, and the padding a linear operator. It does not fire along the batch axis, where sizes after the batch are not
known, for constants that differ between samples, or where several computed tensors are concatenated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import constant_tensor, insert_node, producer, set_inputs, sizes_after_batch
from csscc.passes.base import BasePass
from csscc.passes.linear.core import core_nodes
from csscc.passes.linear.layout import concat_axis


@dataclass(frozen=True)
class ConstantsOutOfConcat(BasePass):
    """Rewrite concatenations of a core tensor and constants."""

    name: ClassVar[str] = "constants-out-of-concat"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        changed = sum(_apart(graph, node) for node in core_nodes(graph) if node.op == "Concat")
        tidy(graph)
        return changed


def _apart(graph: gs.Graph, node: gs.Node) -> int:
    after = node.outputs[0].shape
    if not after or sizes_after_batch(after) is None or any(not t.shape for t in node.inputs):
        return 0
    axis = concat_axis(node)
    parts = [_one_sample(t) for t in node.inputs]
    computed = [i for i, p in enumerate(parts) if p is None]
    if axis == 0 or len(computed) != 1 or len(parts) == 1:
        return 0
    place = computed[0]
    own = sizes_after_batch(node.inputs[place].shape)
    if own is None:
        return 0
    values = np.concatenate([np.zeros((1, *own)) if p is None else p for p in parts], axis)
    front = sum(p.shape[axis] for p in parts[:place] if p is not None)
    pads = np.zeros((2, len(after)), np.int64)
    pads[:, axis] = front, values.shape[axis] - front - own[axis - 1]
    tensor = constant_tensor(graph, f"{node.name}_pads", pads.reshape(-1))
    padded = insert_node(graph, "Pad", f"{node.name}_pad", [node.inputs[place], tensor])
    padded.shape = after
    node.op, node.attrs = "Add", {}
    set_inputs(node, [padded, constant_tensor(graph, f"{node.name}_values", values.astype(np.float32))])
    return 1


def _one_sample(tensor: gs.Tensor) -> NDArray[np.generic] | None:
    """What a constant holds for each sample, ``[1, ...]``; None for what is computed or differs between samples."""
    maker = producer(tensor)
    if maker is not None and maker.op == "Expand" and isinstance(maker.inputs[0], gs.Constant):
        values, sizes = maker.inputs[0].values, sizes_after_batch(tensor.shape)
        if sizes is None or (values.ndim > len(sizes) and values.shape[0] != 1):
            return None
        return np.broadcast_to(values, (1, *sizes))
    if not isinstance(tensor, gs.Constant) or tensor.values.dtype.kind != "f":
        return None
    same = np.isfinite(tensor.values).all() and (tensor.values == tensor.values[:1]).all()
    return np.asarray(tensor.values[:1]) if same else None
