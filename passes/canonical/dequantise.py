"""Bring quantised constants to floats, and quantisers of fewer than 8 bits to 8 bits and a Clip.

    before:  Conv(x, DequantizeLinear(w, scale, zero point))      w: int8, uint8, int4, ..., int32
    after:   Conv(x, scale * (w - zero point))

    before:  x -> QuantizeLinear (uint4) -> DequantizeLinear -> y
    after:   x -> QuantizeLinear (uint8) -> Clip(0, 15) -> DequantizeLinear -> y

Weights that an exporter left as floats with a pair after them, as quantisation-aware training does, become what the
pair makes of them. This is done to the message, and small types are brought to 8 bits, since the graph library can
neither fold nor write numbers of 4 bits. Types with an exponent (float8) stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from csscc.io.weights import without_weights

Array = NDArray[Any]
Attributes = dict[str, Any]
Weights = dict[str, TensorProto]
LIMITS: dict[int, tuple[int, int]] = {
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-(2**15), 2**15 - 1),
    TensorProto.UINT16: (0, 2**16 - 1),
    TensorProto.INT32: (-(2**31), 2**31 - 1),
}
SMALL: dict[int, int] = {TensorProto.INT4: TensorProto.INT8, TensorProto.UINT4: TensorProto.UINT8}
PAIR = ("QuantizeLinear", "DequantizeLinear")
MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Clip")  # what may stand between the two


def dequantised(model: onnx.ModelProto, weights: Weights) -> tuple[onnx.ModelProto, Weights]:
    """The model and its weights with constants as floats; the same objects where nothing is quantised.

    Args:
        model: a model without local functions.
        weights: values of the large initializers, which `model` lacks.
    """
    if not any(n.op_type in PAIR and not n.domain for n in model.graph.node):
        return model, weights
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    folder = _Folder(changed, weights)
    while folder.fold():
        pass
    folder.widen()
    return folder.finish()


class _Folder:
    """Folds constants of a graph, in place."""

    def __init__(self, model: onnx.ModelProto, weights: Weights) -> None:
        self._model, self._graph, self._weights = model, model.graph, weights
        self._known = {t.name: t for t in model.graph.initializer} | weights
        self._made: Weights = {}
        for node in self._graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._known[node.output[0]] = node.attribute[0].t

    def fold(self) -> int:
        """Fold each node whose inputs are constants; return how many."""
        kept = []
        for node in self._graph.node:
            result = None if node.domain else self._result(node)
            if result is None:
                kept.append(node)
            else:
                result.name = node.output[0]
                self._known[result.name] = self._made[result.name] = result
        folded = len(self._graph.node) - len(kept)
        if folded:
            nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
            del self._graph.node[:]
            self._graph.node.extend(nodes)
        return folded

    def _result(self, node: onnx.NodeProto) -> TensorProto | None:
        given = [self._known.get(name) for name in node.input if name]
        if not given or any(t is None for t in given) or node.op_type not in (*PAIR, *MOVES):
            return None
        tensors = [t for t in given if t is not None]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in PAIR:
            return folded_quantiser(node.op_type, tensors, attributes)
        if tensors[0].data_type not in LIMITS or tensors[0].data_type == TensorProto.INT32:
            return None
        return self._moved(node, tensors)

    def _moved(self, node: onnx.NodeProto, tensors: list[TensorProto]) -> TensorProto:
        """What an operator on whole numbers makes of them, by onnx's reference on 32-bit numbers."""
        from onnx.reference import ReferenceEvaluator

        integers = [numpy_helper.to_array(t).astype(np.int32) if t.data_type in SMALL else t for t in tensors]
        values = [v if isinstance(v, np.ndarray) else numpy_helper.to_array(v) for v in integers]
        names = [n for n in node.input if n]
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in zip(names, values, strict=True)
        ]
        graph = helper.make_graph([node], "node", inputs, [onnx.ValueInfoProto(name=node.output[0])])
        model = helper.make_model(graph, opset_imports=[o for o in self._model.opset_import if not o.domain])
        (made,) = ReferenceEvaluator(model).run(None, dict(zip(names, values, strict=True)))
        return _tensor(np.asarray(made), tensors[0].data_type)

    def widen(self) -> None:
        """Give quantisers to few bits 8 of them, and a Clip; their scales and zero points stay."""
        nodes = []
        borders = {v.name for v in (*self._graph.input, *self._graph.output)}  # of the model, which stays as it is
        for node in self._graph.node:
            kind = self._type(node) if node.op_type in PAIR else TensorProto.UNDEFINED
            integers = node.output[:1] if node.op_type == "QuantizeLinear" else node.input[:1]
            if kind not in SMALL or borders.intersection(integers):
                nodes.append(node)
                continue
            zero = self._known.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
            values = np.zeros((), np.int64) if zero is None else numpy_helper.to_array(zero).astype(np.int64)
            names = [f"{node.output[0]}_{part}" for part in ("zero", "low", "high", "wide")]
            bounds = [np.array(limit) for limit in LIMITS[kind]]
            for name, value in zip(names, (values, *bounds), strict=False):
                self._made[name] = _tensor(value, SMALL[kind])
                self._made[name].name = name
            kept = [a for a in node.attribute if a.name == "axis"]
            del node.attribute[:], node.input[2:]
            node.attribute.extend(kept)
            node.input.append(names[0])
            nodes.append(node)
            if node.op_type == "QuantizeLinear":
                clip = helper.make_node("Clip", [names[3], *names[1:3]], [node.output[0]], f"{node.output[0]}_clip")
                node.output[0] = names[3]
                nodes.append(clip)
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def _type(self, node: onnx.NodeProto) -> int:
        """The type of whole numbers that a quantiser writes or reads, where its zero point or an attribute has it."""
        if len(node.input) > 2 and node.input[2] in self._known:
            return int(self._known[node.input[2]].data_type)
        return next((int(a.i) for a in node.attribute if a.name == "output_dtype"), TensorProto.UNDEFINED)

    def finish(self) -> tuple[onnx.ModelProto, Weights]:
        """The model without what nothing reads any more, and its weights."""
        graph = self._graph
        inner = [g for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH for g in [a.g]]
        read = {name for n in graph.node for name in n.input} | {o.name for o in graph.output}
        read |= {name for g in inner for name in _names_in(g)}
        kept = [t for t in graph.initializer if t.name in read]
        initializers = [*kept, *(t for name, t in self._made.items() if name in read)]
        copies = [TensorProto.FromString(t.SerializeToString()) for t in initializers]
        del graph.initializer[:], graph.value_info[:]
        graph.initializer.extend(copies)
        light, made = without_weights(self._model)
        return light, {name: t for name, t in self._weights.items() if name in read} | _valued(made)


