"""What an operator becomes when the batch of what it reads is brought to the front, unfolded: the table of rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import attribute, constant, constant_tensor
from csscc.passes.canonical.batch_layout_rules import LAYOUT_RULES
from csscc.passes.canonical.batch_place import Fronts, Place, UnfitError
from csscc.passes.canonical.batch_rule import Made, Rule, again, axis_after, numbers, placed
from csscc.passes.canonical.sizes import ONE, Size


def elementwise(fronts: Fronts, node: gs.Node) -> Made:
    """Operands are aligned at their last axes; the batch must be in the same one of each."""
    operands, place = _aligned(fronts, node, node.inputs)
    return [(again(fronts, node, operands), place)]


def _aligned(fronts: Fronts, node: gs.Node, tensors: Sequence[gs.Tensor]) -> tuple[list[gs.Tensor], Place]:
    """Counterparts of operands that broadcast, and the place of the batch in the result."""
    shapes = [fronts.shape(t) if t.name else () for t in tensors]
    places = [fronts.place(t) for t in tensors]
    rank = max(len(s) for s in shapes)
    found = {Place(rank + p.axis - len(s), p.outer, p.inner) for p, s in zip(places, shapes, strict=True) if p}
    if len(found) != 1:
        raise UnfitError
    place = found.pop()
    operands: list[gs.Tensor] = []
    for tensor, own, shape in zip(tensors, places, shapes, strict=True):
        if own is None:
            operands.append(_beside(fronts, node, tensor, shape, place, place.axis - rank))
        elif len(shape) == rank:
            operands.append(fronts.front(tensor))
        else:
            missing = fronts.vector(f"{node.name}_axes", range(1, 1 + rank - len(shape)))
            operands.append(fronts.node("Unsqueeze", f"{node.name}_aligned", [fronts.front(tensor), missing]))
    return operands, place


def _beside(
    fronts: Fronts, node: gs.Node, tensor: gs.Tensor, shape: Sequence[Size], place: Place, axis: int
) -> gs.Tensor:
    """An operand without batch, whose `axis`, counted from the end, meets the one of the batch."""
    if len(shape) < -axis:
        return tensor
    one = shape[axis] == ONE
    if not one and fronts.batch != ONE:
        raise UnfitError  # it differs along the batch
    here = len(shape) + axis
    if isinstance(tensor, gs.Constant):
        between = [1 if one else s[0] for s in place.rest]
        values = tensor.values.reshape(*tensor.shape[:here], *between, *tensor.shape[here + 1 :])
        return constant_tensor(fronts.graph, f"{node.name}_beside", values)
    if len(place.rest) == 1:
        return tensor
    if not one:
        raise UnfitError
    op = "Unsqueeze" if place.rest else "Squeeze"
    return fronts.node(op, f"{node.name}_beside", [tensor, fronts.vector(f"{node.name}_axis", [here])])


def _out_of_row(fronts: Fronts, tensor: gs.Tensor) -> Place | None:
    """Where the batch is, the last axis left out if possible: one sample is in front of a row or at the end of rows."""
    place, shape = fronts.place(tensor), fronts.shape(tensor)
    if place is None or fronts.batch != ONE or place.axis != len(shape) - 1 or place.outer != ONE or len(shape) < 2:
        return place
    return Place(place.axis - 1, outer=shape[-2])


def matmul(fronts: Fronts, node: gs.Node) -> Made:
    """The batch stays out of the matrices, except that rows may hold it before a plain matrix of weights."""
    places = [_out_of_row(fronts, t) for t in node.inputs]
    ranks = [len(fronts.shape(t)) for t in node.inputs]
    if min(ranks) < 2:
        raise UnfitError
    left = places[0]
    if left is not None and places[1] is None and ranks[1] == 2:
        axis_after(left, ranks[0], -1)
        return [(again(fronts, node, [fronts.front(node.inputs[0]), node.inputs[1]]), left)]
    if any(p is not None and p.axis >= r - 2 for p, r in zip(places, ranks, strict=True)):
        raise UnfitError
    operands, place = _aligned(fronts, node, node.inputs)
    return [(again(fronts, node, operands), place)]


def gemm(fronts: Fronts, node: gs.Node) -> Made:
    """``alpha * A @ B' + beta * C`` with the batch in the rows of A: a MatMul and an Add."""
    place = _out_of_row(fronts, node.inputs[0])
    weights, bias = constant(node, 1), constant(node, 2)
    computed_bias = bias is None and len(node.inputs) > 2
    if weights is None or computed_bias or attribute(node, "transA", 0) or place is None or place.axis != 0:
        raise UnfitError
    if bias is not None and bias.ndim == 2 and bias.shape[0] != 1:
        raise UnfitError
    if not place.rest:
        return [(again(fronts, node, [fronts.front(node.inputs[0]), *node.inputs[1:]]), place)]
    matrix = (weights.T if attribute(node, "transB", 0) else weights) * np.float32(attribute(node, "alpha", 1.0))
    made = fronts.node(
        "MatMul",
        f"{node.name}_product",
        [fronts.front(node.inputs[0]), constant_tensor(fronts.graph, f"{node.name}_weights", matrix)],
    )
    if bias is not None:
        row = bias.reshape(-1) * np.float32(attribute(node, "beta", 1.0))
        made = fronts.node("Add", node.name, [made, constant_tensor(fronts.graph, f"{node.name}_bias", row)])
    return [(made, place)]


