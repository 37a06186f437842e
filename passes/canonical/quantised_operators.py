"""Write quantised operators as QuantizeLinear and DequantizeLinear around the operators on floats.

    before:  x (int8) -> QLinearConv(x, scales, zero points, w, ..., b) -> y (int8)
    after:   x -> DequantizeLinear -> Conv(., DequantizeLinear(w), DequantizeLinear(b)) -> QuantizeLinear -> y

Those of ONNX and of onnxruntime's domain ``com.microsoft`` (the format *QOperator*, and what it makes of dynamic
quantisation). The ranges, scales and results are the same but for the rounding of a float32 sum. An operator stays as
it is, and is refused by name, where a scale of weights is computed or its channels are last. What is known of the
operators is in two tables: where the triples (value, scale, zero point) stand, and what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from csscc.dialect.model import opset_of
from csscc.passes.canonical.dequantise import PAIR, Array, Attributes

MICROSOFT = "com.microsoft"
Nodes = list[onnx.NodeProto]


@dataclass(frozen=True)
class Quantised:
    """How the inputs of a quantised operator stand, and what it computes.

    Attributes:
        op: the operator on floats.
        values: where the triples (value, scale, zero point) of its inputs begin.
        result: where scale and zero point of its result stand; None where the result is a float.
        bias: where its bias stands, whole numbers of steps of the product of the first two scales; None for none.
        kept: the attributes that the operator on floats has as well.
    """

    op: str
    values: tuple[int, ...] = (0, 3)
    result: int | None = 6
    bias: int | None = None
    kept: tuple[str, ...] = ()


_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
OPERATORS: dict[tuple[str, str], Quantised] = {
    ("", "QLinearConv"): Quantised("Conv", bias=8, kept=_CONV),
    ("", "QLinearMatMul"): Quantised("MatMul"),
    (MICROSOFT, "QGemm"): Quantised("Gemm", result=7, bias=6, kept=("alpha", "transA", "transB")),
    (MICROSOFT, "QLinearAdd"): Quantised("Add"),
    (MICROSOFT, "QLinearMul"): Quantised("Mul"),
    (MICROSOFT, "QLinearLeakyRelu"): Quantised("LeakyRelu", (0,), 3, kept=("alpha",)),
    (MICROSOFT, "QLinearSigmoid"): Quantised("Sigmoid", (0,), 3),
    (MICROSOFT, "QLinearSoftmax"): Quantised("Softmax", (0,), 3, kept=("axis",)),
    (MICROSOFT, "QLinearAveragePool"): Quantised("AveragePool", (0,), 3, kept=_POOL),
    (MICROSOFT, "QLinearGlobalAveragePool"): Quantised("GlobalAveragePool", (0,), 3),
}
BYTES = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32)


def without_quantised_operators(model: onnx.ModelProto, weights: dict[str, onnx.TensorProto]) -> onnx.ModelProto:
    """The model with its quantised operators decomposed; the same object if it has none.

    Args:
        model: a model without local functions.
        weights: values of the large initializers, which `model` lacks.
    """
    if not any(_is_known(n) for n in model.graph.node):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    writer = _Writer(changed, weights)
    nodes = [new for node in changed.graph.node for new in writer.decomposed(node)]
    del changed.graph.node[:], changed.graph.value_info[:]
    changed.graph.node.extend(nodes)
    changed.graph.initializer.extend(writer.added)
    return changed


def _is_known(node: onnx.NodeProto) -> bool:
    return (node.domain, node.op_type) in OPERATORS or (node.domain == MICROSOFT and node.op_type in _OTHERS)


@dataclass
class _Writer:
    """Writes the nodes that stand for quantised operators.

    Attributes:
        added: initializers that they need.
    """

    model: onnx.ModelProto
    weights: dict[str, onnx.TensorProto]
    added: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Look up the constants."""
        graph = self.model.graph
        self._constants = {t.name: t for t in graph.initializer} | self.weights
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._constants[node.output[0]] = node.attribute[0].t

    def decomposed(self, node: onnx.NodeProto) -> Nodes:
        """The nodes in place of one."""
        if node.domain == MICROSOFT and node.op_type in PAIR:
            self._to_standard(node)
            return [node]
        if node.domain == MICROSOFT and node.op_type in _OTHERS:
            decompose = _OTHERS[node.op_type]
            return [node] if decompose is None else decompose(self, node) or [node]
        known = OPERATORS.get((node.domain, node.op_type))
        return [node] if known is None else self._operator(node, known) or [node]

    def dequantise(
        self, node: onnx.NodeProto, at: Sequence[int], result: str, axis: int | None = None
    ) -> onnx.NodeProto:
        """A DequantizeLinear of the node's inputs `at`: value, scale, zero point."""
        names = [node.input[i] if i < len(node.input) else "" for i in at]
        made = helper.make_node("DequantizeLinear", [n for n in names if n], [result], f"{result}_node")
        if axis is not None and self.size(names[1]) > 1:
            made.attribute.append(helper.make_attribute("axis", axis))
        return made

    def size(self, name: str) -> int:
        """Number of values of a constant; 1 for what is computed."""
        known = self._constants.get(name)
        return int(np.prod(known.dims)) if known is not None else 1

    def values(self, name: str) -> Array | None:
        """A small constant's values."""
        known = self._constants.get(name)
        return None if known is None else numpy_helper.to_array(known)

    def _to_standard(self, node: onnx.NodeProto) -> None:
        zero = self._constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.data_type in BYTES:
            node.domain = ""

    def _operator(self, node: onnx.NodeProto, known: Quantised) -> Nodes:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if attributes.get("channels_last") or (known.op == "Softmax" and not self._same_softmax(attributes)):
            return []
        base = node.name or node.output[0]
        inputs, nodes = list[str](), Nodes()
        for number, start in enumerate(known.values):
            inputs.append(f"{base}_float{number}")
            axis = self._channel_axis(node, known, start, attributes) if number == 1 else None
            nodes.append(self.dequantise(node, range(start, start + 3), inputs[-1], axis))
        if known.bias is not None and len(node.input) > known.bias and node.input[known.bias]:
            scale = self._bias_scale(node, known, attributes.get("alpha", 1.0))
            if scale is None:
                return []
            inputs.append(f"{base}_float_bias")
            nodes.append(helper.make_node("DequantizeLinear", [node.input[known.bias], scale], inputs[-1:], axis=0))
            nodes[-1].name = f"{inputs[-1]}_node"
        kept = {name: value for name, value in attributes.items() if name in known.kept}
        own = [] if known.result is None else [n for n in node.input[known.result : known.result + 2] if n]
        result = f"{base}_float" if own else node.output[0]
        nodes.append(helper.make_node(known.op, inputs, [result], base, **kept))
        if own:
            inputs = [result, *own]
            nodes.append(helper.make_node("QuantizeLinear", inputs, [node.output[0]], f"{base}_quantise"))
        return nodes

    def _same_softmax(self, attributes: Attributes) -> bool:
        """Whether the Softmax meant is that of the model's opset: 13 changed what its axis means."""
        return (opset_of(self.model) < 13) == (int(attributes.get("opset", 13)) < 13)

    def _channel_axis(self, node: onnx.NodeProto, known: Quantised, start: int, attributes: Attributes) -> int:
        """The axis of weights along which scales vary."""
        if known.op == "Gemm":
            return 0 if attributes.get("transB") else 1
        weights = self._constants.get(node.input[start])
        return len(weights.dims) - 1 if known.op == "MatMul" and weights is not None else 0

    def _bias_scale(self, node: onnx.NodeProto, known: Quantised, alpha: float) -> str | None:
        scales = [self.values(node.input[start + 1]) for start in known.values]
        if any(s is None for s in scales):
            return None
        product = np.float32(alpha) * np.prod(np.broadcast_arrays(*(s.reshape(-1) for s in scales if s is not None)), 0)
        name = f"{node.name or node.output[0]}_bias_scale"
        product = product.astype(np.float32)
        self.added.append(numpy_helper.from_array(product.reshape(() if product.size == 1 else -1), name))
        return name


