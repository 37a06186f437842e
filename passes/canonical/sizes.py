"""Sizes that are not fixed, followed through a network by what they are for three choices of them.

A size of a network with free dimensions is a function of those dimensions: 12, or batch, or 4 * batch, or
(height + 1) // 2. Here it is the tuple of its values for three choices of all free dimensions (`Size`). Such tuples
multiply, divide and compare like the sizes they stand for; equal numbers are a constant. The batch is a large prime,
so that no other size is taken for a multiple of it; other choices lie far apart, so that they still differ where
strides divide them.

Shapes come from onnx's inference, node by node, and values of small tensors that depend on nothing but shapes and
constants from its reference implementation: unlike the inference of whole models it knows all operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from csscc.dialect.adapter import SHAPE_OF_INPUT
from csscc.dialect.rewrite import Shape, attribute

Size = tuple[int, ...]
Values = NDArray[np.generic]
ONE: Size = (1, 1, 1)
BATCHES: Size = (10007, 10037, 10039)
OTHERS: tuple[Size, ...] = ((61, 149, 17), (224, 480, 352), (12, 61, 29), (7, 29, 16), (640, 1376, 992))
MAX_VALUES = 256  # elements of a tensor whose values are followed
EMPTY = onnx.numpy_helper.from_array(np.zeros(0, np.float32))


def times(*sizes: Size) -> Size:
    """The product."""
    return tuple(int(np.prod(s, dtype=np.int64)) for s in zip(*sizes, strict=True)) if sizes else ONE


def divided(a: Size, b: Size) -> Size | None:
    """The quotient; None where it is not whole."""
    whole = all(y and x % y == 0 for x, y in zip(a, b, strict=True))
    return tuple(x // y for x, y in zip(a, b, strict=True)) if whole else None


def is_constant(size: Size) -> bool:
    """Whether the size is the same for any choice."""
    return len(set(size)) == 1


@dataclass
class Sizes:
    """Shapes of all tensors and values of small ones.

    Attributes:
        free: the free dimensions of the inputs: name, input, axis, size.
        batch: the size of the batch; None where the inputs have none in common.
    """

    free: list[tuple[gs.Tensor, int, Size]]
    batch: Size | None
    _shapes: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    _values: dict[str, list[Values]] = field(default_factory=dict)

    def shape(self, tensor: gs.Tensor) -> tuple[Size, ...] | None:
        """The shape of a tensor; None where it is not known, or its rank changes."""
        if isinstance(tensor, gs.Constant):
            return tuple((int(d),) * len(ONE) for d in tensor.shape)
        shapes = self._shapes.get(tensor.name, [])
        if len(shapes) != len(ONE) or len({len(s) for s in shapes}) != 1:
            return None
        return tuple(zip(*shapes, strict=True))

    def values(self, tensor: gs.Tensor) -> list[Values] | None:
        """The values of a computed tensor for each choice; None where they are not known or their number changes."""
        values = self._values.get(tensor.name, [])
        known = len(values) == len(ONE) and len({v.shape for v in values}) == 1
        return values if known and not isinstance(tensor, gs.Constant) else None


def sizes_of(graph: gs.Graph) -> Sizes:
    """Sizes of a sorted graph, by the choice for which most shapes are known.

    Free dimensions of one name are one. Where the network only works if others are equal too, those that are the same
    axis of several inputs are taken for one.
    """
    best, fewest = None, len(graph.nodes) * len(ONE) + 1
    for by_axis in (False, True):
        for others in OTHERS:
            found = _started(graph, others, by_axis=by_axis)
            failures = sum(_follow(graph, found, choice) for choice in range(len(ONE)))
            if failures < fewest:
                best, fewest = found, failures
            if not failures or all(size == BATCHES for _, _, size in found.free):
                return found
    assert best is not None
    return best


def _started(graph: gs.Graph, others: Size, *, by_axis: bool) -> Sizes:
    """The sizes of the inputs: the batch is what is free in front and nowhere else."""
    first = {t.shape[0] for t in graph.inputs if t.shape}
    elsewhere = {d for t in graph.inputs for d in (t.shape or ())[1:]}
    batches = first - elsewhere or first
    known: dict[object, Size] = {}
    free: list[tuple[gs.Tensor, int, Size]] = []
    for tensor in graph.inputs:
        for axis, name in enumerate(tensor.shape or ()):
            if isinstance(name, int):
                continue
            named = isinstance(name, str) and any(c.isalnum() for c in name)
            key = axis if by_axis else name if named else (tensor.name, axis)
            if axis == 0 and name in batches:
                known[key] = BATCHES
            count = len(known)
            new = [n + (i + 1) * count * (32 if n % 32 == 0 else 2) for i, n in enumerate(others)]
            free.append((tensor, axis, known.setdefault(key, tuple(new))))
    fixed = first.pop() if len(first) == 1 else None
    batch = (fixed,) * len(ONE) if isinstance(fixed, int) else None
    return Sizes(free, BATCHES if any(size == BATCHES for _, _, size in free) else batch)


def _follow(graph: gs.Graph, sizes: Sizes, choice: int) -> int:
    """Add shapes and values for one choice; return for how many nodes there are none."""
    types: dict[str, onnx.TypeProto] = {}
    known: dict[str, Values] = {}
    chosen = {(t.name, axis): size[choice] for t, axis, size in sizes.free}
    for tensor in graph.inputs:
        shape = None if tensor.shape is None else [chosen.get((tensor.name, i), d) for i, d in enumerate(tensor.shape)]
        types[tensor.name] = _type(tensor, shape)
    failures = 0
    for node in graph.nodes:
        for read in node.inputs:
            if isinstance(read, gs.Constant) and read.name not in types:
                types[read.name] = _type(read, read.shape)
                if read.values.size <= MAX_VALUES:
                    known[read.name] = read.values
        made = _evaluated(node, types, known, graph.opset)
        if made is not None:
            known |= made
            inferred: dict[str, onnx.TypeProto] | None = {n: _typed(v) for n, v in made.items()}
        else:
            inferred = _inferred(node, types, known, graph.opset)
        failures += inferred is None
        for tensor in node.outputs:
            types[tensor.name] = (inferred or {}).get(tensor.name) or _type(tensor, _numbers(tensor.shape))
    for node in graph.nodes:
        for tensor in node.outputs:
            kind = types[tensor.name].tensor_type
            if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
                sizes._shapes.setdefault(tensor.name, []).append(tuple(d.dim_value for d in kind.shape.dim))
            if tensor.name in known:
                sizes._values.setdefault(tensor.name, []).append(known[tensor.name])
    for tensor in graph.inputs:
        kind = types[tensor.name].tensor_type
        if kind.HasField("shape"):
            sizes._shapes.setdefault(tensor.name, []).append(tuple(d.dim_value for d in kind.shape.dim))
    return failures


def _numbers(shape: Shape | None) -> Shape | None:
    return shape if shape is not None and all(isinstance(d, int) for d in shape) else None


def _type(tensor: gs.Tensor, shape: Shape | None) -> onnx.TypeProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)) if tensor.dtype is not None else 0
    return onnx.helper.make_tensor_type_proto(kind, shape)


def _typed(values: Values) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)


def _evaluated(
    node: gs.Node, types: Mapping[str, onnx.TypeProto], known: Mapping[str, Values], opset: int
) -> dict[str, Values] | None:
    """Values of a node's outputs, if they depend on shapes and small known values alone."""
    if node.domain or any(isinstance(v, gs.Graph) for v in node.attrs.values()):
        return None
    if node.op == "Shape":
        kind = types[node.inputs[0].name].tensor_type
        if not kind.HasField("shape") or not all(d.HasField("dim_value") for d in kind.shape.dim):
            return None
        dims = [d.dim_value for d in kind.shape.dim]
        start, end = attribute(node, "start", 0), attribute(node, "end", len(dims))
        return {node.outputs[0].name: np.array(dims[start:end], np.int64)}
    read = [t.name for t in node.inputs if t.name]
    if node.op.startswith("Random") or any(n not in known for n in read):
        return None
    try:
        made = ReferenceEvaluator(_model(node, opset)).run(None, {n: known[n] for n in read})
    except Exception:
        return None
    arrays = [np.asarray(m) for m in made]
    if any(a.size > MAX_VALUES for a in arrays):
        return None
    return {t.name: a for t, a in zip(node.outputs, arrays, strict=True)}


