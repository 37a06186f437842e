"""What an operator becomes when the batch of what it reads is brought to the front, unfolded.

A rule makes the operator's counterpart, which reads the counterparts of its inputs, and tells where the batch of each
of its outputs is. It raises `UnfitError` where the operator mixes the batch, or sizes that matter are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import attribute, constant, constant_tensor
from csscc.passes.canonical.batch_place import Fronts, Place, UnfitError, place_after_reshape
from csscc.passes.canonical.known_sizes import expand_target, from_inputs
from csscc.passes.canonical.sizes import ONE, Size

Made = list[tuple[gs.Tensor, Place]]
Rule = Callable[[Fronts, gs.Node], Made]


def placed(fronts: Fronts, node: gs.Node) -> tuple[Place, int]:
    """Where the batch of the node's first input is, and the input's rank."""
    place = fronts.place(node.inputs[0])
    if place is None:
        raise UnfitError
    return place, len(fronts.shape(node.inputs[0]))


def _out_of_row(fronts: Fronts, tensor: gs.Tensor) -> Place | None:
    """Where the batch is, the last axis left out if possible: one sample is in front of a row or at the end of rows."""
    place, shape = fronts.place(tensor), fronts.shape(tensor)
    if place is None or fronts.batch != ONE or place.axis != len(shape) - 1 or place.outer != ONE or len(shape) < 2:
        return place
    return Place(place.axis - 1, outer=shape[-2])


def numbers(node: gs.Node, index: int) -> list[int] | None:
    """The integers of a constant input; None where it is absent.

    Raises:
        UnfitError: it is computed.
    """
    if index >= len(node.inputs) or not node.inputs[index].name:
        return None
    values = constant(node, index)
    if values is None:
        raise UnfitError
    return [int(v) for v in values.reshape(-1)]


def axis_behind(place: Place, rank: int, axis: int) -> int:
    """The axis of the counterpart that is `axis` of the tensor, which must not hold the batch."""
    if axis % rank == place.axis:
        raise UnfitError
    return place.behind_batch(rank)[axis % rank][0]


def again(fronts: Fronts, node: gs.Node, inputs: Sequence[gs.Tensor], **attrs: object) -> gs.Tensor:
    """The same operator on other inputs, with these attributes in place of its own."""
    output = fronts.node(node.op, node.name, inputs, **{**node.attrs, **attrs})
    output.dtype = node.outputs[0].dtype
    return output


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


def matmul(fronts: Fronts, node: gs.Node) -> Made:
    """The batch stays out of the matrices, except that rows may hold it before a plain matrix of weights."""
    places = [_out_of_row(fronts, t) for t in node.inputs]
    ranks = [len(fronts.shape(t)) for t in node.inputs]
    if min(ranks) < 2:
        raise UnfitError
    left = places[0]
    if left is not None and places[1] is None and ranks[1] == 2:
        axis_behind(left, ranks[0], -1)
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


def along(default: int) -> Rule:
    """An operator along one axis, which must not hold the batch."""

    def rule(fronts: Fronts, node: gs.Node) -> Made:
        place, rank = placed(fronts, node)
        axis = axis_behind(place, rank, attribute(node, "axis", default))
        return [(again(fronts, node, [fronts.front(node.inputs[0]), *node.inputs[1:]], axis=axis), place)]

    return rule


def normalisation(fronts: Fronts, node: gs.Node) -> Made:
    """Over the axes from one on, behind the batch."""
    place, rank = placed(fronts, node)
    axis = attribute(node, "axis", -1) % rank
    if axis <= place.axis:
        raise UnfitError
    made = again(fronts, node, [fronts.front(node.inputs[0]), *node.inputs[1:]], axis=axis - rank)
    return [(made, place)]


def reduction(fronts: Fronts, node: gs.Node) -> Made:
    """Over axes that do not hold the batch."""
    place, rank = placed(fronts, node)
    axes = [a % rank for a in numbers(node, 1) or []]
    if not axes:
        raise UnfitError
    new = fronts.vector(f"{node.name}_axes", [axis_behind(place, rank, a) for a in axes])
    made = again(fronts, node, [fronts.front(node.inputs[0]), new])
    gone = 0 if attribute(node, "keepdims", 1) else sum(a < place.axis for a in axes)
    return [(made, Place(place.axis - gone, place.outer, place.inner))]


def transpose(fronts: Fronts, node: gs.Node) -> Made:
    """Only the order of the axes behind the batch matters."""
    place, rank = placed(fronts, node)
    order = attribute(node, "perm", list(reversed(range(rank))))
    behind = place.behind_batch(rank)
    new = [0, *(a for axis in order for a in behind[axis])]
    data = fronts.front(node.inputs[0])
    made = data if new == sorted(new) else again(fronts, node, [data], perm=new)
    return [(made, Place(order.index(place.axis), place.outer, place.inner))]


def reshape(fronts: Fronts, node: gs.Node) -> Made:
    """Reshape, Flatten, Squeeze and Unsqueeze: the elements of each sample keep their order."""
    place, _ = placed(fronts, node)
    before, after = fronts.shape(node.inputs[0]), fronts.shape(node.outputs[0])
    moved = place_after_reshape(before, place, after, fronts.batch)
    shapes = (p.front_shape(s, fronts.batch) for p, s in ((place, before), (moved, after)))
    return [(fronts.reshaped(node.name, fronts.front(node.inputs[0]), *shapes), moved)]


def split(fronts: Fronts, node: gs.Node) -> Made:
    """Along an axis that does not hold the batch."""
    place, rank = placed(fronts, node)
    axis = axis_behind(place, rank, attribute(node, "axis", 0))
    data = [fronts.front(node.inputs[0]), *node.inputs[1:]]
    outputs = [gs.Variable(f"{t.name}_front", dtype=t.dtype) for t in node.outputs]
    attrs = {**node.attrs, "axis": axis}
    fronts.graph.nodes.append(gs.Node("Split", f"{node.name}_front", attrs=attrs, inputs=data, outputs=outputs))
    return [(t, place) for t in outputs]


def concat(fronts: Fronts, node: gs.Node) -> Made:
    """Along an axis that does not hold the batch, of tensors that all have it in the same place."""
    place, rank = placed(fronts, node)
    if any(fronts.place(t) != place for t in node.inputs):
        raise UnfitError
    axis = axis_behind(place, rank, attribute(node, "axis", 0))
    return [(again(fronts, node, [fronts.front(t) for t in node.inputs], axis=axis), place)]


def gather(fronts: Fronts, node: gs.Node) -> Made:
    """By indices without batch, along an axis that does not hold it; or of rows of a table by indices with a batch."""
    found = fronts.place(node.inputs[1])
    if found is not None and fronts.place(node.inputs[0]) is None and attribute(node, "axis", 0) == 0:
        return [(again(fronts, node, [node.inputs[0], fronts.front(node.inputs[1])]), found)]
    place, rank = placed(fronts, node)
    if fronts.place(node.inputs[1]) is not None:
        raise UnfitError
    along = attribute(node, "axis", 0) % rank
    axis = axis_behind(place, rank, along)
    made = again(fronts, node, [fronts.front(node.inputs[0]), node.inputs[1]], axis=axis)
    added = len(fronts.shape(node.inputs[1])) - 1 if along < place.axis else 0
    return [(made, Place(place.axis + added, place.outer, place.inner))]


def cut(fronts: Fronts, node: gs.Node) -> Made:
    """A Slice that takes all of the axis that holds the batch."""
    place, rank = placed(fronts, node)
    starts, ends = numbers(node, 1) or [], numbers(node, 2) or []
    axes = [a % rank for a in numbers(node, 3) or range(len(starts))]
    steps = numbers(node, 4) or [1] * len(starts)
    before, after = fronts.shape(node.inputs[0]), fronts.shape(node.outputs[0])
    kept = [i for i, a in enumerate(axes) if a != place.axis]
    whole = before[place.axis] == after[place.axis] and all(s > 0 for i, s in enumerate(steps) if i not in kept)
    if not whole:
        raise UnfitError
    data = fronts.front(node.inputs[0])
    if not kept:
        return [(data, place)]
    new = [axis_behind(place, rank, a) for a in axes if a != place.axis]
    named = {"starts": starts, "ends": ends, "axes": new, "steps": steps}
    inputs = [
        fronts.vector(f"{node.name}_{name}", values if name == "axes" else [values[i] for i in kept])
        for name, values in named.items()
    ]
    return [(again(fronts, node, [data, *inputs]), place)]


def pad(fronts: Fronts, node: gs.Node) -> Made:
    """Around axes that do not hold the batch."""
    place, rank = placed(fronts, node)
    pads = numbers(node, 1) or []
    axes = [a % rank for a in numbers(node, 3) or range(rank)]
    new = np.zeros((2, 1 + rank - 1 + len(place.rest)), np.int64)
    for i, axis in enumerate(axes):
        before, behind = pads[i], pads[i + len(axes)]
        if axis != place.axis:
            new[:, axis_behind(place, rank, axis)] = before, behind
        elif before or behind:
            raise UnfitError
    inputs = [fronts.front(node.inputs[0]), fronts.vector(f"{node.name}_pads", new.reshape(-1).tolist())]
    return [(again(fronts, node, [*inputs, *node.inputs[2:3]]), place)]


def expand(fronts: Fronts, node: gs.Node) -> Made:
    """Axes that do not hold the batch are repeated."""
    place, rank = placed(fronts, node)
    before, after = fronts.shape(node.inputs[0]), fronts.shape(node.outputs[0])
    missing = len(after) - rank
    moved = Place(place.axis + missing, place.outer, place.inner)
    if after[moved.axis] != before[place.axis]:
        raise UnfitError
    long = (*(ONE,) * missing, *before)
    short, wide, goal = (p.front_shape(s, fronts.batch) for p, s in ((place, before), (moved, long), (moved, after)))
    data = fronts.reshaped(f"{node.name}_aligned", fronts.front(node.inputs[0]), short, wide)
    if wide == goal:
        return [(data, moved)]
    known = expand_target(wide, goal)
    target = fronts.vector(f"{node.name}_shape", known) if known else None
    if target is None:
        sizes = [ONE if b == a else a for b, a in zip(wide, goal, strict=True)]
        target = from_inputs(fronts.graph, node.name, fronts.sizes, sizes)
    if target is None:
        raise UnfitError
    return [(fronts.node("Expand", node.name, [data, target]), moved)]


def tile(fronts: Fronts, node: gs.Node) -> Made:
    """Axes that do not hold the batch are repeated."""
    place, rank = placed(fronts, node)
    repeats = numbers(node, 1) or []
    new = [1] * (rank + len(place.rest))
    for axis, count in enumerate(repeats):
        if axis != place.axis:
            new[axis_behind(place, rank, axis)] = count
        elif count != 1:
            raise UnfitError
    return [(again(fronts, node, [fronts.front(node.inputs[0]), fronts.vector(f"{node.name}_repeats", new)]), place)]


_ELEMENTWISE = (
    "Identity Dropout Cast Add Sub Mul Div Pow Sum Mean Max Min Mod Neg Abs Sqrt Reciprocal Exp Log Erf Sin Cos Sign "
    "Floor Ceil Round Relu LeakyRelu PRelu Elu Selu Celu Clip ThresholdedRelu Sigmoid HardSigmoid HardSwish Tanh "
    "Softplus Softsign Gelu Mish Where Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsNaN IsInf"
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE.split(), elementwise),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    **dict.fromkeys(("Softmax", "LogSoftmax"), along(-1)),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1"), reduction),
    "LayerNormalization": normalisation,
    "MatMul": matmul,
    "Gemm": gemm,
    "Transpose": transpose,
    "Split": split,
    "Concat": concat,
    "Gather": gather,
    "Slice": cut,
    "Pad": pad,
    "Expand": expand,
    "Tile": tile,
}