def along(fronts: Fronts, node: gs.Node) -> Made:
    """Softmax and its like, along an axis that does not hold the batch."""
    place, rank = placed(fronts, node)
    axis = axis_after(place, rank, attribute(node, "axis", -1))
    return [(again(fronts, node, [fronts.front(node.inputs[0])], axis=axis), place)]


def normalisation(fronts: Fronts, node: gs.Node) -> Made:
    """Over the axes from one on, after the batch."""
    place, rank = placed(fronts, node)
    axis = attribute(node, "axis", -1) % rank
    if axis <= place.axis:
        raise UnfitError
    made = again(fronts, node, [fronts.front(node.inputs[0]), *node.inputs[1:]], axis=axis - rank)
    return [(made, place)]


def batch_normalisation(fronts: Fronts, node: gs.Node) -> Made:
    """The channels, the second axis, times and plus constants, as the counterpart may have them elsewhere."""
    place, rank = placed(fronts, node)
    known = [p.astype(np.float64) for i in range(1, 5) if (p := constant(node, i)) is not None]
    if len(known) < 4 or len(node.outputs) > 1 or attribute(node, "training_mode", 0) or place.axis != 0:
        raise UnfitError
    scale, bias, mean, variance = known
    factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    name, wide = node.name, (-1, *(1,) * (rank - 2))
    times = constant_tensor(fronts.graph, f"{name}_factor", factor.reshape(wide))
    plus = constant_tensor(fronts.graph, f"{name}_shift", (bias - mean * factor).reshape(wide))
    scaled = fronts.node("Mul", f"{name}_scaled", [fronts.front(node.inputs[0]), times])
    return [(fronts.node("Add", name, [scaled, plus]), place)]


def reduction(fronts: Fronts, node: gs.Node) -> Made:
    """Over axes that do not hold the batch."""
    place, rank = placed(fronts, node)
    axes = [a % rank for a in numbers(node, 1) or []]
    if not axes:
        raise UnfitError
    new = fronts.vector(f"{node.name}_axes", [axis_after(place, rank, a) for a in axes])
    made = again(fronts, node, [fronts.front(node.inputs[0]), new])
    gone = 0 if attribute(node, "keepdims", 1) else sum(a < place.axis for a in axes)
    return [(made, Place(place.axis - gone, place.outer, place.inner))]


def quantiser(fronts: Fronts, node: gs.Node) -> Made:
    """Element by element; a scale for each channel stays along the channels, which do not hold the batch."""
    place, rank = placed(fronts, node)
    inputs, scale = [fronts.front(node.inputs[0]), *node.inputs[1:]], constant(node, 1)
    if scale is None:
        raise UnfitError
    if scale.size == 1:
        return [(again(fronts, node, inputs), place)]
    return [(again(fronts, node, inputs, axis=axis_after(place, rank, attribute(node, "axis", 1))), place)]


_ELEMENTWISE = (
    "Identity Dropout Cast Add Sub Mul Div Pow Sum Mean Max Min Mod Neg Abs Sqrt Reciprocal Exp Log Erf Sin Cos Sign "
    "Floor Ceil Round Relu LeakyRelu PRelu Elu Selu Celu Clip ThresholdedRelu Sigmoid HardSigmoid HardSwish Tanh "
    "Softplus Softsign Gelu Mish Swish Shrink Where Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsNaN "
    "IsInf"
)
_REDUCTIONS = (
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"
)

RULES: dict[str, Rule] = {
    **LAYOUT_RULES,
    **dict.fromkeys(_ELEMENTWISE.split(), elementwise),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LpNormalization"), along),
    **dict.fromkeys(_REDUCTIONS.split(), reduction),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), quantiser),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), normalisation),
    "BatchNormalization": batch_normalisation,
    "MatMul": matmul,
    "Gemm": gemm,
}
