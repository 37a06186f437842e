"""Take constants that stand beside a core tensor apart from it: padding by zeros, and a sum.

    before:  Concat(x, k)           k a constant, or one that an Expand repeats for every sample
             Pad(x, v)              v a finite number other than 0
    after:   Add(Pad(x), [0, k])
             Add(Pad(x), [0, v])    v where the padding is

This is how a class token stands in front of the patches of a vision transformer. What is added becomes part of a
bias, and the padding a linear operator. It does not fire along the batch axis, where sizes behind the batch are not
known, for constants that differ between samples, or where several computed tensors are concatenated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.passes.base import BasePass
from csscc.passes.find_regions import core_nodes
from csscc.passes.network import Network
from csscc.passes.rewrite import constant, constant_tensor, insert_node, set_inputs


@dataclass(frozen=True)
class ConstantsApart(BasePass):
    """Rewrite concatenations with constants, and padding by numbers other than zero."""

    name: ClassVar[str] = "constants-apart"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        changed = 0
        for node in core_nodes(graph):
            if (node.domain or "") == "" and node.op in ("Concat", "Pad"):
                changed += (_concat if node.op == "Concat" else _pad)(graph, node)
        graph.cleanup().toposort()
        return changed


def _concat(graph: Any, node: Any) -> int:
    after = node.outputs[0].shape
    if not after or not all(isinstance(d, int) for d in after[1:]) or any(not t.shape for t in node.inputs):
        return 0
    axis = node.attrs["axis"] % len(after)
    parts = [_one_sample(t) for t in node.inputs]
    computed = [i for i, p in enumerate(parts) if p is None]
    if axis == 0 or len(computed) != 1 or len(parts) == 1:
        return 0
    place = computed[0]
    own = (1, *node.inputs[place].shape[1:])
    values = np.concatenate([np.zeros(own) if p is None else p for p in parts], axis)
    front = sum(p.shape[axis] for p in parts[:place] if p is not None)
    back = after[axis] - front - own[axis]
    padding = [(front, back) if i == axis else (0, 0) for i in range(len(after))]
    _padded_sum(graph, node, node.inputs[place], padding, values)
    return 1


def _one_sample(tensor: Any) -> NDArray[Any] | None:
    """What a constant holds for each sample, ``[1, ...]``; None for what is computed or differs between samples."""
    maker = tensor.inputs[0] if tensor.inputs else None
    if maker is not None and maker.op == "Expand" and isinstance(maker.inputs[0], gs.Constant):
        values, shape = maker.inputs[0].values, (1, *tensor.shape[1:])
        fits = all(isinstance(d, int) for d in shape) and (values.ndim < len(shape) or values.shape[0] == 1)
        return np.broadcast_to(values, shape) if fits else None
    if not isinstance(tensor, gs.Constant) or tensor.values.dtype.kind != "f":
        return None
    same = (tensor.values == tensor.values[:1]).all()
    return np.asarray(tensor.values[:1]) if same else None


def _pad(graph: Any, node: Any) -> int:
    before, pads, value, axes = node.inputs[0].shape, constant(node, 1), constant(node, 2), constant(node, 3)
    if node.attrs.get("mode", "constant") != "constant" or pads is None or value is None or not before:
        return 0
    computed_axes = axes is None and len(node.inputs) > 3 and node.inputs[3].name
    if not np.any(value) or not np.isfinite(value).all() or (pads < 0).any() or computed_axes:
        return 0
    rank = len(before)
    named = [int(a) % rank for a in axes] if axes is not None else list(range(rank))
    padding = [(0, 0)] * rank
    for i, axis in enumerate(named):
        padding[axis] = (int(pads[i]), int(pads[i + len(named)]))
    if padding[0] != (0, 0) or not all(isinstance(d, int) for d in before[1:]):
        return 0
    values = np.pad(np.zeros((1, *before[1:])), padding, constant_values=float(value.item()))
    _padded_sum(graph, node, node.inputs[0], padding, values)
    return 1


def _padded_sum(graph: Any, node: Any, data: Any, padding: list[tuple[int, int]], values: NDArray[Any]) -> None:
    """Let the node be the sum of `data`, padded by zeros, and `values`."""
    pads = constant_tensor(graph, f"{node.name}_pads", np.array(padding, np.int64).T.reshape(-1))
    padded = insert_node(graph, "Pad", f"{node.name}_pad", [data, pads])
    padded.shape = node.outputs[0].shape
    added = constant_tensor(graph, f"{node.name}_values", np.asarray(values, np.float32))
    node.op, node.attrs = "Add", {}
    set_inputs(node, [padded, added])
