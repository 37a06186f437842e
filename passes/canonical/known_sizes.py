"""Sizes that are read off tensors of the core become constants, or are read off the inputs.

    before:  Reshape(x, Concat(Shape(x)[0:1], 17, 3, 2, 16))    after:  Reshape(x, [-1, 17, 3, 2, 16])
    before:  Expand(k, Concat(Shape(x)[0:1], 1, 32))            after:  Expand(k, Concat(Shape(input)[0:1], 1, 32))
    before:  Reshape(x, Concat(batch, length, 12, 32))          after:  Reshape(x, [0, 0, 12, 32])
    before:  Slice(x, 0, length of x)                           after:  x
    before:  Resize(x, Concat(batch, 3, 16, 16))                after:  Resize(x, [16, 16]), axes 2 and 3

The shape of a core tensor is no property of its spikes, and one that states the batch states it without the T steps
that are folded into it. What such numbers are is known from `csscc.passes.canonical.sizes`; they stay as they are
where it is not, and where nothing of the core enters them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations_with_replacement
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.adapter import infer_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import attribute, constant_tensor, is_output, replace_readers, unique_name
from csscc.passes.base import BasePass
from csscc.passes.canonical.sizes import ONE, Size, Sizes, Values, divided, is_constant, sizes_of, times
from csscc.passes.linear.core import core_nodes, core_of


@dataclass(frozen=True)
class KnownSizes(BasePass):
    """Replace what is computed from the shapes of core tensors."""

    name: ClassVar[str] = "known-sizes"

    def apply(self, network: Network) -> int:
        """Return the number of parameters replaced plus Slices removed."""
        graph = network.graph
        after = core_of(graph)[1]
        sizes = sizes_of(graph)
        changed = sum(_parameters(graph, node, sizes, after) for node in list(graph.nodes))
        tidy(graph)
        changed += sum(_in_core(graph, node, sizes) for node in core_nodes(graph))
        tidy(graph)
        if changed:
            infer_shapes(network)
        return changed


def _parameters(graph: gs.Graph, node: gs.Node, sizes: Sizes, after: set[int]) -> int:
    """Replace the node's inputs that are known and made after a weighted operator."""
    changed = 0
    for index, tensor in enumerate(node.inputs):
        if not tensor.inputs or id(tensor.inputs[0]) not in after:
            continue
        values = sizes.values(tensor)
        new = None if values is None else _stated(graph, node, sizes, values)
        if new is not None:
            node.inputs[index] = new
            changed += 1
    return changed


def _stated(graph: gs.Graph, node: gs.Node, sizes: Sizes, values: list[Values]) -> gs.Tensor | None:
    """A tensor of these values: a constant, or numbers from the shapes of inputs."""
    first = values[0]
    if all(np.array_equal(first, v, equal_nan=first.dtype.kind == "f") for v in values[1:]):
        return constant_tensor(graph, f"{node.name}_known", first)
    if first.dtype != np.int64 or first.ndim > 1:
        return None
    numbers = [tuple(int(n) for n in pair) for pair in zip(*(v.reshape(-1) for v in values), strict=True)]
    vector = from_inputs(graph, node.name, sizes, numbers)
    if vector is None or first.ndim == 1:
        return vector
    axis = constant_tensor(graph, f"{node.name}_axis", np.zeros(1, np.int64))
    return _node(graph, "Squeeze", f"{node.name}_number", [vector, axis])


def from_inputs(graph: gs.Graph, name: str, sizes: Sizes, numbers: Sequence[Size]) -> gs.Tensor | None:
    """A vector of numbers as the inputs' shapes give them; None where one is no product of free dimensions."""
    factors = [None if is_constant(n) else _factors(sizes, n) for n in numbers]
    if any(f is None and not is_constant(n) for f, n in zip(factors, numbers, strict=True)):
        return None
    parts: list[gs.Tensor] = []
    for number, found in zip(numbers, factors, strict=True):
        share, dimensions = found or (number[0], [])
        read: list[gs.Tensor] = [_node(graph, "Shape", f"{name}_shape", [t], start=a, end=a + 1) for t, a in dimensions]
        if share != 1 or not read:
            read.append(constant_tensor(graph, f"{name}_share", np.array([share], np.int64)))
        parts.append(reduce(lambda a, b: _node(graph, "Mul", f"{name}_product", [a, b]), read))
    return parts[0] if len(parts) == 1 else _node(graph, "Concat", f"{name}_sizes", parts, axis=0)


