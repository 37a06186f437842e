"""Compute what is the same for every sample once, and repeat it for the batch.

    before:  probe -> Tile [batch, 1, 32] -> Transpose -> MatMul(w) -> Add -> Reshape [1, batch*heads, 8] -> Transpose
    after:   k -> Expand [batch, heads, 1, 8] -> Reshape [batch*heads, 1, 8]

Learned queries are such: of attention that pools, and of the decoders of detectors. Nothing of the data enters them, so
their projections are constants; left as they are, they would be layers with weights and no input. They are computed in
onnxruntime for batches of two sizes. What differs between samples, or holds other sizes that are free, stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.adapter import export_model, infer_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import tidy, toposort
from csscc.dialect.rewrite import constant_tensor, replace_input, subgraphs
from csscc.errors import CssccError
from csscc.io.outputs import as_arrays
from csscc.passes.base import BasePass
from csscc.passes.canonical.batch_place import Fronts, Place, UnfitError
from csscc.passes.canonical.known_sizes import from_inputs
from csscc.passes.canonical.sizes import Sizes, divided, is_constant, sizes_of
from csscc.passes.canonical.true_causes import RANDOM
from csscc.passes.linear.core import read_tensors
from csscc.runtime.session import Session

BATCHES = (2, 3)
MOVES = frozenset(
    [
        *("Expand", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"),
        *("Identity", "Cast", "Concat", "Slice", "Gather"),
    ]
)
Array = NDArray[np.generic]


@dataclass(frozen=True)
class RepeatedConstants(BasePass):
    """Replace what depends on the batch's size alone by a constant that is repeated."""

    name: ClassVar[str] = "repeated-constants"

    def apply(self, network: Network) -> int:
        """Return the number of tensors replaced."""
        graph = network.graph
        toposort(graph)
        found = list(_computed_alike(graph))
        sizes = sizes_of(graph) if found else None
        if sizes is None or sizes.batch is None or is_constant(sizes.batch):
            return 0
        fronts, changed = Fronts(graph, sizes, sizes.batch), 0
        wanted = {t.name: axis for t in found if (axis := _batch_axis(fronts, t)) is not None}
        values = _values(network, sizes, [t for t in found if t.name in wanted])
        for tensor in found:
            if tensor.name in values:
                changed += _repeat(fronts, tensor, wanted[tensor.name], values[tensor.name])
        tidy(graph)
        if changed:
            infer_shapes(network)
        return changed


def _computed_alike(graph: gs.Graph) -> Iterator[gs.Tensor]:
    """Floats that are computed, not only moved, from constants and sizes, and are read beside data of a sample."""
    of_data, computed = {id(t) for t in graph.inputs}, set[int]()
    for node in graph.nodes:
        read = read_tensors(node)
        depends = node.op not in ("Shape", "Size") and any(id(t) in of_data for t in read)
        if depends or node.op in RANDOM or node.domain or any(True for _ in subgraphs(node)):
            of_data.update(id(t) for t in node.outputs)
        elif node.op not in MOVES or any(id(t) in computed for t in read):
            computed.update(id(t) for t in node.outputs if t.dtype is not None and np.dtype(t.dtype).kind == "f")
    seen = set[int]()
    for node in graph.nodes:
        if any(id(t) in of_data for t in node.outputs):
            for tensor in node.inputs:
                if id(tensor) in computed - seen:
                    seen.add(id(tensor))
                    yield tensor


def _batch_axis(fronts: Fronts, tensor: gs.Tensor) -> int | None:
    """The axis that the batch is in, where it is the only size that is free."""
    shape = fronts.sizes.shape(tensor)
    free = [axis for axis, size in enumerate(shape or ()) if not is_constant(size)]
    if shape is None or len(free) != 1:
        return None
    share = divided(shape[free[0]], fronts.batch)
    return free[0] if share is not None and is_constant(share) else None


def _values(network: Network, sizes: Sizes, tensors: list[gs.Tensor]) -> Mapping[str, list[Array]]:
    """What tensors hold, for batches of both sizes; nothing where onnxruntime cannot compute them."""
    if not tensors:
        return {}
    part = network.graph.copy()
    made = part.tensors()
    part.outputs = [made[t.name] for t in tensors]
    part.cleanup()
    part.inputs = [t for t in part.inputs if t.outputs]
    shapes = {t.name: sizes.shape(t) for t in part.inputs}
    runs = []
    try:
        session = Session(export_model(replace(network, graph=part)), optimise=False)
        for choice, batch in enumerate(BATCHES):
            feeds = {}
            for tensor in part.inputs:
                shape = [batch if s == sizes.batch else s[choice] for s in shapes[tensor.name] or ()]
                feeds[tensor.name] = np.zeros(shape, np.dtype(tensor.dtype))
            runs.append(as_arrays(session.run(feeds)))
    except (CssccError, RuntimeError):
        return {}
    return {t.name: [run[t.name] for run in runs] for t in tensors}


def _repeat(fronts: Fronts, tensor: gs.Tensor, axis: int, values: list[Array]) -> int:
    """Let the readers of a tensor read a constant that is repeated, if every sample has the same of it."""
    one = _of_one_sample(values, axis)
    shape = fronts.sizes.shape(tensor)
    if one is None or shape is None:
        return 0
    share = divided(shape[axis], fronts.batch)
    assert share is not None
    place = Place(axis, inner=share)
    front = place.front_shape(shape, fronts.batch)
    target = from_inputs(fronts.graph, tensor.name, fronts.sizes, front)
    if target is None:
        return 0
    data = constant_tensor(fronts.graph, f"{tensor.name}_once", one.reshape(1, *(s[0] for s in front[1:])))
    repeated = fronts.node("Expand", f"{tensor.name}_repeated", [data, target])
    try:
        back = fronts.moved_back(tensor, repeated, place)
    except UnfitError:
        return 0
    for reader in list(tensor.outputs):
        replace_input(reader, tensor, back)
    return 1


def _of_one_sample(values: list[Array], axis: int) -> Array | None:
    """What each sample has, as ``[axes before, share of the axis, axes after]``; None where samples differ."""
    found = []
    for batch, array in zip(BATCHES, values, strict=True):
        before, after = array.shape[:axis], array.shape[axis + 1 :]
        apart = np.moveaxis(array.reshape(*before, batch, -1, *after), axis, 0)
        if not (apart == apart[:1]).all():
            return None
        found.append(apart[0])
    return found[0] if np.array_equal(found[0], found[1]) else None