def folded_quantiser(op: str, tensors: list[TensorProto], attributes: Attributes) -> TensorProto | None:
    """What a QuantizeLinear or DequantizeLinear makes of constants; None for types and shapes that are not known."""
    return _dequantise(tensors, attributes) if op == "DequantizeLinear" else _quantise(tensors, attributes)


def _valued(weights: Weights) -> Weights:
    """Those that hold their values themselves."""
    return {name: t for name, t in weights.items() if t.data_location != TensorProto.EXTERNAL}


def _names_in(graph: onnx.GraphProto) -> set[str]:
    """Names that a subgraph reads, its own included."""
    inner = [a.g for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH]
    own = {name for n in graph.node for name in n.input} | {o.name for o in graph.output}
    return own.union(*map(_names_in, inner))


def _tensor(values: Array, kind: int) -> TensorProto:
    """Whole numbers as a tensor of their type."""
    if kind in SMALL:
        return helper.make_tensor("", kind, values.shape, [int(v) for v in values.reshape(-1)])
    return numpy_helper.from_array(np.asarray(values, helper.tensor_dtype_to_np_dtype(kind)))


def _parameters(tensors: list[TensorProto], attributes: Attributes) -> tuple[Array, Array] | None:
    """Scales and zero points, broadcast to the values; None where they do not fit, or the type has an exponent."""
    zero = tensors[2] if len(tensors) > 2 else None
    if zero is not None and zero.data_type not in LIMITS:
        return None
    shape, axis, block = tuple(tensors[0].dims), attributes.get("axis", 1), attributes.get("block_size", 0)
    scale = numpy_helper.to_array(tensors[1])
    integers = np.zeros((), np.int64) if zero is None else numpy_helper.to_array(zero).astype(np.int64)
    axis %= max(len(shape), 1)
    made = []
    for values in (scale, integers):
        if values.size == 1:
            values = values.reshape(())
        elif block:
            values = np.repeat(values, block, axis).take(range(shape[axis]), axis)
        else:
            values = values.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        made.append(values)
    fits = all(np.broadcast_shapes(v.shape, shape) == shape for v in made)
    return (made[0], made[1]) if fits else None


def _dequantise(tensors: list[TensorProto], attributes: Attributes) -> TensorProto | None:
    """``(x - zero) * scale`` in the type of the scale."""
    if tensors[0].data_type not in LIMITS:
        return None
    parameters = _parameters(tensors, attributes)
    if parameters is None:
        return None
    scale, zero = parameters
    values = (numpy_helper.to_array(tensors[0]).astype(np.int64) - zero).astype(scale.dtype) * scale
    return numpy_helper.from_array(np.asarray(values, scale.dtype))


def _quantise(tensors: list[TensorProto], attributes: Attributes) -> TensorProto | None:
    """``saturate(round(x / scale) + zero)``, halves to even."""
    kind = tensors[2].data_type if len(tensors) > 2 else attributes.get("output_dtype", TensorProto.UINT8)
    parameters = _parameters(tensors, attributes)
    if parameters is None or kind not in LIMITS:
        return None
    scale, zero = parameters
    values = np.rint(numpy_helper.to_array(tensors[0]) / scale).astype(np.int64) + zero
    return _tensor(np.clip(values, *LIMITS[kind]), kind)
