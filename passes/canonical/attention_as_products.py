"""Write Attention of the core as the operators that it stands for, which older exports have in its place.

    before:  Attention(q [batch, heads, queries, d], k, v, mask)
    after:   MatMul(Softmax(Add(MatMul(Mul(q, 1 / sqrt(d)), Transpose(k)), mask)), v)

Rows of three axes are split into heads first, and fewer heads of keys and values than of queries are repeated. A mask
of truth values, the one of ``is_causal`` and those of windows become numbers that are added, -inf for what is absent;
where a mask leaves nothing of a row, a guard makes 0 of it. `MergeAttention` makes one neuron of the whole, whatever
the exporter wrote.

It does not fire with keys and values of earlier steps, a ``softcap``, a second output, or where the number of heads or
the size of one is not known. (Attention of ONNX 23 to 25.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.adapter import infer_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import attribute, constant_tensor, insert_shaped, set_inputs, unique_name
from csscc.passes.base import BasePass
from csscc.passes.canonical.known_sizes import from_inputs
from csscc.passes.canonical.sizes import Size, Sizes, is_constant, sizes_of
from csscc.passes.linear.core import core_nodes

THERE, ABSENT = np.float32(0), np.float32(-np.inf)
HEADS = ("q_num_heads", "kv_num_heads", "kv_num_heads")


@dataclass(frozen=True)
class AttentionAsProducts(BasePass):
    """Rewrite Attention without a cache."""

    name: ClassVar[str] = "attention-as-products"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        found = [n for n in core_nodes(graph) if n.op == "Attention" and not n.domain]
        sizes = sizes_of(graph) if found else None
        changed = sum(_rewrite(graph, sizes, n) for n in found) if sizes is not None else 0
        tidy(graph)
        if changed:
            infer_shapes(network)
        return changed


def _rewrite(graph: gs.Graph, sizes: Sizes, node: gs.Node) -> int:
    others = any(t.name for t in node.inputs[4:]) or any(t.name for t in node.outputs[1:])
    shapes = [_in_heads(sizes, node, i) for i in range(3)]
    if others or attribute(node, "softcap", 0.0) or None in shapes:
        return 0
    return _Writer(graph, sizes, node).write([s for s in shapes if s is not None])


def _in_heads(sizes: Sizes, node: gs.Node, index: int) -> tuple[int, Size, int] | None:
    """Number of heads, length of the sequence, and size of a head of an input; None where not all is known."""
    shape, heads = sizes.shape(node.inputs[index]), attribute(node, HEADS[index], 0)
    if shape is not None and len(shape) == 4 and is_constant(shape[1]) and is_constant(shape[3]):
        return shape[1][0], shape[2], shape[3][0]
    if shape is not None and len(shape) == 3 and heads and is_constant(shape[2]):
        return heads, shape[1], shape[2][0] // heads
    return None


@dataclass
class _Writer:
    """Writes the nodes in place of one."""

    graph: gs.Graph
    sizes: Sizes
    node: gs.Node

    def write(self, shapes: list[tuple[int, Size, int]]) -> int:
        """Return whether it could be rewritten; `shapes` are those of queries, keys and values, see `_in_heads`."""
        node, (heads, queries, size), (groups, keys, _) = self.node, *shapes[:2]
        near = self._near(queries, keys)
        if near is None or heads % groups:
            return 0
        rows = [len(self.sizes.shape(t) or ()) == 3 for t in node.inputs[:3]]
        q, k, v = (self._split(t, s[0]) if r else t for t, r, s in zip(node.inputs[:3], rows, shapes, strict=True))
        if heads != groups:
            k, v = (self._repeated(t, heads, heads // groups, s[2]) for t, s in zip((k, v), shapes[1:], strict=True))
        scale = np.float32(attribute(node, "scale", 0.0) or 1 / math.sqrt(size))
        scores = self._make("MatMul", self._make("Mul", q, self._constant(scale)), self._transposed(k, 0, 1, 3, 2))
        masks = [*self._given(), *near]
        for mask in masks:
            scores = self._make("Add", scores, mask)
        weights = self._make("Softmax", scores, axis=-1)
        if masks:
            weights = self._make("Where", self._make("IsNaN", weights), self._constant(THERE), weights)
        read = [weights, v]
        if rows[0]:
            read = [self._transposed(self._make("MatMul", *read), 0, 2, 1, 3), self._numbers(0, 0, -1)]
        node.op, node.attrs = "Reshape" if rows[0] else "MatMul", {}
        while len(node.outputs) > 1:  # all without a name
            node.outputs.pop()
        set_inputs(node, read)
        return 1

    def _split(self, tensor: gs.Tensor, heads: int) -> gs.Tensor:
        return self._transposed(self._make("Reshape", tensor, self._numbers(0, 0, heads, -1)), 0, 2, 1, 3)

    def _repeated(self, tensor: gs.Tensor, heads: int, times: int, size: int) -> gs.Tensor:
        """Each head several times in a row."""
        apart = self._make("Unsqueeze", tensor, self._numbers(2))
        wide = self._make("Expand", apart, self._numbers(1, 1, times, 1, 1))
        return self._make("Reshape", wide, self._numbers(0, heads, -1, size))

    def _given(self) -> list[gs.Tensor]:
        """The mask that the node reads, as numbers."""
        given = self.node.inputs[3] if len(self.node.inputs) > 3 else None
        if given is None or not given.name:
            return []
        return [self._added(given) if given.dtype == np.bool_ else given]

    def _near(self, queries: Size, keys: Size) -> list[gs.Tensor] | None:
        """Masks of keys later than a query, or beyond its window; None where a length is not known."""
        later = 0 if attribute(self.node, "is_causal", 0) else attribute(self.node, "right_window_size", -1)
        earlier = attribute(self.node, "left_window_size", -1)
        if max(later, earlier) < 0:
            return []
        row, key = self._counted(queries), self._counted(keys)
        if row is None or key is None:
            return None
        query, masks = self._make("Unsqueeze", row, self._numbers(1)), []
        if later >= 0:
            last = self._make("Add", query, self._numbers(later))
            masks.append(self._added(self._make("LessOrEqual", key, last)))
        if earlier >= 0:
            first = self._make("Sub", query, self._numbers(earlier))
            masks.append(self._added(self._make("GreaterOrEqual", key, first)))
        return masks

    def _added(self, there: gs.Tensor) -> gs.Tensor:
        return self._make("Where", there, self._constant(THERE), self._constant(ABSENT))

    def _counted(self, length: Size) -> gs.Tensor | None:
        """0, 1, ... as many as a length, which is read off the inputs if it is free."""
        read = from_inputs(self.graph, self.node.name, self.sizes, [length])
        if read is None:
            return None
        number = self._make("Squeeze", read, self._numbers(0))
        first, step = (gs.Constant(unique_name(self.graph, self.node.name), np.array(i, np.int64)) for i in (0, 1))
        return self._make("Range", first, number, step)

    def _transposed(self, tensor: gs.Tensor, *perm: int) -> gs.Tensor:
        return self._make("Transpose", tensor, perm=list(perm))

    def _numbers(self, *values: int) -> gs.Constant:
        return self._constant(np.array(values, np.int64))

    def _constant(self, values: np.ndarray | np.generic) -> gs.Constant:
        return constant_tensor(self.graph, f"{self.node.name}_number", values)

    def _make(self, op: str, *inputs: gs.Tensor, **attributes: object) -> gs.Tensor:
        made = insert_shaped(self.graph, op, f"{self.node.name}_{op}", list(inputs), None, **attributes)
        made.dtype = None  # those of sizes and masks are no floats: inference finds them
        return made
