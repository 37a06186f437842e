"""What operators that only move elements become when the batch of what they read is brought to the front."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import attribute, constant_tensor
from csscc.passes.canonical.batch_indices import own_indices
from csscc.passes.canonical.batch_place import Fronts, Place, UnfitError, place_after_reshape
from csscc.passes.canonical.batch_rule import Made, Rule, again, axis_after, numbers, placed
from csscc.passes.canonical.known_sizes import expand_target, from_inputs
from csscc.passes.canonical.sizes import ONE, is_constant


def transpose(fronts: Fronts, node: gs.Node) -> Made:
    """Only the order of the axes after the batch matters."""
    place, rank = placed(fronts, node)
    order = attribute(node, "perm", list(reversed(range(rank))))
    after = place.after_batch(rank)
    new = [0, *(a for axis in order for a in after[axis])]
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
    axis = axis_after(place, rank, attribute(node, "axis", 0))
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
    axis = axis_after(place, rank, attribute(node, "axis", 0))
    return [(again(fronts, node, [fronts.front(t) for t in node.inputs], axis=axis), place)]


def gather(fronts: Fronts, node: gs.Node) -> Made:
    """By indices without batch, along an axis that does not hold it; or of rows of a table by indices with a batch."""
    found = fronts.place(node.inputs[1])
    if found is not None and fronts.place(node.inputs[0]) is None and attribute(node, "axis", 0) == 0:
        return [(again(fronts, node, [node.inputs[0], fronts.front(node.inputs[1])]), found)]
    place, rank = placed(fronts, node)
    if found is not None:
        return [(_own_elements(fronts, node, place, rank), Place(0))]
    along = attribute(node, "axis", 0) % rank
    axis = axis_after(place, rank, along)
    made = again(fronts, node, [fronts.front(node.inputs[0]), node.inputs[1]], axis=axis)
    added = len(fronts.shape(node.inputs[1])) - 1 if along < place.axis else 0
    return [(made, Place(place.axis + added, place.outer, place.inner))]


def _own_elements(fronts: Fronts, node: gs.Node, place: Place, rank: int) -> gs.Tensor:
    """Elements that each sample takes from its own part of a vector, as strided views are exported."""
    if rank != 1 or place.outer != ONE or not is_constant(place.inner):
        raise UnfitError
    own = own_indices(fronts.graph, node.inputs[1], place.inner[0])
    if own is None:
        raise UnfitError
    indices = constant_tensor(fronts.graph, f"{node.name}_own", own)
    return again(fronts, node, [fronts.front(node.inputs[0]), indices], axis=1)


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
    new = [axis_after(place, rank, a) for a in axes if a != place.axis]
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
        before, after = pads[i], pads[i + len(axes)]
        if axis != place.axis:
            new[:, axis_after(place, rank, axis)] = before, after
        elif before or after:
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
    target: gs.Tensor | None = fronts.vector(f"{node.name}_shape", known) if known else None
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
            new[axis_after(place, rank, axis)] = count
        elif count != 1:
            raise UnfitError
    return [(again(fronts, node, [fronts.front(node.inputs[0]), fronts.vector(f"{node.name}_repeats", new)]), place)]


LAYOUT_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    "Transpose": transpose,
    "Split": split,
    "Concat": concat,
    "Gather": gather,
    "Slice": cut,
    "Pad": pad,
    "Expand": expand,
    "Tile": tile,
}