def _concat(writer: _Writer, node: onnx.NodeProto) -> Nodes:
    """QLinearConcat: scale and zero point of the result, then the triples."""
    base = node.name or node.output[0]
    inputs = [f"{base}_float{i}" for i in range((len(node.input) - 2) // 3)]
    nodes = [writer.dequantise(node, range(2 + 3 * i, 5 + 3 * i), name) for i, name in enumerate(inputs)]
    axis = next(a.i for a in node.attribute if a.name == "axis")
    nodes.append(helper.make_node("Concat", inputs, [f"{base}_float"], base, axis=axis))
    last = [f"{base}_float", *node.input[:2]]
    return [*nodes, helper.make_node("QuantizeLinear", last, [node.output[0]], f"{base}_quantise")]


def _integers_to_float(writer: _Writer, node: onnx.NodeProto) -> Nodes:
    """MatMulIntegerToFloat(A, B, scale A, scale B, zero A, zero B, bias)."""
    return _product(writer, node, writer.dequantise(node, (0, 2, 4), f"{node.name}_float0"), (1, 3, 5), 6)


def _dynamic(writer: _Writer, node: onnx.NodeProto) -> Nodes:
    """DynamicQuantizeMatMul(A, B, scale B, zero B, bias): what it rounds A to, it chooses for each A."""
    return _product(writer, node, helper.make_node("Identity", [node.input[0]], [f"{node.name}_float0"]), (1, 2, 3), 4)


def _product(
    writer: _Writer, node: onnx.NodeProto, first: onnx.NodeProto, weights: Sequence[int], bias: int
) -> Nodes:
    base = node.name or node.output[0]
    first.name = first.name or f"{base}_data"
    nodes = [first, writer.dequantise(node, weights, f"{base}_float1", axis=1)]
    biased = len(node.input) > bias and bool(node.input[bias])
    result = f"{base}_product" if biased else node.output[0]
    nodes.append(helper.make_node("MatMul", [first.output[0], f"{base}_float1"], [result], base))
    if biased:
        nodes.append(helper.make_node("Add", [result, node.input[bias]], [node.output[0]], f"{base}_bias"))
    return nodes


_OTHERS: dict[str, Callable[[_Writer, onnx.NodeProto], Nodes] | None] = {
    "QLinearConcat": _concat,
    "MatMulIntegerToFloat": _integers_to_float,
    "DynamicQuantizeMatMul": _dynamic,
    **dict.fromkeys(PAIR),
}