def _factors(sizes: Sizes, number: Size) -> tuple[int, list[tuple[gs.Tensor, int]]] | None:
    """A number as a constant and one or two free dimensions."""
    for count in (1, 2):
        for dimensions in combinations_with_replacement(sizes.free, count):
            share = divided(number, times(*(size for _, _, size in dimensions)))
            if share is not None and is_constant(share):
                return share[0], [(tensor, axis) for tensor, axis, _ in dimensions]
    return None


def _node(graph: gs.Graph, op: str, name: str, inputs: Sequence[gs.Tensor], **attrs: int) -> gs.Variable:
    output = gs.Variable(unique_name(graph, f"{name}_out"), dtype=np.int64)
    graph.nodes.append(gs.Node(op, unique_name(graph, name), attrs=attrs, inputs=inputs, outputs=[output]))
    return output


def _in_core(graph: gs.Graph, node: gs.Node, sizes: Sizes) -> int:
    before, after = (sizes.shape(t) for t in (node.inputs[0], node.outputs[0])) if node.inputs else (None, None)
    if before is None or after is None or sizes.batch is None or isinstance(node.inputs[0], gs.Constant):
        return 0
    if node.op == "Slice" and before == after and not is_output(graph, node.outputs[0]) and _forward(node):
        replace_readers(node.outputs[0], node.inputs[0])
        return 1
    if node.op == "Resize" and before and before[0] == sizes.batch and before[:2] == after[:2]:
        return _resize(graph, node, before[2:], after[2:])
    if len(node.inputs) < 2 or isinstance(node.inputs[1], gs.Constant) or not before or before[0] != sizes.batch:
        return 0
    target = None
    if node.op == "Reshape" and after and after[0] == sizes.batch:
        target = reshape_target(before, after)
    if node.op == "Expand" and len(before) == len(after):
        target = expand_target(before, after)
    if target is None:
        return 0
    node.inputs[1] = constant_tensor(graph, f"{node.name}_shape", np.array(target, np.int64))
    if node.op == "Reshape":
        node.attrs.clear()
    return 1


def _resize(graph: gs.Graph, node: gs.Node, before: Sequence[Size], after: Sequence[Size]) -> int:
    """A Resize to computed sizes states those after the channels, or by which whole number they are multiplied."""
    computed = len(node.inputs) > 3 and node.inputs[3].inputs and "axes" not in node.attrs
    stretched = attribute(node, "keep_aspect_ratio_policy", "stretch") == "stretch"
    crops = attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    if not computed or not stretched or crops:
        return 0
    ratios = [divided(b, a) for a, b in zip(before, after, strict=True)]
    if all(is_constant(size) for size in after):
        node.inputs[3] = constant_tensor(graph, f"{node.name}_sizes", np.array([s[0] for s in after], np.int64))
    elif all(ratio is not None and is_constant(ratio) for ratio in ratios):
        scales = np.array([ratio[0] for ratio in ratios if ratio], np.float32)
        node.inputs[2] = constant_tensor(graph, f"{node.name}_scales", scales)
        node.inputs.pop(3)
    else:
        return 0
    node.attrs["axes"] = list(range(2, 2 + len(after)))
    return 1


def _forward(node: gs.Node) -> bool:
    steps = node.inputs[4] if len(node.inputs) > 4 else None
    return steps is None or not steps.name or (isinstance(steps, gs.Constant) and bool((steps.values > 0).all()))


def reshape_target(before: Sequence[Size], after: Sequence[Size]) -> list[int] | None:
    """The constant target of a Reshape that keeps the batch in front; None where constants do not state it.

    A dimension that is not constant is copied from the same place, and one more left to the operator.
    """
    target = [d[0] if is_constant(d) else 0 if i < len(before) and before[i] == d else -1 for i, d in enumerate(after)]
    target[0] = 0
    if all(is_constant(d) for d in after[1:]):
        target[0] = -1
    return target if target.count(-1) <= 1 else None


def expand_target(before: Sequence[Size], after: Sequence[Size]) -> list[int] | None:
    """The constant target of an Expand that repeats nothing as often as the batch or another free size."""
    kept = (*(ONE,) * (len(after) - len(before)), *before)
    target = [1 if b == a else a[0] if is_constant(a) else None for b, a in zip(kept, after, strict=True)]
    return None if None in target else [t for t in target if t is not None]
