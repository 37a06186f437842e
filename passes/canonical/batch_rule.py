"""What rules of `csscc.passes.canonical.batch_rules` share: what a rule is, and how it asks for what it reads.

A rule makes the counterpart of an operator, which reads the counterparts of its inputs, and finds where the batch of
each of its outputs is. It raises `UnfitError` where the operator mixes the batch, or sizes that matter are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import constant
from csscc.passes.canonical.batch_place import Fronts, Place, UnfitError

Made = list[tuple[gs.Tensor, Place]]
Rule = Callable[[Fronts, gs.Node], Made]


def placed(fronts: Fronts, node: gs.Node) -> tuple[Place, int]:
    """Where the batch of the node's first input is, and the input's rank."""
    place = fronts.place(node.inputs[0])
    if place is None:
        raise UnfitError
    return place, len(fronts.shape(node.inputs[0]))


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


def axis_after(place: Place, rank: int, axis: int) -> int:
    """The axis of the counterpart that is `axis` of the tensor, which must not hold the batch."""
    if axis % rank == place.axis:
        raise UnfitError
    return place.after_batch(rank)[axis % rank][0]


def again(fronts: Fronts, node: gs.Node, inputs: Sequence[gs.Tensor], **attrs: object) -> gs.Tensor:
    """The same operator on other inputs, with these attributes in place of its own."""
    output = fronts.node(node.op, node.name, inputs, **{**node.attrs, **attrs})
    output.dtype = node.outputs[0].dtype
    return output