def _model(node: gs.Node, opset: int) -> onnx.ModelProto:
    untyped = onnx.TypeProto()
    read = {t.name: onnx.ValueInfoProto(name=t.name, type=untyped) for t in node.inputs if t.name}
    outputs = [onnx.ValueInfoProto(name=t.name, type=untyped) for t in node.outputs]
    graph = onnx.helper.make_graph([OnnxExporter.export_node(node)], "node", list(read.values()), outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


def _inferred(
    node: gs.Node, types: Mapping[str, onnx.TypeProto], known: Mapping[str, Values], opset: int
) -> dict[str, onnx.TypeProto] | None:
    """Types of a node's outputs by onnx's inference; None where it does not know them."""
    if node.op in SHAPE_OF_INPUT:
        return {node.outputs[0].name: types[node.inputs[0].name]}
    try:
        schema = onnx.defs.get_schema(node.op, opset, node.domain or "")
        read = {t.name: types[t.name] for t in node.inputs if t.name}
        data = {n: onnx.numpy_helper.from_array(known[n], n) for n in read if n in known}
        imported = onnx.helper.make_opsetid(node.domain or "", opset)
        return onnx.shape_inference.infer_node_outputs(
            schema, OnnxExporter.export_node(node), read, data, opset_imports=[imported]
        )
    except Exception:
        return None
